"""ONNX models against an interpreter of the same network in torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from profiler.network import Network
from profiler.onnx_export import OPSET, export_onnx, to_nchw, to_nhwc
from profiler.operator import ACTIVATIONS, OWN_KINDS, Operator
from tests.unit.searchspace.network_interpreter import interpret

from .examples import Array, network_inputs, network_weights, relative_error
from .networks import EVERY_KIND, NETWORKS, RESIDUAL, SQUEEZE_EXCITE, call


def run_onnx(model: onnx.ModelProto, inputs: dict[str, Array]) -> dict[str, Array]:
    """Outputs by name; inputs NHWC."""
    names = [output.name for output in model.graph.output]
    feeds = {name: array.transpose(0, 3, 1, 2) for name, array in inputs.items()}
    return dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))


def as_onnx(array: Array) -> Array:
    moved = array.transpose(0, 3, 1, 2)
    return moved[:, :, 0, 0] if moved.shape[2:] == (1, 1) else moved


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_the_model_computes_what_the_network_means(network: Network) -> None:
    rng = np.random.default_rng(1)
    inputs, weights = network_inputs(network, rng), network_weights(network, rng)
    outputs = run_onnx(export_onnx(network, weights), inputs)
    expected = interpret(network, weights, inputs)
    assert list(outputs) == list(network.outputs)
    for name, array in outputs.items():
        assert relative_error(array, as_onnx(expected[name])) < 1e-5


def test_the_networks_above_hold_every_kind_and_every_step() -> None:
    operators = [operator for network in NETWORKS for operator in network.operators]
    assert {operator.kind for operator in operators} == set(OWN_KINDS)
    steps = {step for operator in operators for step in operator.epilogue}
    assert steps == {"bias", "add", *ACTIVATIONS}
    assert any("add" in op.epilogue for op in operators if op.kind == "scale")


def test_an_output_that_is_also_read_has_its_shape_for_both() -> None:
    network = replace(SQUEEZE_EXCITE, outputs=("squeeze", "output"))
    rng = np.random.default_rng(1)
    inputs, weights = network_inputs(network, rng), network_weights(network, rng)
    outputs = run_onnx(export_onnx(network, weights), inputs)
    expected = interpret(network, weights, inputs)
    assert outputs["squeeze"].shape == (1, 40)
    for name, array in outputs.items():
        assert relative_error(array, as_onnx(expected[name])) < 1e-5


def test_the_checker_passes_and_the_model_says_what_it_is() -> None:
    weights = network_weights(EVERY_KIND, np.random.default_rng(1))
    model = export_onnx(EVERY_KIND, weights)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "network": "test:every_kind"
    }
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]


def dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def test_inputs_and_outputs_are_nchw_and_single_pixels_flat() -> None:
    model = export_onnx(EVERY_KIND, network_weights(EVERY_KIND, np.random.default_rng(1)))
    assert {value.name: dims(value) for value in model.graph.input} == {
        "image": (2, 6, 9, 11),
        "extra": (2, 8, 4, 5),
    }
    assert {value.name: dims(value) for value in model.graph.output} == {
        "logits": (2, 5),
        "features": (2, 12, 2, 3),
    }


def test_every_weight_is_an_initializer_once() -> None:
    weights = network_weights(RESIDUAL, np.random.default_rng(1))
    # Two convolutions of one shape may share their weights.
    twice = Operator("conv2d", (1, 8, 8, 16), 16, epilogue=("bias",))
    calls = [replace(call(f"c{i}", twice, f"c{i - 1}"), weights=("w", "b")) for i in (1, 2)]
    shared = Network("test:shared", (("c0", (1, 8, 8, 16)),), tuple(calls), ("c2",))
    shared_weights = {"w": np.ones((1, 1, 16, 16), np.float32), "b": np.ones(16, np.float32)}
    for network, arrays in ((RESIDUAL, weights), (shared, shared_weights)):
        model = export_onnx(network, arrays)
        names = [tensor.name for tensor in model.graph.initializer]
        assert sorted(names) == sorted(arrays)


def test_a_missing_weight_is_a_key_error_with_its_name() -> None:
    weights = network_weights(RESIDUAL, np.random.default_rng(1))
    del weights["head.bias"]
    with pytest.raises(KeyError, match=r"head\.bias"):
        export_onnx(RESIDUAL, weights)


def test_layouts_are_turned_into_each_other() -> None:
    nhwc = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    nchw = to_nchw(nhwc)
    assert nchw.shape == (2, 5, 3, 4)
    for n, h, w, c in np.ndindex(nhwc.shape):
        assert nchw[n, c, h, w] == nhwc[n, h, w, c]
    np.testing.assert_array_equal(to_nhwc(nchw), nhwc)
    assert nchw.flags.c_contiguous
    assert to_nhwc(nchw).flags.c_contiguous
    flat = np.arange(6, dtype=np.float32).reshape(2, 1, 1, 3)
    np.testing.assert_array_equal(to_nchw(flat), [[0, 1, 2], [3, 4, 5]])
