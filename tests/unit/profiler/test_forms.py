"""Somebody else's loops as kernels of ours: what is recognised, and what every kernel computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.special import erf
from tvm import s_tir, te, topi

from devices.device import KernelCall, Tensor, Workload
from devices.local import start_runner
from devices.session import RunnerSession
from profiler.artifacts import ArtifactStore
from profiler.build import Kernel, build_kernels, object_files
from profiler.generic import GenericBody, LoopForm, TensorType, parse_generic
from profiler.importers.in_place import find_in_place
from profiler.importers.relax_lower import loops_text
from profiler.kernels.form import find_form
from profiler.link import link_executable
from profiler.operator import Operator, generic_operator
from profiler.schedules import generic
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import candidates
from profiler.schedules.threads import forms
from profiler.target import Target
from tests.unit.devices.workloads import some_cores

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Loops:
    """Loops over tensors of some shapes, and what they compute."""

    shapes: tuple[Shape, ...]
    compute: Callable[..., Any]
    reference: Callable[..., Array]
    rule: str | None

    def function(self) -> tvm.tirx.PrimFunc:
        tensors = [te.placeholder(s, "float32", name=f"x{i}") for i, s in enumerate(self.shapes)]
        return te.create_prim_func([*tensors, self.compute(*tensors)])


def _softmax(x: Array) -> Array:
    made = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(made / made.sum(-1, keepdims=True))


def softmax(rows: int, columns: int) -> Loops:
    return Loops(((2, rows, columns),), lambda x: topi.nn.softmax(x, -1), _softmax, "rowwise")


def _normalise(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift
    )


def layer_norm(rows: int, columns: int) -> Loops:
    def compute(x, scale, shift):  # type: ignore[no-untyped-def]
        k, m = (te.reduce_axis((0, columns)) for _ in range(2))
        total = te.compute((rows,), lambda i: te.sum(x[i, k], axis=k), name="total")
        mean = te.compute((rows,), lambda i: total[i] * (1 / columns), name="mean")
        squares = te.compute(
            (rows,), lambda i: te.sum((x[i, m] - mean[i]) * (x[i, m] - mean[i]), axis=m), "squares"
        )
        root = te.compute(
            (rows,), lambda i: te.rsqrt(squares[i] * (1 / columns) + 1e-5), "deviation"
        )
        return te.compute(
            (rows, columns), lambda i, j: (x[i, j] - mean[i]) * root[i] * scale[j] + shift[j], "out"
        )

    return Loops(((rows, columns), (columns,), (columns,)), compute, _normalise, "rowwise")


def fused_layer_norm(rows: int, columns: int) -> Loops:
    """As TVM writes it: the sum and the sum of squares in one block."""
    return Loops(
        ((rows, columns), (columns,), (columns,)),
        lambda x, scale, shift: topi.nn.layer_norm(x, scale, shift, [1], 1e-5),
        _normalise,
        "rowwise",
    )


def gelu(rows: int, columns: int) -> Loops:
    def compute(x):  # type: ignore[no-untyped-def]
        return te.compute(
            x.shape, lambda i, j: x[i, j] * 0.5 * (te.erf(x[i, j] * 0.5**0.5) + 1.0), "gelu"
        )

    def reference(x: Array) -> Array:
        return np.asarray(x * 0.5 * (1 + erf(x * 0.5**0.5)))

    return Loops(((rows, columns),), compute, reference, "rowwise")


def mean(rows: int, columns: int) -> Loops:
    def compute(x):  # type: ignore[no-untyped-def]
        k = te.reduce_axis((0, columns))
        total = te.compute((rows,), lambda i: te.sum(x[i, k], axis=k), "total")
        return te.compute((rows,), lambda i: total[i] / float(columns), "mean")

    return Loops(((rows, columns),), compute, lambda x: x.mean(-1), "rowwise")


def largest(rows: int, columns: int) -> Loops:
    def compute(x):  # type: ignore[no-untyped-def]
        return topi.max(x, -1)

    return Loops(((rows, columns),), compute, lambda x: x.max(-1), "rowwise")


def powers(rows: int, columns: int) -> Loops:
    """What local response normalisation divides by."""

    def compute(x, y):  # type: ignore[no-untyped-def]
        return te.compute(
            x.shape, lambda i, j: x[i, j] / te.power(y[i, j] * y[i, j] + 1.0, 0.75), "powers"
        )

    return Loops(((rows, columns),) * 2, compute, lambda x, y: x / (y * y + 1) ** 0.75, "rowwise")


def scores(rows: int, depth: int, columns: int) -> Loops:
    """Queries times keys of three heads, with a mask, as attention has them."""

    def compute(q, k, mask):  # type: ignore[no-untyped-def]
        t = te.reduce_axis((0, depth))
        made = te.compute(
            (3, rows, columns), lambda h, i, j: te.sum(q[i, h, t] * k[h, t, j], axis=t), "scores"
        )
        return te.compute(
            made.shape, lambda h, i, j: made[h, i, j] * 0.125 + mask[0, i, j], name="masked"
        )

    def reference(q: Array, k: Array, mask: Array) -> Array:
        return np.asarray(np.einsum("iht,htj->hij", q, k) * np.float32(0.125) + mask)

    shapes = (rows, 3, depth), (3, depth, columns), (1, rows, columns)
    return Loops(shapes, compute, reference, "matmul")


def weighted(rows: int, depth: int, columns: int) -> Loops:
    """A sum of values, weighted by what lies head by head, put beside those of the other heads."""

    def compute(a, v):  # type: ignore[no-untyped-def]
        t = te.reduce_axis((0, depth))
        return te.compute(
            (rows, 2, columns), lambda i, h, j: te.sum(a[h, i, t] * v[t, h, j], axis=t), "weighted"
        )

    shapes = (2, rows, depth), (depth, 2, columns)
    return Loops(shapes, compute, lambda a, v: np.einsum("hit,thj->ihj", a, v), "matmul")


def beside(rows: int, depth: int, columns: int) -> Loops:
    """A product with a term in whose place the result may be put."""

    def compute(a, b, r):  # type: ignore[no-untyped-def]
        t = te.reduce_axis((0, depth))
        made = te.compute((rows, columns), lambda i, j: te.sum(a[i, t] * b[t, j], axis=t), "made")
        return te.compute((rows, columns), lambda i, j: made[i, j] + r[i, j], "out")

    shapes = (rows, depth), (depth, columns), (rows, columns)
    return Loops(shapes, compute, lambda a, b, r: a @ b + r, "matmul")


def transposed(rows: int, columns: int) -> Loops:
    def compute(x):  # type: ignore[no-untyped-def]
        return te.compute((columns, rows), lambda i, j: x[j, i], "transposed")

    return Loops(((rows, columns),), compute, lambda x: x.T, None)


def down(rows: int, columns: int) -> Loops:
    """A maximum over what does not lie side by side."""
    return Loops(((rows, columns),), lambda x: topi.max(x, 0), lambda x: x.max(0), None)


def flat(length: int) -> Loops:
    """One loop alone."""

    def compute(x):  # type: ignore[no-untyped-def]
        return te.compute((length,), lambda i: x[i] * x[i] + 1.0, "flat")

    return Loops(((length,),), compute, lambda x: x * x + 1, None)


def total(length: int) -> Loops:
    """A sum of everything."""
    return Loops(((length,),), lambda x: topi.sum(x, 0, keepdims=True), _total, None)


def _total(x: Array) -> Array:
    return np.asarray(x.sum(0, keepdims=True))


def two_functions(rows: int, columns: int) -> Loops:
    """As many named values as a step may have."""

    def compute(x, y):  # type: ignore[no-untyped-def]
        return te.compute(x.shape, lambda i, j: te.erf(x[i, j]) * te.erf(y[i, j]), "both")

    return Loops(((rows, columns),) * 2, compute, lambda x, y: erf(x) * erf(y), "rowwise")


def three_functions() -> Loops:
    def compute(x):  # type: ignore[no-untyped-def]
        return te.compute(
            x.shape, lambda i, j: te.erf(x[i, j]) + te.exp(x[i, j]) * te.tanh(x[i, j]), "three"
        )

    return Loops(((3, 16),), compute, lambda x: erf(x) + np.exp(x) * np.tanh(x), None)


ROWWISE = (softmax, layer_norm, fused_layer_norm, gelu, mean, largest, powers, two_functions)
PRODUCTS = (scores, weighted, beside)


def drawn_loops() -> tuple[Loops, ...]:
    """The same ones each time, of all lengths: one vector, several, with every ragged end."""
    found = [made(3, 8 + 16 + 7) for made in ROWWISE] + [made(3, 9) for made in ROWWISE]
    found += [scores(197, 24, 197), weighted(5, 3, 49), beside(49, 7, 8), beside(1, 40, 80)]

    @settings(max_examples=4, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        extents = st.integers(1, 40)
        for made in ROWWISE:
            found.append(made(data.draw(extents), data.draw(st.integers(8, 150))))
        for product in PRODUCTS:
            rows, depth = data.draw(extents), data.draw(st.integers(2, 40))
            found.append(product(rows, depth, data.draw(st.integers(4, 70))))

    draw()
    return tuple(found)


DRAWN = drawn_loops()


def kept(loops: Loops, artifacts: ArtifactStore) -> Operator:
    function = loops.function()
    types = [TensorType(tuple(int(e) for e in p.shape)) for p in function.params]
    body = GenericBody(
        "loops", tuple(types[:-1]), (), tuple(types[-1:]), 1,
        artifacts.put_bytes(loops_text(function).encode()), None,
        find_in_place(function, len(types) - 1, 1), find_form(function),
    )  # fmt: skip
    return generic_operator(body)


@dataclass(frozen=True)
class Bench:
    operators: dict[int, Operator]
    kernels: tuple[Kernel, ...]
    runner: RunnerSession


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, build_cache: Path, host_target: Target
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("forms")
    artifacts = ArtifactStore(folder / "artifacts")
    operators = {position: kept(loops, artifacts) for position, loops in enumerate(DRAWN)}
    one_thread = [(op, s) for op in dict.fromkeys(operators.values())
                  for s in candidates(op, host_target)]  # fmt: skip
    two_threads = [(op, form) for op, s in one_thread[::2] for form in forms(op, s, 2)]
    requests = list(dict.fromkeys(one_thread + two_threads))
    built = build_kernels(requests, host_target, artifacts)
    kernels = tuple(each for each in built if isinstance(each, Kernel))
    assert len(kernels) == len(requests), [each for each in built if not isinstance(each, Kernel)]
    files = object_files(kernels, artifacts, folder / "objects")
    executable = link_executable(files, host_target, build_cache)
    with start_runner([str(executable)], some_cores(2)) as runner:
        yield Bench(operators, kernels, runner)


def run(runner: RunnerSession, kernel: Kernel, arrays: list[Array], over: int | None) -> Array:
    """Run a kernel; its output may lie where one of its inputs lies."""
    made = kernel.operator.output_types[0]
    shapes = [*(array.shape for array in arrays), *([made.shape] if over is None else [])]
    tensors, end = [], 0
    for shape in shapes:
        tensors.append(Tensor("arena", end, shape))
        end += -(-int(np.prod(shape)) * 4 // 64) * 64
    output = len(arrays) if over is None else over
    call = KernelCall(kernel.name, (*range(len(arrays)), output))
    workload = Workload(tuple(tensors), (call,), end, 0)
    result = runner.run(workload, dict(enumerate(arrays)), (output,), 10_000)
    assert isinstance(result, dict), result
    return result[output].reshape(made.shape)


@pytest.mark.parametrize("position", range(len(DRAWN)))
def test_every_candidate_computes_what_numpy_computes(position: int, bench: Bench) -> None:
    loops, operator = DRAWN[position], bench.operators[position]
    assert operator.body is not None
    assert operator.body.form is not None
    assert operator.body.form.rule == loops.rule
    rng = np.random.default_rng(position)
    arrays = [rng.normal(size=shape).astype("f") for shape in loops.shapes]
    expected = loops.reference(*arrays)
    kernels = [kernel for kernel in bench.kernels if kernel.operator == operator]
    assert {loops.rule, "generic"} == {kernel.schedule.rule for kernel in kernels}
    for kernel in kernels:
        for over in (None, *operator.in_place_inputs):
            made = run(bench.runner, kernel, arrays, over)
            np.testing.assert_allclose(made, expected, 2e-5, 2e-5, err_msg=kernel.schedule.text)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_loops_without_a_form_are_shared_where_they_can_be(
    n_threads: int, tmp_path: Path, build_cache: Path, host_target: Target
) -> None:
    artifacts = ArtifactStore(tmp_path)
    others = (transposed(9, 12), down(9, 12), down(40, 33), flat(50), three_functions(), total(99))
    tried = {kept(loops, artifacts): loops for loops in others}
    requests = [(op, form) for op in tried for s in candidates(op, host_target)
                for form in forms(op, s, 2)]  # fmt: skip
    built = build_kernels(requests, host_target, artifacts)
    kernels = [each for each in built if isinstance(each, Kernel)]
    assert len(kernels) == len(requests)
    files = object_files(kernels, artifacts, tmp_path / "objects")
    executable = link_executable(files, host_target, build_cache)
    rng = np.random.default_rng(5)
    with start_runner([str(executable)], some_cores(n_threads)) as runner:
        for kernel in kernels:
            loops = tried[kernel.operator]
            arrays = [rng.normal(size=shape).astype("f") for shape in loops.shapes]
            made = run(runner, kernel, arrays, None)
            np.testing.assert_allclose(
                made, loops.reference(*arrays), 2e-5, 2e-5, err_msg=kernel.schedule.text
            )


@pytest.mark.parametrize(
    ("loops", "n_shared"), [(transposed(9, 12), 1), (down(9, 64), 1), (flat(50), 1), (total(99), 0)]
)
def test_blocks_are_shared_along_places_and_never_along_a_sum(loops: Loops, n_shared: int) -> None:
    for vectors in (0, 4):
        schedule = Schedule("generic", (("rows", 6), ("vectors", vectors), ("row_tasks", 2)))
        sch = s_tir.Schedule(loops.function())
        generic.apply(schedule, sch, Target("x86_64-linux-gnu", "x86-64-v3", (), 32))
        assert sch.mod["main"].script().count("T.parallel(") == n_shared


def test_a_maximum_of_exponentials_overflows_nowhere(bench: Bench) -> None:
    position = next(p for p, loops in enumerate(DRAWN) if loops.reference is _softmax)
    x = np.full(DRAWN[position].shapes[0], -100.0, "f")
    x[..., 0] = 1e4
    for kernel in bench.kernels:
        if kernel.operator == bench.operators[position]:
            made = run(bench.runner, kernel, [x], None)
            np.testing.assert_allclose(made, _softmax(x), 1e-6, 1e-6)


@pytest.mark.parametrize(
    "loops", [transposed(9, 12), down(9, 12), softmax(4, 5), beside(9, 1, 8), three_functions()]
)
def test_other_loops_have_no_form(loops: Loops) -> None:
    assert find_form(loops.function()) is None


def test_a_form_is_part_of_the_key() -> None:
    kind = TensorType((3, 16))
    form = LoopForm("rowwise", 3, 16)
    body = GenericBody("softmax", (kind,), (), (kind,), 5, "0" * 64, None, (0,), form)
    assert ":rowwise3x16:" in body.key
    assert parse_generic(body.key) == body


def test_a_form_has_rows_and_columns() -> None:
    with pytest.raises(ValueError, match="rows and columns must be >= 1"):
        LoopForm("matmul", 0, 4)
