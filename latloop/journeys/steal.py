"""Take a board's lease away from whoever holds it."""

from __future__ import annotations

from dataclasses import dataclass

from devices.errors import LeaseHeldError
from devices.lease import LeaseRecord
from devices.rpc import RpcDevice
from devices.ssh.device import SshDevice
from latloop.workbench import Workbench
from profiler.link import link_for


class NoLeaseError(ValueError):
    """The device is no board: it has no lease."""


@dataclass(frozen=True, slots=True)
class Stolen:
    """What became of a lease.

    Attributes:
        generation: Of the session that took it and gave it back at once.
        holder: Who was ended, and None where nobody held it.
    """

    generation: int | None
    holder: LeaseRecord | None


def find_holder(workbench: Workbench) -> LeaseRecord | None:
    """Who holds the board's lease, or None: found by trying to take it.

    Raises:
        NoLeaseError: the device is this machine.
        LeaseHeldError: somebody holds it whose record cannot be read.
    """
    try:
        _take(workbench, is_stealing=False)
    except LeaseHeldError as error:
        if error.lease is None:
            raise
        return error.lease
    return None


def steal(workbench: Workbench, holder: LeaseRecord | None) -> Stolen:
    """End the session that holds the board's lease, with an audit line on the board.

    Args:
        workbench: The board.
        holder: From `find_holder`.

    Raises:
        NoLeaseError: the device is this machine.
        DeviceError: it did not work; the message says why.
    """
    return Stolen(_take(workbench, is_stealing=True), holder)


def _take(workbench: Workbench, *, is_stealing: bool) -> int | None:
    board = workbench.device
    if not isinstance(board, SshDevice | RpcDevice):
        raise NoLeaseError(f"{board.name} is this machine and has no lease; name a board")
    executable = link_for(board, {}, workbench.bench.target, workbench.bench.link_folder)
    with board.start(executable, is_stealing=is_stealing) as runner:
        return runner.description.generation
