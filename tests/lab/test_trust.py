"""What boards tell of themselves while they are measured is heard, and acted upon."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from devices.device import Timing, TimingPlan
from devices.ssh.device import SshDevice
from profiler.baseline import DEADLINE_S, PAUSE_S
from profiler.link import link_executable
from profiler.measure import measure
from profiler.recovery import Held, hold_session
from profiler.store import Store, Visit
from profiler.target import Target
from tests.unit.profiler import boards
from tests.unit.profiler.boards import CANARY_PLAN, item

from .board import Board
from .conftest import Lab, MakeDevice

TARGET = Target("x86_64-linux-gnu", "generic")
#: Three blocks of 20 ms each: more than a tenth of a processor gives at once.
LONG = TimingPlan(0, 20_000_000, 3, False, 60_000)
SHORT = TimingPlan(0, 1_000_000, 3, False, 60_000)


@pytest.fixture(scope="module")
def worker(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    objects = boards.compile_kernels(folder, TARGET, build_cache)
    return link_executable(objects, TARGET, build_cache)


@dataclass
class Desk:
    """Sweeps a board; time passes at once while a sweep waits.

    Attributes:
        told: What a person would read.
        before_pause: Called with the number of each pause.
    """

    device: SshDevice
    store: Store
    folder: Path
    worker: Path
    told: list[str] = field(default_factory=list)
    before_pause: Callable[[int], None] = lambda _: None
    _slept_s: float = 0.0
    n_pauses: int = 0

    def sweep(self, names: str, n_rounds: int, plan: TimingPlan) -> list[Visit]:
        """Visits of a sweep, canaries aside."""
        bench = boards.open_bench(self.device, self.store, self.folder, TARGET)  # type: ignore[arg-type]
        before = self.store.n_visits(bench.device_id)

        def work(held: Held) -> None:
            sweep = held.sweep(item("canary", plan=CANARY_PLAN), "tune", n_rounds, boards.shuffle())
            timed = replace(sweep, clock=self._clock, sleep=self._sleep)
            measure([item(name, plan=plan) for name in names.split()], timed)

        hold_session(bench, self.worker, work, self.told.append)
        return list(self.store.visits(bench.device_id, purposes={"tune"}))[before:]

    def _clock(self) -> float:
        return time.monotonic() + self._slept_s

    def _sleep(self, seconds: float) -> None:
        self.before_pause(self.n_pauses)
        self.n_pauses += 1
        self._slept_s += seconds


@pytest.fixture
def board(lab: Lab) -> Iterator[Board]:
    made = lab.board("openssh")
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.fixture
def make_desk(
    make_device: MakeDevice, worker: Path, tmp_path: Path
) -> Iterator[Callable[..., Desk]]:
    with Store.open(tmp_path / "store.sqlite") as store:
        yield lambda board: Desk(make_device(board), store, tmp_path, worker)


def flags_of(visits: list[Visit]) -> list[tuple[str, ...]]:
    assert all(isinstance(visit.outcome, Timing) for visit in visits), visits
    return [visit.flags for visit in visits]


def test_visits_to_a_board_that_used_up_its_quota_are_flagged(
    board: Board, make_desk: Callable[..., Desk]
) -> None:
    board.start()
    board.throttle(0.1)
    desk = make_desk(board)
    flags = flags_of(desk.sweep("a b", 2, LONG))
    assert len(flags) > 4, "none was made again"
    assert all("throttled" in each for each in flags)
    board.throttle(None)
    calm = flags_of(desk.sweep("c d", 2, LONG))
    assert not any("throttled" in each for each in calm)
    assert board.wait_until_idle() == []


def zone(board: Board) -> Path:
    """A thermometer of the board."""
    path = board.root / "sys/class/thermal/thermal_zone0/temp"
    path.parent.mkdir(parents=True)
    path.write_text("50000\n", encoding="ascii")
    return path


def heat_after(temp: Path, desk: Desk, n_visits: int) -> threading.Thread:
    """Make a board hot once so many visits are kept."""

    def watch() -> None:
        while not (ids := [device.device_id for device in desk.store.devices()]) or (
            desk.store.n_visits(ids[0]) < n_visits
        ):
            time.sleep(0.005)
        temp.write_text("91000\n", encoding="ascii")

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_hot_board_is_left_alone_until_it_is_cool(
    board: Board, make_desk: Callable[..., Desk]
) -> None:
    temp = zone(board)
    board.start()
    desk = make_desk(board)

    def cool(n_pauses: int) -> None:
        if n_pauses == 3:
            temp.write_text("55000\n", encoding="ascii")

    desk.before_pause = cool
    heater = heat_after(temp, desk, 8)
    flags = flags_of(desk.sweep("a b c d", 60, SHORT))
    heater.join()
    assert desk.n_pauses == 4
    assert [text for text in desk.told if "cooling down, 91 of 65 C" in text]
    # Those that were under way when it became hot, and none of those after it was cool.
    assert 0 < sum("hot" in each for each in flags) < 12
    assert not any("hot" in each for each in flags[-100:])


def test_a_board_that_stays_hot_is_waited_for_until_the_deadline(
    board: Board, make_desk: Callable[..., Desk]
) -> None:
    temp = zone(board)
    board.start()
    desk = make_desk(board)
    heater = heat_after(temp, desk, 8)
    flags = flags_of(desk.sweep("a b c d", 60, SHORT))
    heater.join()
    assert DEADLINE_S / PAUSE_S - 2 <= desk.n_pauses <= DEADLINE_S / PAUSE_S
    assert [text for text in desk.told if f"still hot after {DEADLINE_S:.0f} s" in text]
    assert all("hot" in each for each in flags[-100:])


def test_a_clock_that_moves_during_visits_flags_them(
    board: Board, make_desk: Callable[..., Desk]
) -> None:
    path = board.root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    path.parent.mkdir(parents=True)
    path.write_text("1500000\n", encoding="ascii")
    board.start()
    desk = make_desk(board)
    desk.device = replace(desk.device, cores=(0,))
    still = flags_of(desk.sweep("a b", 10, SHORT))
    assert not any("clock_changed" in each for each in still)
    done = threading.Event()

    def move() -> None:
        clocks = itertools.cycle((b"0600000", b"1500000"))
        with path.open("r+b", buffering=0) as file:
            while not done.wait(0.002):
                os.pwrite(file.fileno(), next(clocks), 0)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        moved = flags_of(desk.sweep("c d", 10, SHORT))
    finally:
        done.set()
        mover.join()
    assert any("clock_changed" in each for each in moved)
    assert len(moved) > 20, "none was made again"
