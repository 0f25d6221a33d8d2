from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler.importers.errors import (
    DynamicShapeError,
    ModelImportError,
    QuantizedModelError,
    UnreadableModelError,
    UnsupportedOperatorError,
)
from profiler.importers.from_onnx import import_onnx
from profiler.importers.onnx_file import read_onnx

from .onnx_cases import Case, Graph, node_case


def _saved(folder: Path, model: onnx.ModelProto | Case, name: str = "model.onnx") -> Path:
    path = folder / name
    onnx.save(model.model if isinstance(model, Case) else model, str(path))
    return path


def _relu(*dims: int | str) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return helper.make_model(
        helper.make_graph(nodes, "g", values, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError, match=r"cannot read .*gone.onnx: No such file"):
        import_onnx(tmp_path / "gone.onnx", {})


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"not a model at all", b"{}"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(UnreadableModelError, match=re.escape(f"{path} is not an ONNX model")):
        import_onnx(path, {})


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path, node_case("Gemm", (3, 4), known=[np.ones((4, 5), np.float32)]))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UnreadableModelError, match="not an ONNX model"):
        import_onnx(path, {})


def test_open_dimensions_are_listed_with_what_to_type(tmp_path: Path) -> None:
    path = _saved(tmp_path, _relu("batch", 3, "height", 8))
    with pytest.raises(DynamicShapeError, match=r"x \(batchx3xheightx8\).*--shape x="):
        import_onnx(path, {})


def test_open_dimensions_are_what_was_chosen(tmp_path: Path) -> None:
    path = _saved(tmp_path, _relu("batch", 3, "height"))
    model = import_onnx(path, {"x": (2, 3, 5)})
    assert model.network.inputs == (("x", (2, 3, 5)),)
    assert model.output_shapes == {"y": (2, 3, 5)}


def test_a_shape_for_no_input_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path, _relu(2, 3))
    with pytest.raises(ModelImportError, match=r"names 'z', which is no input .*inputs are 'x'"):
        import_onnx(path, {"z": (1,)})


@pytest.mark.parametrize("shape", [(2, 4), (2,), (2, 3, 1)])
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = _saved(tmp_path, _relu("n", 3))
    with pytest.raises(ModelImportError, match=r"does not fit input x .*nx3"):
        import_onnx(path, {"x": shape})


def test_quantised_operators_are_counted_by_name(tmp_path: Path) -> None:
    graph = Graph()
    x, scale, zero = graph.input(4), graph.known(0.1), graph.known(0, "int64")
    low = graph.node("QuantizeLinear", x, scale, zero)
    back = graph.node("DequantizeLinear", low, scale, zero)
    path = _saved(tmp_path, graph.model(graph.node("Relu", back)))
    with pytest.raises(
        QuantizedModelError, match=r"1 DequantizeLinear, 1 QuantizeLinear.*without quantisation"
    ):
        import_onnx(path, {})


def test_an_old_opset_is_refused_with_its_number(tmp_path: Path) -> None:
    model = _relu(2, 3)
    model.opset_import[0].version = 6
    with pytest.raises(ModelImportError, match="has opset 6; opsets 7 to"):
        import_onnx(_saved(tmp_path, model), {})


def test_all_unsupported_operators_are_named_at_once(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.input(4, 4)
    graph.nodes.append(helper.make_node("Det", [x], ["d"], name="the_determinant"))
    graph.nodes.append(helper.make_node("Det", [x], ["e"]))
    graph.nodes.append(helper.make_node("Fancy", [x], ["f"], domain="some.where"))
    places = graph.node("NonZero", x)
    values = [helper.make_tensor_value_info(n, 1, None) for n in ("d", "e", "f", places)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("some.where", 1)]
    whole = helper.make_graph(graph.nodes, "g", graph.inputs, values)
    path = _saved(tmp_path, helper.make_model(whole, opset_imports=opsets))
    with pytest.raises(UnsupportedOperatorError) as raised:
        import_onnx(path, {})
    said = str(raised.value)
    assert "Det (2, the first is node 'the_determinant')" in said
    assert "some.where.Fancy (1, the first is node 'f')" in said
    assert "NonZero (1," in said
    assert "makes a shape that depends on the data" in said


def test_a_model_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    graph = Graph()
    graph.nodes.append(helper.make_node("Relu", [graph.input(2, dtype="bool")], ["y"]))
    graph.nodes.append(helper.make_node("Fancy", ["y"], ["z"], domain="nowhere"))
    values = [helper.make_tensor_value_info("z", 1, None)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "g", graph.inputs, values),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    with pytest.raises(ModelImportError, match="the model contradicts itself: "):
        import_onnx(_saved(tmp_path, model), {})


def test_what_is_known_and_cannot_be_computed_is_named(tmp_path: Path) -> None:
    graph = Graph()
    row = graph.node("Gather", graph.known([[1.0]]), graph.known([7], "int64"))
    model = graph.model(graph.node("Add", graph.input(1), row))
    with pytest.raises(ModelImportError, match="Gather 'v0_0' has known inputs"):
        import_onnx(_saved(tmp_path, model), {})


def test_a_node_that_cannot_be_converted_is_named_with_the_reason(tmp_path: Path) -> None:
    graph = Graph()
    x, k = graph.input(3, 7), graph.input(1, dtype="int64")
    graph.nodes.append(helper.make_node("TopK", [x, k], ["v", "i"], name="best"))
    path = _saved(tmp_path, graph.model("v"))
    with pytest.raises(ModelImportError, match=r"TopK 'best' cannot be converted: TopK's k dep"):
        import_onnx(path, {})


def test_the_places_of_maxima_are_refused(tmp_path: Path) -> None:
    case = node_case("MaxPool", (1, 2, 4, 4), kernel_shape=[2, 2], n_outputs=2)
    with pytest.raises(ModelImportError, match="places of its maxima"):
        import_onnx(_saved(tmp_path, case), {})


def test_places_of_maxima_that_nobody_reads_do_not_matter(tmp_path: Path) -> None:
    case = node_case("MaxPool", (1, 2, 4, 4), kernel_shape=[2, 2], n_outputs=2)
    del case.model.graph.output[1]
    (kind,) = {c.operator.kind for c in import_onnx(_saved(tmp_path, case), {}).network.calls
               if c.operator.kind != "generic"}  # fmt: skip
    assert kind == "max_pool2d"


def test_texts_are_refused(tmp_path: Path) -> None:
    model = _relu(2, 3)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelImportError, match="input x is no tensor of numbers"):
        import_onnx(_saved(tmp_path, model), {})


