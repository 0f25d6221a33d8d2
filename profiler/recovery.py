"""A session on a board that outlives lost links, crashed runners and boards that start anew.

What ends a session decides what happens next:

- the link or the runner is lost: it is started again, after growing pauses, within a bound;
- the board started anew (its boot id changed): what was in flight is remembered as suspect;
- somebody else holds the lease, or took it over: wait for a while, then stop and name the holder;
- a board that is full, refuses the executable, or shows another host key: stop at once;
- a board that does not come back within the bound: it is put in quarantine, and so later commands
  stop before they begin.

Suspects are visited alone, each written down before it starts. What takes the board down twice one
after the other is never run again; what ends the runner alone, time after time, has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from devices.device import Failure, Runner
from devices.errors import (
    DeviceError,
    DeviceUnreachableError,
    LeaseHeldError,
    RunnerLostError,
)
from profiler.bench import Bench
from profiler.board_records import NO_LEASE, Lease, name_lease
from profiler.kernel_histories import KernelName
from profiler.losses import Losses, was_taken_over
from profiler.patience import PATIENCE, Patience
from profiler.pipeline import SweepLostError
from profiler.session_meter import SessionMeter
from profiler.store import Purpose, Session, StaleGenerationError
from profiler.sweep import Item, Sweep

_Result = TypeVar("_Result")

#: A runner that ends so often with the same visit alone in flight was ended by it.
MAX_CRASHES: Final = 3


class BoardLostError(DeviceError):
    """The board did not come back: it is in quarantine; mend it, then `latloop device check`."""


class QuarantinedBoardError(DeviceError):
    """The board was given up earlier: mend it, then `latloop device check` clears it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A session on a board, while it lasts.

    Attributes:
        bench: The device, and where results are kept.
        runner: Answers requests.
        session: Its lease and boot.
        suspects: What is to be visited alone.
        meter: What the session's time goes into.
        notice: Told, in words, what a person wants to know.
    """

    bench: Bench
    runner: Runner
    session: Session
    suspects: frozenset[KernelName]
    meter: SessionMeter
    notice: Callable[[str], None]

    def sweep(
        self, canary: Item, purpose: Purpose, n_rounds: int, rng: np.random.Generator
    ) -> Sweep:
        """A sweep on this session."""
        return Sweep(
            runner=self.runner,
            canary=canary,
            store=self.bench.store,
            device_id=self.bench.device_id,
            purpose=purpose,
            n_rounds=n_rounds,
            rng=rng,
            session=self.session,
            n_running=self.bench.target.threads + 1,
            suspects=self.suspects,
            notice=self.notice,
            meter=self.meter,
        )


def refuse_quarantined(bench: Bench) -> None:
    """Stop before anything is built for a board that was given up.

    Raises:
        QuarantinedBoardError: it is in quarantine; the message says how to clear it.
    """
    found = bench.store.boards.quarantine_of(bench.device_id)
    if found is not None:
        name = bench.device.name
        raise QuarantinedBoardError(
            f"{name} is in quarantine since {found.since}: {found.reason}; when it is mended, run "
            f"`latloop device check {name}`, which clears it if the board answers and is fit"
        )


def hold_session(
    bench: Bench,
    executable: Path,
    work: Callable[[Held], _Result],
    notice: Callable[[str], None],
    patience: Patience = PATIENCE,
) -> _Result:
    """Do work on a board, again after each loss that can be recovered from.

    Args:
        bench: The device, and where results are kept.
        executable: What the device is started with.
        work: Must go on from what the store holds when it is called again.
        notice: Told what happens, in words.
        patience: How long to wait.

    Raises:
        QuarantinedBoardError: the board was given up earlier.
        BoardLostError: it did not come back within the bounds, and is in quarantine now.
        LeaseHeldError: somebody else measures on it.
        DeviceUnreachableError, RunnerLostError: it has not answered since the bench was opened.
        DeviceError: anything else that a person must mend first.
    """
    refuse_quarantined(bench)
    losses = Losses()
    while True:
        held: Held | None = None
        n_before = bench.store.n_visits(bench.device_id)
        try:
            with _open_session(bench, executable, losses, notice, patience) as held:
                return work(held)
        except (RunnerLostError, StaleGenerationError) as error:
            if held is None and not was_taken_over(error):
                raise
            was_kept = bench.store.n_visits(bench.device_id) > n_before
            losses.note(error, held.session.boot_id if held else None, was_kept=was_kept)
            _note_loss(bench, losses, notice)
            if losses.n_in_a_row >= patience.n_losses:
                if was_taken_over(error):
                    raise
                raise _give_up(bench, f"was lost {losses.n_in_a_row} times in a row", losses) from (
                    error
                )
            patience.sleep(patience.pause_s(losses.n_in_a_row - 1))


def _note_loss(bench: Bench, losses: Losses, notice: Callable[[str], None]) -> None:
    name = bench.device.name
    if was_taken_over(losses.last):
        losses.in_flight = ()
        notice(f"{name}: somebody else took the board over; waiting for it")
        return
    notice(f"lost the runner of {name} ({losses.last}); starting it again")
    if not (isinstance(losses.last, SweepLostError) and losses.last.is_noted):
        bench.store.boards.take_off(losses.in_flight)


@contextmanager
def _open_session(
    bench: Bench,
    executable: Path,
    losses: Losses,
    notice: Callable[[str], None],
    patience: Patience,
) -> Iterator[Held]:
    boards = bench.store.boards
    lease_name = name_lease(bench.device_id, bench.device.name)
    latest = boards.latest_session(lease_name)
    runner, n_attempts = _start(bench, executable, losses, notice, patience)
    with runner:
        meter = SessionMeter()
        told = runner.description
        lease = Lease(lease_name, told.generation) if told.generation else NO_LEASE
        session = boards.begin_session(bench.device_id, lease, told.boot_id, latest)
        _judge(bench, session, losses, n_attempts, notice)
        suspects = boards.suspects(bench.device_id) | losses.suspects
        try:
            yield Held(bench, runner, session, suspects, meter, notice)
        finally:
            boards.end_session(session, meter.use())


def _start(
    bench: Bench,
    executable: Path,
    losses: Losses,
    notice: Callable[[str], None],
    patience: Patience,
) -> tuple[Runner, int]:
    """Start the runner; a board that was there before is waited for.

    Returns:
        The runner, and how many attempts failed before.
    """
    name = bench.device.name
    begun_s = patience.clock()
    held_s: float | None = None
    n_attempts = 0
    while True:
        try:
            runner = bench.device.start(executable)
            bench.contact.was_had = True
            return runner, n_attempts
        except LeaseHeldError as error:
            held_s = patience.clock() if held_s is None else held_s
            if patience.clock() - held_s >= patience.lease_s:
                raise
            notice(f"waiting for {error}")
        except (RunnerLostError, DeviceUnreachableError) as error:
            was_had = losses.last is not None or bench.contact.was_had
            if not was_had or not _may_come_back(error):
                raise
            waited_s = patience.clock() - begun_s
            if waited_s >= patience.reconnect_s:
                losses.last = error
                raise _give_up(bench, f"did not come back within {waited_s:.0f} s", losses) from (
                    error
                )
            notice(f"{name} does not answer for {waited_s:.0f} s ({error}); trying again")
        n_attempts += 1
        patience.sleep(patience.pause_s(n_attempts))


def _may_come_back(error: DeviceError) -> bool:
    """Whether waiting may help: what is more than out of reach has to be mended by a person."""
    return isinstance(error, RunnerLostError) or type(error) is DeviceUnreachableError


def _judge(
    bench: Bench, session: Session, losses: Losses, n_attempts: int, notice: Callable[[str], None]
) -> None:
    """Find out, now that the board answers, what went down and what was in flight."""
    name = bench.device.name
    boards = bench.store.boards
    for subject, _, _ in boards.settle_flights(bench.device_id, session):
        notice(f"{name} went down while {subject} was in flight")
    if losses.boot_id is not None and session.boot_id != losses.boot_id:
        notice(f"{name} has started anew; going on from what the store has")
    elif len(losses.in_flight) == 1 and n_attempts == 0:
        # The link is there at once and the board did not start anew: it was the runner that ended.
        (visit,) = losses.in_flight
        if losses.n_alone >= MAX_CRASHES:
            detail = f"ended the runner {MAX_CRASHES} times, the last time: {losses.last}"
            outcome = Failure("crash", detail)
            bench.store.append([replace(visit, outcome=outcome, session=session, flags=())])
            losses.n_in_a_row = 0
            losses.in_flight = ()


def _give_up(bench: Bench, how: str, losses: Losses) -> BoardLostError:
    name = bench.device.name
    reason = f"{how} ({losses.last})"
    bench.store.boards.put_in_quarantine(bench.device_id, reason)
    return BoardLostError(
        f"{name} {reason}; what was measured is kept, and the board is in quarantine: see to its "
        f"power, network and memory, then run `latloop device check {name}` and this command again"
    )
