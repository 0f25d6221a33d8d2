"""Boards are enrolled, checked and used by the command line, as a person would."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from devices.inventory import read_inventory
from profiler.store import Store
from tests.pipeline.command_line import Done, latloop, make_home

from .board import USER, Board, fingerprint_of, make_key
from .conftest import Lab, MakeDevice, running
from .emulation import PROCESSORS, emulated


@pytest.fixture
def home(tmp_path: Path, build_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LATLOOP_HOME, of a person with an empty ~/.ssh."""
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    (tmp_path / "person").mkdir()
    return make_home(tmp_path / "home", build_cache)


def enroll(home: Path, board: Board, *more: str | Path, name: str = "desk") -> Done:
    return latloop(
        home,
        "device",
        "enroll",
        name,
        f"{USER}@{board.ip}",
        "--key-file",
        board.key,
        "--json",
        *more,
    )


def agreed(board: Board) -> tuple[str, str]:
    return ("--fingerprint", fingerprint_of(board.host_key))


def nothing_is_written(home: Path) -> bool:
    return not (home / "devices.toml").exists() and not (home / "known_hosts").exists()


def table_of(home: Path, name: str = "desk") -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((home / "devices.toml").read_text())["device"][name]
    return found


def test_a_board_is_enrolled_checked_and_stolen(
    board: Board, home: Path, make_device: MakeDevice, executable: Path
) -> None:
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
    assert "correct-horse" not in (home / "devices.toml").read_text()

    checked = latloop(home, "device", "check", "desk", "--json")
    assert checked.code in {0, 1}, checked.err
    assert checked.answer["board"]["n_cores"] == table["board"]["n_cores"]

    with Store.open(home / "store.sqlite") as store:
        store.boards.put_in_quarantine(checked.answer["device_id"], "did not come back")
    barred = latloop(home, "device", "calibrate", "desk")
    assert barred.code == 21
    assert "did not come back" in barred.err
    again = latloop(home, "device", "check", "desk", "--json").answer
    assert again["was_quarantined"] == "did not come back"
    with Store.open(home / "store.sqlite") as store:
        is_barred = store.boards.quarantine_of(again["device_id"]) is not None
    assert is_barred == (not again["is_fit"]), "a board that is fit is let out"

    nobody = latloop(home, "device", "steal", "desk", "--json")
    assert (nobody.code, nobody.answer["ended"]) == (0, None)
    with make_device(board, table["folder"]).start(executable):
        held = latloop(home, "device", "check", "desk")
        assert held.code == 21
        assert "tester on lab-host" in held.err
        asked = latloop(home, "device", "steal", "desk")
        assert asked.code == 1
        stolen = latloop(home, "device", "steal", "desk", "--yes", "--json")
        assert stolen.code == 0, stolen.err
        assert stolen.answer["ended"]["holder"] == "tester"
    assert board.wait_until_idle() == []


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


def test_a_name_is_replaced_only_when_asked_to(openssh: Board, dropbear: Board, home: Path) -> None:
    assert enroll(home, openssh, *agreed(openssh)).code == 0
    assert enroll(home, openssh, name="second").code == 0, "its key is known already"
    before = (home / "devices.toml").read_text()
    assert enroll(home, dropbear, *agreed(dropbear)).code == 2
    assert (home / "devices.toml").read_text() == before
    replaced = enroll(home, dropbear, *agreed(dropbear), "--replace")
    assert replaced.code == 0, replaced.err
    assert table_of(home)["host"] == dropbear.ip
    assert table_of(home, "second")["host"] == openssh.ip


def test_another_board_under_the_address_is_told_apart(openssh: Board, home: Path) -> None:
    assert enroll(home, openssh, *agreed(openssh)).code == 0
    path = home / "devices.toml"
    was = table_of(home)["identity"]["cpu_model"]
    text = path.read_text()
    head, _, identity = text.partition("[device.desk.identity]")
    path.write_text(f"{head}[device.desk.identity]{identity.replace(was, 'Cortex-A72')}")
    done = latloop(home, "device", "check", "desk")
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
def test_a_board_of_another_processor_is_enrolled_for_its_own_target(
    lab: Lab, home: Path, name: str
) -> None:
    processor = PROCESSORS[name]
    with emulated(processor):
        for board in running(lab.board("dropbear", processor.busybox)):
            done = enroll(home, board, *agreed(board))
            assert done.code == 0, done.err
            table = table_of(home)
            assert table["board"]["architecture"] == processor.machine
            assert table["target"]["triple"] == processor.triple
            assert table["board"]["tick_ns"] > 0
            assert board.wait_until_idle() == []
