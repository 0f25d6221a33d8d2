"""What a person may give as MODEL, and what is said of anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from latloop.models import (
    Subject,
    Subnet,
    UnsupportedModelError,
    as_model,
    find_source,
    parse_shapes,
    resolve_model,
)
from profiler.deployment import PROGRAM_FILE, Deployment, DeploymentError
from profiler.importers.errors import DynamicShapeError, UnreadableModelError
from profiler.importers.kept import KeptModel
from searchspace.space import UnknownSpaceError, load_space

MACRO = load_space("nas_bench_macro")
GENOME = MACRO.smallest()
NAME = "nas_bench_macro:00000000"


def test_a_space_and_genome_are_a_subnet(tmp_path: Path) -> None:
    subject = resolve_model("nas_bench_macro:22212220", tmp_path)
    assert subject.source == Subnet(MACRO, (2, 2, 2, 1, 2, 2, 2, 0))
    assert subject.network == MACRO.lower((2, 2, 2, 1, 2, 2, 2, 0))


def test_a_space_may_itself_be_module_and_object(tmp_path: Path) -> None:
    text = "searchspace.spaces.nas_bench_macro:NAS_BENCH_MACRO:00000000"
    assert resolve_model(text, tmp_path).network == MACRO.lower(GENOME)


def test_nothing_is_made_for_a_model_that_needs_no_import(tmp_path: Path, deployed: Path) -> None:
    artifacts = tmp_path / "artifacts"
    resolve_model(NAME, artifacts)
    resolve_model(str(deployed), artifacts)
    assert not artifacts.exists()


@pytest.mark.parametrize("part", [".", "model.onnx"])
def test_a_deployments_folder_and_its_model_are_the_deployment(deployed: Path, part: str) -> None:
    subject = resolve_model(str(deployed / part), deployed)
    assert isinstance(subject.source, Deployment)
    assert subject.source.folder == deployed
    assert sorted(op.key for op in subject.network.operators) == sorted(
        op.key for op in MACRO.lower(GENOME).operators
    )


def test_a_deployment_of_an_earlier_version_is_its_subnet(deployed: Path) -> None:
    document = json.loads((deployed / PROGRAM_FILE).read_text())
    del document["graph"], document["shapes"]
    (deployed / PROGRAM_FILE).write_text(json.dumps(document))
    assert resolve_model(str(deployed), deployed).network == MACRO.lower(GENOME)


def test_a_deployed_subnet_is_built_anew_from_its_space(deployed: Path) -> None:
    found = resolve_model(str(deployed), deployed)
    subject = find_source(found, deployed)
    assert subject.source == Subnet(MACRO, GENOME)
    assert find_source(subject, deployed) is subject


def test_a_subnet_gets_weights_only_if_a_seed_is_given(
    tmp_path: Path, smallest_weights: dict[str, np.ndarray]
) -> None:
    subject = resolve_model(NAME, tmp_path)
    assert as_model(subject).weights is None
    weights = as_model(subject, seed=0).weights
    assert weights is not None
    for name, array in smallest_weights.items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize("contents", [b"hello, I am no model\n", b"\x08\x07\x12\xff"])
def test_a_file_that_is_not_onnx_is_called_so(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(contents)
    with pytest.raises(UnreadableModelError, match=r"net\.onnx is not an ONNX model: \S"):
        resolve_model(str(path), tmp_path / "artifacts")


def test_a_missing_onnx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError, match=r"cannot read .*net\.onnx: No such file"):
        resolve_model(str(tmp_path / "net.onnx"), tmp_path)


def test_an_open_dimension_asks_for_a_shape(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "open", [x], [y])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    with pytest.raises(DynamicShapeError, match=r"leaves dimensions open: x .*--shape x="):
        resolve_model(str(tmp_path / "net.onnx"), tmp_path / "artifacts")


@pytest.mark.parametrize("missing", ["model.onnx", "program", "program.json", "weights.bin"])
def test_a_folder_that_lacks_a_file_is_no_deployment(deployed: Path, missing: str) -> None:
    (deployed / missing).unlink()
    with pytest.raises(DeploymentError, match=f"is not a deployment: it has no {missing}"):
        resolve_model(str(deployed), deployed)


def test_a_damaged_program_is_called_so(deployed: Path) -> None:
    (deployed / "program.json").write_text('{"format": 1')
    with pytest.raises(DeploymentError, match=r"program\.json is damaged .*: deploy again"):
        resolve_model(str(deployed), deployed)


def test_a_deployment_of_a_newer_format_is_refused(deployed: Path) -> None:
    (deployed / "program.json").write_text('{"format": 2}')
    with pytest.raises(DeploymentError, match=r"format 2, this Latloop reads 1"):
        resolve_model(str(deployed), deployed)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("nas_bench_macro", ValueError, "MODEL is an ONNX file, .*got 'nas_bench_macro'"),
        ("x" * 5000, ValueError, "MODEL is an ONNX file"),
        ("nas_bench_macro:", ValueError, "eight digits of 0, 1 or 2, got ''"),
        ("nas_bench_macro:0000000", ValueError, "eight digits of 0, 1 or 2, got '0000000'"),
        ("nas_bench_macro:smallest", ValueError, "eight digits of 0, 1 or 2, got 'smallest'"),
        (
            "nas_bench_macro:" + 8 * "\N{ARABIC-INDIC DIGIT ZERO}",
            ValueError,
            "eight digits of 0, 1 or 2",
        ),
        ("nosuch:00000000", UnknownSpaceError, "no search space is named 'nosuch'; known are"),
        ("nosuch:00000000", UnknownSpaceError, "a torch module is named module:function"),
        ("no.such:THING:0", UnknownSpaceError, "'no.such:THING' cannot be loaded"),
        ("json:loads:0", UnknownSpaceError, "'json:loads' is not a search space"),
        (".here:SPACE:0", UnknownSpaceError, "no search space is named '.here:SPACE'"),
        (
            "no.such:function",
            UnreadableModelError,
            "no Python module 'no'.*did you mean SPACE:GENOME",
        ),
    ],
)
def test_a_text_that_names_no_model_is_explained(
    tmp_path: Path, text: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        resolve_model(text, tmp_path)
    assert type(caught.value) is error


def test_shapes_are_for_onnx_files_alone(deployed: Path) -> None:
    for text in (NAME, str(deployed), "json:loads"):
        with pytest.raises(UnsupportedModelError, match="--shape is for ONNX files, got x for"):
            resolve_model(text, deployed, {"x": (1, 3)})


def test_shapes_are_read_by_name() -> None:
    texts = ["input=1x3x224x224", "a=b=7", "rate="]
    assert parse_shapes(texts) == {"input": (1, 3, 224, 224), "a=b": (7,), "rate": ()}


@pytest.mark.parametrize(
    "text", ["1x3", "=1x3", "x=0x3", "x=-1x3", "x=1x", "x=1,3", "x=\N{SUPERSCRIPT TWO}", ""]
)
def test_a_shape_of_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="a shape is written NAME=1x3x224x224, got"):
        parse_shapes([text])


def test_a_shape_may_be_given_once() -> None:
    with pytest.raises(ValueError, match="--shape names 'x' twice"):
        parse_shapes(["x=1", "x=2"])


def test_an_imported_model_comes_with_all_that_a_deployment_needs(kept: KeptModel) -> None:
    model = as_model(Subject(kept.network, kept))
    assert model.weights is not None
    assert set(model.weights) == {name for call in kept.network.calls for name in call.weights}
    assert model.foreign is not None
    assert model.foreign.shapes == {"x": (2, 3), "ids": (2,), "y": (3, 2), "z": (2, 4)}
    assert model.foreign.onnx_file is None
    assert model.foreign.answers_file is not None
