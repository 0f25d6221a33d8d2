"""A board behind an SSH server, as a device."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from devices.board import Fingerprint
from devices.errors import DeviceUnreachableError, ExecutableRefusedError, RunnerLostError
from devices.executable import check_executable
from devices.fingerprint import read_architecture, read_fingerprint
from devices.lease import lease_arguments
from devices.session import RunnerSession
from devices.snapshot import fetch
from devices.ssh import scripts
from devices.ssh.connection import SshConnection
from devices.ssh.files import BoardFiles
from devices.ssh.held import HeldShell
from devices.ssh.shell import SshShell
from devices.ssh.stream import ChannelStream

SILENCE_S: Final = 8.0
#: Exit statuses of a shell that cannot run a file.
_CANNOT_RUN: Final = (126, 127)
_MAX_TRIES: Final = 3


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
        files = BoardFiles(self.connection, self.folder, self.room_bytes)
        object.__setattr__(self, "files", files)

    @property
    def name(self) -> str:
        """See `devices.device.Device`."""
        return self.connection.name

    @property
    def host_cores(self) -> tuple[int, ...]:
        """See `devices.device.Device`: none of this machine."""
        return ()

    @property
    def shell(self) -> SshShell:
        """The board's shell, over the same connection."""
        return SshShell(self.connection)

    def fingerprint(self) -> Fingerprint:
        """See `devices.device.Device`."""
        with tempfile.TemporaryDirectory(prefix="latloop-") as folder:
            root = Path(folder)
            fetch(self.shell, root, self.root, self.name)
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

        def check(machine: str) -> None:
            check_executable(executable, None if self.launcher else machine, self.name)

        check_executable(executable, None, self.name)
        for _ in range(_MAX_TRIES):
            with HeldShell(self.connection) as shell:
                self.files.put((executable,), check=check, shell=shell)
                stream = shell.become(self._script(executable, is_stealing=is_stealing))
            try:
                return self._talk(stream)
            except RunnerLostError as error:
                # Whatever was on the board may be gone: it was started anew, or tidied up.
                self.files.forget()
                if stream.status in _CANNOT_RUN:
                    raise ExecutableRefusedError(
                        f"{self.name} cannot run {executable} in {self.folder}: {error}; the "
                        "folder must not be noexec, nor the executable for another processor"
                    ) from error
                if stream.status != scripts.NO_FOLDER:
                    raise
        raise DeviceUnreachableError(
            f"{self.name}: {self.folder} loses files as soon as they are there; choose another "
            "`folder` for the device"
        )

    def close(self) -> None:
        """Close the connection; runners that are left end by themselves."""
        self.connection.close()

    def _script(self, executable: Path, *, is_stealing: bool) -> str:
        """Becomes the runner."""
        sha256 = self.files.hash_of(executable)
        silence_ms = str(round(self.silence_s * 1000))
        lease = lease_arguments("lease", self.holder, self.host, steal=is_stealing)
        root = () if self.root == "/" else ("--root", self.root)
        runner = (f"./files/{sha256}", *root, "--silence-ms", silence_ms, *lease)
        return scripts.start(self.folder, sha256, (*self.launcher, *runner))

    def _talk(self, stream: ChannelStream) -> RunnerSession:
        def place(path: Path) -> str:
            return self.files.put((path,), stream.pid)[0]

        return RunnerSession(
            stream,
            self.cores,
            partial(_last_words, stream),
            place=place,
            silence_s=self.silence_s,
            name=self.name,
        )


def _last_words(stream: ChannelStream) -> str:
    said = stream.last_words()
    return said or (f"it ended with status {stream.status}" if stream.status else "")
