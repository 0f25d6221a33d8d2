"""`latloop device calibrate` on this machine, stopped by Ctrl-C before its time."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from .command_line import LATLOOP, environment

pytestmark = pytest.mark.long

N_PAIRS = 8
_TIMEOUT_S = 300


def n_visits(home: Path) -> int:
    """Visits of the calibration that the store holds."""
    store = home / "store.sqlite"
    if not store.exists():
        return 0
    with closing(sqlite3.connect(store)) as connection:
        try:
            query = "SELECT count(*) FROM visits WHERE purpose = 'calibrate'"
            return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


@pytest.mark.usefixtures("board")
def test_ctrl_c_ends_a_calibration_with_what_was_measured(empty_home: Path, tmp_path: Path) -> None:
    with (tmp_path / "err").open("w") as words:
        process = subprocess.Popen(
            [LATLOOP, "device", "calibrate", "local", "--seconds", "10000", "--json"],
            env=environment(empty_home),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
        )
        try:
            deadline = time.monotonic() + _TIMEOUT_S
            while n_visits(empty_home) < 2 * N_PAIRS and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
    said = (tmp_path / "err").read_text()
    assert process.returncode in {0, 23}, said
    answer = json.loads(out)
    assert answer["interrupted"] is True
    # The last pair counts once the canary behind it was timed.
    assert answer["pairs"] >= N_PAIRS - 1
    assert 0 <= n_visits(empty_home) - 2 * answer["pairs"] <= 2
    assert 0 < answer["low_percent"] <= answer["smallest_change_percent"] <= answer["high_percent"]
    assert answer["canary_moved"] == (process.returncode == 23)
    n_sessions = answer["sessions_for_percent"]
    assert n_sessions["1"] >= n_sessions["3"] >= n_sessions["5"] >= 12
    assert "calibrate: 0/10000" in said
