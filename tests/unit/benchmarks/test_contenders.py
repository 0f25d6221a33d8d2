"""Kernels that are not ours run in our runner and compute what they should."""

from __future__ import annotations

from pathlib import Path

import machine
import numpy as np
import pytest
from metaschedule import computation
from numpy.typing import NDArray
from turns import Contender, contender, link_contenders

from devices.device import Timing
from devices.local import LocalDevice
from profiler.compile import compile_function, tvm_target
from profiler.measure import OPERATOR_PLAN
from profiler.operator import Operator
from profiler.target import Target, target_of
from tests.unit.searchspace.network_interpreter import run_operator

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def target() -> Target:
    return target_of(LocalDevice().fingerprint().board)


def run(each: Contender, target: Target, folder: Path, arrays: list[Array]) -> Array:
    output = len(each.workload.tensors) - 1
    given = dict(enumerate(arrays))
    with LocalDevice().start(link_contenders([each], target, folder)) as runner:
        found = runner.run(each.workload, given, (output,), 10_000)
    assert isinstance(found, dict), found
    return found[output]


def test_chains_multiply_and_add_as_often_as_they_are_counted(
    target: Target, build_cache: Path
) -> None:
    n_chains, lanes, n_steps = 5, target.lanes, 7
    rng = np.random.default_rng(3)
    start, factor, addend = (rng.uniform(-1, 1, n).astype("f4") for n in (5 * lanes, lanes, lanes))
    code = compile_function(machine.chains(n_chains, lanes, n_steps), tvm_target(target))
    each = contender(code, [start.shape, factor.shape, addend.shape], [], start.shape)
    expected = start.reshape(n_chains, lanes).astype(np.float64)
    for _ in range(n_steps):
        expected = expected * factor + addend
    got = run(each, target, build_cache, [start, factor, addend])
    np.testing.assert_allclose(got, expected.ravel(), rtol=1e-4, atol=1e-5)


def test_the_bandwidth_kernel_reads_every_number_once(target: Target, build_cache: Path) -> None:
    each, n_bytes = machine.read(target, 20_000)
    assert abs(n_bytes - 20_000) < 4 * 8 * target.lanes
    x = np.random.default_rng(4).uniform(-1, 1, n_bytes // 4).astype(np.float32)
    got = run(each, target, build_cache, [x])
    expected = x.reshape(-1, got.size).astype(np.float64).sum(0)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_the_peak_kernel_can_be_timed_and_is_not_optimized_away(
    target: Target, build_cache: Path
) -> None:
    each, n_flops = machine.peak(target)
    with LocalDevice().start(link_contenders([each], target, build_cache)) as runner:
        timing = runner.time(each.workload, OPERATOR_PLAN)
    assert isinstance(timing, Timing)
    gflops = n_flops / (min(timing.block_ns) / timing.n_repeats)
    assert gflops < 2000  # no core of this decade does more


@pytest.mark.parametrize(
    "operator",
    [
        Operator("conv2d", (1, 5, 6, 9), 12, epilogue=("bias", "relu")),
        Operator("dense", (1, 1, 1, 33), 10, epilogue=("bias",)),
        Operator("conv2d", (2, 9, 8, 3), 7, (3, 3), (2, 2), (1, 1, 1, 1), epilogue=("relu",)),
        Operator("conv2d", (1, 8, 8, 3), 4, (2, 3), (1, 2), (0, 2, 1, 0), (2, 1)),
        Operator("depthwise_conv2d", (1, 7, 8, 6), 6, (5, 5), padding=(2, 2, 2, 2),
                 epilogue=("bias", "relu")),
    ],
    ids=lambda op: op.key,
)  # fmt: skip
def test_metaschedule_is_given_the_computation_of_our_operator(
    operator: Operator, target: Target, build_cache: Path
) -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, operator.input_shape).astype("f4")
    weights = [rng.uniform(-1, 1, shape).astype("f4") for shape in operator.weight_shapes]
    function = computation(operator)
    shapes = [tuple(int(n) for n in parameter.shape) for parameter in function.params]
    code = compile_function(function, tvm_target(target))
    each = contender(code, shapes[:1], shapes[1:-1], shapes[-1])
    arrays = [a.reshape(shape) for a, shape in zip([x, *weights], shapes, strict=False)]
    got = run(each, target, build_cache, arrays)
    expected = run_operator(operator, [x], weights)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_metaschedule_is_not_asked_for_what_it_would_not_compute() -> None:
    with pytest.raises(ValueError, match="epilogue"):
        computation(Operator("dense", (1, 1, 1, 8), 8, epilogue=("swish",)))
    with pytest.raises(ValueError, match="groups"):
        computation(Operator("conv2d", (1, 4, 4, 8), 8, (3, 3), groups=2))


def test_places_of_a_contender_do_not_overlap_and_are_aligned() -> None:
    each = contender(b"code", [(3, 5), (7,)], [(9,), (2, 2)], (11,))
    tensors = each.workload.tensors
    assert [t.region for t in tensors] == ["arena", "arena", "weights", "weights", "arena"]
    assert [t.offset_bytes for t in tensors] == [0, 64, 0, 64, 128]
    assert (each.workload.arena_bytes, each.workload.weight_bytes) == (192, 128)
    assert all(t.offset_bytes % 64 == 0 for t in tensors)
