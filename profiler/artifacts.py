"""Files by the hash of their contents, and a build cache, in a folder that hosts can share.

Layout: `objects/ab/<sha256>` holds contents, `keys/ab/<sha256 of key>` the digest that a key
stands for, `new/` files that are being written, `damaged/` files whose contents do not match.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: A file in `new/` that is older was left by a process that was killed.
_ABANDONED_AFTER_S: Final = 24 * 3600.0


class ArtifactError(Exception):
    """The artifact folder cannot be used; fix what the message names and run again."""


class ArtifactSpaceError(ArtifactError):
    """No space is left and nothing was kept of what was put; free some and run again."""


class ArtifactStore:
    """Contents by their SHA-256, written whole or not at all.

    Safe with several processes and threads, and when killed at any instant. Contents that no
    longer match their name are set aside and count as absent.

    Raises:
        ArtifactError: the folder cannot be made.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._objects = folder / "objects"
        self._keys = folder / "keys"
        self._new = folder / "new"
        self._damaged = folder / "damaged"
        with self._explained(0):
            for part in (self._objects, self._keys, self._new, self._damaged):
                part.mkdir(parents=True, exist_ok=True)
            self._sweep(clock())

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return self._folder

    def put_bytes(self, data: bytes) -> str:
        """Keep contents and return their digest.

        Raises:
            ArtifactSpaceError: no space is left.
            ArtifactError: the folder cannot be written to.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self.path(digest) is None:
            self._write(self._place(digest), [data], len(data), is_executable=False)
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file and return its digest; it stays executable if it was.

        Raises:
            OSError: the file cannot be read.
            ArtifactSpaceError: no space is left.
            ArtifactError: the folder cannot be written to.
        """
        digest = _hash_file(path)
        is_executable = os.access(path, os.X_OK)
        kept = self.path(digest)
        if kept is None or (is_executable and not os.access(kept, os.X_OK)):
            n_bytes = path.stat().st_size
            with path.open("rb") as source:
                chunks = iter(lambda: source.read(_CHUNK_BYTES), b"")
                self._write(self._place(digest), chunks, n_bytes, is_executable=is_executable)
        return digest

    def path(self, digest: str) -> Path | None:
        """Where contents lie, after a check of their hash; None where absent or damaged.

        The file belongs to the store and is read-only: copy it to change it.
        """
        place = self._place(digest)
        try:
            with self._explained(0):
                found = _hash_file(place)
        except FileNotFoundError:
            return None
        if found == digest:
            return place
        self._set_aside(place)
        return None

    def holds(self, digest: str) -> bool:
        """Whether contents are there; they are checked when they are read."""
        return self._place(digest).exists()

    def get(self, digest: str) -> bytes | None:
        """Contents by digest, checked; None where absent or damaged."""
        place = self._place(digest)
        try:
            with self._explained(0):
                data = place.read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() == digest:
            return data
        self._set_aside(place)
        return None

    def alias(self, key: str, digest: str) -> None:
        """Let a key, such as the text of a build's inputs, stand for contents from now on.

        Raises:
            ArtifactSpaceError: no space is left.
            ArtifactError: the folder cannot be written to.
        """
        self._place(digest)
        self._write(self._key_place(key), [digest.encode()], len(digest), is_executable=False)

    def lookup(self, key: str) -> str | None:
        """The digest that a key stands for; None where unknown, or its contents are gone."""
        place = self._key_place(key)
        try:
            with self._explained(0):
                digest = place.read_bytes().decode("ascii", "replace")
        except FileNotFoundError:
            return None
        if _DIGEST.fullmatch(digest) is None:
            self._set_aside(place)
            return None
        return digest if self._place(digest).exists() else None

    def _place(self, digest: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"digest must be 64 hexadecimal digits, got {digest!r}")
        return self._objects / digest[:2] / digest

    def _key_place(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._keys / digest[:2] / digest

    def _write(
        self, place: Path, chunks: Iterable[bytes], n_bytes: int, *, is_executable: bool
    ) -> None:
        """Write beside, force to disk, then rename: readers see all of it or nothing."""
        new = self._new / uuid.uuid4().hex
        with self._explained(n_bytes):
            try:
                if shutil.disk_usage(self._new).free < n_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                with new.open("xb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fchmod(file.fileno(), 0o555 if is_executable else 0o444)
                    os.fsync(file.fileno())
                place.parent.mkdir(exist_ok=True)
                new.replace(place)
                _sync_folder(place.parent)
            finally:
                new.unlink(missing_ok=True)

    def _set_aside(self, place: Path) -> None:
        with suppress(FileNotFoundError), self._explained(0):  # another process was faster
            place.replace(self._damaged / f"{place.name}-{uuid.uuid4().hex[:8]}")

    def _sweep(self, now_s: float) -> None:
        for path in self._new.iterdir():
            with suppress(FileNotFoundError):
                if now_s - path.stat().st_mtime > _ABANDONED_AFTER_S:
                    path.unlink()

    @contextmanager
    def _explained(self, n_bytes: int) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _NO_SPACE:
                free = shutil.disk_usage(_nearest_folder(self._folder)).free
                raise ArtifactSpaceError(
                    f"no space left in {self._folder} for {n_bytes} bytes: {free} bytes are "
                    f"free; free some and run again, or set LATLOOP_HOME to a larger disk"
                ) from error
            raise ArtifactError(
                f"artifact folder {self._folder} cannot be used: {error.strerror} "
                f"({error.filename}); change its permissions or set LATLOOP_HOME to another"
            ) from error


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Force a rename to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
