from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a file to one worker, which makes what its tests share once.

    Files that measure on this machine go to the same one, as they would wait for each other.
    """
    for item in items:
        path = item.path.relative_to(Path(__file__).parent)
        is_measuring = path.parts[0] in {"contract", "pipeline"}
        item.add_marker(pytest.mark.xdist_group("board" if is_measuring else str(path)))
