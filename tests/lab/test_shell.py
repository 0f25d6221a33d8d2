"""Scripts run to their end on a board, or are ended with all that they started."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

from devices.errors import DeviceUnreachableError
from devices.ssh.connection import SshConnection
from devices.ssh.shell import SshShell

from .board import Board


@pytest.fixture
def shell(board: Board, connect: Callable[..., SshConnection]) -> SshShell:
    return SshShell(connect(board))


def test_a_script_reads_its_input_and_leaves_its_status(shell: SshShell) -> None:
    answer = shell.run('read -r first; cat; echo "$first" >&2; exit 7', b"one\ntwo\nthree")
    assert (answer.status, answer.stdout, answer.stderr) == (7, b"two\nthree", "one")
    assert shell.run("kill -9 $$").status != 0
    assert shell.run("sh -c 'kill -9 $$'").status == 137


def test_text_arrives_as_it_was(shell: SshShell) -> None:
    text = 'it\'s $HOME `date` \\n "quoted" !bang % {braces} ünïcode\ttab  spaces'
    assert shell.run(f"printf %s {shlex.quote(text)}").stdout.decode() == text


def test_bytes_pass_both_ways_whatever_they_are(shell: SshShell) -> None:
    sent = bytes(range(256)) * 20_000  # more than any window on the way
    assert shell.run("cat", sent).stdout == sent


def test_a_script_may_end_before_it_has_read_its_input(shell: SshShell) -> None:
    answer = shell.run("head -c 10 >/dev/null; echo enough; exit 3", bytes(400 << 16))
    assert (answer.status, answer.stdout) == (3, b"enough\n")


def test_a_script_that_says_much_on_stderr_is_not_held_up(shell: SshShell) -> None:
    answer = shell.run("head -c 6000000 /dev/zero | tr '\\0' x >&2; echo done")
    assert answer.stdout == b"done\n"
    assert answer.stderr.endswith("xxx")
    assert len(answer.stderr) < 10_000


def test_a_script_that_takes_too_long_is_ended_with_its_children(
    board: Board, shell: SshShell
) -> None:
    with pytest.raises(DeviceUnreachableError, match=r"lab did not finish .* within 1 s"):
        shell.run("trap '' HUP TERM; (sleep 3301; true) & sleep 3302; true", timeout_s=1.0)
    assert shell.run("echo still here").stdout == b"still here\n"
    assert not [words for words in board.processes() if "330" in words]


def test_a_link_that_is_cut_ends_the_wait(
    own_board: Board, connect: Callable[..., SshConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("devices.ssh.transport.KEEPALIVE_S", 0.2)
        patch.setattr("devices.ssh.transport.KEEPALIVE_TIMEOUT_S", 5.0)
        shell = SshShell(connect(own_board))
        shell.run("true")
        patch.setattr("devices.ssh.transport.CONNECT_TIMEOUT_S", 1.0)
        own_board.cut()
        with pytest.raises(DeviceUnreachableError, match="lab"):
            shell.run("true", timeout_s=300.0)
    own_board.mend()
    assert shell.run("echo back", timeout_s=60.0).stdout == b"back\n"
