from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A loaded machine is no defect: what a test draws must not depend on how fast it was drawn.
settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any_machine")
# ONNX Runtime, the judge of many tests, would start a thread that sends reports over the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def build_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One build cache a session: the first link for a target builds its libc, which takes long."""
    given = os.environ.get("LATLOOP_TEST_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("build-cache")
