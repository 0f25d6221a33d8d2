"""What can go wrong between the host and a device, one class for each reaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.host_key import HostKey

if TYPE_CHECKING:
    from devices.lease import LeaseRecord


class DeviceError(Exception):
    """The device's fault, not the caller's; the subclasses say what to do."""


class UnknownDeviceError(DeviceError):
    """No device has this name: choose one of the names that the message lists."""


class InventoryError(DeviceError):
    """The inventory file is wrong: correct the place that the message names."""


class TooFewCoresError(InventoryError):
    """A device has more threads than cores it may use: lower `threads`, or free more cores."""


class DeviceUnreachableError(DeviceError):
    """The device does not answer: check power and network, then try again."""


class BoardChangedError(DeviceError):
    """Another board answers under the enrolled one's address: find that one, or enroll again."""


class UnsupportedBoardError(DeviceError):
    """There are no kernels for this processor: take a board with another one."""


class NoFolderError(DeviceError):
    """No folder of the board can hold Latloop's files: make one, and name it when enrolling."""


class AuthenticationRefusedError(DeviceUnreachableError):
    """The board lets nobody in with these keys: do not try again before a person mended that."""


class UnknownHostKeyError(DeviceError):
    """Nobody has said that this host key is the board's: compare fingerprints, then enroll.

    Attributes:
        host_key: What the server showed.
    """

    def __init__(self, message: str, host_key: HostKey) -> None:
        super().__init__(message)
        self.host_key = host_key


class HostKeyChangedError(DeviceError):
    """Another host key than the trusted one: stop; it may be another machine that answers.

    Attributes:
        host_key: What the server showed.
    """

    def __init__(self, message: str, host_key: HostKey) -> None:
        super().__init__(message)
        self.host_key = host_key


class DeviceFullError(DeviceError):
    """The device has no room for the executable: free some, then try again."""


class FolderRefusedError(DeviceError):
    """The board's folder cannot be written: choose another `folder` in the inventory."""


class ExecutableRefusedError(DeviceError):
    """The device cannot run this executable: build it for the device's target."""


class MissingRuntimeError(DeviceError):
    """What the device runs is not installed: run the command that the message names."""


class LeaseHeldError(DeviceError):
    """Somebody else measures on the board: wait until they are done, or `latloop device steal`.

    Attributes:
        lease: Who it is, or None where the board's record cannot be read.
    """

    def __init__(self, message: str, lease: LeaseRecord | None = None) -> None:
        super().__init__(message)
        self.lease = lease


class LeaseFailedError(DeviceError):
    """The board's lease can be neither taken nor refused: mend the file that the message names."""


class RunnerLostError(DeviceError):
    """The runner ended or fell silent: start it again; what it had answered stays valid."""


class ProtocolError(RunnerLostError):
    """The runner's bytes make no sense: start it again; if it happens twice, rebuild it."""


class StaleLeaseError(RunnerLostError):
    """The board was given to another session: whatever still comes from this one is void."""
