"""Boards are enrolled, checked and used by the command line, as a person would."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices.inventory import read_inventory
from devices.ssh.connection import SshConnection
from devices.ssh.shell import SshShell
from latloop.journeys.enroll import look
from profiler.store import Store
from profiler.target import target_of
from tests.pipeline.command_line import LATLOOP, environment, latloop, make_home

from .board import PASSWORD, USER, Board, fingerprint_of, make_key
from .conftest import Lab, MakeDevice, agreed, enroll, running
from .emulation import PROCESSORS, emulated


def nothing_is_written(home: Path) -> bool:
    return not (home / "devices.toml").exists() and not (home / "known_hosts").exists()


def table_of(home: Path, name: str = "desk") -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((home / "devices.toml").read_text())["device"][name]
    return found


@pytest.fixture(scope="module")
def enrolled_once(
    openssh: Board, build_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A home in which a board is the device `desk`, and its canary built; not to be written to."""
    home = make_home(tmp_path_factory.mktemp("enrolled") / "home", build_cache)
    done = enroll(home, openssh, *agreed(openssh))
    assert done.code == 0, done.err
    assert latloop(home, "device", "check", "desk").code in {0, 1}
    return home


@pytest.fixture
def enrolled(enrolled_once: Path, tmp_path: Path) -> Path:
    """A home of this test's own, in which a board is the device `desk`."""
    return shutil.copytree(enrolled_once, tmp_path / "home", symlinks=True)


def test_a_board_is_enrolled_and_checked(board: Board, home: Path) -> None:
    done = enroll(home, board, *agreed(board))
    assert done.code == 0, done.err
    answer = done.answer
    assert answer["folder"] == f"/home/{USER}/.cache/latloop"
    assert answer["tick_ns"] > 0
    assert answer["os_image"] == "Lab Linux 1"
    assert [key["fingerprint"] for key in answer["host_keys"]] == [agreed(board)[1]]
    table = table_of(home)
    assert (table["host"], table["user"], table["transport"]) == (board.ip, USER, "ssh")
    assert table["board"]["architecture"] == "x86_64"
    assert table["target"]["triple"] == "x86_64-linux-gnu"
    checked = latloop(home, "device", "check", "desk", "--json")
    assert checked.code in {0, 1}, checked.err
    assert checked.answer["board"]["n_cores"] == table["board"]["n_cores"]
    assert board.wait_until_idle() == []


def test_who_holds_a_board_is_told_and_ended_only_when_asked_to(
    openssh: Board, enrolled: Path, make_device: MakeDevice, executable: Path
) -> None:
    nobody = latloop(enrolled, "device", "steal", "desk", "--json")
    assert (nobody.code, nobody.answer["ended"]) == (0, None)
    with make_device(openssh, table_of(enrolled)["folder"]).start(executable):
        asked = latloop(enrolled, "device", "steal", "desk")
        assert asked.code == 1
        assert "tester on lab-host" in asked.err
        stolen = latloop(enrolled, "device", "steal", "desk", "--yes", "--json")
        assert stolen.code == 0, stolen.err
        assert stolen.answer["ended"]["holder"] == "tester"
    assert openssh.wait_until_idle() == []


def test_a_check_lets_a_board_that_is_fit_out_of_quarantine(enrolled: Path) -> None:
    device_id = latloop(enrolled, "device", "check", "desk", "--json").answer["device_id"]
    with Store.open(enrolled / "store.sqlite") as store:
        store.boards.put_in_quarantine(device_id, "did not come back")
    barred = latloop(enrolled, "device", "calibrate", "desk")
    assert barred.code == 21
    assert "did not come back" in barred.err
    again = latloop(enrolled, "device", "check", "desk", "--json").answer
    assert again["was_quarantined"] == "did not come back"
    with Store.open(enrolled / "store.sqlite") as store:
        is_barred = store.boards.quarantine_of(device_id) is not None
    assert is_barred == (not again["is_fit"])


def test_a_wrong_fingerprint_is_a_hard_stop(openssh: Board, home: Path, tmp_path: Path) -> None:
    other = fingerprint_of(Path(f"{make_key(tmp_path / 'other')}.pub"))
    done = enroll(home, openssh, "--fingerprint", other)
    assert (done.code, done.out) == (21, "")
    assert fingerprint_of(openssh.host_key) in done.err
    assert other in done.err
    assert nothing_is_written(home)


