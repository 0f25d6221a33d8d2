"""A board behind an SSH server, as a device."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devices.board import Fingerprint
from devices.errors import DeviceUnreachableError, ExecutableRefusedError, RunnerLostError
from devices.fingerprint import read_architecture, read_fingerprint
from devices.session import RunnerSession
from devices.snapshot import fetch
from devices.ssh.connection import SshConnection
from devices.ssh.files import BoardFiles
from devices.ssh.shell import SshShell, start_script
from devices.ssh.stream import ChannelStream

SILENCE_S: Final = 8.0
#: What a shell says of a file that it cannot run.
_CANNOT_RUN: Final = (126, 127)


@dataclass(frozen=True, slots=True)
class SshDevice:
    """A board that an account on it and an SSH server make a device.

    Close it after use: it holds a connection from the first use on.

    Attributes:
        connection: To the board; it has the device's name.
        folder: Where Latloop keeps its files on the board; `~/` stands for the account's home.
        threads: Threads that a kernel may use.
        cores: The cores that they are pinned to, the measuring one first; none pins nothing.
        versions: (component, version) pairs for the runtime's fingerprint.
        root: Where the board has `proc` and `sys`.
        launcher: Words before the runner's command, such as `nice -n -5`.
        holder, host: Who measures, and from where, for the lease.
        silence_s: A runner or host that hears nothing for so long gives the other up.
        room_bytes: Files that were not used lately are deleted on the board beyond this.
    """

    connection: SshConnection
    folder: str
    threads: int = 1
    cores: tuple[int, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    root: str = "/"
    launcher: tuple[str, ...] = ()
    holder: str = ""
    host: str = ""
    silence_s: float = SILENCE_S
    room_bytes: int = 1 << 30
    files: BoardFiles = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")
        if self.cores and len(self.cores) != self.threads:
            raise ValueError(f"cores must be {self.threads}, one a thread, got {self.cores}")
        object.__setattr__(self, "files", BoardFiles(self.shell, self.folder, self.room_bytes))

    @property
    def name(self) -> str:
        """See `devices.device.Device`."""
        return self.connection.name

    @property
    def shell(self) -> SshShell:
        """The board's shell, over the same connection."""
        return SshShell(self.connection)

    def fingerprint(self) -> Fingerprint:
        """See `devices.device.Device`."""
        with tempfile.TemporaryDirectory(prefix="latloop-") as folder:
            root = Path(folder)
            fetch(self.shell, root, self.root)
            core = self.cores[0] if self.cores else 0
            architecture = read_architecture(root)
            return read_fingerprint(root, architecture, self.threads, self.versions, core=core)

    def start(self, executable: Path, *, is_stealing: bool = False) -> RunnerSession:
        """Put an executable on the board unless it is there, and start it.

        The runner ends itself when it hears nothing from this host for `silence_s`.

        Args:
            executable: A static executable for the board.
            is_stealing: Whether whoever holds the board's lease is ended first.

        Raises:
            DeviceUnreachableError: the board does not answer; see also `SshConnection.open`.
            DeviceFullError: it has no room for the executable.
            ExecutableRefusedError: it cannot run the executable.
            LeaseHeldError: somebody else measures on it.
            RunnerLostError: the runner started and did not answer.
        """
        ...

    def close(self) -> None:
        """Close the connection; runners that are left end by themselves."""
        self.connection.close()
