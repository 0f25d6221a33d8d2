from __future__ import annotations

import os
from pathlib import Path

import pytest

from devices.errors import NoFolderError
from devices.folders import LEAST_BYTES, WANTED_BYTES, Folder, choose_folder, probe_folders
from devices.shell import LocalShell


def test_the_usual_places_are_tried_and_left_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my cache/deep"))
    folders = probe_folders(LocalShell())
    assert folders[0].path == str(tmp_path / "my cache/deep/latloop")
    assert (folders[0].is_writable, folders[0].runs_programs) == (True, True)
    assert [Path(f.path).parent for f in folders[1:]] == [
        Path("/var/tmp"), Path("/tmp"), Path("/dev/shm"),
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_without_a_cache_folder_of_its_own_the_accounts_usual_one_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert probe_folders(LocalShell())[0].path == str(tmp_path / ".cache/latloop")


def test_a_place_that_a_person_names_is_the_only_one(tmp_path: Path) -> None:
    named = f"{tmp_path}/it's $HOME"
    (folder,) = probe_folders(LocalShell(), named)
    assert folder.path == named
    disk = os.statvfs(tmp_path)
    assert abs(folder.free_bytes - disk.f_bavail * disk.f_frsize) < 1 << 30


def test_a_place_where_nobody_may_write_is_told() -> None:
    # Not even root may make files there.
    (folder,) = probe_folders(LocalShell(), "/proc/latloop")
    assert not folder.is_writable
    with pytest.raises(NoFolderError, match=r"desk .*/proc/latloop: not writable.*--set folder="):
        choose_folder([folder], "desk")


ROOMY = Folder("/a", WANTED_BYTES, True, True)


def test_the_first_folder_with_room_is_taken() -> None:
    small = Folder("/s", WANTED_BYTES - 1, True, True)
    noexec = Folder("/n", 1 << 40, True, False)
    larger = Folder("/l", 1 << 40, True, True)
    assert choose_folder([small, noexec, ROOMY, larger], "desk") == ROOMY


def test_without_room_enough_the_largest_is_taken() -> None:
    small, smaller = (Folder("/s", LEAST_BYTES + n, True, True) for n in (1, 0))
    assert choose_folder([smaller, small], "desk") == small


def test_when_none_will_do_each_is_named_with_the_reason() -> None:
    folders = [Folder("/n", 1 << 40, True, False), Folder("/s", LEAST_BYTES - 1, True, True)]
    with pytest.raises(NoFolderError) as caught:
        choose_folder(folders, "desk")
    assert "/n: programs do not run there (noexec)" in str(caught.value)
    assert "/s: 15 MiB free" in str(caught.value)