def test_without_a_terminal_the_next_step_is_told(openssh: Board, home: Path) -> None:
    done = enroll(home, openssh)
    assert done.code == 2
    assert f"--fingerprint {fingerprint_of(openssh.host_key)}" in done.err
    assert nothing_is_written(home)


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        ("folder=/proc/none", 21, "/proc/none: not writable"),
        ("folder=/noexec/latloop", 21, "programs do not run there"),
        ("board.architecture=aarch64", 21, "desk: "),
        ("core=4000", 2, "core must be one of the board's"),
        ("threads=4000", 2, "threads must be at most"),
    ],
)
def test_nothing_is_written_when_something_fails_on_the_way(
    openssh: Board, home: Path, setting: str, code: int, said: str
) -> None:
    done = enroll(home, openssh, *agreed(openssh), "--set", setting)
    assert done.code == code, done.err
    assert said in done.err
    assert nothing_is_written(home)


def test_settings_stand_in_place_of_what_was_found(openssh: Board, home: Path) -> None:
    settings = ("folder=/tmp/elsewhere", "board.l2_bytes=2097152", "target.cpu=x86-64-v3",
                "target.vector_bytes=32", "notes=the one on the shelf")  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    done = enroll(home, openssh, *agreed(openssh), *options)
    assert done.code == 0, done.err
    entry = read_inventory(home / "devices.toml").find("desk")
    assert (entry.folder, entry.notes) == ("/tmp/elsewhere", "the one on the shelf")
    assert (entry.board.l2_bytes, entry.target.cpu, entry.target.l2_bytes) == (
        2097152, "x86-64-v3", 2097152,
    )  # fmt: skip
    assert (openssh.root / "tmp/elsewhere/files").is_dir()


def test_a_name_is_replaced_only_when_asked_to(
    openssh: Board, dropbear: Board, enrolled: Path
) -> None:
    assert enroll(enrolled, openssh, name="second").code == 0, "its key is known already"
    before = (enrolled / "devices.toml").read_text()
    assert enroll(enrolled, dropbear, *agreed(dropbear)).code == 2
    assert (enrolled / "devices.toml").read_text() == before
    replaced = enroll(enrolled, dropbear, *agreed(dropbear), "--replace")
    assert replaced.code == 0, replaced.err
    assert table_of(enrolled)["host"] == dropbear.ip
    assert table_of(enrolled, "second")["host"] == openssh.ip


def test_another_board_under_the_address_is_told_apart(enrolled: Path) -> None:
    path = enrolled / "devices.toml"
    was = table_of(enrolled)["identity"]["cpu_model"]
    head, _, identity = path.read_text().partition("[device.desk.identity]")
    path.write_text(f"{head}[device.desk.identity]{identity.replace(was, 'Cortex-A72')}")
    done = latloop(enrolled, "device", "check", "desk")
    assert done.code == 21
    assert f"cpu_model was 'Cortex-A72' and is '{was}'" in done.err
    assert "--replace" in done.err


def test_the_made_files_of_a_board_are_found_and_override_nothing_else(
    own_board: Board, home: Path
) -> None:
    cpu = own_board.root / "sys/devices/system/cpu/cpu0/cpufreq"
    zone = own_board.root / "sys/class/thermal/thermal_zone0"
    for folder in (cpu, zone):
        folder.mkdir(parents=True)
    (cpu / "scaling_governor").write_text("ondemand\n")
    (cpu / "cpuinfo_max_freq").write_text("1500000\n")
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("91000\n")
    done = enroll(home, own_board, *agreed(own_board), "--set", "core=0")
    assert done.code == 0, done.err
    table = table_of(home)
    assert table["board"]["temperature_sensors"] == ["cpu-thermal"]
    assert table["board"]["max_clock_mhz"] == 1500
    findings = json.dumps(latloop(home, "device", "check", "desk", "--json").answer["findings"])
    assert "the clock governor of core 0 is ondemand" in findings
    assert "cpu-thermal is at 91" in findings


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_board_of_another_processor_gets_its_own_target(
    lab: Lab, connect: Callable[..., SshConnection], tmp_path: Path, name: str
) -> None:
    processor = PROCESSORS[name]
    with emulated(processor):
        for board in running(lab.board("dropbear", processor.busybox)):
            found, folder = look(SshShell(connect(board)), tmp_path / "board", "desk", {})
            assert found.board.architecture == processor.machine
            assert target_of(found.board).triple == processor.triple
            assert folder.path == f"/home/{USER}/.cache/latloop"


