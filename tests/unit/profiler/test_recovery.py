"""Sessions on boards that are lost: real runners, ended at every moment."""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from devices.device import Failure, Timing
from devices.errors import (
    DeviceError,
    DeviceFullError,
    DeviceUnreachableError,
    ExecutableRefusedError,
    LeaseHeldError,
    RunnerLostError,
    StaleLeaseError,
)
from devices.local import LocalDevice
from devices.session import N_AHEAD, RunnerSession
from profiler.board_records import Lease, name_lease
from profiler.link import link_executable
from profiler.measure import Item, SweepLostError, measure
from profiler.patience import Patience
from profiler.pipeline import LOST, MAX_REPEATS
from profiler.recovery import (
    MAX_CRASHES,
    BoardLostError,
    Held,
    QuarantinedBoardError,
    hold_session,
)
from profiler.runtime import Linked, visit
from profiler.sessions import NetworkMeasurement, measure_network
from profiler.store import StaleGenerationError, Store, Visit
from profiler.sweep import latency_us, note_visit
from profiler.target import Target

from . import boards
from .boards import CANARY_PLAN, Clock, WatchedDevice, item, start_anew, unreachable

ROOT = Path(__file__).parents[3]
CANARY = item("canary", plan=CANARY_PLAN)
NAMES = [f"k{index:02}" for index in range(12)]
ITEMS = [item(name) for name in NAMES]


