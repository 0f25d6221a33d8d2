"""Limits on memory: refused before anything is built, with what is needed and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from latloop.home import Home
from latloop.journeys.memory import (
    OverMemoryLimitError,
    TooLargeForBoardError,
    plan_memory,
    with_plan,
)
from latloop.workbench import Workbench, open_workbench
from profiler.plan import plan_arena
from profiler.runtime import Model
from searchspace.constraint import MemoryLimit
from searchspace.space import load_space
from tests.command import RunHere

SPACE = load_space("nas_bench_macro")
NETWORK = SPACE.lower(SPACE.smallest())
#: The image, 32x32x3, and two tensors of 16x16x64 and 32x32x32 floats.
ARENA_BYTES = 4 * (32 * 32 * 3 + 32 * 32 * 32 + 16 * 16 * 64)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with open_workbench(Home(tmp_path_factory.mktemp("home")), "local") as bench:
        yield bench


def with_memory(workbench: Workbench, n_bytes: int) -> Workbench:
    board = replace(workbench.fingerprint.board, memory_bytes=n_bytes)
    return replace(workbench, fingerprint=replace(workbench.fingerprint, board=board))


def test_a_network_within_the_limit_is_planned(workbench: Workbench) -> None:
    plan = plan_memory(workbench, NETWORK, limit=MemoryLimit(ARENA_BYTES))
    assert plan.arena_bytes == ARENA_BYTES
    assert plan == plan_arena(NETWORK)
    assert with_plan(workbench, Model(NETWORK)).plan == plan


def test_a_network_over_the_limit_is_refused_with_both_numbers(workbench: Workbench) -> None:
    with pytest.raises(OverMemoryLimitError) as caught:
        plan_memory(workbench, NETWORK, limit=MemoryLimit(ARENA_BYTES - 1))
    assert str(caught.value) == (
        "the activations of nas_bench_macro:00000000 take 208.896 kB, over the limit of 208.895 kB"
    )


def test_a_network_larger_than_the_board_is_refused(workbench: Workbench) -> None:
    needed = ARENA_BYTES + NETWORK.weight_bytes
    plan_memory(with_memory(workbench, needed), NETWORK)
    with pytest.raises(TooLargeForBoardError, match=r"needs [\d.]+ MB .* but local has") as caught:
        plan_memory(with_memory(workbench, needed - 1), NETWORK)
    assert "208.896 kB of activations" in str(caught.value)
    with pytest.raises(TooLargeForBoardError):
        with_plan(with_memory(workbench, needed - 1), Model(NETWORK))


def test_a_board_that_does_not_tell_its_memory_takes_any_network(workbench: Workbench) -> None:
    assert plan_memory(with_memory(workbench, 0), NETWORK).arena_bytes == ARENA_BYTES


def test_deploy_over_the_limit_is_a_no_and_writes_nothing(latloop: RunHere, tmp_path: Path) -> None:
    folder = tmp_path / "deployed"
    ended = latloop(
        "deploy", "local", "nas_bench_macro:00000000", "--memory", "200kB", "--folder", folder
    )
    assert ended.code == 1
    assert "take 208.896 kB, over the limit of 200 kB" in ended.err
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "local", "nas_bench_macro:00000000", "--memory", "320"),
        ("search", "local", "--space", "nas_bench_macro", "--latency", "8ms", "--memory", "320"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_memory_without_a_unit_is_wrong_usage(latloop: RunHere, arguments: tuple[str, ...]) -> None:
    ended = latloop(*arguments)
    assert ended.code == 2
    assert "an amount of memory is a positive number with a unit" in ended.err
    assert "got '320'" in ended.err


@pytest.mark.parametrize("command", ["predict", "measure", "run", "deploy"])
def test_an_unknown_plan_is_wrong_usage(latloop: RunHere, command: str, tmp_path: Path) -> None:
    extra = ()
    if command == "run":
        (tmp_path / "in.npz").write_bytes(b"")
        extra = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    ended = latloop(command, "local", "nas_bench_macro:00000000", "--plan", "perfect", *extra)
    assert ended.code == 2
    assert "perfect" in ended.err
    assert "optimal" in ended.err
