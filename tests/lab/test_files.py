"""Files come to a board once, whole or not at all, and go when there is no room."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from devices.errors import DeviceFullError, DeviceUnreachableError, FolderRefusedError
from devices.ssh.connection import SshConnection
from devices.ssh.files import BoardFiles
from devices.ssh.scripts import receive
from devices.ssh.shell import SshShell, start_script

from .board import HOME, SMALL, SMALL_BYTES, UID, Board

MakeFiles = Callable[..., BoardFiles]


@pytest.fixture
def make_files(connect: Callable[..., SshConnection]) -> MakeFiles:
    def make(board: Board, folder: str = HOME, room_bytes: int = 1 << 30) -> BoardFiles:
        return BoardFiles(connect(board), folder, room_bytes)

    return make


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Files of random bytes, so that no two are the same."""

    def make(name: str, n_bytes: int = 3000) -> Path:
        (tmp_path / name).write_bytes(np.random.default_rng().bytes(n_bytes))
        return tmp_path / name

    return make


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def on_board(board: Board, place: str) -> Path:
    return board.root_of("/") / place.lstrip("/")


def test_many_files_arrive_whole_and_may_be_run(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    paths = [make_file(f"f{i}", n_bytes) for i, n_bytes in enumerate((0, 1, 511, 512, 5_000_000))]
    places = make_files(board).put(paths)
    for path, place in zip(paths, places, strict=True):
        copy = on_board(board, place)
        assert copy.name == sha256(path)
        assert copy.read_bytes() == path.read_bytes()
        assert copy.stat().st_mode & 0o777 == 0o700
        assert copy.stat().st_uid == UID
    assert not [name for name in board.files() if name.startswith(".")]


def test_what_is_there_is_not_sent_again(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    old, new = make_file("old"), make_file("new")
    (place,) = make_files(board).put([old])
    before = on_board(board, place).stat()
    os.utime(on_board(board, place), (1, 1))
    again = make_files(board)
    assert again.put([old, new])[0] == place
    after = on_board(board, place).stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime > 1  # it counts as used
    # Nothing is asked of the board for what this session has seen there.
    on_board(board, place).unlink()
    assert again.put([old]) == [place]
    again.forget()
    again.put([old])
    assert on_board(board, place).read_bytes() == old.read_bytes()


def test_a_folder_that_cannot_be_written_is_refused(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    path = make_file("f")
    for folder in ("/etc/latloop", "/proc/latloop"):
        with pytest.raises(FolderRefusedError, match=f"lab: {folder} cannot be written"):
            make_files(board, folder).put([path])


def test_a_folder_may_have_any_name(
    openssh: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    path = make_file("f")
    folder = '/tmp/it\'s $(touch hacked) "here"'
    (place,) = make_files(openssh, folder).put([path])
    assert place == f"{folder}/files/{sha256(path)}"
    assert on_board(openssh, place).exists()
    assert not list(on_board(openssh, "/").rglob("hacked"))


def test_a_full_disk_is_told_before_anything_is_sent(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    path = make_file("large", SMALL_BYTES)
    with pytest.raises(DeviceFullError) as caught:
        make_files(board, SMALL).put([path])
    said = str(caught.value)
    assert said.startswith(f"lab: {SMALL} needs ")
    assert str(SMALL_BYTES + (1 << 20)) in said
    assert not board.files(SMALL)


def test_a_disk_that_fills_up_meanwhile_leaves_no_part(
    own_board: Board, make_files: MakeFiles, make_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The board says that there is room, and then there is none."""
    monkeypatch.setattr("devices.ssh.files.MARGIN_BYTES", -SMALL_BYTES)
    path = make_file("large", SMALL_BYTES + 1000)
    for has_tar in (True, False):
        if not has_tar:
            (own_board.root / "bin/tar").unlink()
        with pytest.raises(DeviceFullError, match="no room left"):
            make_files(own_board, SMALL).put([path])
        assert not own_board.files(SMALL)
    small = make_file("small")
    assert make_files(own_board, SMALL).put([small])


def test_the_files_used_longest_ago_make_room(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    folder = f"/tmp/lru-{board.server}"
    files = make_files(board, folder, room_bytes=100_000)
    paths = [make_file(f"f{i}", 30_000) for i in range(5)]
    places = []
    for age, path in enumerate(paths[:3]):
        places += files.put([path])
        os.utime(on_board(board, places[-1]), (1000 + age, 1000 + age))
    files.forget()
    files.put([paths[0]])  # used again: the second is now the oldest
    files.put([paths[3]])
    left = [sha256(paths[i]) for i in (0, 2, 3)]
    assert sorted(board.files(folder)) == sorted(left)


def test_files_that_a_process_needs_stay(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    folder = f"/tmp/used-{board.server}"
    files = make_files(board, folder, room_bytes=50_000)
    connection = files._connection  # the same board
    pid = int(SshShell(connection).run("sleep 3303 >/dev/null 2>&1 & echo $!").stdout)
    needed, other, last = (make_file(name, 30_000) for name in ("needed", "other", "last"))
    (place,) = files.put([needed], pid)
    os.utime(on_board(board, place), (1, 1))
    files.put([other])
    assert board.files(folder) == {sha256(needed), sha256(other)}
    SshShell(connection).run(f"kill {pid}; while [ -d /proc/{pid} ]; do :; done")
    os.utime(on_board(board, place), (1, 1))
    files.put([last])
    assert sha256(needed) not in board.files(folder)


def test_an_upload_goes_on_after_the_link_was_cut(
    own_board: Board, make_files: MakeFiles, make_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first, large = make_file("first"), make_file("large", 200_000_000)
    with monkeypatch.context() as patch:
        patch.setattr("devices.ssh.transport.KEEPALIVE_S", 0.2)
        patch.setattr("devices.ssh.transport.KEEPALIVE_TIMEOUT_S", 5.0)
        files = make_files(own_board)
        files.put([first])

        def cut_soon() -> None:
            while not [name for name in own_board.files() if name.startswith(".part")]:
                time.sleep(0.001)
            own_board.cut()

        cutter = threading.Thread(target=cut_soon)
        cutter.start()
        with pytest.raises(DeviceUnreachableError, match="lab"):
            files.put([first, large])
        cutter.join()
    own_board.mend()
    files.put([first, large])
    assert {sha256(first), sha256(large)} <= own_board.files()


def is_held(board: Board, file: Path) -> bool:
    """Whether a process on the board has opened the file, and so will not empty it any more."""
    end = f"/{file.parent.name}/{file.name}"
    for pid in board.commands():
        with suppress(OSError):
            if any(
                str(opened.readlink()).endswith(end) for opened in Path(f"/proc/{pid}/fd").iterdir()
            ):
                return True
    return False


def test_what_a_dead_upload_left_is_removed(
    board: Board, make_files: MakeFiles, make_file: Callable[..., Path]
) -> None:
    """An upload of a host that is gone waits for more until somebody ends it."""
    files = make_files(board)
    files.put([make_file("f")])
    connection = files._connection  # the same board
    uploads = [start_script(connection, receive(HOME, ["0"], 1, has_tar=False)) for _ in "ab"]
    folder = board.root_of(HOME) / "files"
    (folder / ".part.4000000").mkdir()
    while len(parts := sorted(folder.glob(".part.*/0"))) < 2 or not all(
        is_held(board, part) for part in parts
    ):
        time.sleep(0.01)
    dead, alive = (part.parent for part in parts)
    for path in (dead / "0", dead):
        os.utime(path, (time.time() - 600,) * 2)
    files.put([make_file("g")])
    assert {path for path in folder.iterdir() if path.name.startswith(".")} == {alive}
    ends = [upload.last_words() for upload in uploads if upload.pid == int(dead.suffix[1:])]
    assert len(ends) == 1
    for upload in uploads:
        upload.abandon()
    assert board.wait_until_idle() == []
    assert not [name for name in board.files() if name.startswith(".")]
