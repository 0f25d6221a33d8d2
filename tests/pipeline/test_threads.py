"""A device of two threads beside that of one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from .command_line import latloop, read_rows
from .test_onnx_model import N_ROWS, SHAPES, write_model

DEVICES = """
[device.local-2]
transport = "local"
threads = 2
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core alone")
def test_two_threads_measure_and_compute_on_a_device_of_their_own(
    home: Path, tmp_path: Path
) -> None:
    (home / "devices.toml").write_text(DEVICES)
    before = read_rows(home)
    model = write_model(tmp_path / "model.onnx")
    checked = [latloop(home, "device", "check", name, "--json") for name in ("local", "local-2")]
    one, two = (done.answer for done in checked)
    assert [answer["runtime"]["threads"] for answer in (one, two)] == [1, 2]
    assert one["board"] == two["board"]
    assert one["device_id"] != two["device_id"]
    measured = latloop(home, "measure", "local-2", model, *SHAPES, "--json")
    assert measured.code == 0, measured.err
    assert measured.answer["latency_ms"] > 0
    rows = read_rows(home)[len(before) :]
    assert rows
    assert all(two["device_id"] in row for row in rows)

    rng = np.random.default_rng(5)
    inputs = {
        "image": rng.normal(size=(1, 3, 24, 24)).astype(np.float32),
        "ids": rng.integers(0, N_ROWS, (1, 6)),
    }
    np.savez(tmp_path / "in.npz", **inputs)
    files = ("--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    ran = latloop(home, "run", "local-2", model, *SHAPES, *files, "--json")
    assert ran.code == 0, ran.err
    expected = ReferenceEvaluator(str(model)).run(None, inputs)
    with np.load(tmp_path / "out.npz") as archive:
        for name, array in zip(archive.files, expected, strict=True):
            np.testing.assert_allclose(archive[name], array, rtol=1e-4, atol=1e-5)
