from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def build_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One build cache a session: the first link for a target builds its libc, which takes long."""
    given = os.environ.get("LATLOOP_TEST_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("build-cache")
