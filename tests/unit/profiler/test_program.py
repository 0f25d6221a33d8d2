"""Programs: what they compute, where their tensors lie, and what names them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from devices.device import Fill, Workload
from devices.session import RunnerSession
from profiler.build import Kernel
from profiler.network import Network
from profiler.operator import Operator
from profiler.plan import ArenaPlan, plan_arena
from profiler.program import Program, alone, assemble, weights_image
from profiler.schedules.space import candidates
from profiler.target import Target
from tests.unit.searchspace.network_interpreter import interpret

from .conftest import NetworkBench
from .examples import Array, network_inputs, network_weights, relative_error
from .networks import EVERY_KIND, NETWORKS, RESIDUAL, SQUEEZE_EXCITE

TARGET = Target("x86_64-linux-gnu", "x86-64-v3", (), 32)

#: Zeros beside the weights of channels that fill no whole vector of `TARGET`, in bytes.
PADDING_BYTES = {
    RESIDUAL.name: 4 * (32 + 1) * (16 - 10),  # 32 to 10 channels, with bias
    SQUEEZE_EXCITE.name: 0,
    # 5x5 of 8 to 12 channels without bias; 12 to 5 with it.
    EVERY_KIND.name: 4 * (5 * 5 * 8 * (16 - 12) + (12 + 1) * (8 - 5)),
}

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)


def unbuilt(network: Network, choice: int = 0) -> dict[Operator, Kernel]:
    """Kernels that nobody compiled, each with its first or another schedule."""
    kernels = {}
    for operator in network.operators:
        schedules = candidates(operator, TARGET)
        schedule = schedules[min(choice, len(schedules) - 1)]
        digest = hashlib.sha256((operator.key + schedule.text).encode()).hexdigest()
        kernels[operator] = Kernel(operator, schedule, digest)
    return kernels


def run(
    runner: RunnerSession, program: Program, workload: Workload, inputs: dict[str, Array]
) -> dict[str, Array]:
    given = {program.inputs[name]: array for name, array in inputs.items()}
    result = runner.run(workload, given, tuple(program.outputs.values()), 10_000)
    assert isinstance(result, dict), result
    return {name: result[index] for name, index in program.outputs.items()}


def ready(
    network: Network, bench: NetworkBench, folder: Path
) -> tuple[Program, Workload, dict[str, Array]]:
    """A program, its workload with weights from a file, and those weights."""
    program = assemble(network, bench.kernels)
    weights = network_weights(network, np.random.default_rng(2))
    (folder / "weights").write_bytes(weights_image(program, weights))
    unfilled = tuple(replace(tensor, fill=None) for tensor in program.workload.tensors)
    workload = replace(program.workload, tensors=unfilled, weights_file=folder / "weights")
    return program, workload, weights


@each_network
def test_a_program_computes_what_the_network_means(
    network: Network, network_bench: NetworkBench, network_runner: RunnerSession, tmp_path: Path
) -> None:
    program, workload, weights = ready(network, network_bench, tmp_path)
    for seed in (3, 4):
        inputs = network_inputs(network, np.random.default_rng(seed))
        outputs = run(network_runner, program, workload, inputs)
        for name, expected in interpret(network, weights, inputs).items():
            assert relative_error(outputs[name], expected) < 1e-5


@each_network
def test_a_program_gives_the_same_output_however_often_it_runs(
    network: Network, network_bench: NetworkBench, network_runner: RunnerSession, tmp_path: Path
) -> None:
    program, workload, _ = ready(network, network_bench, tmp_path)
    inputs = network_inputs(network, np.random.default_rng(3))
    once = run(network_runner, program, workload, inputs)
    again = run(network_runner, program, workload, inputs)
    # Three times on one arena, as when it is timed: nothing that it reads may be overwritten.
    thrice = run(network_runner, program, replace(workload, calls=workload.calls * 3), inputs)
    for name, array in once.items():
        np.testing.assert_array_equal(again[name], array)
        np.testing.assert_array_equal(thrice[name], array)


@each_network
def test_running_in_place_gives_the_same_numbers(
    network: Network, network_bench: NetworkBench, network_runner: RunnerSession, tmp_path: Path
) -> None:
    program, workload, weights = ready(network, network_bench, tmp_path)
    plan = plan_arena(network)
    shared = [
        (name, call.output)
        for call in network.calls
        for name in call.inputs
        if plan.offsets[name] == plan.offsets[call.output]
    ]
    assert shared, "nothing is computed in place"
    apart = assemble(network, network_bench.kernels, every_tensor_apart(network))
    unfilled = tuple(replace(tensor, fill=None) for tensor in apart.workload.tensors)
    alone_in_memory = replace(apart.workload, tensors=unfilled, weights_file=tmp_path / "weights")
    assert weights_image(apart, weights) == weights_image(program, weights)
    inputs = network_inputs(network, np.random.default_rng(5))
    expected = run(network_runner, apart, alone_in_memory, inputs)
    for name, array in run(network_runner, program, workload, inputs).items():
        np.testing.assert_array_equal(array, expected[name])


def every_tensor_apart(network: Network) -> ArenaPlan:
    offsets, end = {}, 0
    for name, kind in network.types.items():
        offsets[name] = end
        end += -(-kind.n_bytes // 64) * 64
    return ArenaPlan(tuple(range(len(network.calls))), offsets, end, end, False)


@each_network
def test_filled_weights_and_inputs_keep_the_signal_alive(
    network: Network, network_bench: NetworkBench, network_runner: RunnerSession
) -> None:
    program = assemble(network, network_bench.kernels)
    for array in run(network_runner, program, program.workload, {}).values():
        assert 0.05 < np.std(array) < 20


def bytes_of(program: Program, index: int) -> tuple[int, int]:
    tensor = program.workload.tensors[index]
    return tensor.offset_bytes, tensor.offset_bytes + 4 * int(np.prod(tensor.shape))


@each_network
def test_no_call_reads_or_writes_over_a_live_tensor(network: Network) -> None:
    program = assemble(network, unbuilt(network))
    workload = program.workload
    # A run in which every byte of the arena remembers whose it is.
    owner = np.full(workload.arena_bytes, "", dtype="U40")

    def is_whole(name: str, index: int) -> bool:
        start, end = bytes_of(program, index)
        return end > start and bool(np.all(owner[start:end] == name))

    for name, _ in network.inputs:
        start, end = bytes_of(program, program.inputs[name])
        owner[start:end] = name
    for _ in range(2):
        for wanted, call in zip(network.calls, workload.calls, strict=True):
            read = list(zip(wanted.inputs, call.tensors, strict=False))
            assert all(is_whole(name, index) for name, index in read)
            start, end = bytes_of(program, call.tensors[-1])
            assert end <= workload.arena_bytes
            owner[start:end] = wanted.output
            kept = [
                (name, index)
                for place, (name, index) in enumerate(read)
                if place not in wanted.operator.in_place_inputs
                or bytes_of(program, index) != (start, end)
            ]
            assert all(is_whole(name, index) for name, index in kept), "written while it is read"
        for name, index in (*program.inputs.items(), *program.outputs.items()):
            assert is_whole(name, index)


@each_network
def test_weights_lie_apart_and_on_vector_boundaries(network: Network) -> None:
    program = assemble(network, unbuilt(network))
    assert set(program.weights) == {name for call in network.calls for name in call.weights}
    places = sorted(bytes_of(program, index) for index in program.weights.values())
    assert all(start % 64 == 0 for start, _ in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    assert places[-1][1] <= program.workload.weight_bytes < places[-1][1] + 64
    n_bytes = network.weight_bytes + PADDING_BYTES[network.name]
    assert sum(end - start for start, end in places) == n_bytes


def test_only_inputs_and_weights_are_filled() -> None:
    program = assemble(SQUEEZE_EXCITE, unbuilt(SQUEEZE_EXCITE))
    inputs = {bytes_of(program, index) for index in program.inputs.values()}
    for index, tensor in enumerate(program.workload.tensors):
        is_given = tensor.region == "weights" or bytes_of(program, index) in inputs
        assert (tensor.fill is not None) == is_given
    fills = [t.fill for t in program.workload.tensors if t.region == "weights"]
    assert len({fill.seed for fill in fills if fill is not None}) == len(fills)


def test_an_input_seen_in_two_shapes_has_one_place_and_one_fill() -> None:
    program = assemble(SQUEEZE_EXCITE, unbuilt(SQUEEZE_EXCITE))
    seen = [t for t in program.workload.tensors if isinstance(t.fill, Fill) and t.region == "arena"]
    assert {tensor.shape for tensor in seen} == {(1, 7, 7, 16), (49, 16)}
    assert len({(tensor.offset_bytes, tensor.fill) for tensor in seen}) == 1


def test_inputs_and_outputs_have_their_nhwc_shapes() -> None:
    program = assemble(EVERY_KIND, unbuilt(EVERY_KIND))
    shapes = [tensor.shape for tensor in program.workload.tensors]
    assert {name: shapes[index] for name, index in program.inputs.items()} == {
        "image": (2, 9, 11, 6),
        "extra": (2, 4, 5, 8),
    }
    assert {name: shapes[index] for name, index in program.outputs.items()} == {
        "logits": (2, 1, 1, 5),
        "features": (2, 2, 3, 12),
    }


def test_the_digest_changes_with_kernels_and_calls_alone() -> None:
    program = assemble(RESIDUAL, unbuilt(RESIDUAL))
    assert program.digest == assemble(RESIDUAL, unbuilt(RESIDUAL)).digest
    assert len(program.digest) == 16
    one_changed = unbuilt(RESIDUAL)
    operator = RESIDUAL.operators[3]
    one_changed[operator] = replace(one_changed[operator], object_digest="f" * 64)
    others = [
        assemble(RESIDUAL, one_changed),
        assemble(RESIDUAL, unbuilt(RESIDUAL, choice=1)),
        assemble(replace(RESIDUAL, outputs=("head",)), unbuilt(RESIDUAL)),
        assemble(SQUEEZE_EXCITE, unbuilt(SQUEEZE_EXCITE)),
    ]
    assert len({program.digest, *(other.digest for other in others)}) == 5


def test_each_kernel_is_listed_once_in_order_of_first_use() -> None:
    operator = Operator("add", (1, 1, 1, 8), 8)
    other = Operator("add", (1, 1, 1, 8), 8, epilogue=("relu",))
    calls = [
        replace(alone(op).calls[0], inputs=(f"t{i}", f"t{i}"), output=f"t{i + 1}")
        for i, op in enumerate((operator, other, operator))
    ]
    network = Network("test:add", (("t0", (1, 1, 1, 8)),), tuple(calls), ("t3",))
    program = assemble(network, unbuilt(network))
    assert [kernel.operator for kernel in program.kernels] == [operator, other]
    assert len(program.workload.calls) == 3


def test_an_operator_without_a_kernel_is_a_key_error() -> None:
    kernels = unbuilt(RESIDUAL)
    del kernels[RESIDUAL.operators[-1]]
    with pytest.raises(KeyError):
        assemble(RESIDUAL, kernels)


def test_one_operator_alone_is_a_network_of_one_call() -> None:
    operator = Operator("scale", (1, 7, 7, 40), 40, epilogue=("add",))
    network = alone(operator)
    assert network.name == operator.key
    assert network.operators == (operator,)
    assert [shape for _, shape in network.inputs] == list(operator.input_shapes)
    assert network.outputs == (network.calls[0].output,)


def test_a_missing_or_misshapen_weight_is_refused() -> None:
    program = assemble(RESIDUAL, unbuilt(RESIDUAL))
    weights = network_weights(RESIDUAL, np.random.default_rng(2))
    assert len(weights_image(program, weights)) == program.workload.weight_bytes
    with pytest.raises(ValueError, match=r"must have shape \(32, 10\), got \(10, 32\)"):
        weights_image(program, weights | {"logits.weight": weights["logits.weight"].T})
    del weights["logits.bias"]
    with pytest.raises(KeyError, match=r"logits\.bias"):
        weights_image(program, weights)
