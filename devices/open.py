"""From an entry of the inventory to the device itself."""

from __future__ import annotations

import os
import pwd
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.cores import choose_cores
from devices.errors import InventoryError, TooFewCoresError
from devices.inventory import DeviceEntry
from devices.local import LocalDevice
from devices.ort import OrtDevice
from devices.rpc import RpcDevice
from devices.snapshot import fetch
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.device import SshDevice
from devices.ssh.login import Ask

#: A device on this machine.
HostDevice = LocalDevice | OrtDevice
AnyDevice = HostDevice | SshDevice | RpcDevice
#: Tells devices that reach their runner through TVM from those of the same board that do not.
_RPC_VERSION: Final = ("transport", "tvm-rpc")


@dataclass(frozen=True, slots=True)
class Access:
    """How boards are logged in to.

    Attributes:
        known_hosts: Host keys that a person has agreed to.
        ask: Asks for passwords and passphrases; None never does.
        ssh_folder: Configuration and default keys; None takes `~/.ssh`.
    """

    known_hosts: Path
    ask: Ask | None = None
    ssh_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class SystemFiles:
    """Where a device's `proc` and `sys` can be read on this machine.

    Attributes:
        root: The folder that holds them.
        refresh: Brings those of a board up to date, and before its first call there are none;
            None on this machine.
    """

    root: Path
    refresh: Callable[[], None] | None


def open_device(
    entry: DeviceEntry,
    versions: Iterable[tuple[str, str]] = (),
    access: Access | None = None,
) -> AnyDevice:
    """The device that an entry describes; a board is connected to when it is first asked.

    Args:
        entry: From `Inventory.find`.
        versions: (component, version) pairs for the runtime's fingerprint, such as TVM's.
        access: For boards.

    Raises:
        TooFewCoresError: the device has fewer cores than the entry wants threads.
        InventoryError: the entry names a core that is not the board's, or a wrong address.
    """
    if entry.transport == "ssh":
        return board_device(entry, _connection(entry, access), versions)
    if entry.transport == "rpc":
        board = board_device(entry, _connection(entry, access), (*versions, _RPC_VERSION))
        return RpcDevice(board, entry.rpc_port, entry.rpc_server)
    kind = LocalDevice if entry.runtime == "latloop" else OrtDevice
    try:
        choose_cores(entry.threads, entry.core)
    except TooFewCoresError as error:
        raise TooFewCoresError(f"[device.{entry.name}] {error}") from error
    return kind(entry.name, entry.threads, entry.core, tuple(versions))


def close_device(device: AnyDevice) -> None:
    """End the connection to a board; this machine needs nothing."""
    board = board_of(device)
    if board is not None:
        board.close()


def board_of(device: AnyDevice) -> SshDevice | None:
    """The board behind a device, as SSH reaches it; None for this machine."""
    if isinstance(device, RpcDevice):
        return device.board
    return device if isinstance(device, SshDevice) else None


def read_address(entry: DeviceEntry) -> SshAddress:
    """Where an entry's board is.

    Raises:
        InventoryError: the address makes no sense.
    """
    key_file = None if entry.key_file is None else Path(entry.key_file)
    try:
        return SshAddress(entry.host, entry.user, entry.port, entry.jump, key_file)
    except ValueError as error:
        raise InventoryError(f"{entry.place} {error}") from error


@contextmanager
def system_files(device: AnyDevice) -> Iterator[SystemFiles]:
    """Where a device's `proc` and `sys` can be read while the body runs."""
    board = board_of(device)
    if board is None:
        assert isinstance(device, HostDevice)
        yield SystemFiles(device.root, None)
        return
    with tempfile.TemporaryDirectory(prefix="latloop-") as folder:
        yield SystemFiles(Path(folder), lambda: fetch(board.shell, Path(folder), board.root))


def this_person() -> tuple[str, str]:
    """(holder, host): who measures, and from which machine, for a board's lease."""
    try:
        holder = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        holder = f"user {os.getuid()}"
    return holder, socket.gethostname()


def board_device(
    entry: DeviceEntry, connection: SshConnection, versions: Iterable[tuple[str, str]] = ()
) -> SshDevice:
    """The board that an entry describes, over a connection; see `open_device`."""
    holder, host = this_person()
    return SshDevice(
        connection=connection,
        folder=entry.folder,
        threads=entry.threads,
        cores=_board_cores(entry),
        versions=tuple(versions),
        root=entry.root,
        launcher=entry.launcher,
        holder=holder,
        host=host,
    )


def _connection(entry: DeviceEntry, access: Access | None) -> SshConnection:
    if access is None:
        raise ValueError(f"access must be given to open the board {entry.name}")
    address = read_address(entry)
    return SshConnection(entry.name, address, access.known_hosts, access.ask, access.ssh_folder)


def _board_cores(entry: DeviceEntry) -> tuple[int, ...]:
    """A core for each thread, the entry's own first, then in the order that enroll found."""
    known, core, place = entry.board.measuring_cores, entry.core, entry.place
    if core is not None and known and core not in known:
        listed = ", ".join(map(str, sorted(known)))
        raise InventoryError(f"{place} core must be one of the board's, {listed}, got {core}")
    first = () if core is None else (core,)
    cores = (*first, *(other for other in known if other not in first))[: entry.threads]
    if len(cores) < entry.threads and (cores or entry.threads > 1):
        raise TooFewCoresError(
            f"{place} threads must be at most {len(cores)}, the measuring_cores of the board, got "
            f"{entry.threads}"
        )
    return cores
