"""Each fault, in the middle of a real sweep: nothing lost, nothing wrong, the board clean."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.device import Failure
from devices.ssh.host_keys import trust_host_key

from .board import Board
from .conftest import Lab, host_key_of, running
from .faults import FAULTS
from .rig import DISK_BYTES, Rig, rigged

SEED = 5


@pytest.fixture(scope="module")
def disk_board(lab: Lab) -> Iterator[Board]:
    yield from running(lab.board("openssh", disk_bytes=DISK_BYTES))


@pytest.fixture
def rig(disk_board: Board, naps: Path, tmp_path: Path, known_hosts: Path) -> Iterator[Rig]:
    trust_host_key(known_hosts, host_key_of(disk_board))
    with rigged(disk_board, tmp_path / "host", naps, known_hosts) as found:
        yield found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_middle_of_a_sweep_loses_nothing_and_leaves_nothing(
    rig: Rig, fault: str
) -> None:
    rig.start_host()
    rig.wait_for_answers(20)
    FAULTS[fault](rig, random.Random(SEED))
    rig.finish()
    rig.check_rows()
    rig.check_whole()
    failures = [row.outcome.reason for row in rig.rows() if isinstance(row.outcome, Failure)]
    expected = {"hung kernel": {"timeout"}, "crash of a kernel": {"crash"}}
    assert set(failures) - {"board_lost"} == expected.get(fault, set())
    if fault != "reboot":
        assert "board_lost" not in failures
