"""One measurer at a time: leases that real runners take, hold, lose and leave behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devices.device import Timing
from devices.errors import DeviceFullError, LeaseFailedError, LeaseHeldError, RunnerLostError
from devices.lease import lease_arguments

from .leases import (
    LONG_S,
    answer_from,
    mute_host,
    own_copy,
    processes_of,
    record_of,
    request,
    start,
    wait_until,
)
from .workloads import QUICK, chain


@pytest.fixture
def command(executable: Path, tmp_path: Path) -> list[str]:
    """A runner of its own, so that its processes can be told from others."""
    return [str(own_copy(executable, tmp_path))]


@pytest.fixture
def lease(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def test_every_session_has_a_generation_of_its_own(command: list[str], lease: Path) -> None:
    for generation in (1, 2, 3):
        with start(command, lease, f"ada {generation}") as session:
            assert session.description.generation == generation
            assert isinstance(session.time(chain("add"), QUICK), Timing)
            record = record_of(lease)
            assert (record.generation, record.holder, record.host, record.pid) == (
                generation,
                f"ada {generation}",
                "bench",
                session.description.pid,
            )
            assert record.boot_id == session.description.boot_id
            assert record.acquired < (record.expires or "")
            assert record.released is None
        assert record_of(lease).released


def test_without_a_lease_there_is_no_generation(command: list[str], lease: Path) -> None:
    with mute_host(command) as (_, stream):
        stream.write_all(request("describe", 0), LONG_S)
        message = answer_from(stream).message
    assert "generation" in message
    assert message["generation"] is None
    assert not lease.exists()


def test_a_second_measurer_is_refused_and_told_who_measures(
    command: list[str], lease: Path
) -> None:
    with start(command, lease, 'ada "the first" é') as first:
        with pytest.raises(LeaseHeldError, match=r"rpi4: ada \"the first\" é on bench since") as no:
            start(command, lease, "bob")
        assert no.value.lease == record_of(lease)
        assert "latloop device steal rpi4" in str(no.value)
        assert isinstance(first.time(chain("add"), QUICK), Timing)
    with start(command, lease, "bob") as second:
        assert second.description.generation == 2


def test_of_many_who_come_at_once_one_measures(command: list[str], lease: Path) -> None:
    n_hosts = 8
    arrived, done = threading.Barrier(n_hosts), threading.Barrier(n_hosts)
    results: list[str] = []

    def contend(name: str) -> None:
        arrived.wait()
        try:
            with start(command, lease, name):
                done.wait()
            results.append("measured")
        except LeaseHeldError:
            done.wait()
            results.append("refused")

    hosts = [threading.Thread(target=contend, args=(f"host {i}",)) for i in range(n_hosts)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()
    assert sorted(results) == ["measured", *["refused"] * (n_hosts - 1)]
    assert record_of(lease).generation == 1


def begin_hang(command: list[str], lease: Path, kernel: str) -> subprocess.Popen[bytes]:
    """A host and its runner, whose kernel hangs."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, *command, str(lease), kernel],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
    )
    n_expected = 3 if kernel == "hang_with_child" else 2
    assert wait_until(lambda: len(processes_of(Path(command[0]))) == n_expected)
    return host


