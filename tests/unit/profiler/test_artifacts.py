"""Contents are whole, true to their name, or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profiler.artifacts import ArtifactError, ArtifactSpaceError, ArtifactStore

ROOT = Path(__file__).parents[3]
ABSENT = hashlib.sha256(b"never put").hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def files_in(store: ArtifactStore, part: str) -> list[Path]:
    return [path for path in (store.folder / part).rglob("*") if path.is_file()]


def test_bytes_come_back_by_their_sha256(store: ArtifactStore) -> None:
    digest = store.put_bytes(b"object code")
    assert digest == hashlib.sha256(b"object code").hexdigest()
    assert store.get(digest) == b"object code"
    path = store.path(digest)
    assert path is not None
    assert path.read_bytes() == b"object code"


def test_what_was_never_put_is_absent(store: ArtifactStore) -> None:
    assert store.get(ABSENT) is None
    assert store.path(ABSENT) is None
    assert store.lookup("some key") is None


def test_a_file_keeps_its_contents_and_that_it_can_be_executed(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "runner"
    source.write_bytes(b"\x7fELF" * 700_000)
    plain = store.path(store.put_file(source))
    assert plain is not None
    assert not plain.stat().st_mode & 0o111
    source.chmod(0o755)
    kept = store.path(store.put_file(source))
    assert kept is not None
    assert kept.stat().st_mode & 0o111
    assert kept.read_bytes() == source.read_bytes()
    assert source.exists()


def test_equal_contents_are_kept_once(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"same")
    assert store.put_bytes(b"same") == store.put_bytes(b"same") == store.put_file(tmp_path / "file")
    assert len(files_in(store, "objects")) == 1


def test_a_key_finds_the_contents_it_stood_for_last(store: ArtifactStore) -> None:
    first, second = store.put_bytes(b"first"), store.put_bytes(b"second")
    store.alias("conv, target, tvm 0.27", first)
    store.alias("another", first)
    store.alias("conv, target, tvm 0.27", second)
    assert store.lookup("conv, target, tvm 0.27") == second
    assert store.lookup("another") == first
    assert ArtifactStore(store.folder).lookup("another") == first


@pytest.mark.parametrize("damage", [b"", b"object c0de", b"object code and more"])
def test_damaged_contents_are_set_aside_and_can_be_put_again(
    store: ArtifactStore, damage: bytes
) -> None:
    digest = store.put_bytes(b"object code")
    for read in (store.get, store.path, lambda _: store.put_bytes(b"object code")):
        place = store.path(digest)
        assert place is not None
        place.chmod(0o644)
        place.write_bytes(damage)
        assert read(digest) in (None, digest)  # put heals at once
        assert store.put_bytes(b"object code") == digest
        assert store.get(digest) == b"object code"
    assert {path.read_bytes() for path in files_in(store, "damaged")} == {damage}


def test_a_damaged_or_dangling_key_is_unknown(store: ArtifactStore) -> None:
    digest = store.put_bytes(b"object code")
    store.alias("key", digest)
    (key_file,) = files_in(store, "keys")
    key_file.chmod(0o644)
    key_file.write_bytes(b"\xff\xfe half a dig")
    assert store.lookup("key") is None
    store.alias("key", ABSENT)
    assert store.lookup("key") is None


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "AB" * 32, "ab" * 31])
def test_a_digest_that_is_none_is_refused(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.get(digest)


def test_no_space_is_told_beforehand_with_what_is_free(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(store.folder)._replace(free=5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactSpaceError, match=r"artifacts for 11 bytes: 5 bytes are free"):
        store.put_bytes(b"object code")
    assert files_in(store, ".") == []


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_space_that_ends_while_writing_leaves_nothing_behind(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ArtifactSpaceError, match="free some and run again"):
        store.put_bytes(b"object code")
    with pytest.raises(ArtifactSpaceError):
        store.alias("key", ABSENT)
    assert files_in(store, ".") == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ArtifactError, match="file/artifacts cannot be used"):
        ArtifactStore(tmp_path / "file" / "artifacts")


def test_only_files_that_a_killed_process_left_long_ago_are_swept(store: ArtifactStore) -> None:
    left = store.folder / "new" / "0123"
    left.write_bytes(b"half")
    ArtifactStore(store.folder)
    assert left.exists()
    ArtifactStore(store.folder, clock=lambda: time.time() + 2 * 24 * 3600)
    assert not left.exists()


def test_after_sigkill_every_name_holds_whole_contents(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from profiler.artifacts import ArtifactStore\n"
        "store = ArtifactStore(Path(sys.argv[1]))\n"
        "for i in range(10**6):\n"
        "    store.alias(f'key {i % 50}', store.put_bytes(f'{i % 50}'.encode() * 100_000))\n"
        "    print(i, flush=True)\n"
    )
    folder = tmp_path / "artifacts"
    command = [sys.executable, "-c", code, folder, ROOT]
    for delay_s in (0.0, 0.013, 0.05):
        pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for child in pair:  # two at once, on the same names
            assert child.stdout is not None
            child.stdout.readline()
        time.sleep(delay_s)
        for child in pair:
            child.send_signal(signal.SIGKILL)
            child.communicate()
        store = ArtifactStore(folder)
        for place in files_in(store, "objects"):
            assert hashlib.sha256(place.read_bytes()).hexdigest() == place.name
        for i in range(50):
            digest = store.lookup(f"key {i}")
            assert digest is None or store.get(digest) == f"{i}".encode() * 100_000
        assert store.lookup("key 0") is not None
