from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.device import DTYPE_BYTES, Fill, KernelCall, Tensor, TimingPlan, Workload
from devices.errors import ProtocolError
from devices.messages import plan_message, workload_message
from devices.requests import read_plan, read_workload

COUNTS = st.integers(0, 2**40)
FILLS = st.none() | st.builds(Fill, COUNTS, st.floats(0.001, 100))
TENSORS = st.builds(
    Tensor,
    st.sampled_from(["arena", "weights"]),
    COUNTS,
    st.lists(st.integers(1, 9), max_size=5).map(tuple),
    FILLS,
    st.sampled_from(sorted(DTYPE_BYTES)),
)


def sent(message: object) -> Any:
    """A message after its way over the wire."""
    return json.loads(json.dumps(message))


@given(st.lists(TENSORS, min_size=1, max_size=4), st.data())
def test_a_workload_is_read_as_it_was_sent(tensors: list[Tensor], data: st.DataObject) -> None:
    indices = st.lists(st.integers(0, len(tensors) - 1), max_size=4).map(tuple)
    calls = data.draw(st.lists(st.builds(KernelCall, st.text(), indices), max_size=3))
    workload = Workload(tuple(tensors), tuple(calls), 0, 0)
    assert read_workload(sent(workload_message(workload))) == workload


@given(COUNTS, COUNTS, st.integers(1, 100), st.booleans())
def test_a_plan_is_read_as_it_was_sent(
    warmup_ns: int, min_block_ns: int, n_blocks: int, with_timestamps: bool
) -> None:
    plan = TimingPlan(warmup_ns, min_block_ns, n_blocks, with_timestamps, timeout_ms=0)
    assert read_plan(sent(plan_message(plan))) == plan


TENSOR = {"region": "arena", "offset": 0, "shape": [2], "dtype": "float32", "fill": None}
CALL = {"kernel": "k", "tensors": [0]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (None, "not a workload"),
        ({"tensors": [TENSOR]}, "not a list of objects: None"),
        ({"tensors": TENSOR, "calls": []}, "not a list of objects"),
        ({"tensors": [TENSOR | {"dtype": "complex64"}], "calls": []}, "not a tensor"),
        ({"tensors": [TENSOR | {"region": "moon"}], "calls": []}, "not a tensor"),
        ({"tensors": [TENSOR | {"shape": [-1]}], "calls": []}, r"not whole numbers: \[-1\]"),
        ({"tensors": [TENSOR | {"offset": -1}], "calls": []}, "offset must be a whole number >= 0"),
        ({"tensors": [TENSOR | {"fill": 3}], "calls": []}, "not a fill: 3"),
        ({"tensors": [TENSOR], "calls": [CALL | {"tensors": [1]}]}, "k is called on tensors that"),
        ({"tensors": [TENSOR], "calls": [CALL | {"tensors": "0"}]}, "not whole numbers: '0'"),
    ],
)
def test_a_workload_that_makes_no_sense_is_refused(message: object, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        read_workload(message)


@pytest.mark.parametrize("change", [{"n_blocks": 0}, {"n_blocks": True}, {"warmup_ns": 1.5}])
def test_a_plan_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    message = dict(plan_message(TimingPlan(1, 1, 1, False, 1))) | change
    with pytest.raises(ProtocolError, match=f"{next(iter(change))} must be a whole number"):
        read_plan(message)
