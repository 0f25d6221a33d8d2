"""Files on a board, named by the hash of their content: uploaded once, deleted when long unused."""

from __future__ import annotations

import hashlib
import re
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.errors import (
    DeviceError,
    DeviceFullError,
    DeviceUnreachableError,
    FolderRefusedError,
    MissingRuntimeError,
)
from devices.shell import Answer
from devices.ssh import scripts
from devices.ssh.connection import SshConnection
from devices.ssh.held import HeldShell

#: Room that an upload leaves on the board beyond the files themselves.
MARGIN_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 20
_END_BYTES: Final = 2 * tarfile.BLOCKSIZE  # of an archive
_STALL_TIMEOUT_S: Final = 60.0
_NO_SPACE: Final = re.compile(r"no space left|quota exceeded|disk full", re.IGNORECASE)
#: Blocks, used, available, capacity, before the mount point.
_DISK: Final = re.compile(r"\d+\s+\d+\s+(\d+)\s+(?:\d+%|-)\s")

#: Given what `uname -m` prints on the board.
Check = Callable[[str], None]


def _accept(machine: str) -> None:
    """Take a board of any processor."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of this machine that belongs on a board.

    Attributes:
        path: Here.
        sha256: Of its content: its name there.
        n_bytes: Its size.
    """

    path: Path
    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What the folder on a board looks like.

    Attributes:
        machine: As `uname -m` prints it.
        folder: The folder's full path.
        free_bytes: Room on its file system.
        used_bytes: What Latloop's files take.
        present: Hashes of the files asked for that are there.
        tools: Of `tar` and `sha256sum`, those that the board has.
    """

    machine: str
    folder: str
    free_bytes: int
    used_bytes: int
    present: frozenset[str]
    tools: frozenset[str]


class BoardFiles:
    """The files in a board's folder. Several threads may use it, and several hosts one folder."""

    def __init__(self, connection: SshConnection, folder: str, room_bytes: int) -> None:
        """Note where the files go; nothing is asked of the board yet.

        Args:
            connection: To the board.
            folder: On the board; `~/` stands for the account's home.
            room_bytes: What the files may take before those used longest ago are deleted.
        """
        self._connection = connection
        self._folder = folder
        self._room_bytes = room_bytes
        self._lock = threading.Lock()
        self._hashed: dict[tuple[Path, int, int], str] = {}
        self._places: dict[tuple[int | None, str], str] = {}

    @property
    def _name(self) -> str:
        return self._connection.name

    def survey(self, hashes: Iterable[str] = (), pid: int | None = None) -> Survey:
        """Make the folder if need be, and tell what is there.

        Args:
            hashes: Files to look for; those found count as used now.
            pid: A process on the board that needs them as long as it lives, or None.

        Raises:
            FolderRefusedError: the folder cannot be made or written.
            DeviceUnreachableError: the board does not answer.
        """
        with HeldShell(self._connection) as shell:
            return self._survey(shell, hashes, pid)

    def put(
        self,
        paths: Sequence[Path],
        pid: int | None = None,
        check: Check = _accept,
        shell: HeldShell | None = None,
    ) -> list[str]:
        """Have files on the board; those that are there already are not sent.

        Args:
            paths: Files of this machine.
            pid: A process on the board that needs them as long as it lives, or None.
            check: Called with what `uname -m` prints there before anything is sent; may refuse.
            shell: For all scripts that this takes; None starts one, if need be.

        Returns:
            Where they lie on the board, in the order of `paths`.

        Raises:
            DeviceFullError: there is no room for them.
            FolderRefusedError: the folder cannot be made or written.
            MissingRuntimeError: the board cannot check what it receives.
            DeviceUnreachableError: the board does not answer, or what arrives is damaged.
            OSError: a file of this machine cannot be read.
        """
        with self._lock:
            files = {file.sha256: file for file in map(self._describe, paths)}
            unknown = [sha256 for sha256 in files if (pid, sha256) not in self._places]
            if unknown:
                wanted = [files[sha256] for sha256 in unknown]
                with nullcontext(shell) if shell else HeldShell(self._connection) as held:
                    folder = self._bring(held, wanted, pid, check)
                self._places |= {(pid, name): f"{folder}/files/{name}" for name in unknown}
            return [self._places[pid, self._describe(path).sha256] for path in paths]

    def hash_of(self, path: Path) -> str:
        """The name of a file on boards."""
        with self._lock:
            return self._describe(path).sha256

    def forget(self) -> None:
        """Look again what is on the board: it may have been emptied or started anew."""
        with self._lock:
            self._places.clear()

    def _survey(self, shell: HeldShell, hashes: Iterable[str], pid: int | None = None) -> Survey:
        answer = self._run(shell, scripts.survey(self._folder, hashes, pid))
        lines = [
            line.partition(" ") for line in answer.stdout.decode(errors="replace").splitlines()
        ]
        facts = {key: value for key, _, value in lines}
        disk, used = _DISK.search(facts.get("disk", "")), facts.get("used", "").split()
        if disk is None or not used or not used[0].isdigit():
            raise DeviceUnreachableError(
                f"{self._name}: the board does not tell its free space: {answer.stderr or facts!r}"
            )
        return Survey(
            machine=facts.get("machine", ""),
            folder=facts.get("folder", ""),
            free_bytes=int(disk[1]) * 1024,
            used_bytes=int(used[0]) * 1024,
            present=frozenset(value for key, _, value in lines if key == "present"),
            tools=frozenset(value for key, _, value in lines if key == "tool"),
        )

    def _describe(self, path: Path) -> HostFile:
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in self._hashed:
            with path.open("rb") as file:
                self._hashed[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return HostFile(path, self._hashed[key], status.st_size)

    def _bring(
        self, shell: HeldShell, files: Sequence[HostFile], pid: int | None, check: Check
    ) -> str:
        """Upload what is missing; the folder's full path."""
        hashes = [file.sha256 for file in files]
        found = self._survey(shell, hashes, pid)
        check(found.machine)
        missing = [file for file in files if file.sha256 not in found.present]
        if not missing:
            return found.folder
        if "sha256sum" not in found.tools:
            raise MissingRuntimeError(
                f"{self._name}: the board has no sha256sum, which checks what arrives there; "
                "install coreutils or busybox on the board"
            )
        self._make_room(shell, found, missing, hashes)
        if "tar" in found.tools and len(missing) > 1:
            self._send(shell, missing, has_tar=True)
        else:
            for file in missing:
                self._send(shell, [file], has_tar=False)
        left = set(hashes) - self._survey(shell, hashes, pid).present if pid is not None else ()
        if left:
            raise DeviceUnreachableError(f"{self._name}: files vanish from {found.folder}/files")
        return found.folder

    def _make_room(
        self, shell: HeldShell, found: Survey, missing: Sequence[HostFile], hashes: Sequence[str]
    ) -> None:
        wanted_bytes = sum(file.n_bytes for file in missing)
        lacking_bytes = wanted_bytes + MARGIN_BYTES - found.free_bytes
        keep_bytes = min(self._room_bytes - wanted_bytes, found.used_bytes - lacking_bytes)
        if keep_bytes >= found.used_bytes:
            return
        self._run(shell, scripts.prune(self._folder, max(keep_bytes, 0), hashes))
        free_bytes = self._survey(shell, hashes).free_bytes
        if free_bytes < wanted_bytes + MARGIN_BYTES:
            raise DeviceFullError(
                f"{self._name}: {found.folder} needs {wanted_bytes + MARGIN_BYTES} bytes and has "
                f"{free_bytes} free; free some on the board, or choose another `folder` for it"
            )

    def _send(self, shell: HeldShell, files: Sequence[HostFile], *, has_tar: bool) -> None:
        hashes = [file.sha256 for file in files]
        n_bytes = sum(map(_archived_bytes, files)) + _END_BYTES if has_tar else files[0].n_bytes
        chunks = _archive(files) if has_tar else _content(files[0])
        script = scripts.receive(self._folder, hashes, n_bytes, has_tar=has_tar)
        self._check(shell.feed(script, chunks, _STALL_TIMEOUT_S))

    def _run(self, shell: HeldShell, script: str) -> Answer:
        return self._check(shell.run(script, _STALL_TIMEOUT_S))

    def _check(self, answer: Answer) -> Answer:
        """Turn a script's failure into an error that names the board and the folder."""
        if answer.status == 0:
            return answer
        where, said = f"{self._name}: {self._folder}", answer.stderr[-300:]
        if _NO_SPACE.search(answer.stderr):
            raise DeviceFullError(f"{where} has no room left; free some on the board: {said}")
        if answer.status in (scripts.NO_FOLDER, scripts.NOT_WRITTEN):
            raise FolderRefusedError(
                f"{where} cannot be written; choose another `folder` for the device: {said}"
            )
        if answer.status == scripts.DAMAGED:
            raise DeviceUnreachableError(f"{where}: what arrived was damaged; try again: {said}")
        raise DeviceError(f"{where}: a script ended with status {answer.status}: {said}")


def _content(file: HostFile) -> Iterator[bytes]:
    """As many bytes as were counted: the board waits for them, and its hash tells of a change."""
    n_left = file.n_bytes
    with file.path.open("rb") as source:
        while chunk := source.read(min(_CHUNK_BYTES, n_left)):
            n_left -= len(chunk)
            yield chunk
    while n_left:
        filler = bytes(min(_CHUNK_BYTES, n_left))
        n_left -= len(filler)
        yield filler


def _archive(files: Iterable[HostFile]) -> Iterator[bytes]:
    """A tar archive of the files under their hashes."""
    for file in files:
        header = tarfile.TarInfo(file.sha256)
        header.size, header.mode = file.n_bytes, 0o700
        yield header.tobuf(tarfile.USTAR_FORMAT)
        yield from _content(file)
        yield bytes(-file.n_bytes % tarfile.BLOCKSIZE)
    yield bytes(_END_BYTES)


def _archived_bytes(file: HostFile) -> int:
    """What a file takes in an archive."""
    return tarfile.BLOCKSIZE + file.n_bytes + -file.n_bytes % tarfile.BLOCKSIZE
