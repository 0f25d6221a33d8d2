"""Boards on the command line, as far as that needs no board."""

from __future__ import annotations

import json
import re
import shlex
import socket
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tomlkit

from devices.clusters import Cluster
from devices.findings import Finding
from devices.health import Health
from devices.host_key import HostKey
from devices.lease import LeaseRecord
from devices.shell import LocalShell
from latloop.cli.board import ask_about
from latloop.journeys.calibrate import Calibration
from latloop.journeys.check import DeviceCheck
from latloop.journeys.enroll import look
from latloop.journeys.host_keys import NobodyToAskError
from latloop.journeys.steal import Stolen
from profiler.detection import Detection
from tests.command import RunHere

from .test_help import LEAVES

BY_HAND = """\
[device.desk]
transport = "ssh"
host = "127.0.0.1"
port = {port}
folder = "/data"
"""


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bad name", "h"), "a name must be letters, digits and . _ -, got 'bad name'"),
        (("local", "h"), "local is this machine; choose another name"),
        (("desk", "pi@"), "address must be user@host:port"),
        (("desk", "h:99999"), "port must be 1 to 65535, got 99999"),
        (("desk", "h", "--set", "threads"), "--set must be key=value"),
        (
            ("desk", "h", "--set", "board.architecture=mips"),
            "board.architecture must be one of x86",
        ),
        (("desk", "h", "--set", "target.vector_bytes=5"), "target.vector_bytes must be 4, 8, 16"),
    ],
)
def test_enroll_refuses_before_it_connects_and_writes_nothing(
    latloop: RunHere, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    ended = latloop("device", "enroll", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert not list(tmp_path.rglob("devices.toml")) + list(tmp_path.rglob("known_hosts"))


def test_a_name_in_use_is_refused_unless_it_is_to_be_replaced(
    latloop: RunHere, home: Path, closed_port: int
) -> None:
    text = BY_HAND.format(port=closed_port)
    (home / "devices.toml").write_text(text)
    where = f"me@127.0.0.1:{closed_port}"
    refused = latloop("device", "enroll", "desk", where)
    assert refused.code == 2
    assert "has a device desk already" in refused.err
    assert "--replace" in refused.err
    unreachable = latloop("device", "enroll", "desk", where, "--replace")
    assert unreachable.code == 21, "now it is the board that does not answer"
    assert (home / "devices.toml").read_text() == text
    assert not (home / "known_hosts").exists()


@pytest.mark.parametrize(
    "command", [("device", "check"), ("device", "steal"), ("device", "calibrate"), ("fit",)]
)
def test_a_board_out_of_reach_is_named(
    latloop: RunHere, home: Path, closed_port: int, command: tuple[str, ...]
) -> None:
    (home / "devices.toml").write_text(BY_HAND.format(port=closed_port))
    ended = latloop(*command, "desk")
    assert (ended.code, ended.out) == (21, "")
    assert "desk" in ended.err
    assert str(closed_port) in ended.err


def test_this_machine_has_no_lease_to_steal(latloop: RunHere) -> None:
    ended = latloop("device", "steal", "local")
    assert ended.code == 2
    assert "local is this machine and has no lease; name a board" in ended.err


def test_boards_are_listed_with_their_way(latloop: RunHere, home: Path) -> None:
    (home / "devices.toml").write_text(BY_HAND.format(port=2222))
    listed = json.loads(latloop("device", "list", "--json").out)
    (desk,) = [entry for entry in listed if entry["name"] == "desk"]
    assert (desk["transport"], desk["host"], desk["port"]) == ("ssh", "127.0.0.1", 2222)
    assert "desk" in latloop("device", "list").out


def test_this_machine_looked_at_as_a_board_would_be(tmp_path: Path) -> None:
    found, folder = look(LocalShell(), tmp_path / "b", "desk", {"folder": str(tmp_path)})
    assert found.measuring_cores
    assert folder.path == str(tmp_path)
    again = tomllib.loads(_as_toml({"device": {"desk": found.table()}}))
    assert again["device"]["desk"]["n_cores"] == found.board.n_cores


def _as_toml(table: dict[str, object]) -> str:
    return tomlkit.dumps(table)


CALIBRATION = Calibration(
    detection=Detection(
        n_pairs=100, shift_percent=0.1, smallest_percent=2.0, low_percent=1.5, high_percent=2.6
    ),
    seconds=60.0,
    has_moved=False,
    moved_share=0.02,
    drift_percent=0.5,
    is_interrupted=False,
)


@pytest.mark.parametrize("has_moved", [False, True])
def test_calibrate_answers_with_the_smallest_change_and_23_when_the_canary_moved(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch, has_moved: bool
) -> None:
    result = replace(CALIBRATION, has_moved=has_moved)
    monkeypatch.setattr("latloop.journeys.calibrate.calibrate", lambda *_: result)
    ended = latloop("device", "calibrate", "local", "--json")
    assert ended.code == (23 if has_moved else 0)
    answer = json.loads(ended.out)
    assert answer["smallest_change_percent"] == 2.0
    assert (answer["low_percent"], answer["high_percent"]) == (1.5, 2.6)
    assert answer["sessions_for_percent"]["1"] == 2 * 397  # 100 (log 1.02 / log 1.01)^2 pairs
    assert answer["seconds_per_session"] == 0.3
    assert answer["canary_moved"] is has_moved
    told = latloop("device", "calibrate", "local")
    assert "2.00 [1.50, 2.60] %" in told.out
    assert "1 % takes 794 sessions, 238 s" in told.out
    assert ("the canary moved" in told.out) == has_moved


CHECKED = DeviceCheck(
    health=Health((Finding("unfit", "the clock is throttled", "give it a fan"),)),
    tick_ns=20,
    clusters=(Cluster("Cortex-A72", (0, 1), 1500.0),),
    governors={0: "ondemand", 1: "ondemand"},
    sensors=(),
    login="ssh -p 2222 pi@desk",
    was_quarantined="did not come back within 300 s",
    barred=("dense:1x1x1x8:o8:k1x1",),
)


def test_check_says_where_its_commands_are_to_be_typed(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latloop.journeys.check.check", lambda *_: CHECKED)
    ended = latloop("device", "check", "local")
    assert ended.code == 1
    assert "Cortex-A72 at up to 1500 MHz, cores 0, 1" in ended.out
    assert "to be typed on the board (ssh -p 2222 pi@desk):" in ended.out
    assert "unfit: the clock is throttled\n    give it a fan" in ended.out
    assert (
        "still in quarantine, where it was because it did not come back within 300 s" in ended.out
    )
    assert "took the board down twice: dense:1x1x1x8:o8:k1x1" in ended.out
    answer = json.loads(latloop("device", "check", "local", "--json").out)
    assert answer["governors"] == {"0": "ondemand", "1": "ondemand"}
    assert answer["clusters"][0]["cores"] == [0, 1]


RECORD = LeaseRecord(7, "ann", "her-host", 99, "b", "2026-11-28T10:00:00Z", None, None)


def test_stealing_asks_unless_told_not_to(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen = []

    def steal(_: object, holder: LeaseRecord) -> object:
        stolen.append(holder)
        return Stolen(8, holder)

    monkeypatch.setattr("latloop.journeys.steal.find_holder", lambda _: RECORD)
    monkeypatch.setattr("latloop.journeys.steal.steal", steal)
    ended = latloop("device", "steal", "local")
    assert (ended.code, ended.out, stolen) == (1, "", [])
    assert "ann on her-host since 2026-11-28T10:00:00Z measures on local" in ended.err
    assert "latloop device steal local --yes" in ended.err
    done = latloop("device", "steal", "local", "--yes")
    assert done.code == 0
    assert "ended ann on her-host" in done.out
    answer = json.loads(latloop("device", "steal", "local", "--yes", "--json").out)
    assert (answer["ended"]["holder"], answer["generation"]) == ("ann", 8)


def test_stealing_from_nobody_is_no_error(
    latloop: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latloop.journeys.steal.find_holder", lambda _: None)
    ended = latloop("device", "steal", "local")
    assert ended.code == 0
    assert "nobody measures on local" in ended.out


DOCUMENT = Path(__file__).parents[3] / "docs/boards.md"
COMMANDS = re.findall(r"^ +(latloop .*)$", DOCUMENT.read_text().replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_document_can_be_typed_as_it_stands(line: str) -> None:
    _, *words = shlex.split(line)
    names = max((n.split() for n in LEAVES if words[: len(n.split())] == n.split()), key=len)
    context = LEAVES[" ".join(names)].make_context(line, words[len(names) :])
    assert not context.args


def test_the_document_has_the_way_from_enrolling_to_measuring() -> None:
    order = ["device enroll", "device check", "device calibrate", "measure"]
    places = [next(i for i, c in enumerate(COMMANDS) if f"latloop {name} " in c) for name in order]
    assert places == sorted(places)


def test_a_key_cannot_be_agreed_to_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    agree = ask_about("desk", "pi@desk")
    with pytest.raises(NobodyToAskError) as caught:
        agree(HostKey("desk", "ssh-ed25519", "AAAA", "SHA256:abc"))
    said = "latloop device enroll desk pi@desk --fingerprint SHA256:abc"
    assert said in str(caught.value)
