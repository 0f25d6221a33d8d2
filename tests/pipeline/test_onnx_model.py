"""Somebody's ONNX file, from the first prediction to a verified deployment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.command import Done, RunHere

from .command_line import latloop, read_rows, travel_once
from .conftest import N_FRESH, N_NETWORKS, Journey
from .tiny_space import NAME

MODEL = "image and words.onnx"
SHAPES = ("--shape", "image=1x3x24x24", "--shape", "ids=1x6")
#: The same model on several images at once: none of its operators is ever measured.
SEVERAL = ("--shape", "image=7x3x24x24", "--shape", "ids=7x6")
N_ROWS = 50


def write_model(path: Path, *, extra: str = "Softmax") -> Path:
    """Classes of an image and words: a convolution, a table of words, and their product."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        array = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(array.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["f", "m"], ["s"]),
        helper.make_node("Gemm", ["s", "v", "b"], ["logits"]),
        helper.make_node(extra, ["logits"], ["classes"], name="the last node"),
    ]
    graph = helper.make_graph(
        nodes,
        "image_and_words",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 24, 24]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 6]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 8]),
        ],
        [weight("w", 32, 3, 3, 3), weight("table", N_ROWS, 32), weight("v", 32, 8), weight("b", 8)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@dataclass(frozen=True)
class Travelled:
    """A home in which a model went all the way, and what each step answered."""

    home: Path
    model: Path
    steps: dict[str, Done]


@pytest.fixture(scope="module")
def travelled(journey: Journey, tmp_path_factory: pytest.TempPathFactory) -> Travelled:
    def travel(folder: Path) -> dict[str, Done]:
        home = shutil.copytree(journey.home, folder / "home", symlinks=True)
        model = write_model(folder / MODEL)
        steps: dict[str, Done] = {}

        def step(name: str, *arguments: str | Path) -> None:
            done = steps[name] = latloop(home, *arguments, "--json")
            assert done.code == 0, f"{name} ended with {done.code}: {done.err}"

        step("unseen", "predict", "local", model, *SHAPES)
        step("measured", "measure", "local", model, *SHAPES)
        step("fitted", "fit", "local")
        step("seen", "predict", "local", model, *SHAPES)
        step("several", "predict", "local", model, *SEVERAL)
        step("deployed", "deploy", "local", model, *SHAPES, "--folder", folder / "net",
             "--latency", "1s")  # fmt: skip
        step("evaluated", "evaluate", "local", "--networks", str(N_FRESH))
        step("verified", "verify", folder / "net", "--device", "local")
        return steps

    folder, steps = travel_once(tmp_path_factory, "onnx-model", travel)
    return Travelled(folder / "home", folder / MODEL, steps)


def test_operators_never_measured_are_named_and_widen_the_interval(travelled: Travelled) -> None:
    unseen, seen = travelled.steps["unseen"].answer, travelled.steps["seen"].answer
    kinds = {key.partition(":")[0] for key in unseen["unseen_operators"]}
    assert kinds >= {"conv2d", "dense", "generic"}
    assert unseen["unseen_share_percent"] > 50
    assert seen["unseen_operators"] == []
    assert seen["unseen_share_percent"] == 0
    # One model, so that what disturbed its measurements widens both.
    several = travelled.steps["several"].answer
    assert several["unseen_share_percent"] > 50
    wide, narrow = (
        (answer["high_ms"] - answer["low_ms"]) / answer["latency_ms"] for answer in (several, seen)
    )
    assert narrow < wide


def test_a_prediction_of_what_was_measured_is_near_it(travelled: Travelled) -> None:
    seen, measured = travelled.steps["seen"].answer, travelled.steps["measured"].answer
    # Half to twice: other work on this machine moves one of the two by a few tenths.
    assert 0.5 < seen["latency_ms"] / measured["latency_ms"] < 2
    assert seen["n_operators"] == travelled.steps["unseen"].answer["n_operators"]


def test_a_second_command_starts_neither_compiler_nor_import(travelled: Travelled) -> None:
    assert "import: 1/1" in travelled.steps["unseen"].err
    for later in ("measured", "seen", "deployed"):
        assert "import:" not in travelled.steps[later].err, later


def test_predictions_line_by_line_take_onnx_files_too(
    travelled: Travelled, here: Callable[[Path], RunHere]
) -> None:
    run = here(travelled.home)
    lines = f"{travelled.model}\n{travelled.model.parent / 'net'}\nno such.onnx\n"
    done = run("predict", "local", "-", *SHAPES, stdin=lines)
    asked, deployed, missing = map(json.loads, done.out.splitlines())
    assert asked["latency_ms"] == travelled.steps["seen"].answer["latency_ms"]
    assert "--shape is for ONNX files" in deployed["error"]
    assert "cannot read" in missing["error"]
    alone = run("predict", "local", travelled.model.parent / "net", "--json")
    assert alone.answer["latency_ms"] == pytest.approx(asked["latency_ms"], rel=1e-9)


@pytest.mark.parametrize("source", ["model", "net"])
def test_a_run_takes_and_gives_what_the_model_itself_does(
    travelled: Travelled, tmp_path: Path, source: str
) -> None:
    rng = np.random.default_rng(5)
    subject = travelled.model if source == "model" else travelled.model.parent / "net"
    shapes = SHAPES if source == "model" else ()
    evaluator = ReferenceEvaluator(str(travelled.model))
    for _ in range(2):
        image = rng.normal(size=(1, 3, 24, 24)).astype(np.float32)
        ids = rng.integers(0, N_ROWS, (1, 6))
        np.savez(tmp_path / "in.npz", image=image, ids=ids)
        done = latloop(
            travelled.home, "run", "local", subject, *shapes, "--inputs", tmp_path / "in.npz",
            "--outputs", tmp_path / "out.npz", "--json",
        )  # fmt: skip
        assert done.code == 0, done.err
        expected = evaluator.run(None, {"image": image, "ids": ids})
        with np.load(tmp_path / "out.npz") as archive:
            assert archive.files == ["logits", "classes"]
            for name, array in zip(archive.files, expected, strict=True):
                assert archive[name].shape == array.shape
                np.testing.assert_allclose(archive[name], array, rtol=1e-4, atol=1e-5)


def test_inputs_that_do_not_fit_are_explained(
    travelled: Travelled, tmp_path: Path, here: Callable[[Path], RunHere]
) -> None:
    run = here(travelled.home)
    net = travelled.model.parent / "net"
    image, ids = np.zeros((1, 3, 24, 24), np.float32), np.zeros((1, 6), np.int64)
    for arrays, said in (
        ({"image": image}, "inputs must be image, ids, got image"),
        ({"image": image, "ids": ids, "mask": ids}, "got image, ids, mask"),
        ({"image": image[0], "ids": ids}, "image must have shape (1, 3, 24, 24), got (3, 24, 24)"),
        ({"image": image, "ids": ids + 0.5}, "input ids must be int64, got float64"),
    ):
        np.savez(tmp_path / "in.npz", **arrays)
        files = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
        done = run("run", "local", net, *files)
        assert (done.code, done.out) == (2, "")
        assert said in done.err


def test_a_deployment_holds_the_users_model_and_agrees_with_it(travelled: Travelled) -> None:
    folder = travelled.model.parent / "net"
    for name in ("deployed", "verified"):
        answer = travelled.steps[name].answer
        assert answer["network"].startswith("image and words.onnx:")
        assert answer["max_output_error"] < 1e-3
        assert answer["meets_limit"] is True
    plain = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(plain, full_check=True)
    assert [value.name for value in plain.graph.input] == ["image", "ids"]
    assert [d.dim_value for d in plain.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 24, 24]
    report = json.loads((folder / "report.json").read_text())
    assert report["weights"] == "the model's own"
    assert report["measured_ms"] == travelled.steps["verified"].answer["measured_ms"]


def test_an_imported_network_is_learned_from_and_does_not_disturb_evaluation(
    travelled: Travelled,
) -> None:
    before = travelled.steps["unseen"].answer
    fitted = travelled.steps["fitted"].answer
    # The search may have measured some, too; what `evaluate` and `verify` measure stays unlearned.
    learned = {
        row[3]
        for row in read_rows(travelled.home)
        if row[2] == "network" and row[7] in {"profile", "measure"}
    }
    assert any(name.startswith(MODEL) for name in learned)
    assert fitted["n_networks"] == len(learned) > N_NETWORKS
    assert fitted["n_operators"] >= len(before["unseen_operators"])
    assert set(travelled.steps["evaluated"].answer["families"]) == {NAME}


def test_measure_times_every_call_in_its_place_too(travelled: Travelled) -> None:
    name = travelled.steps["deployed"].answer["network"]
    visits = [row for row in read_rows(travelled.home) if (row[3], row[7]) == (name, "measure")]
    assert sum(row[12] is not None for row in visits) == 3  # the column of timings between calls


def test_names_of_generic_operators_stay_short_in_the_store(travelled: Travelled) -> None:
    subjects = {row[3] for row in read_rows(travelled.home) if row[2] == "operator"}
    assert any(subject.startswith("generic:") for subject in subjects)
    assert max(map(len, subjects)) < 400


REFUSED = {
    "corrupt file": ("corrupt.onnx", (), "corrupt.onnx is not an ONNX model"),
    "open dimensions": ("good.onnx", (), "example with --shape image=1x3x24x24 --shape ids=1x6"),
    "unknown input": ("good.onnx", ("--shape", "img=1x3x24x24"), "--shape names 'img'"),
    "shape that does not fit": (
        "good.onnx",
        ("--shape", "image=1x1x24x24"),
        "image=1x1x24x24 does not fit input image",
    ),
    "unsupported operator": (
        "strange.onnx",
        SHAPES,
        "Bernoulli (1, the first is node 'the last node')",
    ),
    "missing file": ("missing.onnx", (), "missing.onnx: No such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_be_taken_is_refused_with_the_reason(
    home: Path, tmp_path: Path, here: Callable[[Path], RunHere], case: str
) -> None:
    name, shapes, said = REFUSED[case]
    (tmp_path / "corrupt.onnx").write_bytes(write_model(tmp_path / "good.onnx").read_bytes()[:900])
    write_model(tmp_path / "strange.onnx", extra="Bernoulli")
    done = here(home)("predict", "local", tmp_path / name, *shapes, "--json")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
