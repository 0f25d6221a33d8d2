"""Every schedule that may be tried computes the right numbers, whatever the operator's shape."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from devices.local import LocalDevice
from devices.session import RunnerSession
from profiler.build import Kernel
from profiler.layout import pack_weights
from profiler.operator import ACTIVATIONS, OWN_KINDS, Operator
from profiler.program import alone, assemble
from profiler.schedules.schedule import Schedule, parse_schedule
from profiler.schedules.space import candidates, default_schedule
from profiler.target import Target
from tests.unit.searchspace.network_interpreter import run_operator

from .conftest import Link, Linked
from .examples import Array, inputs_of, operators, relative_error, weights_of

BIAS = ("bias",)
ALL_STEPS = ("bias", "add", "hard_swish")
CONV_7X7 = Operator(
    "conv2d", (1, 7, 7, 17), 24, kernel=(3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "relu")
)
DEPTHWISE_7X7 = Operator(
    "depthwise_conv2d", (1, 7, 7, 17), 17, (3, 3), padding=(1, 1, 1, 1), epilogue=BIAS
)
MAX_POOL = Operator("max_pool2d", (1, 7, 7, 24), 24, (3, 3), (2, 2), (1, 1, 1, 1))
#: Shapes that divide badly, each for a reason.
AWKWARD = (
    # Matrix products: 49 rows, 17 channels in and out, one row, a prime number of rows.
    Operator("conv2d", (1, 7, 7, 17), 24, epilogue=("bias", "relu6")),
    Operator("conv2d", (1, 7, 7, 16), 17, epilogue=ALL_STEPS),
    Operator("conv2d", (1, 1, 1, 33), 40, epilogue=BIAS),
    Operator("conv2d", (1, 1, 13, 8), 16),
    Operator("conv2d", (2, 4, 6, 1), 64, epilogue=("add",)),
    Operator("dense", (1, 1, 1, 40), 10, epilogue=BIAS),
    Operator("dense", (3, 1, 1, 7), 1, epilogue=("bias", "add", "swish")),
    # Convolutions: 49 pixels, every stride, one-sided padding, dilation, 5x5, one row, 17 channels.
    CONV_7X7,
    replace(CONV_7X7, stride=(2, 2), padding=(0, 0, 1, 1), epilogue=ALL_STEPS),
    replace(CONV_7X7, dilation=(2, 2), padding=(2, 2, 2, 2)),
    replace(CONV_7X7, kernel=(5, 5), padding=(2, 2, 2, 2), out_channels=17),
    replace(CONV_7X7, input_shape=(1, 1, 9, 8), kernel=(1, 3), padding=(0, 1, 0, 1)),
    replace(CONV_7X7, input_shape=(2, 8, 3, 3), kernel=(3, 1), stride=(2, 1), padding=(2, 0, 0, 0)),
    replace(CONV_7X7, kernel=(1, 1), stride=(2, 2), padding=(0, 0, 0, 0)),
    replace(CONV_7X7, kernel=(1, 1), padding=(0, 1, 0, 0), epilogue=()),
    replace(CONV_7X7, padding=(0, 0, 0, 0), out_channels=1),
    # Groups: of whole vectors, ragged ones, one input channel each.
    replace(CONV_7X7, input_shape=(1, 7, 7, 32), out_channels=64, groups=2, epilogue=ALL_STEPS),
    replace(CONV_7X7, input_shape=(2, 5, 6, 21), out_channels=33, groups=3, stride=(2, 1)),
    replace(CONV_7X7, input_shape=(1, 7, 7, 12), out_channels=24, groups=12),
    Operator("conv2d", (1, 7, 7, 48), 64, epilogue=("bias", "relu"), groups=4),
    # Depthwise convolutions: the same.
    DEPTHWISE_7X7,
    replace(DEPTHWISE_7X7, stride=(2, 2), padding=(0, 1, 1, 0), epilogue=ALL_STEPS),
    replace(DEPTHWISE_7X7, dilation=(2, 1), padding=(2, 1, 2, 1), epilogue=("hard_sigmoid",)),
    replace(
        DEPTHWISE_7X7,
        input_shape=(1, 14, 14, 32),
        out_channels=32,
        kernel=(5, 5),
        stride=(2, 2),
        padding=(2, 2, 2, 2),
        epilogue=("bias", "swish"),
    ),
    replace(DEPTHWISE_7X7, input_shape=(2, 3, 8, 8), out_channels=8, padding=(0, 1, 0, 1)),
    replace(DEPTHWISE_7X7, kernel=(7, 7), padding=(0, 0, 0, 0)),
    # Pools: the maximum of negative numbers beside padding, averages that count it.
    MAX_POOL,
    replace(MAX_POOL, input_shape=(1, 9, 5, 17), out_channels=17, padding=(0, 2, 1, 0)),
    replace(MAX_POOL, dilation=(2, 2), stride=(1, 1), epilogue=("add", "relu")),
    replace(MAX_POOL, kind="avg_pool2d", padding=(1, 0, 1, 1), epilogue=("sigmoid",)),
    replace(MAX_POOL, kind="avg_pool2d", kernel=(2, 2), padding=(0, 0, 0, 0)),
    Operator("global_avg_pool2d", (2, 7, 7, 17), 17, epilogue=("add", "relu6")),
    Operator("global_avg_pool2d", (1, 7, 7, 64), 64),
    Operator("global_avg_pool2d", (1, 1, 1, 8), 8),
    # Passes over memory.
    Operator("add", (1, 7, 7, 17), 17),
    Operator("add", (2, 3, 5, 32), 32, epilogue=("hard_swish",)),
    Operator("scale", (2, 7, 7, 17), 17, epilogue=("add", "hard_sigmoid")),
    Operator("scale", (1, 7, 7, 64), 64),
    # Every activation behind sums in registers and in a pass over memory.
    *(Operator("dense", (1, 1, 1, 24), 24, epilogue=("bias", name)) for name in ACTIVATIONS),
    *(Operator("add", (1, 3, 3, 8), 8, epilogue=(name,)) for name in ACTIVATIONS),
)
#: Passes over memory, to see a function at 100,000 points.
N_POINTS = (1, 50, 50, 40)
SIGMOID, SWISH = (Operator("add", N_POINTS, 40, epilogue=(f,)) for f in ("sigmoid", "swish"))


@functools.cache
def drawn_operators() -> tuple[Operator, ...]:
    """The same few operators in every process, so that all kernels fit in one executable."""
    drawn: list[Operator] = []
    for kind in OWN_KINDS:

        @settings(max_examples=3, derandomize=True, database=None, phases=[Phase.generate])
        @given(operators((kind,), most_channels=24, most_pixels=6))
        def draw(operator: Operator) -> None:
            drawn.append(operator)

        draw()
    return tuple(dict.fromkeys(drawn))


@pytest.fixture(scope="module")
def linked(link_kernels: Link, host_target: Target) -> Linked:
    wanted = [
        (operator, schedule)
        for operator in dict.fromkeys((*AWKWARD, *drawn_operators()))
        for schedule in candidates(operator, host_target)
    ]
    exact = [(operator, default_schedule(operator, host_target)) for operator in (SIGMOID, SWISH)]
    return link_kernels([*wanted, *exact])


@pytest.fixture(scope="module")
def runner(linked: Linked) -> Iterator[RunnerSession]:
    with LocalDevice().start(linked.executable) as session:
        yield session


def run(runner: RunnerSession, kernel: Kernel, inputs: list[Array], weights: list[Array]) -> Array:
    program = assemble(alone(kernel.operator), {kernel.operator: kernel})
    packed = pack_weights(kernel.operator, kernel.schedule, weights)
    places = [*program.inputs.values(), *program.weights.values()]
    (output,) = program.outputs.values()
    given = dict(zip(places, [*inputs, *packed], strict=True))
    result = runner.run(program.workload, given, (output,), 10_000)
    assert isinstance(result, dict), result
    return result[output]


@pytest.mark.parametrize("operator", [*AWKWARD, *drawn_operators()], ids=lambda op: op.key)
def test_every_candidate_computes_what_torch_computes(
    operator: Operator, linked: Linked, runner: RunnerSession, host_target: Target
) -> None:
    rng = np.random.default_rng(11)
    inputs, weights = inputs_of(operator, rng), weights_of(operator, rng)
    expected = run_operator(operator, inputs, weights)
    errors = {
        schedule.text: relative_error(
            run(runner, linked.kernel(operator, schedule), inputs, weights), expected
        )
        for schedule in candidates(operator, host_target)
    }
    assert {text: error for text, error in errors.items() if not error < 1e-5} == {}


def test_every_kind_and_epilogue_step_was_tried() -> None:
    tried = (*AWKWARD, *drawn_operators())
    assert {operator.kind for operator in tried} == set(OWN_KINDS)
    for kind in OWN_KINDS:
        drawn = [operator for operator in drawn_operators() if operator.kind == kind]
        assert len(drawn) >= 2, kind
    for kind in set(OWN_KINDS) - {"add"}:
        assert any(op.kind == kind and "add" in op.epilogue for op in tried), kind


@pytest.mark.parametrize(("operator", "factor"), [(SIGMOID, 0.0), (SWISH, 1.0)])
def test_the_exponential_is_exact_to_3e_7_from_minus_87_to_87(
    operator: Operator,
    factor: float,
    linked: Linked,
    runner: RunnerSession,
    host_target: Target,
) -> None:
    x = np.linspace(-87, 87, np.prod(N_POINTS), dtype=np.float32).reshape(N_POINTS)
    kernel = linked.kernel(operator, default_schedule(operator, host_target))
    got = run(runner, kernel, [x, np.zeros_like(x)], []).astype(np.float64)
    wide = x.astype(np.float64)
    expected = np.where(factor, wide, 1.0) / (1.0 + np.exp(-wide))
    assert np.max(np.abs(got / expected - 1.0)) < 3e-7


TARGETS = (
    Target("x86_64-linux-gnu", "x86-64", (), 16, 16),
    Target("x86_64-linux-gnu", "x86-64-v3", (), 32, 16),
    Target("x86_64-linux-gnu", "x86-64-v4", (), 64, 32),
    Target("aarch64-linux-gnu", "cortex-a72", (), 16, 32),
)


def divisible_operators() -> Iterator[Operator]:
    """Operators with many divisors, which have the most tiles, and some with few."""
    for side, channels in product((1, 7, 8, 24, 112), (1, 17, 24, 64, 96, 256)):
        image = (1, side, side, channels)
        for stride, name in product((1, 2), ("bias", "add")):
            window = {"kernel": (3, 3), "stride": (stride, stride), "padding": (1, 1, 1, 1)}
            for out_channels in (17, 64, 192):
                yield Operator("conv2d", image, out_channels, epilogue=(name,))
                yield Operator("conv2d", image, out_channels, epilogue=(name,), **window)
            yield Operator("depthwise_conv2d", image, channels, epilogue=(name,), **window)
            yield Operator("max_pool2d", image, channels, **window)
        yield Operator("dense", (side, 1, 1, channels), 192)
        yield Operator("global_avg_pool2d", image, channels)
        yield Operator("add", image, channels)


def test_candidates_are_a_few_and_each_once() -> None:
    for operator, target in product(divisible_operators(), TARGETS):
        found = candidates(operator, target)
        assert 1 <= len(found) <= 12
        assert len(set(found)) == len(found)
        assert default_schedule(operator, target) == found[0]


def test_a_tile_divides_what_it_tiles_and_its_sums_fit_the_registers() -> None:
    for operator, target in product(divisible_operators(), TARGETS):
        for schedule in candidates(operator, target):
            tile = dict(schedule.parameters)
            assert operator.out_channels % tile["channels"] == 0
            n_rows = tile.get("rows", tile.get("pixels", 1))
            n, height, width, _ = operator.output_shape
            assert (width if "pixels" in tile else n * height * width) % n_rows == 0
            if "rows" in tile or "pixels" in tile:
                n_sums = n_rows * -(-tile["channels"] // target.lanes)
                assert n_sums < target.n_vector_registers


@settings(deadline=None)
@given(operators())
def test_a_schedules_text_is_read_back_as_the_same_schedule(operator: Operator) -> None:
    for schedule in candidates(operator, TARGETS[0]):
        assert parse_schedule(schedule.text) == schedule


def test_a_schedules_text_is_what_stores_hold() -> None:
    assert Schedule("gemm", (("rows", 4), ("channels", 16))).text == "gemm rows=4 channels=16"
    assert parse_schedule("plain") == Schedule("plain")


@pytest.mark.parametrize("text", ["gemm rows", "gemm rows=x", "gemm  rows=4", "gemm rows=4=4"])
def test_a_text_that_is_no_schedule_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a schedule: ") as caught:
        parse_schedule(text)
    assert repr(text) in str(caught.value)
