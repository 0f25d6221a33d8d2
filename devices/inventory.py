"""The devices a person has, listed in a TOML file.

[device.bench]
transport = "local"
runtime = "latloop"
threads = 2
core = 1
notes = "the machine under the desk"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, cast, get_args

from devices.cores import choose_cores
from devices.errors import InventoryError, TooFewCoresError, UnknownDeviceError
from devices.local import LocalDevice
from devices.ort import OrtDevice

Transport = Literal["local"]
RuntimeName = Literal["latloop", "onnxruntime"]
#: A device on this machine.
HostDevice = LocalDevice | OrtDevice

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"transport": get_args(Transport), "runtime": get_args(RuntimeName)}
)
_TYPES: Final[Mapping[str, type]] = MappingProxyType(
    {"transport": str, "runtime": str, "threads": int, "core": int, "notes": str}
)
_TYPE_NAMES: Final = {str: "a text", int: "a whole number"}


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
    """

    name: str
    transport: Transport = "local"
    threads: int = 1
    core: int | None = None
    notes: str = ""
    runtime: RuntimeName = "latloop"


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
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InventoryError(f"cannot read {path}: {error}") from error
    unknown = set(document) - {"device"}
    if unknown:
        raise InventoryError(
            f"{path}: unknown top-level {min(unknown)!r}; only [device.NAME] tables are allowed"
        )
    tables = document.get("device", {})
    if not isinstance(tables, dict):
        raise InventoryError(f"{path}: device must be tables [device.NAME], got {tables!r}")
    entries = tuple(_read_entry(path, name, table) for name, table in tables.items())
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


def open_device(entry: DeviceEntry, versions: Iterable[tuple[str, str]] = ()) -> HostDevice:
    """The device that an entry describes.

    Args:
        entry: From `Inventory.find`.
        versions: (component, version) pairs for the runtime's fingerprint, such as TVM's.

    Raises:
        TooFewCoresError: the device has fewer cores than the entry wants threads.
    """
    kind = LocalDevice if entry.runtime == "latloop" else OrtDevice
    try:
        choose_cores(entry.threads, entry.core)
    except TooFewCoresError as error:
        raise TooFewCoresError(f"[device.{entry.name}] {error}") from error
    return kind(entry.name, entry.threads, entry.core, tuple(versions))


def _read_entry(path: Path, name: str, table: object) -> DeviceEntry:
    place = f"{path}: [device.{name}]"
    if not _NAME.fullmatch(name):
        raise InventoryError(f"{place}: a name must be letters, digits and . _ -, got {name!r}")
    if not isinstance(table, dict):
        raise InventoryError(f"{place} must be a table, got {table!r}")
    for key, value in table.items():
        _check_value(place, key, value)
    if "transport" not in table and name not in _ALWAYS:
        allowed = ", ".join(_CHOICES["transport"])
        raise InventoryError(f"{place} transport is missing; it must be one of {allowed}")
    default = _ALWAYS.get(name, LOCAL)
    return DeviceEntry(
        name=name,
        transport=cast(Transport, table.get("transport", "local")),
        threads=table.get("threads", 1),
        core=table.get("core"),
        notes=table.get("notes", ""),
        runtime=cast(RuntimeName, table.get("runtime", default.runtime)),
    )


def _check_value(place: str, key: str, value: object) -> None:
    if key not in _TYPES:
        raise InventoryError(f"{place} unknown key {key!r}; known keys: {', '.join(_TYPES)}")
    wanted = _TYPES[key]
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise InventoryError(f"{place} {key} must be {_TYPE_NAMES[wanted]}, got {value!r}")
    if key in _CHOICES and value not in _CHOICES[key]:
        allowed = ", ".join(_CHOICES[key])
        raise InventoryError(f"{place} {key} must be one of {allowed}, got {value!r}")
    if key == "threads" and cast(int, value) < 1:
        raise InventoryError(f"{place} threads must be >= 1, got {value}")
    if key == "core" and cast(int, value) < 0:
        raise InventoryError(f"{place} core must be >= 0, got {value}")
