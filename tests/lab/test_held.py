"""One shell on a board runs script after script, and leaves nothing there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices.errors import DeviceUnreachableError
from devices.ssh import scripts
from devices.ssh.connection import SshConnection
from devices.ssh.held import HeldShell
from devices.ssh.shell import SshShell

from .board import Board
from .conftest import Lab, MakeDevice, running
from .test_device import times_kernels

GO_ON = f"\n{scripts._SAY_DONE}\n{scripts._READ}"
Connect = Callable[..., SshConnection]


@pytest.fixture(scope="module")
def narrow(lab: Lab) -> Iterator[Board]:
    """A board whose server opens one session at a time."""
    for board in running(lab.board("openssh")):
        config = board.root / "etc/ssh/sshd_config"
        config.write_text(config.read_text().replace("MaxSessions 40", "MaxSessions 1"))
        board.stop()
        board.start()
        yield board


def test_scripts_run_in_one_process_until_it_becomes_another(
    board: Board, connect: Connect
) -> None:
    with HeldShell(connect(board)) as shell:
        first = shell.run(f"echo $$; seen=1{GO_ON}", 10.0)
        sent = bytes(range(256)) * 5000  # more than is sent ahead
        count = f"head -c {len(sent)} | wc -c; echo $$ $seen{GO_ON}"
        second = shell.feed(count, (sent[:1000], sent[1000:]), 10.0)
        stream = shell.become("echo $$; exec cat")
    pid = int(first.stdout)
    assert second.stdout.decode().split() == [str(len(sent)), str(pid), "1"]
    stream.write_all(b"on and on", 10.0)
    stream.end_input()
    said = b""
    while part := stream.read_some(100, 10.0):
        said += part
    assert said == f"{pid}\non and on".encode()
    assert stream.pid == pid
    stream.last_words()


def test_a_script_that_fails_ends_the_shell_and_the_next_has_another(
    board: Board, connect: Connect
) -> None:
    with HeldShell(connect(board)) as shell:
        assert shell.run(f"echo old words >&2{GO_ON}", 10.0).status == 0
        failed = shell.run("echo out; echo new words >&2; exit 7", 10.0)
        assert (failed.status, failed.stdout, failed.stderr) == (7, b"out\n", "new words")
        assert shell.run(f"echo again{GO_ON}", 10.0).stdout == b"again\n"
        with pytest.raises(DeviceUnreachableError, match="did not finish a script within 1 s"):
            shell.run("sleep 3304; true", 1.0)
        assert shell.run(f"echo again{GO_ON}", 10.0).stdout == b"again\n"
    assert board.wait_until_idle() == []


def test_shells_closed_one_after_the_other_do_not_disturb_the_next(
    board: Board, connect: Connect
) -> None:
    connection = connect(board)
    for _ in range(30):
        with HeldShell(connection) as shell:
            shell.run(GO_ON, 10.0)
    assert SshShell(connection).run("echo here").stdout == b"here\n"


def test_a_shell_that_waits_ends_with_its_connection(board: Board, connect: Connect) -> None:
    connection = connect(board)
    shell = HeldShell(connection)
    shell.run(GO_ON, 10.0)
    assert len(board.processes()) == 1
    connection.close()
    assert board.wait_until_idle(10.0) == []
    shell.close()


def test_an_upload_ends_with_its_connection(board: Board, connect: Connect) -> None:
    """The connection breaks in the middle, and the part that came is removed."""
    connection = connect(board)
    shell = HeldShell(connection)
    shell.run(scripts.survey("~/latloop", (), None), 10.0)
    script = scripts.receive("~/latloop", ["0" * 64], 1 << 20, has_tar=False)
    stream = shell.become(script)
    stream.write_all(bytes(1000), 10.0)
    while not [name for name in board.files() if name.startswith(".part")]:
        time.sleep(0.01)
    connection.close()
    assert board.wait_until_idle(10.0) == []
    assert not [name for name in board.files() if name.startswith(".part")]


def test_a_start_needs_one_session_alone(
    narrow: Board, make_device: MakeDevice, executable: Path
) -> None:
    for _ in range(2):
        device = make_device(narrow)
        with device.start(executable) as session:
            assert times_kernels(session)
        device.close()
        assert narrow.wait_until_idle() == []
