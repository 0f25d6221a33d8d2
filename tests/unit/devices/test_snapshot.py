from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from devices.errors import DeviceUnreachableError
from devices.fingerprint import read_architecture, read_fingerprint
from devices.shell import Answer, LocalShell
from devices.snapshot import fetch, snapshot_script
from devices.throttling import read_throttle_events

from .boards import BIG_LITTLE, CPU, RPI4, make


@dataclass(frozen=True)
class ThisShell:
    """Scripts run by a chosen shell of this machine."""

    command: tuple[str, ...]

    def run(self, script: str, stdin: bytes = b"", timeout_s: float = 30.0) -> Answer:
        done = subprocess.run(
            [*self.command, "-c", script],
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr.decode())


def test_this_machine_reads_the_same_from_a_snapshot(tmp_path: Path) -> None:
    fetch(LocalShell(), tmp_path)
    assert read_architecture(tmp_path) == platform.machine()
    there = read_fingerprint(tmp_path, platform.machine(), 1)
    assert there == read_fingerprint(Path("/"), platform.machine(), 1)
    # This test's own process is among those that are shown.
    assert (tmp_path / f"proc/{os.getpid()}/stat").read_text().startswith(f"{os.getpid()} (")


@pytest.mark.parametrize("board", [RPI4, BIG_LITTLE], ids=["rpi4", "big.LITTLE"])
def test_every_file_of_a_board_arrives_as_it_is(
    tmp_path: Path, board: dict[str, str | bytes]
) -> None:
    source = make(tmp_path / 'a board\'s "tree" $HOME', board)
    fetch(LocalShell(), tmp_path / "copy", str(source))
    for name, content in board.items():
        if name.startswith("board/"):
            continue  # these come from commands
        wanted = content if isinstance(content, bytes) else content.encode()
        got = (tmp_path / "copy" / name).read_bytes()
        # The shell takes NULs away, and the end of a single line.
        assert got.strip(b"\0\n ") == wanted.strip(b"\0\n "), name


def test_contents_that_look_like_the_framing_stay_contents(tmp_path: Path) -> None:
    tricky = "PRETTY_NAME=x\n\nend\n0123 etc/os-release\n\\n\\t %s $(id) `id`\n"
    make(tmp_path / "b", {"etc/os-release": tricky, f"{CPU}/isolated": r"\1 %s $x `id`"})
    fetch(LocalShell(), tmp_path / "copy", str(tmp_path / "b"))
    assert (tmp_path / "copy/etc/os-release").read_text() == tricky
    assert (tmp_path / f"copy/{CPU}/isolated").read_text() == r"\1 %s $x `id`"


def test_what_is_missing_is_absent_and_what_was_there_before_is_gone(tmp_path: Path) -> None:
    source = make(tmp_path / "b", {f"{CPU}/present": "0-3"})
    copy = make(tmp_path / "copy", {f"{CPU}/online": "0", "proc/stat": "old"})
    fetch(LocalShell(), copy, str(source))
    files = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    commands = {f"board/{name}" for name in ("machine", "shell", "users", "pid")}
    assert files == {f"{CPU}/present", *commands}


@pytest.mark.parametrize(
    ("groups", "files", "n_events"),
    [
        ("0::/user.slice/a@b.service", {"user.slice/a@b.service/cpu.max": "50000 100000"}, 7),
        ("0::/user.slice/a.service", {"user.slice/cpu.max": "50000 100000"}, 7),
        ("0::/user.slice/a.service", {"user.slice/a.service/cpu.max": "max 100000"}, None),
        ("4:cpu,cpuacct:/lab", {"cpu/lab/cpu.cfs_quota_us": "1000"}, 7),
        ("4:cpu,cpuacct:/lab", {"cpu/lab/cpu.cfs_quota_us": "-1"}, None),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "1000"}, 7),
        ("3:memory:/lab", {"memory/lab/cpu.max": "1 2"}, None),
    ],
)
def test_the_quota_of_the_boards_control_group_arrives(
    tmp_path: Path, groups: str, files: dict[str, str], n_events: int | None
) -> None:
    tree: dict[str, str | bytes] = {"proc/self/cgroup": f"9:pids:/x\n{groups}\n"}
    for name, text in files.items():
        tree[f"sys/fs/cgroup/{name}"] = f"{text}\n"
        folder = name.rpartition("/")[0]
        tree[f"sys/fs/cgroup/{folder}/cpu.stat"] = "nr_periods 9\nnr_throttled 7\n"
    source = make(tmp_path / "b", tree)
    fetch(LocalShell(), tmp_path / "copy", str(source))
    assert read_throttle_events(source) == n_events
    assert read_throttle_events(tmp_path / "copy") == n_events


def test_a_long_file_is_cut(tmp_path: Path) -> None:
    source = make(tmp_path / "b", {"proc/cpuinfo": b"x" * 300_000})
    fetch(LocalShell(), tmp_path / "copy", str(source))
    assert (tmp_path / "copy/proc/cpuinfo").read_bytes() == b"x" * (256 << 10)


def test_unreadable_files_and_folders_do_not_end_it(tmp_path: Path) -> None:
    source = make(tmp_path / "b", {f"{CPU}/present": "0-3", "proc/stat/inside": "x"})
    (source / "proc/cpuinfo").symlink_to("missing")
    (source / "proc/self").mkdir()
    (source / "proc/self/status").mkdir()
    fetch(LocalShell(), tmp_path / "copy", str(source))
    assert (tmp_path / f"copy/{CPU}/present").read_text() == "0-3"


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "sys/fs/cgroup/../../cpu.stat",
        "etc/./os-release",
        "/etc/passwd",
        "etc/shadow",
        "proc/../x",
        "proc/1/environ",
        "etc/os-release/x",
    ],
)
def test_a_board_writes_nothing_that_was_not_asked_for(tmp_path: Path, name: str) -> None:
    class Lying:
        def run(self, script: str, *_: object, **__: object) -> Answer:
            token = script.partition("\nt=")[2].split()[0]
            return Answer(0, f"\n{token} {name}\nhello\n{token} end\n".encode(), "")

    with pytest.raises(DeviceUnreachableError, match="desk sent a file that was not asked for"):
        fetch(Lying(), tmp_path / "deep/copy", name="desk")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_answer_that_is_cut_is_refused(tmp_path: Path) -> None:
    said = "desk did not list its system files, its shell ended with status 1: 'this is a switch'"
    refusing = ThisShell(("/bin/sh", "-c", "echo this is a switch >&2; exit 1"))
    with pytest.raises(DeviceUnreachableError, match=said):
        fetch(refusing, tmp_path, name="desk")


def test_files_of_one_line_start_no_process() -> None:
    """Two hundred of them would take a second on a slow board."""
    script = snapshot_script("token", "/")
    looped = script.partition("for f in")[2].partition("done")[0]
    for command in ("cat", "head", "tail", "sed", "$("):
        assert f" {command}" not in looped.partition("; do")[2], command