def test_element_types_without_kernels_are_refused(tmp_path: Path) -> None:
    model = _relu(2, 3)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    with pytest.raises(UnsupportedOperatorError, match=r"x has elements of type bfloat16; those"):
        import_onnx(_saved(tmp_path, model), {})


def test_a_batch_norm_in_training_is_refused(tmp_path: Path) -> None:
    vectors = [np.ones(3, np.float32)] * 4
    case = node_case("BatchNormalization", (2, 3, 4), known=vectors, training_mode=1, n_outputs=3)
    with pytest.raises(ModelImportError, match="export the model for use"):
        import_onnx(_saved(tmp_path, case), {})


def _choice(condition: list[str]) -> onnx.ModelProto:
    """x, or its negative, as a condition says."""
    outputs = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    branches = [
        helper.make_graph([helper.make_node(op, ["x0"], ["o"])], op, [], outputs)
        for op in ("Identity", "Neg")
    ]
    graph = Graph()
    graph.input(2, 3)
    node = helper.make_node("If", condition, ["y"], then_branch=branches[0],
                            else_branch=branches[1])  # fmt: skip
    if condition == ["known"]:
        graph.tensors.append(numpy_helper.from_array(np.asarray(False), "known"))
    else:
        graph.inputs.append(helper.make_tensor_value_info("asked", TensorProto.BOOL, ()))
    graph.nodes.append(node)
    return graph.model("y")


def test_a_branch_that_is_known_is_taken(tmp_path: Path) -> None:
    model = read_onnx(_saved(tmp_path, _choice(["known"])), {})
    assert [node.op_type for node in model.graph.node] == ["Neg", "Identity"]


def test_a_branch_that_depends_on_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError, match="control flow that depends on the data"):
        import_onnx(_saved(tmp_path, _choice(["asked"])), {})


def test_shape_arithmetic_leaves_nothing_behind(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.input(2, 3, 4)
    shape = graph.node("Shape", x)
    rows = graph.node("Gather", shape, graph.known([0], "int64"))
    wanted = graph.node("Concat", rows, graph.known([-1], "int64"), axis=0)
    path = _saved(tmp_path, graph.model(graph.node("Reshape", x, wanted)))
    model = read_onnx(path, {})
    assert [node.op_type for node in model.graph.node] == ["Reshape"]
    (known,) = model.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(known), [2, -1])


def test_weights_may_lie_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    case = node_case("MatMul", (3, 40), known=[weight])
    path = tmp_path / "outside.onnx"
    onnx.save(case.model, str(path), save_as_external_data=True, size_threshold=0)
    (kept,) = import_onnx(path, {}).weights.values()
    np.testing.assert_array_equal(kept, weight)


def test_a_lost_file_of_weights_is_an_unreadable_model(tmp_path: Path) -> None:
    case = node_case("MatMul", (3, 40), known=[np.ones((40, 50), np.float32)])
    path = tmp_path / "outside.onnx"
    onnx.save(case.model, str(path), save_as_external_data=True, location="weights.bin",
              size_threshold=0)  # fmt: skip
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UnreadableModelError, match=r"outside\.onnx"):
        import_onnx(path, {})


def test_placeholders_become_weights_that_depend_on_the_seed(tmp_path: Path) -> None:
    graph = Graph()
    weight = graph.node("ConstantOfShape", graph.known([16, 8, 3, 3], "int64"))
    path = _saved(tmp_path, graph.model(graph.node("Conv", graph.input(1, 8, 5, 5), weight)))

    def drawn(seed: int) -> np.ndarray:
        (tensor,) = read_onnx(path, {}, seed).graph.initializer
        return numpy_helper.to_array(tensor)

    one, other = drawn(1), drawn(2)
    np.testing.assert_array_equal(one, drawn(1))
    assert np.abs(one - other).max() > 0.1
    # Inputs of variance 1 / 3 give outputs of variance 1; what all inputs share gives nothing.
    assert one.var() * 72 / 3 == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(one.sum((1, 2, 3)), 0, atol=1e-4)


def test_functions_of_the_model_are_inlined(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "twice", ["a"], ["b"], body, opsets)
    graph = helper.make_graph(
        [helper.make_node("twice", ["x"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets.append(helper.make_opsetid("own", 1))
    path = _saved(tmp_path, helper.make_model(graph, opset_imports=opsets, functions=[function]))
    assert [node.op_type for node in read_onnx(path, {}).graph.node] == ["Relu"]


def test_an_input_that_is_an_output_at_once_is_refused(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.input(2, 3)
    made = graph.node("Relu", x)
    with pytest.raises(ModelImportError, match="x0 is an input and an output"):
        import_onnx(_saved(tmp_path, graph.model(made, x)), {})
