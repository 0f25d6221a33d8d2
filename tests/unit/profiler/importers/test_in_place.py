"""Which inputs loops may overwrite: what the rule says, and what a real program computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import te

from devices.device import KernelCall, Runner, Tensor, Workload
from devices.local import LocalDevice
from profiler.artifacts import ArtifactStore
from profiler.build import Kernel, build_kernels, object_files
from profiler.generic import GenericBody, TensorType
from profiler.importers.in_place import find_in_place
from profiler.importers.relax_lower import loops_text
from profiler.link import link_executable
from profiler.operator import Operator, generic_operator
from profiler.schedules.space import candidates
from profiler.target import Target

Shape = tuple[int, ...]


def function_of(shapes: list[Shape], compute) -> tvm.tirx.PrimFunc:  # type: ignore[no-untyped-def]
    tensors = [te.placeholder(shape, "float32", name=f"x{i}") for i, shape in enumerate(shapes)]
    made = compute(*tensors)
    outputs = list(made) if isinstance(made, tuple) else [made]
    return te.create_prim_func([*tensors, *outputs])


def in_place(shapes: list[Shape], compute, n_outputs: int = 1) -> tuple[int, ...]:  # type: ignore[no-untyped-def]
    return find_in_place(function_of(shapes, compute), len(shapes), n_outputs)


def test_both_terms_of_a_sum_may_be_overwritten() -> None:
    assert in_place(
        [(4, 6)] * 2, lambda a, b: te.compute((4, 6), lambda i, j: a[i, j] + b[i, j])
    ) == (
        0,
        1,
    )


def test_a_broadcast_term_may_not() -> None:
    def add(a, b):  # type: ignore[no-untyped-def]
        return te.compute((4, 6), lambda i, j: a[i, j] + b[0, j])

    assert in_place([(4, 6), (1, 6)], add) == (0,)


def test_what_is_moved_may_not() -> None:
    assert in_place([(6, 6)], lambda a: te.compute((6, 6), lambda i, j: a[j, i])) == ()
    assert in_place([(8,)], lambda a: te.compute((8,), lambda i: a[7 - i])) == ()


def test_a_chain_of_blocks_may_where_every_one_keeps_to_the_place() -> None:
    def chain(a):  # type: ignore[no-untyped-def]
        doubled = te.compute((4, 6), lambda i, j: a[i, j] * 2.0, name="doubled")
        return te.compute((4, 6), lambda i, j: te.exp(doubled[i, j]) + a[i, j], name="out")

    assert in_place([(4, 6)], chain) == (0,)


def test_a_chain_may_not_where_a_later_block_reads_elsewhere() -> None:
    def shift(a):  # type: ignore[no-untyped-def]
        doubled = te.compute((8,), lambda i: a[i] * 2.0, name="doubled")
        return te.compute((8,), lambda i: doubled[(i + 1) % 8], name="out")

    assert in_place([(8,)], shift) == ()


def test_what_a_sum_runs_over_may_not() -> None:
    def centre(a):  # type: ignore[no-untyped-def]
        k = te.reduce_axis((0, 6))
        total = te.compute((4,), lambda i: te.sum(a[i, k], axis=k), name="total")
        return te.compute((4, 6), lambda i, j: a[i, j] - total[i], name="out")

    assert in_place([(4, 6)], centre) == ()


def test_a_term_beside_a_sum_may() -> None:
    def dense(a, w, r):  # type: ignore[no-untyped-def]
        k = te.reduce_axis((0, 6))
        product = te.compute((4, 6), lambda i, j: te.sum(a[i, k] * w[k, j], axis=k), name="product")
        return te.compute((4, 6), lambda i, j: product[i, j] + r[i, j], name="out")

    assert in_place([(4, 6), (6, 6), (4, 6)], dense) == (2,)


def test_of_several_outputs_none_takes_a_place() -> None:
    def both(a):  # type: ignore[no-untyped-def]
        one = te.compute((8,), lambda i: a[i] + 1.0, name="one")
        return one, te.compute((8,), lambda i: a[i] * 2.0, name="two")

    assert in_place([(8,)], both, 2) == ()


def test_numbers_of_another_size_may_not() -> None:
    def widen(a):  # type: ignore[no-untyped-def]
        return te.compute((8,), lambda i: a[i].astype("float64"), name="out")

    assert in_place([(8,)], widen) == ()


def test_axes_of_one_do_not_matter() -> None:
    def scale(a, b):  # type: ignore[no-untyped-def]
        return te.compute((1, 5, 1, 6), lambda n, i, j, c: a[n, i, j, c] * b[n, 0, 0, c])

    assert in_place([(1, 5, 1, 6), (1, 1, 1, 6)], scale) == (0,)


def _chain(a):  # type: ignore[no-untyped-def]
    doubled = te.compute((5, 48), lambda i, j: a[i, j] * 2.0, name="doubled")
    return te.compute((5, 48), lambda i, j: te.exp(doubled[i, j]) + a[i, j], name="out")


def _scale(a, b):  # type: ignore[no-untyped-def]
    return te.compute((5, 48), lambda i, j: a[i, j] * b[0, j] - a[i, j], name="out")


def _product(a, w, r):  # type: ignore[no-untyped-def]
    k = te.reduce_axis((0, 48))
    total = te.compute((5, 48), lambda i, j: te.sum(a[i, k] * w[k, j], axis=k), name="total")
    return te.compute((5, 48), lambda i, j: total[i, j] + r[i, j], name="out")


#: Loops, shapes of their inputs, and what they compute.
RUN = (
    (_chain, [(5, 48)], lambda a: np.exp(2 * a) + a),
    (_scale, [(5, 48), (1, 48)], lambda a, b: a * b - a),
    (_product, [(5, 48), (48, 48), (5, 48)], lambda a, w, r: a @ w + r),
)


def test_loops_that_overwrite_an_input_compute_the_same_with_every_schedule(
    tmp_path: Path, build_cache: Path, host_target: Target
) -> None:
    artifacts = ArtifactStore(tmp_path / "artifacts")
    operators = [kept_operator(compute, shapes, artifacts) for compute, shapes, _ in RUN]
    requests = [(op, s) for op in operators for s in candidates(op, host_target)]
    kernels = [k for k in build_kernels(requests, host_target, artifacts) if isinstance(k, Kernel)]
    assert len(kernels) == len(requests)
    files = object_files(kernels, artifacts, tmp_path / "objects")
    executable = link_executable(files, host_target, build_cache)
    rng = np.random.default_rng(0)
    with LocalDevice().start(executable) as runner:
        for kernel in kernels:
            reference = RUN[operators.index(kernel.operator)][2]
            arrays = [rng.normal(size=t.shape).astype("f") for t in kernel.operator.input_types]
            for overwritten in kernel.operator.in_place_inputs:
                made = run_over(runner, kernel, arrays, overwritten)
                np.testing.assert_allclose(made, reference(*arrays), rtol=2e-5, atol=1e-5)


def kept_operator(compute, shapes: list[Shape], artifacts: ArtifactStore) -> Operator:  # type: ignore[no-untyped-def]
    function = function_of(shapes, compute)
    digest = artifacts.put_bytes(loops_text(function).encode())
    places = find_in_place(function, len(shapes), 1)
    assert places, "nothing would be overwritten"
    inputs = tuple(TensorType(shape) for shape in shapes)
    made = (TensorType((5, 48)),)
    return generic_operator(GenericBody("loops", inputs, (), made, 1, digest, None, places))


def run_over(
    runner: Runner, kernel: Kernel, arrays: list[np.ndarray], overwritten: int
) -> np.ndarray:
    """Run a kernel whose output lies where one of its inputs lies."""
    tensors, end = [], 0
    for array in arrays:
        tensors.append(Tensor("arena", end, array.shape))
        end += -(-array.nbytes // 64) * 64
    call = KernelCall(kernel.name, (*range(len(arrays)), overwritten))
    workload = Workload(tuple(tensors), (call,), end, 0)
    result = runner.run(workload, dict(enumerate(arrays)), (overwritten,), 10_000)
    assert isinstance(result, dict), result
    return result[overwritten]