def test_a_board_behind_a_jump_host_is_enrolled_with_both_keys(openssh: Board, home: Path) -> None:
    """The board is its own gate: it is reached again from the inside."""
    own_key = home.parent / "person/.ssh/id_ed25519"
    own_key.parent.mkdir(mode=0o700)
    own_key.write_bytes(openssh.key.read_bytes())
    own_key.chmod(0o600)
    way = (f"{USER}@127.0.0.1", "--jump", f"{USER}@{openssh.ip}", "--json")
    asked = latloop(home, "device", "enroll", "desk", *way)
    assert asked.code == 2
    assert openssh.ip in asked.err, "the gate's key comes first"
    done = latloop(home, "device", "enroll", "desk", *way, *agreed(openssh))
    assert done.code == 0, done.err
    names = [key["name"] for key in done.answer["host_keys"]]
    assert names == [openssh.ip, f"127.0.0.1/via/{openssh.ip}"]
    assert table_of(home)["jump"] == f"{USER}@{openssh.ip}"
    checked = latloop(home, "device", "check", "desk", "--json")
    assert checked.code in {0, 1}, checked.err


def test_a_board_that_was_set_up_anew_is_enrolled_only_with_replace(
    own_board: Board, home: Path
) -> None:
    assert enroll(home, own_board, *agreed(own_board)).code == 0
    before = (home / "known_hosts").read_text(), (home / "devices.toml").read_text()
    own_board.stop()
    private = own_board.host_key.with_suffix("")
    for path in (private, own_board.host_key):
        path.unlink()
    make_key(private)
    own_board.start()
    for more in ((), ("--replace",)):
        stopped = enroll(home, own_board, *more, name="desk" if more else "other")
        assert stopped.code == (2 if more else 21), stopped.err
    refused = enroll(home, own_board, *agreed(own_board), name="other")
    assert refused.code == 21, "not even with its new fingerprint"
    assert "Another machine may be answering" in refused.err
    assert ((home / "known_hosts").read_text(), (home / "devices.toml").read_text()) == before
    replaced = enroll(home, own_board, *agreed(own_board), "--replace")
    assert replaced.code == 0, replaced.err
    assert (home / "known_hosts").read_text() != before[0]
    assert latloop(home, "device", "steal", "desk").code == 0


class Terminal:
    """A person at a terminal: reads what it shows, and types."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.shown = b""

    def wait_for(self, text: str, timeout_s: float = 120.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while text.encode() not in self.shown:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, self.shown.decode()
            if select.select([self.master], [], [], left_s)[0]:
                self.shown += os.read(self.master, 4096)

    def type(self, line: str) -> None:
        time.sleep(0.5)  # what is typed before the echo is off would be thrown away
        os.write(self.master, f"{line}\n".encode())


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_agrees_to_the_key_and_is_asked_for_a_password(
    openssh: Board, home: Path, answer: str
) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", LATLOOP, "device", "enroll", "desk",
         f"{USER}@{openssh.ip}", "--json"],
        env=environment(home) | {"COLUMNS": "1000"}, cwd=home.parent,
        stdin=slave, stdout=subprocess.PIPE, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(master)
    try:
        terminal.wait_for("Is it the same?")
        assert fingerprint_of(openssh.host_key) in terminal.shown.decode()
        terminal.type(answer)
        if answer == "y":
            terminal.wait_for("Password of")
            terminal.type(PASSWORD)
            terminal.wait_for("4/4")
        else:
            terminal.wait_for("nothing was written down")
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert process.returncode == (0 if answer == "y" else 1)
    if answer == "n":
        assert nothing_is_written(home)
        return
    assert json.loads(out)["device"] == "desk"
    assert PASSWORD not in terminal.shown.decode()
    texts = [path.read_bytes() for path in home.glob("*") if path.is_file()]
    assert len(texts) >= 2
    assert not any(PASSWORD.encode() in text for text in texts)
