"""`latloop profile` stopped at any moment loses seconds, never a row."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from profiler.schedules.space import candidates
from profiler.store import Store
from profiler.target import target_of
from searchspace.design import choose_design

from .command_line import LATLOOP, environment, latloop, processes_of, read_rows
from .tiny_space import NAME, TINY

N_NETWORKS = 40
PROFILE = ("profile", "local", "--space", NAME, "--networks", str(N_NETWORKS))
SEED = 20
#: What may be lost of measuring when the machine stops dead.
MOST_LOST = timedelta(seconds=5)
#: How long a process may live on after the one that it works for: importing TVM takes seconds, and
#: zig's first link for a target half a minute.
MOST_OUTLIVED_S = 90.0
TIMING = "time "
#: Columns of `visits`.
PURPOSE, CREATED = 7, 21


class Profile:
    """A profile under way, with the time at which each line of its progress came."""

    def __init__(self, home: Path) -> None:
        self.lines: list[tuple[datetime, str]] = []
        self._process = subprocess.Popen(
            [LATLOOP, *PROFILE],
            env=environment(home),
            cwd=home.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, prefix: str) -> None:
        """Until a line of progress begins so."""
        while not any(line.startswith(prefix) for _, line in self.lines):
            assert self._process.poll() is None, f"ended too early: {self.lines}"
            time.sleep(0.02)

    def kill(self) -> datetime:
        """SIGKILL it and say when."""
        assert self._process.poll() is None, "the profile ended before it was killed: lengthen it"
        moment = datetime.now(UTC)
        self._process.kill()
        self._finish()
        return moment

    def interrupt(self) -> int:
        """Ctrl-C: a terminal sends SIGINT to the whole process group."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._finish()
        return self._process.returncode

    @property
    def text(self) -> str:
        return "".join(line for _, line in self.lines)

    def counts(self, prefix: str) -> list[tuple[int, int]]:
        """What was done, and how much there was to do, whenever a stage was heard of."""
        found = [line.partition(": ") for _, line in self.lines if line.startswith(prefix)]
        pairs = [counts.split("/") for _, _, counts in found]
        return [(int(done), int(total)) for done, total in pairs]

    def timing_began(self) -> datetime | None:
        """When the stage that is under way began, if that stage measures."""
        stages = [line.partition(": ")[0] for _, line in self.lines if line.startswith(TIMING)]
        if not stages:
            return None
        done, total = self.counts(stages[-1])[-1]
        if done == total:
            return None
        return next(at for at, line in self.lines if line.startswith(stages[-1]))

    def _finish(self) -> None:
        self._process.wait(timeout=60)
        self._reader.join(timeout=60)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self.lines.append((datetime.now(UTC), line))


