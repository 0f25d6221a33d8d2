"""The devices a person has, listed in a TOML file.

[device.bench]
transport = "local"
runtime = "latloop"
threads = 2
core = 1
notes = "the machine under the desk"

Boards (`transport = "ssh"`) are written by `latloop device enroll`, with the tables
`[device.NAME.board]`, `[device.NAME.target]` and `[device.NAME.identity]`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from devices.clusters import Cluster
from devices.errors import InventoryError, UnknownDeviceError
from devices.inventory_rules import (
    CLUSTER_RULES,
    DEVICE_RULES,
    RPC_KEYS,
    SSH_KEYS,
    SUBTABLES,
    TRANSPORTS,
    check_table,
)
from devices.tables import BoardTable, Identity, TargetTable

Transport = Literal["local", "ssh", "rpc"]
RuntimeName = Literal["latloop", "onnxruntime"]
assert get_args(Transport) == TRANSPORTS

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
#: What an entry's table gives as it stands.
_PLAIN: Final = (
    *("threads", "core", "notes", "runtime", *RPC_KEYS),
    *(key for key in SSH_KEYS if key != "launcher"),
)
#: What a transport cannot do without, and what it has no use for.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"local": (), "ssh": ("host", "folder"), "rpc": ("host", "folder", "rpc_port")}
)
_FOREIGN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "local": (*SSH_KEYS, *RPC_KEYS, "board", "identity"),
        "ssh": RPC_KEYS,
        "rpc": ("launcher",),
    }
)


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One device of the inventory.

    Attributes:
        name: What a person calls it.
        transport: How it is reached.
        threads: Threads that a kernel may use, each on a core of its own.
        core: The core that measures, or None for the transport's choice; further threads have
            the transport's choice of the other cores.
        notes: For people.
        runtime: What runs on it.
        host, user, port, jump, key_file: The way to a board; see `devices.ssh.SshAddress`.
        folder: Where Latloop's files lie on a board.
        launcher: Program and arguments that a board's runner is started with.
        root: Where a board has `proc` and `sys`.
        rpc_port: Of the board's own 127.0.0.1, where TVM's RPC server listens; 0 without one.
        rpc_server: A line for the board's shell that starts that server for the time of a session;
            "" when it runs already.
        board: What enroll learned of a board.
        target: What code is generated for.
        identity: What tells a board from others; None compares nothing.
        place: The file and table that it comes from, for messages.
    """

    name: str
    transport: Transport = "local"
    threads: int = 1
    core: int | None = None
    notes: str = ""
    runtime: RuntimeName = "latloop"
    host: str = ""
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    key_file: str | None = None
    folder: str = ""
    launcher: tuple[str, ...] = ()
    root: str = "/"
    rpc_port: int = 0
    rpc_server: str = ""
    board: BoardTable = field(default_factory=BoardTable)
    target: TargetTable = field(default_factory=TargetTable)
    identity: Identity | None = None
    place: str = ""


LOCAL: Final = DeviceEntry("local", notes="this machine, one thread")
LOCAL_ORT: Final = DeviceEntry(
    "local-ort", notes="this machine with ONNX Runtime, one thread", runtime="onnxruntime"
)
_ALWAYS: Final = {entry.name: entry for entry in (LOCAL, LOCAL_ORT)}


@dataclass(frozen=True, slots=True)
class Inventory:
    """Devices by name; `local` and `local-ort` are always among them.

    Attributes:
        entries: In the order of the file.
        source: The file they come from, or None.
    """

    entries: tuple[DeviceEntry, ...] = tuple(_ALWAYS.values())
    source: Path | None = None

    def find(self, name: str) -> DeviceEntry:
        """The entry of this name.

        Raises:
            UnknownDeviceError: there is none; the message names those there are.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        where = f" in {self.source}" if self.source else ""
        raise UnknownDeviceError(f"no device {name!r}{where}; known devices: {known}")


def read_inventory(path: Path | None) -> Inventory:
    """Read an inventory file; without one there is this machine alone.

    Raises:
        InventoryError: the file cannot be read, or a table, key or value is wrong.
    """
    if path is None or not path.exists():
        return Inventory()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"cannot read {path}: {error}") from error
    return parse_inventory(text, path)


def parse_inventory(text: str, path: Path) -> Inventory:
    """Read what stands, or shall stand, in an inventory file.

    Args:
        text: TOML.
        path: The file, for messages.

    Raises:
        InventoryError: it is no TOML, or a table, key or value is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InventoryError(f"cannot read {path}: {error}") from error
    unknown = set(document) - {"device"}
    if unknown:
        raise InventoryError(
            f"{path}: unknown top-level {min(unknown)!r}; only [device.NAME] tables are allowed"
        )
    tables = document.get("device", {})
    if not isinstance(tables, dict):
        raise InventoryError(f"{path}: device must be tables [device.NAME], got {tables!r}")
    entries = tuple(read_entry(f"{path}: ", name, table) for name, table in tables.items())
    named = {entry.name for entry in entries}
    always = tuple(entry for name, entry in _ALWAYS.items() if name not in named)
    return Inventory((*always, *entries), path)


