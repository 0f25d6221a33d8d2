from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from .command_line import Done, board_lease, insist, make_home
from .tiny_space import NAME

N_NETWORKS = 8
N_FRESH = 3
ACCURACY = "tiny_space:accuracy_percent"


@dataclass(frozen=True)
class Journey:
    """A home after a whole journey through the command line, and what each step answered."""

    home: Path
    steps: dict[str, Done]
    limit_ms: float


@pytest.fixture(scope="session")
def journey(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """One journey a session, whichever worker needs it first; copy its home before writing."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # all workers of a session share it
    kept = folder / "journey.json"
    with (folder / "journey.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            shutil.rmtree(folder / "journey", ignore_errors=True)
            with board_lease():
                steps, limit_ms = _travel(make_home(folder / "journey", build_cache))
            kept.write_text(json.dumps([{n: asdict(d) for n, d in steps.items()}, limit_ms]))
    steps, limit_ms = json.loads(kept.read_text())
    return Journey(folder / "journey", {n: Done(**done) for n, done in steps.items()}, limit_ms)


def _travel(home: Path) -> tuple[dict[str, Done], float]:
    steps = {}

    def step(name: str, *arguments: str) -> Done:
        done = steps[name] = insist(home, name, *arguments, "--json")
        assert done.code == 0, f"{name} ended with {done.code}: {done.err}"
        return done

    step("profile", "local", "--space", NAME, "--networks", str(N_NETWORKS))
    step("fit", "local")
    step("evaluate", "local", "--networks", str(N_FRESH))
    limit_ms = 2 * step("predict", "local", f"{NAME}:0000").answer["latency_ms"]
    limit = f"{limit_ms:.9f}ms"
    step("search", "local", "--space", NAME, "--latency", limit, "--accuracy", ACCURACY)
    step("predict", "local", f"{NAME}:0000")  # a search may have refitted the model
    return steps, limit_ms


@pytest.fixture
def home(journey: Journey, tmp_path: Path) -> Path:
    """A home of this test's own, in which the journey was made."""
    return shutil.copytree(journey.home, tmp_path / "home", symlinks=True)


@pytest.fixture
def empty_home(build_cache: Path, tmp_path: Path) -> Path:
    return make_home(tmp_path / "home", build_cache)


@pytest.fixture
def board() -> Iterator[None]:
    with board_lease():
        yield
