"""Schedules for several threads: which there are, and that they compute the right numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.local import start_runner
from devices.session import RunnerSession
from profiler.kernels.write import write_kernel
from profiler.operator import Operator
from profiler.schedules.schedule import CHANNEL_TASKS, ROW_TASKS, Schedule, parse_schedule
from profiler.schedules.space import candidates
from profiler.schedules.threads import forms
from profiler.schedules.tiles import unevenness
from profiler.target import Target
from tests.unit.devices.workloads import some_cores
from tests.unit.searchspace.network_interpreter import run_operator

from .conftest import Link, Linked
from .examples import inputs_of, relative_error, weights_of
from .test_schedules import AWKWARD, CONV_13X13, TARGETS, divisible_operators, drawn_operators, run

#: Images that tasks share, and a batch of more rows than images.
BATCHES = (
    Operator("conv2d", (4, 5, 6, 20), 36, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "add")),
    replace(CONV_13X13, input_shape=(3, 13, 13, 33)),
    Operator("depthwise_conv2d", (3, 4, 9, 22), 22, (3, 3), padding=(1, 1, 1, 1)),
    Operator("global_avg_pool2d", (5, 3, 3, 4), 4),
    Operator("global_avg_pool2d", (1, 5, 6, 68), 68),
    Operator("scale", (7, 3, 5, 17), 17, epilogue=("relu",)),
)
#: Some of those that one thread is tried on: of each, all candidates are compiled in all forms.
OPERATORS = tuple(dict.fromkeys((*AWKWARD[::3], *BATCHES, *drawn_operators()[::6])))


def forms_of(operator: Operator, target: Target, n: int) -> list[Schedule]:
    """All candidates for so many threads, however small the operator."""
    found = [f for schedule in candidates(operator, target) for f in forms(operator, schedule, n)]
    return list(dict.fromkeys(found))


def requests(target: Target) -> list[tuple[Operator, Schedule]]:
    """Two tasks of everything, three of some."""
    found = [(operator, s) for operator in OPERATORS for s in forms_of(operator, target, 2)]
    found += [(operator, s) for operator in OPERATORS[::4] for s in forms_of(operator, target, 3)]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def linked(link_kernels: Link, host_target: Target) -> Linked:
    return link_kernels(requests(host_target))


@pytest.fixture(scope="module", params=[2, 3])
def runner(linked: Linked, request: pytest.FixtureRequest) -> Iterator[RunnerSession]:
    with start_runner([str(linked.executable)], some_cores(request.param)) as session:
        yield session


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda op: op.key)
def test_every_form_computes_what_torch_computes(
    operator: Operator, linked: Linked, runner: RunnerSession
) -> None:
    rng = np.random.default_rng(11)
    inputs, weights = inputs_of(operator, rng), weights_of(operator, rng)
    expected = run_operator(operator, inputs, weights)
    kernels = [linked.kernel(*request) for request in linked.kernels if request[0] == operator]
    errors = {
        kernel.schedule.text: relative_error(run(runner, kernel, inputs, weights), expected)
        for kernel in kernels
    }
    assert errors
    assert {text: error for text, error in errors.items() if not error < 1e-5} == {}


def test_every_rule_was_tried_with_rows_and_channels_shared(host_target: Target) -> None:
    tried = {
        (schedule.rule, name)
        for _, schedule in requests(host_target)
        for name, n in schedule.parameters
        if name in {ROW_TASKS, CHANNEL_TASKS} and n in {2, 3}
    }
    rules = ("gemm", "conv", "winograd", "window", "mean", "once")
    assert tried == {*product(rules, (ROW_TASKS, CHANNEL_TASKS)), ("separable", ROW_TASKS)}


def test_a_target_of_one_thread_has_no_tasks() -> None:
    for operator, target in product(AWKWARD, TARGETS):
        for schedule in candidates(operator, target):
            assert schedule.n_tasks == 1
    for operator in AWKWARD:
        text = write_kernel(operator, candidates(operator, TARGETS[1])[0], TARGETS[1]).script()
        assert "T.parallel" not in text


def test_what_is_private_to_a_task_is_declared_inside_of_it(host_target: Target) -> None:
    for operator in (CONV_13X13, *BATCHES):
        for schedule in forms_of(operator, host_target, 2):
            before, loop, inside = (
                write_kernel(operator, schedule, host_target).script().partition("T.parallel(")
            )
            assert bool(loop) == (schedule.n_tasks > 1)
            if loop:
                assert "alloc" not in before
                assert "alloc" in inside
                assert "T.parallel" not in inside


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_candidates_for_threads_are_a_few_dozen_at_most_and_each_once(threads: int) -> None:
    for operator, one in product(divisible_operators(), TARGETS[1::2]):
        target = replace(one, threads=threads)
        found = candidates(operator, target)
        assert 1 <= len(found) <= 2 * len(candidates(operator, one)) + 1
        assert len(set(found)) == len(found)
        for schedule in found:
            assert schedule.n_tasks in {1, threads}
            assert parse_schedule(schedule.text) == schedule


def test_tiny_operators_stay_with_one_thread_and_large_ones_do_not() -> None:
    target = replace(TARGETS[1], threads=2)
    tiny = Operator("dense", (1, 1, 1, 40), 10)
    assert candidates(tiny, target) == candidates(tiny, replace(target, threads=1))
    small = Operator("conv2d", (1, 7, 7, 64), 32)
    assert {s.n_tasks for s in candidates(small, target)} == {1, 2}
    large = Operator("conv2d", (1, 28, 28, 192), 192)
    assert {s.n_tasks for s in candidates(large, target)} == {2}


def test_tasks_of_the_first_candidate_have_about_the_same_work() -> None:
    """196 rows and 12 vectors in four tasks: one of six tiles of rows would be left over."""
    target = replace(TARGETS[1], threads=4)
    first, *_ = candidates(Operator("conv2d", (1, 14, 14, 192), 96), target)
    assert first[ROW_TASKS] == 4
    assert -(-196 // first["rows"]) % 4 == 0 or -(-196 // first["rows"]) > 24


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 9))
@settings(max_examples=50)
def test_unevenness_is_between_a_fair_share_and_all_work(loads: list[int], n: int) -> None:
    assert 1 - 1e-9 <= unevenness(loads, n) <= n + 1e-9


def test_unevenness_counts_neighbours_in_order() -> None:
    assert unevenness([1, 1, 1, 1], 2) == 1
    assert unevenness([6, 6, 6, 6, 5, 5, 5, 5, 5], 2) == 25 * 2 / 49
    assert unevenness([3], 4) == 4
