"""What ONNX Runtime is given to run, and what is made of its timings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from devices.device import Failure, Timing
from devices.ort import OrtDevice
from profiler.artifacts import ArtifactStore
from profiler.bench import Bench
from profiler.compilers import Compilers
from profiler.generic import GenericBody, TensorType
from profiler.network import Call, Network
from profiler.onnx_export import export_onnx
from profiler.operator import Operator, generic_operator
from profiler.runtime import Model
from profiler.runtimes.ort import CALL, SCHEDULE, OrtRuntime
from profiler.runtimes.ort_models import NoOnnxFormError, bind_model
from profiler.store import Store, Visit
from profiler.target import Target

from .networks import EVERY_KIND, RESIDUAL
from .scripted import DEVICE, PLAN, timing

CONV = Operator("conv2d", (1, 8, 8, 16), 32, epilogue=("bias", "relu"))
GENERIC = generic_operator(
    GenericBody("cumsum", (TensorType((4, 4)),), (), (TensorType((4, 4)),), 16, "0" * 64)
)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def bench(store: Store, artifacts: ArtifactStore, folder: Path) -> Bench:
    target = Target("x86_64-linux-gnu", "generic")
    return Bench(OrtDevice(), DEVICE.device_id, target, store, artifacts, folder, Compilers())


def visit(operator: Operator, outcome: Timing | Failure, round_index: int) -> Visit:
    return Visit(
        device_id=DEVICE.device_id,
        subject_kind="operator",
        subject=operator.key,
        kernel="m_0",
        schedule=SCHEDULE.text,
        purpose="tune",
        round_index=round_index,
        plan=PLAN,
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("alone_us", "own_us"),
    [
        (26.0, 20.0),  # 6 us of it are the call
        (6.1, 0.305),  # noise: a twentieth remains
        (5.0, 0.25),
    ],
)
def test_the_price_of_calling_a_model_is_taken_off_an_operator(
    alone_us: float, own_us: float, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    with Store.open(tmp_path / "store.sqlite") as store:
        store.register_device(DEVICE)
        for index, factor in enumerate((0.98, 1.0, 1.02)):
            store.append([visit(CALL, timing(6.0), index)])
            store.append([visit(CONV, timing(alone_us * factor), index)])
        runtime = OrtRuntime(bench(store, artifacts, tmp_path))
        (row,) = runtime.operator_latencies({"tune"})
    assert row.operator == CONV
    assert row.alone_us == pytest.approx(own_us, rel=1e-3)
    assert row.relative_spread * row.alone_us == pytest.approx(0.02 * alone_us, rel=1e-3)


def test_generic_operators_are_left_out_of_tuning_and_refused_without_their_file(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    network = Network("net:1", (("x", (4, 4)),), (Call(GENERIC, ("x",), "y"),), ("y",))
    with Store.open(tmp_path / "store.sqlite") as store:
        store.register_device(DEVICE)
        store.append([visit(CALL, timing(6.0), index) for index in range(3)])
        runtime = OrtRuntime(bench(store, artifacts, tmp_path))
        runtime.tune([GENERIC], "measure", np.random.default_rng(0))
        assert {seen.subject for seen in store.visits(DEVICE.device_id)} == {CALL.key}
        with pytest.raises(NoOnnxFormError, match=r"net:1 was not imported from an ONNX file"):
            runtime.prepare([Model(network)])


def test_a_file_that_was_imported_is_run_as_it_is(artifacts: ArtifactStore, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["row"])],
        "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [3])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.eye(5, dtype=np.float32), "table")],
    )
    opset = helper.make_opsetid("", 17)
    file = tmp_path / "plain"
    file.write_bytes(helper.make_model(graph, opset_imports=[opset]).SerializeToString())
    network = Network("net:1", (("ids", (4, 4)),), (Call(GENERIC, ("ids",), "row"),), ("row",))
    bound = bind_model(Model(network, onnx_file=file), artifacts)
    kept = artifacts.path(bound.digest)
    assert kept is not None
    assert kept.read_bytes() == file.read_bytes()
    ids, row = bound.workload.tensors
    assert (ids.dtype, ids.shape, ids.fill) == ("int64", (3,), None)
    assert (row.dtype, row.shape) == ("float32", (3, 5))
    assert bound.item().operators == (GENERIC.key,)


@pytest.mark.parametrize("network", [RESIDUAL, EVERY_KIND], ids=lambda network: network.name)
def test_placeholders_take_no_space_and_keep_a_signal_alive(network: Network) -> None:
    model = export_onnx(network, None)
    assert len(model.SerializeToString()) < 20_000
    shapes = {n: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for n, v in inputs(model)}
    rng = np.random.default_rng(5)
    images = {n: rng.uniform(-1, 1, shape).astype(np.float32) for n, shape in shapes.items()}
    for output in ReferenceEvaluator(model).run(None, images):
        assert np.all(np.isfinite(output))
        assert 1e-3 < np.abs(output).max() < 1e3


def inputs(model: onnx.ModelProto) -> list[tuple[str, onnx.ValueInfoProto]]:
    return [(value.name, value) for value in model.graph.input]


def test_no_two_placeholders_are_alike() -> None:
    nodes = export_onnx(RESIDUAL, None).graph.node
    numbers = [
        onnx.numpy_helper.to_array(node.attribute[0].t).item()
        for node in nodes
        if node.op_type == "ConstantOfShape"
    ]
    assert len(numbers) == sum(len(call.weights) for call in RESIDUAL.calls)
    assert len(set(numbers)) == len(numbers)


def test_an_output_whose_shape_only_the_data_decides_is_refused_by_name(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["places"])],
        "search",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("places", TensorProto.INT64, None)],
    )
    opset = helper.make_opsetid("", 17)
    file = tmp_path / "plain"
    file.write_bytes(helper.make_model(graph, opset_imports=[opset]).SerializeToString())
    network = Network("net:1", (("x", (4, 4)),), (Call(GENERIC, ("x",), "places"),), ("places",))
    with pytest.raises(ValueError, match="leaves the shape of places open"):
        bind_model(Model(network, onnx_file=file), artifacts)