def wait_until(is_so: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def check_store(home: Path, before: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """The store opens, each of its rows can be read, and those that were there are unchanged."""
    with Store.open(home / "store.sqlite") as store:
        visits = [visit for d in store.devices() for visit in store.visits(d.device_id)]
    with closing(sqlite3.connect(home / "store.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = read_rows(home)
    assert len(visits) == len(rows)
    assert rows[: len(before)] == before
    return rows


def show(moment: float, stage: str, n_rows: int) -> None:
    """Shown when the test fails."""
    when = f"{moment:.2f} s after {stage or 'the start'}"
    print(f"seed {SEED}: kill {when}, {n_rows} rows")  # noqa: T201


def test_kills_while_it_starts_and_compiles_lose_no_compiled_kernel(empty_home: Path) -> None:
    rng = random.Random(SEED)
    plan = [("", rng.uniform(0.1, 2.5)) for _ in range(2)]
    plan += [("compile", rng.uniform(0.0, 0.4)) for _ in range(3)]
    n_kept = 0
    for stage, delay_s in plan:
        show(delay_s, stage, 0)
        profile = Profile(empty_home)
        if stage:
            profile.wait_for(stage)
        time.sleep(delay_s)
        profile.kill()
        assert wait_until(lambda: not processes_of(empty_home), MOST_OUTLIVED_S), (
            f"still alive: {processes_of(empty_home)}"
        )
        assert check_store(empty_home, []) == []
        if stage:
            counts = profile.counts("compile")
            assert counts[0][0] >= n_kept, "it compiled again what it had"
            # A kernel that another compiler process has in hand counts as done too early.
            n_kept = counts[-1][0] - (os.cpu_count() or 1)


@pytest.mark.usefixtures("board")
def test_kills_while_it_measures_lose_seconds_and_no_row(home: Path) -> None:
    for path in home.glob("store.sqlite*"):
        path.unlink()  # what was compiled is kept, so that measuring begins at once
    rng = random.Random(SEED)
    plan = [(TIMING, rng.uniform(0.0, 2.0)) for _ in range(4)]
    # So late that work kept back for longer than MOST_LOST would be missed.
    plan.append(("time networks", rng.uniform(5.5, 6.5)))
    rows: list[tuple[object, ...]] = []
    n_judged = 0
    for stage, delay_s in plan:
        show(delay_s, stage, len(rows))
        profile = Profile(home)
        profile.wait_for(stage)
        time.sleep(delay_s)
        killed = profile.kill()
        assert wait_until(lambda: not processes_of(home), MOST_OUTLIVED_S), processes_of(home)
        n_before = len(rows)
        rows = check_store(home, rows)
        if (began := profile.timing_began()) is not None:
            n_judged += 1
            kept = [row[CREATED] for row in rows[n_before:] if row[PURPOSE] != "canary"]
            last = max([began, *(datetime.fromisoformat(str(created)) for created in kept)])
            assert killed - last < MOST_LOST
    assert n_judged >= 3, "too few kills fell into measuring to judge what is lost"
    done = latloop(home, *PROFILE, "--json")
    assert done.code == 0
    check_store(home, rows)
    assert done.answer["n_networks"] == N_NETWORKS
    assert done.answer["n_operators"] == len(TINY.operators())
    assert done.answer["n_failures"] == 0
    assert_complete(home)


def assert_complete(home: Path) -> None:
    """Every kernel of every operator was visited in 3 rounds, every network in 5."""
    with Store.open(home / "store.sqlite") as store:
        (device,) = store.devices()
        tuned = store.rounds_done(device.device_id, "tune")
        timed = store.rounds_done(device.device_id, "profile")
    target = target_of(device.board, device.runtime.threads)
    kernels = [(op.key, s.text) for op in TINY.operators() for s in candidates(op, target)]
    expected = {(*kernel, index) for kernel in kernels for index in range(3)}
    assert {(key.subject, key.schedule, key.round_index) for key in tuned} == expected
    design = choose_design(TINY, N_NETWORKS, 1.0, np.random.default_rng(0))
    names = [f"{NAME}:{''.join(map(str, genome))}" for genome in design.genomes]
    assert {(key.subject, key.round_index) for key in timed} == set(product(names, range(5)))


def assert_interrupted(home: Path, profile: Profile, before: list[tuple[object, ...]]) -> int:
    """Ctrl-C; returns how many rows there are."""
    assert profile.interrupt() == 130
    assert "what was measured is kept" in profile.text
    assert "run the same command to go on" in profile.text
    assert "Traceback" not in profile.text
    assert "Error" not in profile.text
    assert wait_until(lambda: not processes_of(home), MOST_OUTLIVED_S), processes_of(home)
    return len(check_store(home, before))


def test_ctrl_c_while_it_compiles_ends_everything_without_a_traceback(empty_home: Path) -> None:
    profile = Profile(empty_home)
    profile.wait_for("compile")
    time.sleep(1.0)
    assert assert_interrupted(empty_home, profile, []) == 0


@pytest.mark.usefixtures("board")
def test_ctrl_c_while_it_measures_keeps_what_was_measured(home: Path) -> None:
    before = read_rows(home)
    profile = Profile(home)  # of more networks than the journey measured
    profile.wait_for("time networks")
    time.sleep(3.0)
    assert assert_interrupted(home, profile, before) > len(before)
