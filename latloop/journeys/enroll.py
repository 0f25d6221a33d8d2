"""Make a board a device: agree to its host key, look at it, run a program there, write it down."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from devices.errors import InventoryError
from devices.folders import Folder, choose_folder, probe_folders
from devices.host_key import HostKey
from devices.inventory import DeviceEntry, check_name, read_entry, read_inventory
from devices.inventory_write import staged_entry
from devices.open import Access, board_device
from devices.probe import Probe, probe
from devices.settings import merge, parse_settings
from devices.shell import Shell
from devices.snapshot import fetch
from devices.ssh.address import SshAddress
from devices.ssh.host_keys import trust_host_key
from devices.ssh.shell import SshShell
from latloop.home import Home
from latloop.journeys.host_keys import Agreement, connect
from profiler.bench import StageProgress, quiet
from profiler.link import link_executable
from profiler.target import Target, override_target, table_of, target_of

_N_STEPS: Final = 4


@dataclass(frozen=True, slots=True)
class EnrollRequest:
    """What a person asks for.

    Attributes:
        name: What the device will be called.
        address: Where the board is.
        settings: `key=value` in place of what would be found.
        is_replacing: Whether a device of this name may be replaced.
        inventory: The file.
    """

    name: str
    address: SshAddress
    settings: Sequence[str]
    is_replacing: bool
    inventory: Path


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that was written down.

    Attributes:
        entry: As it stands in the inventory.
        probe: What the board said of itself.
        target: What code will be generated for.
        folder: Where Latloop's files will lie.
        tick_ns: Smallest step of the board's clock, as a runner there saw it.
        keys: Host keys that were agreed to just now.
    """

    entry: DeviceEntry
    probe: Probe
    target: Target
    folder: Folder
    tick_ns: int
    keys: tuple[HostKey, ...]


def enroll(
    home: Home,
    request: EnrollRequest,
    access: Access,
    agreement: Agreement,
    progress: StageProgress = quiet,
) -> Enrolled:
    """Make a board a device; nothing is written down unless all of it went well.

    Args:
        home: Where runners are built.
        request: What a person asks for.
        access: How the board is logged in to; its known-hosts file learns the new keys.
        agreement: How they are agreed to.
        progress: Called as work goes on.

    Raises:
        InventoryError: the name is taken, or a setting makes no sense.
        HostKeyChangedError: the board shows another key than the one that is expected.
        NotAgreedError: a person did not agree to a key.
        NoFolderError: no folder of the board can be used.
        UnsupportedBoardError: there are no kernels for its processor.
        DeviceUnreachableError: the board does not answer.
        ExecutableRefusedError: it does not run what is built for its target.
        LeaseHeldError: somebody measures on it.
    """
    settings = parse_settings(request.settings)
    _check_free(request)
    progress("enroll", 0, _N_STEPS)
    with tempfile.TemporaryDirectory(prefix="latloop-") as temporary:
        staged = Path(temporary, "known_hosts")
        connection, keys = connect(request.name, request.address, access, agreement, staged)
        with closing(connection):
            progress("enroll", 1, _N_STEPS)
            found, folder = look(
                SshShell(connection), Path(temporary, "board"), request.name, settings
            )
            progress("enroll", 2, _N_STEPS)
            table = _table(request, found, folder, settings)
            entry = read_entry("--set ", request.name, table)
            target = _target(entry, found)
            executable = link_executable({}, target, home.link)
            progress("enroll", 3, _N_STEPS)
            with board_device(entry, connection).start(executable) as runner:
                tick_ns = runner.description.tick_ns
    learned = {"board": {"tick_ns": tick_ns}, "target": table_of(target)}
    table = merge(merge(table, learned), settings)
    with staged_entry(request.inventory, request.name, table):
        for key in keys:
            trust_host_key(access.known_hosts, key)
    progress("enroll", _N_STEPS, _N_STEPS)
    entry = read_inventory(request.inventory).find(request.name)
    return Enrolled(entry, found, target, folder, tick_ns, keys)


def look(shell: Shell, into: Path, name: str, settings: Mapping[str, Any]) -> tuple[Probe, Folder]:
    """What a board says of itself, and where Latloop's files may lie on it.

    Args:
        shell: Of the board.
        into: A folder for the snapshot.
        name: The device's, for messages.
        settings: From `parse_settings`; `folder`, `root` and `board.architecture` count here.

    Raises:
        NoFolderError, UnsupportedBoardError, DeviceUnreachableError: see `enroll`.
    """
    fetch(shell, into, settings.get("root", "/"), name)
    found = probe(into, settings.get("board", {}).get("architecture"), name)
    folder = choose_folder(probe_folders(shell, settings.get("folder", "")), name)
    return found, folder


def _check_free(request: EnrollRequest) -> None:
    """Refuse a name before anybody has waited or was asked."""
    check_name(request.name)
    names = {entry.name for entry in read_inventory(request.inventory).entries}
    if request.name in {"local", "local-ort"}:
        raise InventoryError(f"{request.name} is this machine; choose another name for a board")
    if request.name in names and not request.is_replacing:
        raise InventoryError(
            f"{request.inventory} has a device {request.name} already; choose another name, or "
            "replace it with --replace"
        )


def _table(
    request: EnrollRequest, found: Probe, folder: Folder, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The device's table but for what follows from it."""
    address = request.address
    way: dict[str, Any] = {
        "host": address.host,
        "user": address.user,
        "port": address.port,
        "jump": address.jump,
        "key_file": None if address.key_file is None else str(address.key_file.absolute()),
    }
    learned = {"free_bytes": folder.free_bytes, "enrolled": datetime.now(UTC).strftime("%F %TZ")}
    table = {
        "transport": "ssh",
        **{key: value for key, value in way.items() if value is not None},
        "folder": folder.path,
        "threads": 1,
        "board": {**found.table(), **learned},
        "identity": asdict(found.identity),
    }
    return merge(table, settings)


def _target(entry: DeviceEntry, found: Probe) -> Target:
    """What code is generated for, from the board as a person corrected it."""
    board = entry.board.overlay(found.board)
    try:
        return override_target(target_of(board, entry.threads), entry.target)
    except ValueError as error:
        raise InventoryError(f"--set target: {error}") from error
