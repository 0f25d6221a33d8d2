"""The order of a sweep's visits, decided a few visits ahead so that the board never waits.

Requests are sent before the answers to earlier ones came, because a link takes milliseconds and the
store a few more. So what is visited next is decided while up to `N_AHEAD` visits are still to be
answered: a canary after every moment of work, and what must be made again as soon as that is known.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from devices.device import Failure, Timing, TimingPlan, Workload
from devices.errors import RunnerLostError
from devices.session import N_AHEAD
from profiler.build import Progress
from profiler.canary import N_FIRST
from profiler.kernel_histories import KernelName, in_flight
from profiler.quality import REPEATED_FLAGS
from profiler.store import Visit
from profiler.sweep import Item, Sweep, latency_us, note_visit, recall_canary

#: A doubtful visit is made again this often at the most.
MAX_REPEATS: Final = 2
#: Beside those that a moved canary asks for, so much of a sweep is made again at the most: a board
#: that is never quiet shall not be measured three times over.
REPEATED_SHARE: Final = 0.25
#: Visits are written to the store, and the canary asked, this often.
BLOCK_S: Final = 0.3
#: No more than this is under way ahead of an answer: what was not answered is lost with the host.
AHEAD_S: Final = 0.6
#: What a visit under way becomes when the board turns out to have gone down.
LOST: Final = Failure("board_lost", "the board went down while this was in flight")


class SweepLostError(RunnerLostError):
    """The runner was lost in the middle of a sweep: what was answered is kept, go on from there.

    Attributes:
        in_flight: Visits that were under way, as what they become if the board went down.
        is_noted: Whether the store knows of them already.
    """

    def __init__(
        self, message: str, in_flight: tuple[Visit, ...], *, is_noted: bool = False
    ) -> None:
        super().__init__(message)
        self.in_flight = in_flight
        self.is_noted = is_noted


@dataclass(frozen=True, slots=True)
class _Planned:
    """A visit that is to be made, or under way.

    Attributes:
        item: What is visited; the sweep's canary among others.
        round_index: Which round it belongs to.
        n_before: How often it was made already, with doubts.
        flights: Its numbers in the store where it is made alone because it is a suspect.
    """

    item: Item
    round_index: int = 0
    n_before: int = 0
    flights: tuple[int, ...] = ()


@dataclass(slots=True)
class _Durations:
    """How long visits take, link and processes included, in seconds."""

    by_name: dict[KernelName, float] = field(default_factory=dict)
    by_plan: dict[TimingPlan, float] = field(default_factory=dict)

    def note(self, item: Item, duration_s: float) -> None:
        self.by_name[item.name] = duration_s
        usual_s = self.by_plan.get(item.plan, duration_s)
        self.by_plan[item.plan] = max(duration_s, 0.8 * usual_s + 0.2 * duration_s)

    def expect(self, item: Item) -> float | None:
        """What a visit will take; None where nothing like it was made yet."""
        return self.by_name.get(item.name, self.by_plan.get(item.plan))


class Pipeline:
    """Which visits are under way, and which come next; one sweep long.

    `requests` grows as visits are planned: a runner's `time_many` draws from it.
    """

    def __init__(self, items: Sequence[Item], sweep: Sweep, progress: Progress) -> None:
        self.requests: list[tuple[Workload, TimingPlan]] = []
        self._sweep = sweep
        self._progress = progress
        self._items = items
        self._done = sweep.store.rounds_done(sweep.device_id, sweep.purpose)
        self._failed = set(sweep.store.failed_kernels(sweep.device_id))
        self._suspects = set(sweep.suspects)
        self._watch = recall_canary(sweep)
        self._n_canaries_first = max(N_FIRST - self._watch.n_known, 0)
        self._durations = _Durations()
        self._queue: deque[_Planned] = deque()
        self._under_way: deque[_Planned] = deque()
        self._block: list[tuple[_Planned, Visit]] = []
        self._next_round = 0
        self._n_finished = 0
        self._n_repeats_left = math.ceil(REPEATED_SHARE * len(items) * sweep.n_rounds)
        #: Seconds of visits planned since the canary that was planned last; None before the first.
        self._planned_s: float | None = None
        self._has_moved = False
        self._answered_s = sweep.clock()
        self.is_waiting_to_cool = False

    @property
    def has_work(self) -> bool:
        """Whether visits are left to be planned."""
        self._fill_queue()
        return bool(self._queue)

    def restart(self) -> None:
        """Begin anew, with a canary, after all answers were drawn and nothing ran for a while."""
        self.requests = []
        self.is_waiting_to_cool = False
        self._planned_s = None
        self._answered_s = self._sweep.clock()
        self.plan_ahead()

    def plan_ahead(self) -> None:
        """Plan visits until enough are under way, or nothing is left to plan for now."""
        while len(self._under_way) <= N_AHEAD and (planned := self._next()) is not None:
            self._under_way.append(planned)
            self.requests.append((planned.item.workload, planned.item.plan))

    def take(self, outcome: Timing | Failure) -> None:
        """Take in the answer to the visit that has been under way for longest."""
        planned = self._under_way.popleft()
        visit = note_visit(planned.item, self._sweep, planned.round_index, outcome)
        now_s = self._sweep.clock()
        if isinstance(outcome, Timing):
            self._durations.note(planned.item, now_s - self._answered_s)
            self.is_waiting_to_cool |= self._sweep.baseline.asks_to_wait(outcome)
        self._answered_s = now_s
        if planned.flights:
            self._sweep.store.boards.land(planned.flights)
            self._suspects.discard(planned.item.name)
        if planned.item is self._sweep.canary:
            self._close_block(visit)
            return
        if isinstance(outcome, Failure):
            self._failed.add(planned.item.name)
        self._block.append((planned, visit))

    def abandon(self, error: RunnerLostError) -> SweepLostError:
        """Keep what was answered since the last canary, and tell what was under way."""
        visits = [visit for _, visit in self._block]
        extra = ("canary_moved",) if self._has_moved else ("unwatched",)
        self._sweep.store.append([replace(v, flags=(*v.flags, *extra)) for v in visits])
        lost = [
            in_flight(
                note_visit(planned.item, self._sweep, planned.round_index, LOST),
                is_running=position == 0,
            )
            for position, planned in enumerate(self._under_way)
            if planned.item is not self._sweep.canary
        ]
        is_noted = any(planned.flights for planned in self._under_way)
        return SweepLostError(str(error), tuple(lost), is_noted=is_noted)

    def _next(self) -> _Planned | None:
        """What to visit after all that is under way; None to wait for an answer first."""
        if any(planned.flights for planned in self._under_way):
            return None
        has_work = self.has_work and not self.is_waiting_to_cool
        if self._planned_s is None:
            return self._plan_canary() if has_work else None
        if self._n_canaries_first:
            self._n_canaries_first -= 1
            return _Planned(self._sweep.canary)
        if self._planned_s >= BLOCK_S or (self._planned_s and not has_work):
            return self._plan_canary()
        return self._plan_item() if has_work else None

    def _plan_canary(self) -> _Planned:
        self._planned_s = 0.0
        return _Planned(self._sweep.canary)

    def _plan_item(self) -> _Planned | None:
        planned = self._queue[0]
        name = planned.item.name
        expected_s = self._durations.expect(planned.item)
        if self._under_way:
            if name in self._suspects or any(p.item.name == name for p in self._under_way):
                return None
            ahead_s = sum(self._durations.expect(p.item) or 0.0 for p in self._under_way)
            if expected_s is None or ahead_s + expected_s > AHEAD_S:
                return None
        self._queue.popleft()
        assert self._planned_s is not None
        # Where nothing is known, the visit is a block of its own.
        self._planned_s += BLOCK_S if expected_s is None else max(expected_s, 1e-9)
        return self._take_off(planned) if name in self._suspects else planned

    def _take_off(self, planned: _Planned) -> _Planned:
        """Write a suspect's visit down before it starts: nobody may live to tell."""
        visit = note_visit(planned.item, self._sweep, planned.round_index, LOST)
        return replace(planned, flights=self._sweep.store.boards.take_off([visit]))

    def _fill_queue(self) -> None:
        """Shuffle the next round when all of the last one is planned; drop what has failed."""
        while True:
            while self._queue and self._queue[0].item.name in self._failed:
                self._queue.popleft()
                self._finish(1)
            if self._queue or self._next_round == self._sweep.n_rounds:
                return
            index = self._next_round
            self._next_round += 1
            waiting = [item for item in self._items if item.round_key(index) not in self._done]
            self._finish(len(self._items) - len(waiting))
            order = [waiting[position] for position in self._sweep.rng.permutation(len(waiting))]
            order.sort(key=lambda item: item.name not in self._suspects)  # stable
            self._queue.extend(_Planned(item, index) for item in order)

    def _finish(self, n_visits: int) -> None:
        self._n_finished += n_visits
        self._progress(self._n_finished, len(self._items) * self._sweep.n_rounds)

    def _close_block(self, canary: Visit) -> None:
        """Keep the visits since the last canary, and plan again those that are in doubt."""
        moved = self._watch.has_moved(latency_us(canary))
        extra = ("canary_moved",) if moved or self._has_moved else ()
        self._has_moved = moved
        block = [(p, replace(v, flags=v.flags + extra)) for p, v in self._block]
        self._block = []
        self._sweep.store.append([*(visit for _, visit in block), canary])
        again = []
        n_finished = 0
        for planned, visit in block:
            if isinstance(visit.outcome, Timing) and self._may_repeat(planned, visit):
                again.append(replace(planned, n_before=planned.n_before + 1, flights=()))
            else:
                n_finished += 1
        self._queue.extendleft(reversed(again))
        if moved and block:
            self._ask_canary_soon()
        if n_finished:
            self._finish(n_finished)

    def _ask_canary_soon(self) -> None:
        """After a canary that moved: what follows shall not stand beside it longer than it must."""
        if not self._under_way:
            self._planned_s = None
        elif self._planned_s:
            self._planned_s = max(self._planned_s, BLOCK_S)

    def _may_repeat(self, planned: _Planned, visit: Visit) -> bool:
        """Whether a visit is in doubt and shall be made again; uses up what is allowed."""
        if planned.n_before >= MAX_REPEATS or REPEATED_FLAGS.isdisjoint(visit.flags):
            return False
        if "canary_moved" in visit.flags:
            return True
        self._n_repeats_left -= 1
        return self._n_repeats_left >= 0
