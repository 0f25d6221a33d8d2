"""What a program's outputs are compared with: the model's own answers on inputs that tell."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices.device import Tensor, Workload
from latloop.journeys import answers as module
from latloop.journeys.answers import (
    answer_by_onnx,
    compare_answers,
    draw_inputs,
    index_limits,
    known_answers,
)
from profiler.deployment import MODEL_FILE, Deployment
from profiler.foreign import ANSWERS_FILE
from profiler.importers.kept import Answer, pack_answers

TABLE = np.arange(28, dtype=np.float32).reshape(7, 4)


def write_model(path: Path) -> Path:
    """`rows` of a table by indices, scaled by the mean of an image and by noise."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "wide"], ["rows"]),
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["rows", "mean"], ["scaled"]),
        helper.make_node("Add", ["scaled", "noise"], ["sum"]),
        helper.make_node("Where", ["mask", "sum", "rows"], ["out"]),
        helper.make_node("ArgMax", ["out"], ["best"], axis=1, keepdims=0),
    ]
    inputs = {
        "ids": (TensorProto.INT32, [5]),
        "image": (TensorProto.FLOAT, [1, 3, 8, 8]),
        "noise": (TensorProto.FLOAT, [5, 4]),
        "mask": (TensorProto.BOOL, [5, 4]),
    }
    outputs = {"out": (TensorProto.FLOAT, [5, 4]), "best": (TensorProto.INT64, [5])}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(TABLE, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    write_model(tmp_path / MODEL_FILE)
    shapes = {"ids": (5,), "image": (1, 3, 8, 8), "noise": (5, 4), "mask": (5, 4)}
    dtypes = {"ids": "int32", "image": "float32", "noise": "float32", "mask": "bool"}
    tensors = tuple(Tensor("arena", 0, shapes[n], dtype=dtypes[n]) for n in shapes)
    return Deployment(
        tmp_path, "net", "device", "digest", (), Workload(tensors, (), 0, 0),
        {name: index for index, name in enumerate(shapes)}, {}, shapes,
    )  # fmt: skip


def test_indices_of_a_table_are_drawn_from_all_of_it_and_no_further(
    deployment: Deployment,
) -> None:
    assert index_limits(deployment.folder / MODEL_FILE) == {"ids": 7}
    rng = np.random.default_rng(0)
    ids = np.concatenate([draw_inputs(deployment, rng)["ids"] for _ in range(40)])
    assert set(ids.tolist()) == set(range(7))


def test_inputs_have_the_models_shapes_and_types_and_differ(deployment: Deployment) -> None:
    rng = np.random.default_rng(0)
    first, second = (draw_inputs(deployment, rng) for _ in range(2))
    for name, shape in deployment.input_shapes.items():
        assert first[name].shape == shape
        assert str(first[name].dtype) == deployment.workload.tensors[deployment.inputs[name]].dtype
        assert not np.array_equal(first[name], second[name])


@pytest.mark.parametrize("may_be_fast", [True, False])
def test_answers_are_those_of_the_model(deployment: Deployment, may_be_fast: bool) -> None:
    inputs = draw_inputs(deployment, np.random.default_rng(1))
    path = deployment.folder / MODEL_FILE
    (answer,) = answer_by_onnx(path, [inputs], may_be_fast=may_be_fast)
    rows = TABLE[inputs["ids"]]
    expected = np.where(inputs["mask"], rows * inputs["image"].mean() + inputs["noise"], rows)
    np.testing.assert_allclose(answer.outputs["out"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(answer.outputs["best"], expected.argmax(axis=1))


def test_without_onnx_runtime_onnx_itself_answers(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert module._fast_session(deployment.folder / MODEL_FILE) is None
    answers = known_answers(deployment, np.random.default_rng(2))
    assert [set(answer.outputs) for answer in answers] == [{"out", "best"}] * 3


def test_answers_that_were_deployed_are_taken_as_they_are(deployment: Deployment) -> None:
    kept = [Answer({"x": np.ones(2)}, {"y": np.full(2, k)}) for k in (1.0, 2.0)]
    (deployment.folder / ANSWERS_FILE).write_bytes(pack_answers(kept))
    answers = known_answers(deployment, np.random.default_rng(0))
    assert [answer.outputs["y"].tolist() for answer in answers] == [[1, 1], [2, 2]]


def outputs(y: float, z: int) -> dict[str, np.ndarray]:
    return {"y": np.array([y, 1.0], np.float32), "z": np.array([z])}


ANSWERS = [Answer({}, outputs(3.0, 5)), Answer({}, outputs(-3.0, 5))]


def test_an_output_that_never_changes_leaves_the_others_to_tell_inputs_apart() -> None:
    check = compare_answers(ANSWERS, [[outputs(3.0, 5), outputs(-3.0, 5)]])
    assert check.max_error == 0
    assert check.min_difference == pytest.approx(6 / 3)
    assert check.passes


@pytest.mark.parametrize("wrong", [outputs(3.1, 5), outputs(3.0, 6), outputs(np.nan, 5)])
def test_an_error_in_any_output_of_any_way_counts(wrong: dict[str, np.ndarray]) -> None:
    right = [outputs(3.0, 5), outputs(-3.0, 5)]
    assert not compare_answers(ANSWERS, [right, [wrong, right[1]]]).passes


def test_outputs_that_are_all_alike_prove_nothing() -> None:
    alike = [Answer({}, outputs(3.0, 5))] * 2
    assert not compare_answers(alike, [[outputs(3.0, 5)] * 2]).passes
