from __future__ import annotations

import time
from pathlib import Path

import pytest

from devices.errors import DeviceUnreachableError
from devices.shell import LocalShell


def test_a_script_has_its_input_and_gives_output_words_and_status() -> None:
    answer = LocalShell().run("cat; echo oops >&2; exit 3", b"\0\xff bytes")
    assert (answer.status, answer.stdout, answer.stderr) == (3, b"\0\xff bytes", "oops\n")


def test_a_signal_is_a_status_as_in_a_shell() -> None:
    assert LocalShell().run("kill -TERM $$").status == 128 + 15


def test_a_script_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! >{tmp_path}/pid; wait"
    with pytest.raises(DeviceUnreachableError, match="desk did not finish a script within 1 s"):
        LocalShell("desk").run(script, timeout_s=1)
    child = int((tmp_path / "pid").read_text())
    for _ in range(600):  # whoever adopted it has to take note of its end
        if not _is_alive(child):
            return
        time.sleep(0.1)
    raise AssertionError(f"{child} still runs")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and Path(f"/proc/{pid}").exists()
