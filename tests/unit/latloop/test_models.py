"""What a person may give as MODEL, and what is said of anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest

from latloop.models import UnsupportedModelError, resolve_model
from profiler.deployment import DeploymentError
from searchspace.space import UnknownSpaceError, load_space

MACRO = load_space("nas_bench_macro")
GENOME = MACRO.smallest()
NAME = "nas_bench_macro:00000000"


def write_onnx(path: Path, nodes: Sequence[onnx.NodeProto]) -> Path:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "theirs",
        [value("x", onnx.TensorProto.FLOAT, [1, 4])],
        [value("y", onnx.TensorProto.FLOAT, [1, 4])],
    )
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def test_a_space_and_genome_are_a_subnet() -> None:
    subject = resolve_model("nas_bench_macro:22212220")
    assert subject.space is MACRO
    assert subject.genome == (2, 2, 2, 1, 2, 2, 2, 0)
    assert subject.network == MACRO.lower(subject.genome)
    assert subject.deployment is None


def test_a_space_may_itself_be_module_and_object() -> None:
    subject = resolve_model("searchspace.spaces.nas_bench_macro:NAS_BENCH_MACRO:00000000")
    assert subject.network == MACRO.lower(GENOME)


def test_a_deployments_folder_is_its_network_with_its_program(deployed: Path) -> None:
    subject = resolve_model(str(deployed))
    assert subject.network == MACRO.lower(GENOME)
    assert subject.deployment is not None
    assert subject.deployment.folder == deployed


def test_a_deployments_model_is_its_network(deployed: Path) -> None:
    subject = resolve_model(str(deployed / "model.onnx"))
    assert subject.network.name == NAME
    assert subject.deployment is None


@pytest.mark.parametrize("contents", [b"", b"hello, I am no model\n", b"\x08\x07\x12\xff", b"\0"])
def test_a_file_that_is_not_onnx_is_called_so(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(contents)
    with pytest.raises(UnsupportedModelError, match=r"net\.onnx is not an ONNX model: \S"):
        resolve_model(str(path))


def test_a_missing_onnx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"cannot read .*net\.onnx: No such file"):
        resolve_model(str(tmp_path / "net.onnx"))


def test_somebody_elses_onnx_is_refused_with_what_can_be_given(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "net.onnx", [onnx.helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(UnsupportedModelError, match=r"did not write.*give SPACE:GENOME.*folder"):
        resolve_model(str(path))


@pytest.mark.parametrize("missing", ["model.onnx", "program", "program.json", "weights.bin"])
def test_a_folder_that_lacks_a_file_is_no_deployment(deployed: Path, missing: str) -> None:
    (deployed / missing).unlink()
    with pytest.raises(DeploymentError, match=f"is not a deployment: it has no {missing}"):
        resolve_model(str(deployed))


def test_a_damaged_program_is_called_so(deployed: Path) -> None:
    (deployed / "program.json").write_text('{"format": 1')
    with pytest.raises(DeploymentError, match=r"program\.json is damaged .*: deploy again"):
        resolve_model(str(deployed))


def test_a_deployment_of_a_newer_format_is_refused(deployed: Path) -> None:
    (deployed / "program.json").write_text('{"format": 2}')
    with pytest.raises(DeploymentError, match=r"format 2, this Latloop reads 1"):
        resolve_model(str(deployed))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("nas_bench_macro", ValueError, "a subnet is written SPACE:GENOME, got 'nas_bench_macro'"),
        ("x" * 5000, ValueError, "a subnet is written SPACE:GENOME"),
        ("nas_bench_macro:", ValueError, "eight digits of 0, 1 or 2, got ''"),
        ("nas_bench_macro:0000000", ValueError, "eight digits of 0, 1 or 2, got '0000000'"),
        ("nas_bench_macro:00000003", ValueError, "eight digits of 0, 1 or 2, got '00000003'"),
        (
            "nas_bench_macro:" + 8 * "\N{ARABIC-INDIC DIGIT ZERO}",
            ValueError,
            "eight digits of 0, 1 or 2",
        ),
        ("nosuch:00000000", UnknownSpaceError, "no search space is named 'nosuch'; known are"),
        ("no.such:THING:0", UnknownSpaceError, "'no.such:THING' cannot be loaded"),
        ("json:loads:0", UnknownSpaceError, "'json:loads' is not a search space"),
        (".here:SPACE:0", UnknownSpaceError, "no search space is named '.here:SPACE'"),
    ],
)
def test_a_text_that_names_no_subnet_is_explained(
    text: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        resolve_model(text)
    assert type(caught.value) is error
