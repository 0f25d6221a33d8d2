"""Hosts that contend for a board never measure at the same time."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

from devices.ssh.host_keys import trust_host_key

from .conftest import Lab, host_key_of, running
from .contention import contend, hosts_of
from .rig import DISK_BYTES

SECONDS, SEED = 30.0, 3


def test_hosts_that_contend_for_a_board_never_measure_at_once(
    lab: Lab, naps: Path, tmp_path: Path, known_hosts: Path
) -> None:
    for board in running(lab.board("openssh", disk_bytes=DISK_BYTES, n_links=2)):
        for link in range(2):
            trust_host_key(known_hosts, host_key_of(board, board.ip_of(link)))
        with ExitStack() as stack:
            hosts = hosts_of(board, tmp_path, naps, known_hosts, stack)
            found = contend(hosts, SECONDS, random.Random(SEED))
    assert set(found.answers) == {"host-0", "host-1"}
    assert sum(found.sessions.values()) > 3
    assert found.n_rows > 100
    assert found.n_seen > 50, "the watch saw too little to judge"
