"""The same command for several devices, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devices.errors import InventoryError
from devices.inventory import LOCAL, LOCAL_ORT, check_side_by_side
from latloop.journeys.workers import work_side_by_side
from tests.pipeline.command_line import make_home


def test_each_device_has_its_own_answer_and_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATLOOP_HOME", str(tmp_path))
    ended = work_side_by_side(
        {
            "good": ["device", "list", "--json"],
            "bad": ["predict", "nowhere", "nas_bench_macro:00000000", "--json"],
            "wrong": ["no-such-command"],
        }
    )
    assert list(ended) == ["good", "bad", "wrong"]
    assert ended["good"].exit_code == 0
    assert ended["good"].document
    assert ended["bad"].exit_code == 2
    assert ended["bad"].document is None
    assert "no device 'nowhere'" in ended["bad"].words
    assert ended["wrong"].exit_code == 2
    assert "no-such-command" in ended["wrong"].words


def test_an_answer_is_the_document_that_the_command_printed(
    tmp_path: Path, build_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATLOOP_HOME", str(make_home(tmp_path / "home", build_cache)))
    reports: list[tuple[str, int, int]] = []
    ended = work_side_by_side(
        {"here": ["device", "check", "local", "--json"]}, lambda *report: reports.append(report)
    )
    document = ended["here"].document
    assert document is not None
    assert document["device"] == "local"
    assert ("here: check", 2, 2) in reports
    assert ended["here"].words == ""


#: Waits for ever, once it has said so, and takes no notice of so many interrupts.
_WAITING = """
import signal, sys, time

def hear(*_):
    heard.append(1)
    if len(heard) > {n_lost}:
        sys.exit(1)

heard = []
signal.signal(signal.SIGINT, hear)
print("ready", file=sys.stderr, flush=True)
while True:
    time.sleep(1)
"""
#: Starts such processes, and names them once all are ready.
_HOST = """
import subprocess, sys
from latloop.journeys import workers

workers._PATIENCE_S = 0.5

def start(command, **options):
    waiting = [sys.executable, "-c", {waiting!r}]
    started.append(popen(waiting, **options))
    return started[-1]

def hear(stage, done, total):
    heard.append(stage)
    if sum(each.endswith("ready") for each in heard) == 2 and stage.endswith("ready"):
        print(*(process.pid for process in started), flush=True)

started, heard = [], []
popen, workers.subprocess.Popen = subprocess.Popen, start
workers.work_side_by_side({{name: [] for name in "ab"}}, hear)
"""


@pytest.mark.parametrize("n_lost", [0, 2, 1000])
def test_an_interrupt_is_passed_on_until_every_process_has_ended(n_lost: int) -> None:
    program = _HOST.format(waiting=_WAITING.format(n_lost=n_lost))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        pids = [int(word) for word in host.stdout.readline().split()]
        assert len(pids) == 2
        host.send_signal(signal.SIGINT)
        _, words = host.communicate(timeout=120)
    assert "KeyboardInterrupt" in words
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_devices_that_disturb_each_other_are_refused() -> None:
    with pytest.raises(InventoryError, match="local is this machine"):
        check_side_by_side([LOCAL])
    with pytest.raises(InventoryError, match="local-ort is this machine"):
        check_side_by_side([LOCAL_ORT, LOCAL])
