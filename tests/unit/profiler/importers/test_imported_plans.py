"""Memory plans of models that people use, as the onnx package ships them without weights."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from profiler.importers.from_onnx import import_onnx
from profiler.plan import plan_arena
from profiler.plan_lifetimes import find_lifetimes, live_bytes
from tests.unit.profiler.test_plan import assert_is_valid

MODELS = Path(onnx.__file__).parent / "backend/test/data/light"


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v1", "resnet50"])
def test_the_arena_is_what_is_live_at_the_worst_call(name: str) -> None:
    network = import_onnx(MODELS / f"light_{name}.onnx", {}).network
    plan = plan_arena(network)
    assert plan.is_optimal
    assert plan.peak_live_bytes <= plan.arena_bytes <= 1.001 * plan.peak_live_bytes
    assert plan.arena_bytes <= max(live_bytes(find_lifetimes(network, in_place=False)))
    assert_is_valid(network, plan)
