from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import Done, RunHere, run_here

from .command_line import SPACE_FOLDER, board_lease, insist, make_home, travel_once
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
    """Copy its home before writing."""

    def travel(folder: Path) -> dict[str, Done]:
        return _travel(make_home(folder / "home", build_cache))

    folder, steps = travel_once(tmp_path_factory, "journey", travel)
    return Journey(folder / "home", steps, _limit_ms(steps))


def _travel(home: Path) -> dict[str, Done]:
    steps: dict[str, Done] = {}

    def step(name: str, command: str, *arguments: str) -> None:
        done = steps[name] = insist(home, command, *arguments, "--json")
        assert done.code == 0, f"{name} ended with {done.code}: {done.err}"

    step("profile", "profile", "local", "--space", NAME, "--networks", str(N_NETWORKS))
    step("fit", "fit", "local")
    step("evaluate", "evaluate", "local", "--networks", str(N_FRESH))
    step("fastest", "predict", "local", f"{NAME}:0000")
    limit = f"{_limit_ms(steps):.9f}ms"
    step("search", "search", "local", "--space", NAME, "--latency", limit, "--accuracy", ACCURACY)
    step("predict", "predict", "local", f"{NAME}:0000")  # a search may have refitted the model
    return steps


def _limit_ms(steps: dict[str, Done]) -> float:
    return 3 * float(steps["fastest"].answer["latency_ms"])


@pytest.fixture
def home(journey: Journey, tmp_path: Path) -> Path:
    """A home of this test's own, in which the journey was made."""
    return shutil.copytree(journey.home, tmp_path / "home", symlinks=True)


@pytest.fixture
def empty_home(build_cache: Path, tmp_path: Path) -> Path:
    return make_home(tmp_path / "home", build_cache)


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[Path], RunHere]:
    """Given a home, runs commands in this process: those that are not about time or processes."""

    def enter(home: Path) -> RunHere:
        monkeypatch.setenv("LATLOOP_HOME", str(home))
        monkeypatch.syspath_prepend(SPACE_FOLDER)
        monkeypatch.chdir(tmp_path)
        return run_here(monkeypatch, capsys)

    return enter


@pytest.fixture
def board() -> Iterator[None]:
    with board_lease():
        yield