@pytest.fixture(scope="session")
def executable(
    build_cache: Path, host_target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    objects = boards.compile_kernels(folder, host_target, build_cache)
    return link_executable(objects, host_target, build_cache)


@dataclass
class Desk:
    """A bench with a board that may be lost, and what was told meanwhile.

    Attributes:
        kill_after: The runner is lost once, when so many visits are done.
        lose: How; None kills it.
        wait: Called in place of sleeping while the board cools down.
    """

    device: WatchedDevice
    store: Store
    folder: Path
    executable: Path
    target: Target
    clock: Clock = field(default_factory=Clock)
    told: list[str] = field(default_factory=list)
    kill_after: int | None = None
    lose: Callable[[], object] | None = None
    wait: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        self.bench = boards.open_bench(self.device, self.store, self.folder, self.target)
        self.patience = Patience(clock=self.clock.time, sleep=self.clock.sleep)

    def visit(self, items: list[Item], n_rounds: int = 3) -> None:
        """Visit items as `profiler.runtime.visit` does, on a clock of our own."""

        def work(held: Held) -> None:
            sweep = held.sweep(CANARY, "tune", n_rounds, boards.shuffle())
            sweep = replace(sweep, sleep=self.wait or self.clock.sleep)
            measure(items, sweep, self._note_progress)

        hold_session(self.bench, self.executable, work, self.told.append, self.patience)

    def _note_progress(self, n_done: int, _: int) -> None:
        if self.kill_after is not None and n_done >= self.kill_after:
            self.kill_after = None
            assert (self.lose or self.device.kill)()

    def rows(self) -> list[Visit]:
        return list(self.store.visits(self.bench.device_id, purposes={"tune"}))

    def reasons(self) -> Counter[tuple[str, str]]:
        """(kernel, reason) of failures."""
        return Counter(
            (row.kernel, row.outcome.reason)
            for row in self.rows()
            if isinstance(row.outcome, Failure)
        )


@pytest.fixture
def desk(executable: Path, host_target: Target, tmp_path: Path) -> Iterator[Desk]:
    root = tmp_path / "board"
    boards.make_tree(root)
    device = WatchedDevice(LocalDevice("bench", root=root))
    with Store.open(tmp_path / "store.db") as store:
        yield Desk(device, store, tmp_path, executable, host_target)
    device.close()


def is_lost(row: Visit) -> bool:
    """Whether the board went down during a visit."""
    return isinstance(row.outcome, Failure) and row.outcome.reason == "board_lost"


def assert_whole(desk: Desk, names: list[str] = NAMES, n_rounds: int = 3) -> None:
    """Every visit of every round is there, sound, and no more often than doubts allow."""
    # What was under way when the board went down is made again.
    rows = [row for row in desk.rows() if row.kernel in names and not is_lost(row)]
    assert all(isinstance(row.outcome, Timing) for row in rows)
    rounds: dict[tuple[str, int], list[Visit]] = {}
    for row in rows:
        rounds.setdefault((row.kernel, row.round_index), []).append(row)
    assert set(rounds) == {(name, index) for name in names for index in range(n_rounds)}
    for made in rounds.values():
        assert len(made) <= MAX_REPEATS + 1
        assert all(row.flags for row in made[:-1])


# A host of its own: its first lines, and what it does with its desk.
HOST_HEAD = """
import sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from devices.local import LocalDevice
from profiler.store import Store
from profiler.target import Target
from tests.unit.profiler import boards
from tests.unit.profiler.test_recovery import ITEMS, Desk, item
folder, executable = Path(sys.argv[2]), Path(sys.argv[3])
device = boards.WatchedDevice(LocalDevice("bench", root=folder / "board"))
with Store.open(folder / "store.db") as store:
    desk = Desk(device, store, folder, executable, Target(sys.argv[4], "generic"))
    print("ready", flush=True)
"""
HANGING_HOST = (
    HOST_HEAD
    + """
    desk.visit([item("bad", "hang")])
"""
)


def start_host(desk: Desk, code: str) -> subprocess.Popen[str]:
    """Another process that measures on the same board, into the same store."""
    arguments = [str(ROOT), str(desk.folder), str(desk.executable), desk.target.triple]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_sweep_on_a_board_that_is_not_lost_needs_one_session(desk: Desk) -> None:
    desk.visit(ITEMS)
    assert_whole(desk)
    assert len(desk.device.started) == 1
    assert desk.told == []
    use = desk.store.boards.use_of_sessions(desk.bench.device_id)
    assert 0 < use.kernel_s < use.lasted_s
    assert use.cooling_s == 0
    assert use.utilization == pytest.approx(use.kernel_s / use.lasted_s)


def test_every_visit_carries_its_session_and_its_boot(desk: Desk) -> None:
    desk.visit(ITEMS)
    boot_id = (desk.device.root / "proc/sys/kernel/random/boot_id").read_text().strip()
    number = desk.store.boards.last_session(desk.bench.device_id)
    assert {(v.session.number, v.session.generation, v.session.boot_id) for v in desk.rows()} == {
        (number, 0, boot_id)
    }


class Faults:
    """Ends runners at random moments: alone, with a board that starts anew, or with one that stays
    away for a few attempts; until nobody is left to be ended."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.rng = random.Random(seed)
        self.desk = desk
        self.n_of_kind: Counter[str] = Counter()
        self.n_away = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._inject)
        desk.device.before_start = self._stay_away

    def __enter__(self) -> Faults:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _inject(self) -> None:
        while not self._done.wait(self.rng.uniform(0.05, 0.8)):
            kind = self.rng.choice(["runner", "board", "link"])
            if kind == "board":
                start_anew(self.desk.device.root)
            if kind == "link":
                self.n_away = self.rng.randrange(1, 4)
            self.n_of_kind[kind] += self.desk.device.kill()

    def _stay_away(self, n_started: int) -> None:
        if n_started and self.n_away > 0:
            self.n_away -= 1
            raise DeviceUnreachableError("bench: no route to host")


@pytest.mark.parametrize("seed", range(6))
def test_faults_at_random_moments_lose_nothing_and_wrong_nothing(desk: Desk, seed: int) -> None:
    desk.patience = replace(desk.patience, n_losses=10**6)
    with Faults(desk, seed) as faults:
        desk.visit(ITEMS, n_rounds=60)
    assert_whole(desk, n_rounds=60)
    assert sum(faults.n_of_kind.values()) > 0
    assert len(desk.device.started) > 1
    # Nobody is condemned for what happens to anybody.
    assert desk.store.failed_kernels(desk.bench.device_id) == frozenset()
    assert desk.store.boards.quarantine_of(desk.bench.device_id) is None
    for started in desk.device.started:
        assert is_gone(started)


def is_gone(descriptor: int) -> bool:
    """Whether a process has ended."""
    return bool(select.select([descriptor], [], [], 10)[0])


SWEEPING_HOST = (
    HOST_HEAD
    + """
    desk.visit(ITEMS, n_rounds=60)
"""
)


@pytest.mark.parametrize("seed", range(2))
def test_hosts_killed_at_random_moments_lose_a_moment_of_work_each(desk: Desk, seed: int) -> None:
    rng = random.Random(seed)
    n_rows = [0]
    for _ in range(3):
        with start_host(desk, SWEEPING_HOST) as host:
            assert host.stdout is not None
            assert host.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.3, 1.0))
            host.kill()
        n_rows.append(len(desk.rows()))
    assert n_rows == sorted(n_rows)
    desk.visit(ITEMS, n_rounds=60)
    assert_whole(desk, n_rounds=60)
    assert desk.store.failed_kernels(desk.bench.device_id) == frozenset()


def test_a_runner_that_stops_is_lost_after_its_silence(desk: Desk) -> None:
    desk.device.silence_s = 2.0
    desk.kill_after = 20
    desk.lose = lambda: desk.device.send(signal.SIGSTOP)
    desk.visit(ITEMS, n_rounds=60)
    assert_whole(desk, n_rounds=60)
    assert len(desk.device.started) >= 2
    assert "heard nothing of the runner for 2 s" in desk.told[0]


@pytest.mark.parametrize("seed", range(2))
def test_generations_of_visits_grow_with_every_session(
    desk: Desk, seed: int, tmp_path: Path
) -> None:
    desk.device.lease = tmp_path / "lease"
    rng = random.Random(seed)
    for _ in range(3):
        desk.kill_after = rng.randrange(1, 100)
        desk.visit(ITEMS, n_rounds=desk_rounds(desk) + 60)
    assert_whole(desk, n_rounds=180)
    generations = [row.session.generation for row in desk.rows()]
    assert generations == sorted(generations)
    assert set(generations) <= set(range(1, 7))
    assert max(generations) == len(desk.device.started) == 6


def desk_rounds(desk: Desk) -> int:
    """How many rounds were begun."""
    return max((row.round_index + 1 for row in desk.rows()), default=0)


def test_a_board_that_was_taken_over_is_waited_for_and_nothing_old_is_kept(
    desk: Desk, tmp_path: Path
) -> None:
    """Somebody steals the lease, measures, and is done after a while."""
    desk.device.lease = tmp_path / "lease"
    thieves: list[RunnerSession] = []

    def steal() -> bool:
        lease_name = name_lease(desk.bench.device_id, "bench")
        latest = desk.store.boards.latest_session(lease_name)
        thief = desk.device.start_as(desk.executable, "Eve", steal=True)
        thieves.append(thief)
        generation = thief.description.generation
        assert generation == 2
        lease = Lease(lease_name, generation)
        session = desk.store.boards.begin_session(desk.bench.device_id, lease, "", latest)
        measured = next(row for row in desk.rows())
        desk.store.append([replace(measured, session=session, purpose="evaluate")])
        return True

    def leave(pause_s: float) -> None:
        desk.clock.sleep(pause_s)
        if len(desk.clock.pauses_s) == 3:
            thieves[0].close()

    desk.patience = replace(desk.patience, sleep=leave)
    desk.kill_after, desk.lose = 20, steal
    desk.visit(ITEMS, n_rounds=60)
    assert_whole(desk, n_rounds=60)
    assert any("waiting for bench: Eve on here" in text for text in desk.told)
    everything = desk.store.visits(desk.bench.device_id)
    generations = [row.session.generation for row in everything if row.purpose != "canary"]
    assert generations == sorted(generations)
    assert set(generations) == {1, 2, 3}


def test_a_board_that_gets_hot_is_left_alone_and_measured_when_it_is_cool(desk: Desk) -> None:
    thermometer = desk.device.root / "sys/class/thermal/thermal_zone0/temp"

    def heat() -> bool:
        thermometer.write_text("71400\n")
        return True

    def wait(pause_s: float) -> None:
        desk.clock.sleep(pause_s)
        if len(desk.clock.pauses_s) == 3:
            thermometer.write_text("64900\n")

    desk.wait = wait
    desk.kill_after, desk.lose = 20, heat
    desk.visit(ITEMS, n_rounds=60)
    assert_whole(desk, n_rounds=60)
    assert desk.told == ["cooling down, 71 of 65 C"] * 3
    hot = [row for row in desk.rows() if "hot" in row.flags]
    assert len(hot) <= N_AHEAD + 1
    assert all(row.outcome.before.temperature_c == 71.4 for row in hot)  # type: ignore[union-attr]
    assert desk.store.boards.use_of_sessions(desk.bench.device_id).cooling_s > 0


def test_a_network_on_a_board_that_goes_down_is_measured_anew(desk: Desk) -> None:
    """Its sessions belong together, so they begin again."""
    operator = "dense:1x1x1x8:o8:k1x1:s1x1:p0.0.0.0:d1x1::float32"
    program = item("program")
    network = replace(program, subject_kind="network", schedule="", operators=(operator,))
    n_naps = 0

    def nap(_: float) -> None:
        nonlocal n_naps
        n_naps += 1
        if n_naps == 2:
            start_anew(desk.device.root)
            assert desk.device.kill()

    def work(held: Held) -> NetworkMeasurement:
        sweep = held.sweep(CANARY, "measure", 3, boards.shuffle())
        return measure_network(network, sweep, sleep=nap)

    measured = hold_session(desk.bench, desk.executable, work, desk.told.append, desk.patience)
    assert len(desk.device.started) == 2
    device_id = desk.bench.device_id
    last = desk.store.boards.last_session(device_id)
    rows = list(desk.store.visits(device_id, "network"))
    assert len([row for row in rows if row.session.number < last]) == 2
    again = [latency_us(row) for row in rows if row.session.number == last]
    assert len(measured.session_us) >= 3
    assert set(measured.session_us) <= set(again)


@pytest.mark.parametrize(
    ("error", "is_taken_over"),
    [
        (StaleLeaseError("bench: another session"), True),
        (RunnerLostError("bench: another session"), False),
    ],
)
def test_what_was_in_flight_when_the_board_was_taken_over_is_no_suspect(
    desk: Desk, error: RunnerLostError, is_taken_over: bool
) -> None:
    def work(held: Held) -> int:
        if len(desk.device.started) == 1:
            visit = note_visit(ITEMS[0], held.sweep(CANARY, "tune", 1, boards.shuffle()), 0, LOST)
            raise SweepLostError(str(error), (visit,)) from error
        return len(held.suspects)

    n_suspects = hold_session(desk.bench, desk.executable, work, desk.told.append, desk.patience)
    assert n_suspects == (0 if is_taken_over else 1)
    assert ("somebody else took the board over" in desk.told[0]) == is_taken_over


def take_over(desk: Desk, n_times: int) -> Callable[[RunnerSession], None]:
    """Somebody else takes the board, after we started and before our session began."""
    n_left = n_times

    def take(_: RunnerSession) -> None:
        nonlocal n_left
        if not n_left:
            return
        n_left -= 1
        lease_name = name_lease(desk.bench.device_id, desk.device.name)
        latest = desk.store.boards.latest_session(lease_name)
        with desk.device.start_as(desk.executable, "they", steal=True) as theirs:
            lease = Lease(lease_name, theirs.description.generation)
            boot_id = theirs.description.boot_id
            desk.store.boards.begin_session(desk.bench.device_id, lease, boot_id, latest)

    return take


def test_a_board_taken_over_before_the_session_began_is_waited_for(desk: Desk) -> None:
    desk.device.lease = desk.folder / "lease"
    desk.device.after_start = take_over(desk, 2)
    desk.visit(ITEMS)
    assert_whole(desk)
    assert len(desk.device.started) == 3
    assert sum("somebody else took the board over" in text for text in desk.told) == 2


def test_a_board_that_others_take_time_and_again_is_left_to_them(desk: Desk) -> None:
    """It is not broken, so it is not put in quarantine."""
    desk.device.lease = desk.folder / "lease"
    desk.device.after_start = take_over(desk, 100)
    with pytest.raises(StaleGenerationError, match="somebody else took the board over"):
        desk.visit(ITEMS)
    assert len(desk.device.started) == desk.patience.n_losses
    assert desk.store.boards.quarantine_of(desk.bench.device_id) is None
    desk.device.after_start = lambda _: None
    desk.visit(ITEMS)
    assert_whole(desk)


def test_a_kernel_that_takes_the_board_down_twice_is_never_run_again(desk: Desk) -> None:
    desk.device.before_start = lambda _: start_anew(desk.device.root)
    bad = item("bad", "end_runner")
    desk.visit([*ITEMS, bad])
    assert_whole(desk)
    lost = [row for row in desk.rows() if row.kernel == "bad"]
    assert [row.outcome.reason for row in lost if isinstance(row.outcome, Failure)] == [
        "board_lost", "board_lost",
    ]  # fmt: skip
    assert {row.flags for row in lost} == {()}
    # Under the session that found it out, since the start before.
    assert lost[0].session.number < lost[1].session.number
    assert len({row.session.boot_id for row in lost}) == 2
    device_id = desk.bench.device_id
    assert desk.store.boards.quarantined_kernels(device_id) == {bad.name}
    assert bad.name in desk.store.failed_kernels(device_id)
    n_started = len(desk.device.started)
    desk.visit([*ITEMS, bad], n_rounds=4)
    assert len(desk.device.started) == n_started + 1
    assert any("went down while subject bad was in flight" in text for text in desk.told)
    assert any("has started anew" in text for text in desk.told)


def test_a_kernel_that_was_in_flight_once_is_visited_again_and_counts(desk: Desk) -> None:
    """The board goes down in the middle once; nobody is to blame."""

    def restart_once(n_started: int) -> None:
        if n_started == 1:
            start_anew(desk.device.root)

    desk.device.before_start = restart_once
    desk.kill_after = 20
    desk.visit(ITEMS, n_rounds=30)
    assert set(desk.reasons().values()) <= {1}
    rows = [row for row in desk.rows() if isinstance(row.outcome, Timing)]
    assert {(row.kernel, row.round_index) for row in rows} == {
        (name, index) for name in NAMES for index in range(30)
    }
    assert desk.store.failed_kernels(desk.bench.device_id) == frozenset()
    assert desk.store.boards.suspects(desk.bench.device_id) == frozenset()


def test_a_kernel_that_ends_the_runner_again_and_again_has_failed(desk: Desk) -> None:
    desk.visit([*ITEMS, item("bad", "end_runner")])
    assert_whole(desk)
    (row,) = [row for row in desk.rows() if row.kernel == "bad"]
    assert isinstance(row.outcome, Failure)
    assert row.outcome.reason == "crash"
    assert f"ended the runner {MAX_CRASHES} times" in row.outcome.detail
    assert desk.store.boards.quarantine_of(desk.bench.device_id) is None


def test_kernels_that_crash_or_hang_cost_no_session(desk: Desk) -> None:
    hang = item("hang", "hang", replace(boards.PLAN, timeout_ms=300))
    desk.visit([*ITEMS, item("crash", "crash"), hang])
    assert_whole(desk)
    assert desk.reasons() == {("crash", "crash"): 1, ("hang", "timeout"): 1}
    assert len(desk.device.started) == 1


@pytest.mark.parametrize("restarts", [True, False])
def test_a_suspect_in_flight_when_host_and_board_died_is_known_to_the_next_host(
    desk: Desk, restarts: bool
) -> None:
    device_id = desk.bench.device_id
    note_loss(desk, item("bad", "hang"))
    with start_host(desk, HANGING_HOST) as host:
        wait_for_open_flight(desk)
        host.kill()
    if restarts:
        start_anew(desk.device.root)
    quick = replace(boards.PLAN, timeout_ms=300)
    desk.visit([item("bad", "hang", quick), *ITEMS])
    assert_whole(desk)
    quarantined = desk.store.boards.quarantined_kernels(device_id)
    if restarts:
        assert quarantined == {item("bad").name}
        assert desk.reasons() == {("bad", "board_lost"): 2}
    else:
        assert quarantined == frozenset()
        assert desk.reasons() == {("bad", "board_lost"): 1, ("bad", "timeout"): 1}


def note_loss(desk: Desk, lost: Item) -> None:
    """The board has gone down once while this ran."""
    flight = Visit(
        device_id=desk.bench.device_id,
        subject_kind=lost.subject_kind,
        subject=lost.subject,
        kernel=lost.kernel,
        schedule=lost.schedule,
        purpose="tune",
        round_index=0,
        plan=lost.plan,
        outcome=Failure("board_lost", "the board went down"),
        flags=(),
    )
    desk.store.append([flight])
    assert desk.store.boards.suspects(desk.bench.device_id) == {lost.name}


def wait_for_open_flight(desk: Desk) -> None:
    deadline_s = time.monotonic() + 120
    while not desk.store.boards.n_open_flights(desk.bench.device_id):
        assert time.monotonic() < deadline_s, "the host never began its flight"
        time.sleep(0.02)


def test_a_link_that_comes_back_is_waited_for_with_growing_pauses(desk: Desk) -> None:
    desk.device.before_start = unreachable(DeviceUnreachableError("bench: no route"), 8)
    desk.kill_after = 20
    desk.visit(ITEMS, n_rounds=30)
    assert_whole(desk, n_rounds=30)
    assert desk.clock.pauses_s == [0, 0.5, 1, 2, 4, 8, 15, 15, 15]
    assert any("does not answer for 30 s (bench: no route)" in text for text in desk.told)


def test_a_board_that_does_not_come_back_is_put_in_quarantine(desk: Desk) -> None:
    gone = DeviceUnreachableError("bench: no route")
    desk.device.before_start = unreachable(gone, 10**6)
    desk.kill_after = 20
    with pytest.raises(BoardLostError, match=r"did not come back.*device check bench"):
        desk.visit(ITEMS, n_rounds=10**4)
    n_kept = len(desk.rows())
    assert n_kept > 0
    assert desk.patience.reconnect_s <= desk.clock.now_s < desk.patience.reconnect_s + 15
    assert all(row.outcome for row in desk.rows())

    desk.device.before_start = lambda _: None
    n_started = len(desk.device.started)
    with pytest.raises(QuarantinedBoardError, match=r"no route.*latloop device check bench"):
        desk.visit(ITEMS)
    assert len(desk.device.started) == n_started
    boards_of = desk.store.boards
    assert boards_of.clear_quarantine(desk.bench.device_id)
    assert not boards_of.clear_quarantine(desk.bench.device_id)
    desk.visit(ITEMS)
    names = {(row.kernel, row.round_index) for row in desk.rows()}
    assert {(name, index) for name in NAMES for index in range(3)} <= names


def test_a_runner_that_ends_at_once_every_time_is_given_up(desk: Desk) -> None:
    def work(held: Held) -> None:
        desk.device.kill()
        held.runner.time(ITEMS[0].workload, ITEMS[0].plan)

    with pytest.raises(BoardLostError, match="was lost 6 times in a row"):
        hold_session(desk.bench, desk.executable, work, desk.told.append, desk.patience)
    assert len(desk.device.started) == desk.patience.n_losses
    assert desk.clock.pauses_s == [0, 0.5, 1, 2, 4]


def test_a_lease_of_somebody_else_is_waited_for(desk: Desk) -> None:
    held = LeaseHeldError("bench: Eve on laptop measures there")
    desk.device.before_start = unreachable(held, 3, after=0)
    desk.visit(ITEMS)
    assert_whole(desk)
    assert desk.told == ["waiting for bench: Eve on laptop measures there"] * 3


def test_a_lease_that_is_never_given_back_stops_and_names_the_holder(desk: Desk) -> None:
    held = LeaseHeldError("bench: Eve on laptop measures there")
    desk.device.before_start = unreachable(held, 10**6, after=0)
    with pytest.raises(LeaseHeldError, match="Eve on laptop"):
        desk.visit(ITEMS)
    assert desk.patience.lease_s <= desk.clock.now_s < desk.patience.lease_s + 15
    assert desk.store.boards.quarantine_of(desk.bench.device_id) is None


@pytest.mark.parametrize(
    "error",
    [DeviceFullError("bench: full"), ExecutableRefusedError("bench: refused"), DeviceError("key")],
)
def test_what_a_person_must_mend_stops_at_once(desk: Desk, error: DeviceError) -> None:
    desk.device.before_start = unreachable(error, 10**6)
    desk.kill_after = 20
    with pytest.raises(type(error)):
        desk.visit(ITEMS, n_rounds=10**4)
    assert desk.clock.pauses_s == [0]
    assert desk.store.boards.quarantine_of(desk.bench.device_id) is None
    assert len(desk.rows()) > 0


@pytest.mark.parametrize("error", [DeviceUnreachableError("gone"), RunnerLostError("gone")])
def test_a_board_that_was_never_there_is_an_error_at_once(desk: Desk, error: DeviceError) -> None:
    desk.device.before_start = unreachable(error, 10**6, after=0)
    with pytest.raises(type(error)):
        desk.visit(ITEMS)
    assert desk.store.boards.quarantine_of(desk.bench.device_id) is None


@pytest.mark.parametrize("error", [DeviceUnreachableError("gone"), RunnerLostError("gone")])
def test_a_board_that_is_away_between_two_sweeps_is_waited_for(
    desk: Desk, error: DeviceError
) -> None:
    desk.visit(ITEMS)
    desk.device.before_start = unreachable(error, 3)
    desk.visit(ITEMS, n_rounds=5)
    assert_whole(desk, n_rounds=5)
    assert desk.clock.pauses_s == [0.5, 1, 2]


def test_visits_that_are_all_made_ask_for_no_board(desk: Desk) -> None:
    desk.visit(ITEMS)
    desk.store.boards.put_in_quarantine(desk.bench.device_id, "it smokes")

    def link() -> Linked:
        return Linked(desk.executable, CANARY)

    def no_progress(*_: object) -> None:
        """Nobody listens."""

    def ask(n_rounds: int) -> None:
        visit(desk.bench, link, ITEMS, "tune", n_rounds, boards.shuffle(), no_progress)

    ask(3)
    with pytest.raises(QuarantinedBoardError, match="it smokes"):
        ask(4)
