from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

MEASURING = ("tests/contract/", "tests/pipeline/")

# A loaded machine is no defect: what a test draws must not depend on how fast it was drawn.
settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any_machine")
# A shell that starts tests in the background has them ignore Ctrl-C, and all that they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# ONNX Runtime, the judge of many tests, would start a thread that sends reports over the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def build_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One build cache a session: the first link for a target builds its libc, which takes long."""
    given = os.environ.get("LATLOOP_TEST_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("build-cache")


class ByFile(LoadScopeScheduling):
    """Gives a file to one worker, which makes what its tests share once.

    Files that measure on this machine go to the same one, as they would wait for each other.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "board" if path.startswith(MEASURING) else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)