def check_side_by_side(entries: Sequence[DeviceEntry]) -> None:
    """Refuse devices that would disturb each other when they are measured at the same time.

    Raises:
        InventoryError: one is named twice, or is this machine, which compiles for the others.
    """
    for position, entry in enumerate(entries):
        if entry in entries[:position]:
            raise InventoryError(f"device {entry.name} is named twice")
        if entry.transport == "local":
            raise InventoryError(
                f"device {entry.name} is this machine, where code for the others would be compiled "
                "while it is measured; profile it in a command of its own"
            )


def check_name(name: str, place: str = "") -> None:
    """Refuse what cannot name a device.

    Raises:
        InventoryError: the rule.
    """
    if not _NAME.fullmatch(name):
        raise InventoryError(f"{place}a name must be letters, digits and . _ -, got {name!r}")


def read_entry(source: str, name: str, table: Any) -> DeviceEntry:
    """One device from its table.

    Args:
        source: What messages begin with.
        name: Of the device.
        table: As it stands in the file.

    Raises:
        InventoryError: place, value and rule.
    """
    place = f"{source}[device.{name}]"
    check_name(name, f"{place}: ")
    check_table(place, table, DEVICE_RULES, tuple(SUBTABLES))
    if "transport" not in table and name not in _ALWAYS:
        allowed = ", ".join(TRANSPORTS)
        raise InventoryError(f"{place} transport is missing; it must be one of {allowed}")
    for key, rules in SUBTABLES.items():
        check_table(f"{source}[device.{name}.{key}]", table.get(key, {}), rules)
    transport = table.get("transport", "local")
    _check_transport(place, transport, table)
    plain = {key: table[key] for key in _PLAIN if key in table}
    default = _ALWAYS.get(name, LOCAL)
    plain.setdefault("runtime", default.runtime)
    identity = table.get("identity")
    return DeviceEntry(
        name=name,
        transport=transport,
        **plain,
        launcher=tuple(table.get("launcher", ())),
        board=_read_board(f"{source}[device.{name}.board]", table.get("board", {})),
        target=TargetTable(**_frozen(table.get("target", {}))),
        identity=None if identity is None else _read_identity(place, identity),
        place=place,
    )


def _check_transport(place: str, transport: str, table: Mapping[str, object]) -> None:
    """Each transport's keys stand with it alone."""
    missing = next((key for key in _NEEDED[transport] if key not in table), None)
    if missing is not None:
        raise InventoryError(
            f"{place} {missing} is missing, which transport {transport} needs; "
            "`latloop device enroll` writes host and folder"
        )
    runtime = table.get("runtime", "latloop")
    if transport != "local" and runtime != "latloop":
        raise InventoryError(
            f"{place} runtime must be latloop with transport {transport}, got {runtime!r}"
        )
    foreign = next((key for key in _FOREIGN[transport] if key in table), None)
    if foreign is not None:
        others = " or ".join(name for name, keys in _FOREIGN.items() if foreign not in keys)
        raise InventoryError(
            f"{place} {foreign} is for transport {others}, got transport {transport!r}"
        )


def _read_board(place: str, table: Mapping[str, Any]) -> BoardTable:
    clusters = table.get("clusters", ())
    for position, cluster in enumerate(clusters):
        check_table(f"{place} clusters[{position}]", cluster, CLUSTER_RULES)
    read = tuple(
        Cluster(
            each.get("cpu_model", "unknown"),
            tuple(each.get("cores", ())),
            each.get("max_clock_mhz"),
        )
        for each in clusters
    )
    return BoardTable(**(_frozen(table) | {"clusters": read}))


def _read_identity(place: str, table: Mapping[str, Any]) -> Identity:
    missing = [key for key in SUBTABLES["identity"] if key not in table]
    if missing:
        raise InventoryError(
            f"{place} identity lacks {', '.join(missing)}; remove the table, or enroll again"
        )
    return Identity(**table)


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
