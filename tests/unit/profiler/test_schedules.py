"""Every schedule that may be tried computes the right numbers, whatever the operator's shape."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from devices.local import LocalDevice
from devices.session import RunnerSession
from profiler.build import Kernel
from profiler.kernels.write import write_kernel
from profiler.layout import pack_weights
from profiler.operator import ACTIVATIONS, OWN_KINDS, Operator
from profiler.program import alone, assemble
from profiler.schedules import gemm, separable, window
from profiler.schedules.schedule import Schedule, parse_schedule
from profiler.schedules.space import candidates, default_schedule
from profiler.target import Target
from tests.unit.searchspace.network_interpreter import run_operator

from . import processors
from .conftest import Link, Linked
from .examples import (
    Array,
    inputs_of,
    operators,
    relative_error,
    square_convolutions,
    weights_of,
)

BIAS = ("bias",)
ALL_STEPS = ("bias", "add", "hard_swish")
CONV_7X7 = Operator(
    "conv2d", (1, 7, 7, 17), 24, kernel=(3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "relu")
)
DEPTHWISE_7X7 = Operator(
    "depthwise_conv2d", (1, 7, 7, 17), 17, (3, 3), padding=(1, 1, 1, 1), epilogue=BIAS
)
SEPARABLE = Operator(
    "separable_conv2d", (1, 7, 7, 17), 24, (3, 3), padding=(1, 1, 1, 1), epilogue=("bias", "relu"),
    inner_epilogue=("bias", "relu6"),
)  # fmt: skip
CONV_13X13 = replace(CONV_7X7, input_shape=(1, 13, 13, 33), out_channels=40)
WINOGRAD_28X28 = replace(CONV_7X7, input_shape=(1, 28, 28, 32), out_channels=64)
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
    # Panels of two sizes with half a vector at the end; long sums over rows of few tiles.
    Operator("dense", (13, 1, 1, 40), 1000, epilogue=BIAS),
    Operator("conv2d", (1, 4, 5, 512), 48, epilogue=ALL_STEPS),
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
    # Borders: a stem's few terms, taps far apart, one row between two of padding, windows of
    # padding alone, borders wider than tiles, wide windows.
    Operator("conv2d", (1, 15, 17, 3), 24, (3, 3), (2, 2), (1, 1, 1, 1), epilogue=ALL_STEPS),
    replace(CONV_7X7, dilation=(3, 3), padding=(3, 3, 3, 3)),
    replace(CONV_7X7, input_shape=(1, 1, 9, 8)),
    replace(CONV_7X7, padding=(4, 5, 4, 3)),
    replace(CONV_7X7, input_shape=(1, 8, 40, 5), kernel=(3, 9), padding=(1, 4, 1, 4)),
    replace(CONV_7X7, input_shape=(1, 3, 30, 5), kernel=(2, 11), padding=(0, 5, 1, 5)),
    # Minimal filtering: squares that end within the image, on its border and beyond, in several
    # blocks; windows of padding alone; images smaller than a square; half a vector at the end.
    replace(CONV_13X13, input_shape=(2, 13, 13, 33), epilogue=ALL_STEPS),
    replace(CONV_13X13, padding=(0, 2, 1, 0), epilogue=("bias", "add", "gelu")),
    replace(CONV_13X13, input_shape=(1, 55, 55, 16), out_channels=20),
    replace(CONV_13X13, input_shape=(1, 56, 56, 128), out_channels=32, epilogue=()),
    replace(CONV_13X13, input_shape=(1, 3, 1, 16), padding=(2, 2, 2, 2), epilogue=("add",)),
    replace(CONV_13X13, input_shape=(1, 8, 8, 17), out_channels=1000, padding=(0, 0, 0, 0)),
    # Groups: of whole vectors, ragged ones, one input channel each.
    replace(CONV_7X7, input_shape=(1, 7, 7, 32), out_channels=64, groups=2, epilogue=ALL_STEPS),
    replace(CONV_7X7, input_shape=(2, 5, 6, 21), out_channels=33, groups=3, stride=(2, 1)),
    replace(CONV_7X7, input_shape=(1, 7, 7, 12), out_channels=24, groups=12),
    Operator("conv2d", (1, 7, 7, 48), 64, epilogue=("bias", "relu"), groups=4),
    Operator("conv2d", (1, 5, 28, 68), 68, epilogue=ALL_STEPS, groups=2),
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
    # Borders: all tiles at one, windows larger than half of the image, of padding alone, wide
    # windows inside of it, one row between two of padding, tiles inside between those at borders.
    replace(
        DEPTHWISE_7X7,
        input_shape=(1, 14, 14, 24),
        out_channels=24,
        kernel=(7, 7),
        padding=(3, 3, 3, 3),
    ),
    replace(DEPTHWISE_7X7, input_shape=(1, 8, 9, 17), kernel=(11, 11), padding=(5, 5, 5, 5)),
    replace(DEPTHWISE_7X7, padding=(4, 5, 4, 3), epilogue=ALL_STEPS),
    replace(DEPTHWISE_7X7, input_shape=(1, 8, 30, 17), kernel=(11, 11), padding=(5, 0, 5, 0)),
    replace(
        DEPTHWISE_7X7,
        input_shape=(1, 2, 20, 17),
        kernel=(1, 11),
        stride=(1, 2),
        dilation=(1, 2),
        padding=(0, 23, 0, 20),
    ),
    replace(DEPTHWISE_7X7, input_shape=(1, 1, 9, 17), epilogue=ALL_STEPS),
    replace(DEPTHWISE_7X7, input_shape=(1, 8, 60, 4), out_channels=4, dilation=(1, 2)),
    # Separable convolutions: rows in bands of several sizes, strides, wide and one-sided windows,
    # ragged channels on both sides, a residual, costly activations of both halves, a batch of two.
    SEPARABLE,
    replace(SEPARABLE, input_shape=(1, 57, 56, 40), out_channels=24, epilogue=ALL_STEPS),
    replace(SEPARABLE, input_shape=(2, 14, 15, 24), stride=(2, 2), kernel=(5, 5)),
    replace(SEPARABLE, kernel=(7, 7), padding=(3, 3, 3, 3), inner_epilogue=("bias", "swish")),
    replace(SEPARABLE, input_shape=(1, 28, 28, 96), out_channels=17, epilogue=("add", "gelu")),
    replace(SEPARABLE, input_shape=(1, 1, 9, 17), out_channels=1, inner_epilogue=()),
    replace(SEPARABLE, input_shape=(1, 40, 9, 160), dilation=(2, 1), padding=(0, 2, 3, 1)),
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
#: Long sums, whose errors are the largest, in both sizes of squares.
DEEP = Operator("conv2d", (1, 14, 14, 512), 64, (3, 3), padding=(1, 1, 1, 1))
DEEP_SCHEDULES = tuple(
    Schedule(
        "winograd",
        (("size", size), ("tile_rows", 4), ("rows", 7), ("vectors", 2), ("lanes", 4)),
    )
    for size in (2, 4)
)
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

    @settings(max_examples=6, derandomize=True, database=None, phases=[Phase.generate])
    @given(square_convolutions())
    def draw_square(operator: Operator) -> None:
        drawn.append(operator)

    draw_square()
    return tuple(dict.fromkeys(drawn))


@pytest.fixture(scope="module")
def linked(link_kernels: Link, host_target: Target) -> Linked:
    wanted = [
        (operator, schedule)
        for operator in dict.fromkeys((*AWKWARD, *drawn_operators()))
        for schedule in candidates(operator, host_target)
    ]
    exact = [(operator, default_schedule(operator, host_target)) for operator in (SIGMOID, SWISH)]
    deep = [(DEEP, schedule) for schedule in DEEP_SCHEDULES]
    return link_kernels([*wanted, *exact, *deep])


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


def test_every_switch_of_every_rule_was_tried_both_ways(host_target: Target) -> None:
    tried: dict[tuple[str, str], set[int]] = {}
    for operator in (*AWKWARD, *drawn_operators()):
        for schedule in candidates(operator, host_target):
            for name, value in schedule.parameters:
                if name.endswith("_outer"):
                    tried.setdefault((schedule.rule, name), set()).add(value)
    assert {rule for rule, _ in tried} == {"gemm", "conv", "window", "separable"}
    one_way = {switch: values for switch, values in tried.items() if values != {0, 1}}
    assert one_way == {("separable", "channels_outer"): {1}}  # the other order never won


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


@pytest.mark.parametrize(("size", "most"), [(2, 1e-6), (4, 5e-6)])
def test_minimal_filtering_errs_by_a_millionth_of_the_largest_output(
    size: int, most: float, linked: Linked, runner: RunnerSession
) -> None:
    rng = np.random.default_rng(5)
    x, weight = rng.normal(size=DEEP.input_shape), rng.normal(size=DEEP.weight_shapes[0])
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    wide = np.pad(x[0].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (0, 1))
    expected = np.einsum("ijkyx,yxko->ijo", windows, weight, optimize=True)
    schedule = next(s for s in DEEP_SCHEDULES if s["size"] == size)
    got = run(runner, linked.kernel(DEEP, schedule), [x], [weight])[0]
    error = np.max(np.abs(got - expected)) / np.max(np.abs(expected))
    assert most / 10 < error < most  # far less would be float64


TARGETS = (
    Target("x86_64-linux-gnu", "x86-64", (), 16, 16),
    Target("x86_64-linux-gnu", "x86-64-v3", (), 32, 16),
    Target("x86_64-linux-gnu", "x86-64-v4", (), 64, 32),
    *(processors.TARGETS[name] for name in ("aarch64", "armv7", "riscv64 with vectors", "riscv64")),
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
            yield Operator("separable_conv2d", image, 40, epilogue=(name,), **window)
            yield Operator("max_pool2d", image, channels, **window)
        yield Operator("dense", (side, 1, 1, channels), 192)
        yield Operator("global_avg_pool2d", image, channels)
        yield Operator("add", image, channels)


#: Lengths that tiles cannot divide: rows of patches, of an image of 13x13, groups of 34 channels.
RAGGED = (
    Operator("dense", (197, 1, 1, 192), 1000, epilogue=BIAS),
    Operator("conv2d", (1, 13, 13, 64), 1000),
    Operator("conv2d", (1, 13, 197, 8), 1000, (3, 3), padding=(1, 1, 1, 1)),
    Operator("conv2d", (1, 28, 28, 68), 68, groups=2),
    Operator("conv2d", (1, 13, 197, 40), 40, (3, 3), padding=(1, 1, 1, 1)),
    Operator("conv2d", (1, 7, 169, 340), 340, (3, 3), padding=(1, 1, 1, 1), groups=10),
)


def length_of_tiles(operator: Operator, schedule: Schedule) -> int:
    """Numbers of a row, or rows, that `rows` or `pixels` cut."""
    n, height, width, _ = operator.output_shape
    if schedule.rule == "winograd":
        return schedule["tile_rows"] * -(-width // schedule["size"])
    if schedule.rule == "separable":
        return schedule["band"] * width
    return n * height * width if schedule.rule == "gemm" else width


def n_sums(schedule: Schedule) -> int:
    """Vectors of sums that a tile keeps in registers."""
    tile = dict(schedule.parameters)
    return tile.get("rows", tile.get("pixels", 1)) * tile["vectors"]


def rule_and_names(schedule: Schedule) -> tuple[str, ...]:
    return (schedule.rule, *(name for name, _ in schedule.parameters))


def is_even(size: int, length: int) -> bool:
    """Whether a length cut into as few tiles of up to this size as can be needs all of the size."""
    n_tiles = -(-length // size)
    return -(-length // n_tiles) == size


def test_candidates_are_a_few_and_each_once() -> None:
    for operator, target in product((*divisible_operators(), *RAGGED), TARGETS):
        found = candidates(operator, target)
        assert 1 <= len(found) <= 24
        assert len(set(found)) == len(found)
        assert default_schedule(operator, target) == found[0]
        kinds = {rule_and_names(schedule) for schedule in found}
        assert len({kind for kind in kinds if kind[0] != "winograd"}) == 1
        assert found[0].rule != "winograd"


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (Operator("dense", (4, 1, 1, 8), 16), ("gemm", "rows", "vectors", "lanes", "panels_outer")),
        (
            Operator("conv2d", (1, 9, 9, 8), 16),
            ("gemm", "rows", "vectors", "lanes", "panels_outer"),
        ),
        (
            replace(CONV_7X7, stride=(2, 2)),
            ("conv", "pixels", "vectors", "lanes", "panels_outer"),
        ),
        (DEPTHWISE_7X7, ("window", "pixels", "vectors", "lanes", "channels_outer")),
        (
            SEPARABLE,
            (
                "separable",
                "band",
                "pixels",
                "depth_vectors",
                "depth_lanes",
                "channels_outer",
                "rows",
                "vectors",
                "lanes",
                "panels_outer",
            ),
        ),
        (MAX_POOL, ("window", "pixels", "vectors", "lanes", "channels_outer")),
        (Operator("global_avg_pool2d", (1, 7, 7, 64), 64), ("mean", "vectors", "lanes")),
        (Operator("add", (1, 7, 7, 17), 17), ("once", "vectors", "lanes")),
        (Operator("scale", (1, 7, 7, 17), 17), ("once", "vectors", "lanes")),
    ],
    ids=lambda value: value.key if isinstance(value, Operator) else value[0],
)
def test_every_kind_has_its_rule_with_all_its_parameters(
    operator: Operator, expected: tuple[str, ...]
) -> None:
    for target in TARGETS:
        assert {rule_and_names(s) for s in candidates(operator, target)} == {expected}


def sums_of_products() -> Iterator[Operator]:
    """Operators with one row, tile, panel or group, or just more."""
    for n_rows, n_channels in product((1, 5, 13, 29), (4, 17, 64, 100)):
        yield Operator("dense", (n_rows, 1, 1, 3), n_channels)
    for height, n_channels, groups in product((1, 2), (4, 36, 100), (1, 2)):
        image = (2, height, 5, 4)
        window = {"kernel": (3, 3), "padding": (1, 1, 1, 1), "groups": groups}
        yield Operator("conv2d", image, n_channels, **window)


def test_a_tile_is_tried_in_two_orders_where_their_code_is_two() -> None:
    n_tried = {"gemm": 2, "conv": 1}  # the first tiles; the others have one order in any case
    seen: set[tuple[str, int]] = set()
    for operator, target in product(sums_of_products(), TARGETS[::2]):
        found = candidates(operator, target)
        outer = [schedule for schedule in found if schedule["panels_outer"]]
        for schedule in outer[: n_tried[outer[0].rule]]:
            inner = replace(schedule, parameters=(*schedule.parameters[:-1], ("panels_outer", 0)))
            codes = {write_kernel(operator, s, target).script() for s in (schedule, inner)}
            assert (inner in found) == (len(codes) == 2), (operator.key, schedule.text)
            seen.add((schedule.rule, len(codes)))
    assert seen == set(product(n_tried, (1, 2)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
def test_minimal_filtering_is_tried_where_it_computes_the_operator_and_can_win(
    target: Target,
) -> None:
    def sizes(**changes: Any) -> list[int]:
        operator = replace(WINOGRAD_28X28, **changes)
        found = [s for s in candidates(operator, target) if s.rule == "winograd"]
        names = ("winograd", "size", "tile_rows", "rows", "vectors", "lanes")
        assert {rule_and_names(schedule) for schedule in found} <= {names}
        return sorted({schedule["size"] for schedule in found})

    assert sizes() == [4]
    assert sizes(padding=(0, 2, 1, 0)) == [4]
    for few in ((1, 14, 14, 32), (1, 7, 7, 512)):
        assert sizes(input_shape=few) == [2, 4]
    for changes in (
        {"input_shape": (1, 28, 28, 8)},
        {"out_channels": 8},
        {"kernel": (3, 5)},
        {"stride": (1, 2)},
        {"dilation": (2, 1)},
        {"groups": 2},
        {"padding": (1, 3, 1, 1)},
        {"kind": "depthwise_conv2d", "out_channels": 32},
    ):
        assert sizes(**changes) == []


def test_blocks_are_small_where_the_weights_stay_in_the_cache_beside_them() -> None:
    target = TARGETS[2]
    for out_channels, is_small in ((16, True), (192, False)):
        operator = replace(WINOGRAD_28X28, input_shape=(1, 56, 56, 64), out_channels=out_channels)
        first, second, *_ = (s for s in candidates(operator, target) if s.rule == "winograd")
        assert (first["tile_rows"] < second["tile_rows"]) == is_small
        for schedule in (first, second):
            n_squares = schedule["tile_rows"] * 14
            assert n_squares == 14 or 4 * 36 * n_squares * 64 <= target.l2_bytes / 2


def test_bands_stay_in_caches_and_their_halves_have_tiles_of_their_own_rules() -> None:
    for target in TARGETS:
        operator = replace(SEPARABLE, input_shape=(1, 56, 56, 144))
        found = candidates(operator, target)
        row_bytes = 4 * 56 * 144
        bands = list(dict.fromkeys(schedule["band"] for schedule in found))
        assert len(bands) > 1
        assert min(bands) == bands[-1]
        wide = replace(operator, out_channels=1024)
        assert separable.bands(wide, target) == tuple(bands[:-1])
        assert row_bytes * max(bands) <= max(row_bytes, target.l2_bytes / 2)
        for schedule in found:
            first, second = separable.halves(schedule)
            assert first in window.candidates(operator.depthwise, target)
            product = separable.of_band(operator, schedule["band"])
            assert second in gemm.candidates(product, target)
            assert separable.join(first, second, schedule["band"]) == schedule


def test_vectors_are_as_wide_as_registers_unless_channels_fill_no_register() -> None:
    for operator, target in product((*divisible_operators(), *RAGGED), TARGETS):
        n_channels = operator.out_channels // operator.groups
        for schedule in candidates(operator, target):
            lanes = schedule["lanes"]
            assert lanes in {1, 4, 8, 16}
            assert lanes <= 4 or 2 * n_channels > lanes  # half as many would not hold them
            if lanes < n_channels and lanes < target.lanes:
                # Half of 64 bytes, where less of them is left over.
                assert (lanes, target.lanes) == (8, 16)
                assert schedule.rule in {"gemm", "conv", "separable"}
                assert -(-n_channels // 8) % 2 == 1
            # No tile is wider than the channels of its group, rounded up to whole vectors.
            assert schedule["vectors"] <= -(-n_channels // lanes)


def test_half_vectors_are_tried_last_where_less_of_them_is_left_over() -> None:
    avx512 = max(TARGETS, key=lambda target: target.lanes)
    for operator in (Operator("conv2d", (1, 9, 9, 8), 24), replace(CONV_7X7, out_channels=40)):
        found = [s for s in candidates(operator, avx512) if s.rule != "winograd"]
        lanes = [schedule["lanes"] for schedule in found]
        assert set(lanes) == {16, 8}
        assert lanes == sorted(lanes, reverse=True)
        halves = [schedule["vectors"] for schedule in found if schedule["lanes"] == 8]
        assert operator.out_channels // 8 in halves  # all channels at once, none left over
    for n_channels in (12, 32, 60):
        operator = Operator("conv2d", (1, 9, 9, 8), n_channels)
        assert {schedule["lanes"] for schedule in candidates(operator, avx512)} == {16}


def test_a_tiles_sums_fit_the_registers_with_what_they_are_made_of() -> None:
    for operator, target in product((*divisible_operators(), *RAGGED), TARGETS):
        for schedule in candidates(operator, target):
            if schedule.rule in {"gemm", "conv", "winograd", "separable"}:
                # Each step reads the weights of all vectors and one number in all lanes.
                others = schedule["vectors"] + 1
            elif schedule.rule == "window":
                others = 2  # a weight and an input
            else:
                others = 1
            if schedule.rule != "once":
                assert n_sums(schedule) + others <= target.n_vector_registers, schedule.text


def test_no_tile_is_larger_than_what_it_tiles_and_none_leaves_a_small_rest() -> None:
    for operator, target in product((*divisible_operators(), *RAGGED), TARGETS):
        for schedule in candidates(operator, target):
            tile = dict(schedule.parameters)
            if "rows" in tile or "pixels" in tile:
                size = tile.get("rows", tile.get("pixels", 1))
                assert is_even(size, length_of_tiles(operator, schedule)), schedule.text
            width = operator.out_channels // operator.groups
            if schedule.rule in {
                "gemm",
                "conv",
                "winograd",
                "separable",
            }:  # these pad, the others have narrow vectors
                assert is_even(schedule["vectors"], -(-width // schedule["lanes"])), schedule.text


def loads(rows: int, vectors: int) -> float:
    """Loads for each product of a step: one number a row and the weights, for all their pairs."""
    return (rows + vectors) / (rows * vectors)


@pytest.mark.parametrize("operator", RAGGED, ids=lambda op: op.key)
def test_lengths_that_nothing_divides_keep_the_multipliers_busy(operator: Operator) -> None:
    for target in TARGETS:
        found = candidates(operator, target)
        # Two units of four cycles each: fewer sums would leave them idle.
        assert min(map(n_sums, found)) >= 8
        best = min(
            loads(rows, vectors)
            for rows, vectors in product(range(1, 32), repeat=2)
            if rows * vectors + vectors + 1 <= target.n_vector_registers
        )
        vectors = found[0]["vectors"]
        assert loads(n_sums(found[0]) // vectors, vectors) <= 1.2 * best, found[0].text


@settings(deadline=None)
@given(operators())
def test_a_schedules_text_is_read_back_as_the_same_schedule(operator: Operator) -> None:
    for schedule in candidates(operator, TARGETS[0]):
        assert parse_schedule(schedule.text) == schedule


def test_a_schedules_text_is_what_stores_hold() -> None:
    assert Schedule("gemm", (("rows", 4), ("vectors", 2))).text == "gemm rows=4 vectors=2"
    assert parse_schedule("plain") == Schedule("plain")


@pytest.mark.parametrize("text", ["gemm rows", "gemm rows=x", "gemm  rows=4", "gemm rows=4=4"])
def test_a_text_that_is_no_schedule_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a schedule: ") as caught:
        parse_schedule(text)
    assert repr(text) in str(caught.value)