HOST = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.unit.devices.leases import start
from tests.unit.devices.workloads import QUICK, chain
session = start([sys.argv[1]], Path(sys.argv[2]))
session.time(chain(sys.argv[3]), replace(QUICK, timeout_ms=600_000))
"""


@pytest.mark.parametrize("kernel", ["hang", "hang_with_child"])
def test_a_thief_ends_the_holder_and_all_its_processes(
    command: list[str], lease: Path, kernel: str
) -> None:
    with begin_hang(command, lease, kernel) as robbed:
        old = processes_of(Path(command[0]))
        with start(command, lease, "bob", steal=True) as session:
            assert session.description.generation == 2
            assert processes_of(Path(command[0])) == {session.description.pid}
            assert session.description.pid not in old
        assert robbed.wait(LONG_S) == 1
        assert robbed.stderr is not None
        assert b"RunnerLostError: rpi4: the runner closed the stream" in robbed.stderr.read()
    (line,) = map(json.loads, Path(f"{lease}.log").read_text().splitlines())
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "steal",
        "holder": "bob",
        "host": "bench",
        "from_holder": "ada",
        "from_host": "bench",
        "from_generation": 1,
    }


def test_a_thief_ends_a_holder_that_is_stopped(command: list[str], lease: Path) -> None:
    with start(command, lease) as first:
        os.kill(first.description.pid, signal.SIGSTOP)
        with start(command, lease, "bob", steal=True) as second:
            assert second.description.generation == 2
        with pytest.raises(RunnerLostError):
            first.time(chain("add"), QUICK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_thief_says_that_the_holder_is_another_users(executable: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        command, lease = [str(own_copy(executable, folder))], folder / "lease"
        with start(command, lease) as first:
            for path in folder.iterdir():
                path.chmod(0o777)
            theft = [*command, *lease_arguments(str(lease), "bob", "bench", steal=True)]
            with mute_host(theft, user=65534) as (_, stream):
                stream.write_all(request("describe", 0), LONG_S)
                failure = answer_from(stream).message["failure"]
            pid = first.description.pid
            detail = f"process {pid} holds {lease} and belongs to another user"
            assert failure == {"reason": "lease_failed", "detail": detail}
            assert isinstance(first.time(chain("add"), QUICK), Timing)


def test_what_nobody_holds_is_taken_without_a_theft(command: list[str], lease: Path) -> None:
    with start(command, lease, steal=True) as session:
        assert session.description.generation == 1
    assert not Path(f"{lease}.log").exists()


def test_a_lease_lives_as_long_as_the_last_process_of_its_session(
    command: list[str], lease: Path
) -> None:
    """The child dies with its runner; what the child has started does not."""
    with begin_hang(command, lease, "hang_with_child") as host:
        os.kill(record_of(lease).pid, signal.SIGKILL)
        assert wait_until(lambda: len(processes_of(Path(command[0]))) == 1)
        with pytest.raises(LeaseHeldError, match="ada on bench"):
            start(command, lease, "bob")
        with start(command, lease, "bob", steal=True) as session:
            assert session.description.generation == 2
        host.wait(LONG_S)
        assert host.stderr is not None
        host.stderr.read()


def generation_in(lease: Path) -> int:
    """Of a record that is whole, or 0 of none."""
    text = lease.read_text() if lease.exists() else ""
    return record_of(lease).generation if text else 0


def test_kills_at_any_moment_leave_a_whole_record_and_never_lower_the_generation(
    command: list[str], lease: Path
) -> None:
    rng = random.Random(5)
    arguments = ["--silence-ms", "1000", *lease_arguments(str(lease), "ada", "bench")]
    last = 0
    for round_index in range(50):
        process = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE)
        if round_index % 2:
            assert wait_until(lambda: generation_in(lease) > last)  # noqa: B023  # called at once
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
        assert last <= generation_in(lease)
        last = generation_in(lease)
    assert last >= 25
    with start(command, lease) as session:
        assert (session.description.generation or 0) > last
        assert isinstance(session.time(chain("add"), QUICK), Timing)


@pytest.mark.parametrize("damage", [b"", b"\0" * 2048, b"{", b'{"generation":0}', b"[1]" * 2000])
def test_a_damaged_record_does_not_lower_the_generation(
    command: list[str], lease: Path, damage: bytes
) -> None:
    start(command, lease).close()
    start(command, lease).close()
    lease.write_bytes(damage)
    with start(command, lease) as session:
        assert session.description.generation == 3


def test_a_lost_count_does_not_lower_the_generation(command: list[str], lease: Path) -> None:
    start(command, lease).close()
    count = Path(f"{lease}.generation")
    for generation, damage in enumerate([b"", b"\0" * 21, b"many\n", b"1"], 2):
        count.write_bytes(damage)
        with start(command, lease) as session:
            assert session.description.generation == generation
    count.write_text("41\n")
    with start(command, lease) as session:
        assert session.description.generation == 42


def test_a_lease_that_tells_nothing_is_refused_with_the_remedy(
    command: list[str], lease: Path
) -> None:
    start(command, lease).close()
    lease.write_bytes(b"\0" * 2048)
    Path(f"{lease}.generation").unlink()
    with pytest.raises(LeaseFailedError, match=rf"rpi4: {lease} does not tell .* remove it and"):
        start(command, lease)
    lease.unlink()
    with start(command, lease) as session:
        assert session.description.generation == 1


def test_a_lease_that_cannot_be_written_is_refused_by_name(
    command: list[str], lease: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere" / "lease"
    with pytest.raises(LeaseFailedError, match=f"{missing}: No such file or directory"):
        start(command, missing)
    with pytest.raises(LeaseFailedError, match=f"{tmp_path}: Is a directory"):
        start(command, tmp_path)
    start(command, lease).close()
    count = Path(f"{lease}.generation")
    count.unlink()
    count.symlink_to("/dev/full")
    with pytest.raises(DeviceFullError, match=f"cannot write {lease}: No space left on device"):
        start(command, lease)


def test_a_theft_that_cannot_be_noted_is_none(command: list[str], lease: Path) -> None:
    with start(command, lease) as first:
        Path(f"{lease}.log").symlink_to("/dev/full")
        with pytest.raises(DeviceFullError, match="audit line beside"):
            start(command, lease, "bob", steal=True)
        assert isinstance(first.time(chain("add"), QUICK), Timing)


def test_the_log_of_thefts_is_bounded(command: list[str], lease: Path) -> None:
    log, older = Path(f"{lease}.log"), Path(f"{lease}.log.1")
    log.write_text("old line\n" * 4000)
    with start(command, lease), start(command, lease, "bob", steal=True):
        assert older.read_text().startswith("old line\n")
        assert log.read_text().count("\n") == 1


@pytest.mark.parametrize("change", ["replaced", "rewritten"])
def test_a_runner_whose_lease_was_taken_away_answers_nothing_more(
    command: list[str], lease: Path, change: str
) -> None:
    with start(command, lease) as session:
        assert isinstance(session.time(chain("add"), QUICK), Timing)
        if change == "replaced":
            lease.unlink()
            with start(command, lease, "bob") as other:
                assert other.description.generation == 2  # the count is older than the record
        else:
            lease.write_text('{"generation":9}\n')
        with pytest.raises(RunnerLostError, match="given to another session or changed"):
            session.time(chain("add"), QUICK)
    assert wait_until(lambda: not processes_of(Path(command[0])))


def test_a_beat_tells_a_runner_that_its_lease_was_taken_away(
    command: list[str], lease: Path
) -> None:
    with start(command, lease, silence_s=4.0) as session:
        lease.write_text('{"generation":9}\n')
        with pytest.raises(RunnerLostError, match="given to another session or changed"):
            session.time(chain("hang"), replace(QUICK, timeout_ms=60_000))


def test_beats_move_the_expiry_on(command: list[str], lease: Path) -> None:
    with start(command, lease, silence_s=4.0) as session:
        first = record_of(lease)
        assert wait_until(lambda: (record_of(lease).expires or "") > (first.expires or ""))
        assert record_of(lease).acquired == first.acquired
        assert isinstance(session.time(chain("add"), QUICK), Timing)


@pytest.mark.parametrize("kernel", ["hang", "hang_with_child"])
def test_silence_ends_runner_and_children_and_frees_the_lease(
    command: list[str], lease: Path, kernel: str
) -> None:
    arguments = ["--silence-ms", "4000", *lease_arguments(str(lease), "ada", "bench")]
    with mute_host([*command, *arguments]) as (process, stream):
        stream.write_all(request("time", 0, kernel), LONG_S)
        n_expected = 3 if kernel == "hang_with_child" else 2
        assert wait_until(lambda: len(processes_of(Path(command[0]))) == n_expected)
        assert process.wait(LONG_S) == 0
        assert wait_until(lambda: not processes_of(Path(command[0])))
        assert process.stderr is not None
        said = process.stderr.read()
    assert said == b"latloop runner: heard nothing from the host for 4000 ms\n"
    with start(command, lease, "bob") as session:
        assert session.description.generation == 2


@pytest.mark.parametrize("arguments", [["--steal"], ["--lease", "l"], ["--silence-ms", "soon"]])
def test_half_a_lease_is_wrong_usage(command: list[str], arguments: list[str]) -> None:
    done = subprocess.run([*command, *arguments], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"usage: runner" in done.stderr
