from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profiler.artifacts import ArtifactStore
from profiler.build import Kernel
from profiler.deployment import write_deployment
from profiler.importers.kept import Answer, KeptModel, keep_model, read_kept
from profiler.program import assemble
from profiler.schedules.space import default_schedule
from profiler.target import Target
from searchspace.space import load_space
from tests.command import RunHere, run_here
from tests.unit.profiler.importers.hand_made import hand_made_model


@pytest.fixture
def latloop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunHere:
    """Run the command line in this process, in an empty home."""
    monkeypatch.setenv("LATLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return run_here(monkeypatch, capsys)


@pytest.fixture(scope="session")
def smallest_weights() -> dict[str, np.ndarray]:
    """Weights of nas_bench_macro:00000000."""
    space = load_space("nas_bench_macro")
    return space.weights(space.module(space.smallest(), np.random.default_rng(0)))


@pytest.fixture
def deployed(tmp_path: Path, smallest_weights: dict[str, np.ndarray]) -> Path:
    """A deployment of nas_bench_macro:00000000 as it lies on the disk, but without kernels."""
    space = load_space("nas_bench_macro")
    network = space.lower(space.smallest())
    target = Target("x86_64-linux-gnu", "generic")
    kernels = {
        op: Kernel(op, default_schedule(op, target), f"{index:064x}")
        for index, op in enumerate(dict.fromkeys(network.operators))
    }
    executable = tmp_path / "executable"
    executable.write_bytes(b"\x7fELF")
    folder = tmp_path / "my-net"
    write_deployment(folder, assemble(network, kernels), executable, smallest_weights, "a-device")
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> KeptModel:
    """An imported model as a store keeps it."""
    store = ArtifactStore(tmp_path / "artifacts")
    answers = [Answer({"x": np.ones((2, 3), np.float32)}, {"y": np.ones((3, 2), np.float32)})]
    model = read_kept(keep_model(hand_made_model(), store, answers=answers), store)
    assert model is not None
    return model
