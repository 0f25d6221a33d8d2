from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from profiler.importers.from_onnx import import_onnx
from profiler.importers.imported import ImportedModel
from profiler.operator import OWN_KINDS

from .onnx_cases import CASES
from .programs import Programs, programs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Imported:
    models: dict[str, ImportedModel]
    programs: Programs


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, build_cache: Path) -> Iterator[Imported]:
    folder = tmp_path_factory.mktemp("onnx")
    models = {}
    for name, case in CASES.items():
        onnx.save(case.model, str(folder / f"{name}.onnx"))
        models[name] = import_onnx(folder / f"{name}.onnx", {})
    with programs(list(models.values()), build_cache) as made:
        yield Imported(models, made)


def _expected(model: onnx.ModelProto, inputs: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_program_computes_what_onnx_runtime_does(name: str, imported: Imported) -> None:
    case = CASES[name]
    inputs = case.inputs()
    expected = _expected(case.model, inputs)
    made = imported.programs.run(imported.models[name], inputs)
    assert list(made) == list(expected)
    for output, wanted in expected.items():
        assert made[output].dtype == wanted.dtype
        np.testing.assert_allclose(
            made[output], wanted, rtol=1e-5, atol=1e-5 * max(float(np.abs(wanted).max()), 1e-3)
        )


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("Conv", {"conv2d"}),
        ("Conv_of_signal", {"conv2d"}),
        ("Gemm", {"dense"}),
        ("Pad_then_Conv", {"conv2d"}),
        ("MaxPool_ceil", {"max_pool2d"}),
        ("AveragePool_of_signal", {"avg_pool2d"}),
        ("between_squeeze_excite", {"conv2d", "global_avg_pool2d", "scale"}),
        ("between_tokens", {"conv2d", "dense"}),
    ],
)
def test_nothing_but_our_operators_and_moves_is_left(
    name: str, kinds: set[str], imported: Imported
) -> None:
    calls = imported.models[name].network.calls
    own = {call.operator.kind for call in calls if call.operator.kind in OWN_KINDS}
    assert own == kinds
    for call in calls:
        if call.operator.body is not None:
            assert call.operator.body.name == "transpose"


def test_equal_loops_of_two_models_are_one_operator(imported: Imported) -> None:
    (one,) = imported.models["Squeeze_11"].network.operators
    (other,) = imported.models["Squeeze"].network.operators
    assert one == other
