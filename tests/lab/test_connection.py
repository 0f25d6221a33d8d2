"""Connections are made to the right host alone, and tell what fails."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from devices.errors import (
    AuthenticationRefusedError,
    DeviceUnreachableError,
    HostKeyChangedError,
    InventoryError,
    UnknownHostKeyError,
)
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.host_keys import trust_host_key
from devices.ssh.shell import SshShell

from .board import PASSWORD, USER, Board, command, fingerprint_of, make_key
from .conftest import Lab, host_key_of

Connect = Callable[..., SshConnection]


def answers(connection: SshConnection) -> bool:
    return SshShell(connection).run("echo here").stdout == b"here\n"


def refusal(connection: SshConnection, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        connection.open()
    assert type(caught.value) is kind
    return str(caught.value)


def test_a_board_answers_over_either_server(board: Board, connect: Connect) -> None:
    connection = connect(board)
    assert answers(connection)
    connection.open()  # does nothing more
    connection.close()
    connection.close()
    assert answers(connection)


def test_a_host_key_is_unknown_until_a_person_agrees(board: Board, known_hosts: Path) -> None:
    connection = SshConnection("lab", board.address, known_hosts)
    with pytest.raises(UnknownHostKeyError, match="latloop device enroll lab") as caught:
        connection.open()
    assert caught.value.host_key.fingerprint == fingerprint_of(board.host_key)
    assert caught.value.host_key.fingerprint in str(caught.value)
    assert not known_hosts.exists()
    trust_host_key(known_hosts, caught.value.host_key)
    assert answers(connection)
    assert known_hosts.stat().st_mode & 0o777 == 0o600
    connection.close()


def test_a_changed_host_key_stops_before_anybody_logs_in(
    board: Board, known_hosts: Path, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    kind, base64 = Path(f"{other}.pub").read_text(encoding="ascii").split()[:2]
    known_hosts.parent.mkdir()
    known_hosts.write_text(f"{board.ip} {kind} {base64}\n", encoding="ascii")
    asked: list[str] = []
    address = SshAddress(board.ip, USER)
    connection = SshConnection("lab", address, known_hosts, lambda text: asked.append(text) or "")
    said = refusal(connection, HostKeyChangedError)
    assert fingerprint_of(board.host_key) in said
    assert fingerprint_of(Path(f"{other}.pub")) in said
    assert "--replace" in said
    assert not asked
    trust_host_key(known_hosts, host_key_of(board))
    assert answers(SshConnection("lab", board.address, known_hosts))


def test_another_kind_of_key_than_the_trusted_one_is_a_change(
    openssh: Board, known_hosts: Path, tmp_path: Path
) -> None:
    command("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", tmp_path / "rsa")
    kind, base64 = (tmp_path / "rsa.pub").read_text(encoding="ascii").split()[:2]
    known_hosts.parent.mkdir()
    known_hosts.write_text(f"{openssh.ip} {kind} {base64}\n", encoding="ascii")
    refusal(SshConnection("lab", openssh.address, known_hosts), HostKeyChangedError)


def test_a_damaged_known_hosts_file_trusts_nobody(openssh: Board, known_hosts: Path) -> None:
    known_hosts.parent.mkdir()
    known_hosts.write_text(f"{openssh.ip} ssh-ed25519 A\n", encoding="ascii")
    said = refusal(SshConnection("lab", openssh.address, known_hosts), InventoryError)
    assert str(known_hosts) in said


def test_a_key_that_the_board_does_not_take_is_named(
    board: Board, connect: Connect, tmp_path: Path
) -> None:
    wrong = make_key(tmp_path / "wrong")
    address = SshAddress(board.ip, USER, key_file=wrong)
    said = refusal(connect(board, address), AuthenticationRefusedError)
    assert f"key {wrong}" in said
    assert "nobody to ask" in said
    assert USER in said


def with_secrets(
    board: Board, known_hosts: Path, address: SshAddress, answer: str
) -> tuple[SshConnection, list[str]]:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    trust_host_key(known_hosts, host_key_of(board))
    folder = known_hosts.parent / "no-ssh-folder"
    return SshConnection("lab", address, known_hosts, ask, folder), asked


def test_a_password_is_asked_for_when_no_key_is_taken(board: Board, known_hosts: Path) -> None:
    address = SshAddress(board.ip, USER)
    connection, asked = with_secrets(board, known_hosts, address, PASSWORD)
    assert answers(connection)
    assert asked == [f"Password of {USER}@{board.ip}: "]
    assert answers(connection)
    assert len(asked) == 1
    connection.close()
    wrong, _ = with_secrets(board, known_hosts, address, "wrong")
    assert "a password" in refusal(wrong, AuthenticationRefusedError)


def test_the_passphrase_of_a_key_is_asked_for(
    board: Board, known_hosts: Path, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "secret", "open sesame")
    authorized = board.root / "home" / USER / ".ssh/authorized_keys"
    before = authorized.read_text(encoding="ascii")
    authorized.write_text(before + Path(f"{key}.pub").read_text(encoding="ascii"))
    address = SshAddress(board.ip, USER, key_file=key)
    connection, asked = with_secrets(board, known_hosts, address, "open sesame")
    assert answers(connection)
    assert asked == [f"Passphrase of {key}: "]
    connection.close()
    wrong, _ = with_secrets(board, known_hosts, address, "close sesame")
    assert "passphrase is wrong" in refusal(wrong, AuthenticationRefusedError)
    nobody = SshConnection("lab", address, known_hosts, None, tmp_path)
    assert "put it into ssh-agent" in refusal(nobody, AuthenticationRefusedError)
    authorized.write_text(before)


@pytest.fixture
def agent(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running ssh-agent that holds the key of the boards."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        command("ssh-add", "-q", lab.key)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.mark.usefixtures("agent")
def test_keys_of_the_agent_are_used(board: Board, connect: Connect, tmp_path: Path) -> None:
    assert answers(connect(board, SshAddress(board.ip, USER)))
    config = tmp_path / "ssh" / "config"
    config.parent.mkdir()
    config.write_text("Host *\n  IdentitiesOnly yes\n", encoding="ascii")
    refusal(connect(board, SshAddress(board.ip, USER)), AuthenticationRefusedError)


def test_a_jump_host_is_checked_like_the_board(openssh: Board, known_hosts: Path) -> None:
    """The board is reached through itself: 127.0.0.1 is the board only seen from there."""
    inner = SshAddress("127.0.0.1", USER, jump=f"{USER}@{openssh.ip}", key_file=openssh.key)
    config = known_hosts.parent / "ssh" / "config"
    config.parent.mkdir(parents=True)
    config.write_text(f"Host {openssh.ip}\n  IdentityFile {openssh.key}\n", encoding="ascii")
    connection = SshConnection("lab", inner, known_hosts, ssh_folder=config.parent)
    names = []
    for _ in range(2):
        with pytest.raises(UnknownHostKeyError) as caught:
            connection.open()
        names.append(caught.value.host_key.name)
        trust_host_key(known_hosts, caught.value.host_key)
    assert names == [openssh.ip, f"127.0.0.1/via/{openssh.ip}"]
    assert answers(connection)
    connection.close()


def test_an_alias_of_the_configuration_leads_through_its_jumps(
    openssh: Board, known_hosts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ssh"
    folder.mkdir()
    (folder / "config").write_text("Include more/*\nHost *\n  ProxyJump gate\n", encoding="ascii")
    (folder / "more").mkdir()
    (folder / "more" / "lab").write_text(
        f"Host gate\n  HostName {openssh.ip}\n"
        f"Host gate inner\n  User {USER}\n  IdentityFile {openssh.key}\n"
        "Host inner\n  HostName 127.0.0.1\n  Port 22\n",
        encoding="ascii",
    )
    trust_host_key(known_hosts, host_key_of(openssh))
    trust_host_key(known_hosts, host_key_of(openssh, f"127.0.0.1/via/{openssh.ip}"))
    connection = SshConnection("lab", SshAddress("inner"), known_hosts, ssh_folder=folder)
    assert answers(connection)
    connection.close()


def test_a_jump_host_that_cannot_go_on_says_so(
    openssh: Board, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "config").write_text(f"Host {openssh.ip}\n  IdentityFile {openssh.key}\n")
    address = SshAddress("127.0.0.1", USER, 2222, jump=f"{USER}@{openssh.ip}")
    said = refusal(connect(openssh, address), DeviceUnreachableError)
    assert f"{openssh.ip} cannot connect to [127.0.0.1]:2222" in said


def test_what_is_out_of_reach_is_told_apart(openssh: Board, connect: Connect) -> None:
    def said(address: SshAddress) -> str:
        return refusal(connect(openssh, address), DeviceUnreachableError)

    assert "nothing listens" in said(SshAddress(openssh.ip, USER, 2222))
    assert "no address is known" in said(SshAddress("no-such-board.invalid", USER))


def test_a_board_without_a_link_is_given_up(
    own_board: Board, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_board.cut()
    with monkeypatch.context() as patch:
        patch.setattr("devices.ssh.transport.CONNECT_TIMEOUT_S", 1.0)
        with pytest.raises(DeviceUnreachableError, match=f"{own_board.ip}"):
            connect(own_board).open()
    own_board.mend()
    assert answers(connect(own_board))


def test_a_connection_is_opened_again_after_the_board_was_started_anew(
    own_board: Board, connect: Connect
) -> None:
    connection = connect(own_board)
    assert answers(connection)
    own_board.stop()
    own_board.start()
    assert answers(connection)


def test_no_secret_is_logged(
    board: Board, known_hosts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(tmp_path / "secret", "open sesame")
    address = SshAddress(board.ip, USER, key_file=key)
    with caplog.at_level(logging.DEBUG):
        for answer in ("open sesame", PASSWORD, "Tr0ub4dor"):
            connection, asked = with_secrets(board, known_hosts, address, answer)
            with suppress(AuthenticationRefusedError):
                connection.open()
            assert asked
            connection.close()
    assert len(caplog.records) > 20
    said = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    for secret in ("sesame", PASSWORD, "Tr0ub4dor"):
        assert secret not in said


def test_no_secret_stays_in_the_connection(board: Board, known_hosts: Path) -> None:
    secret = "".join(list(PASSWORD))  # an object of its own, to find who holds it
    connection, _ = with_secrets(board, known_hosts, SshAddress(board.ip, USER), secret)
    connection.open()
    holders = gc.get_referrers(secret)
    connection.close()
    assert not [holder for holder in holders if type(holder).__module__.startswith("paramiko")]
    assert not [holder for holder in holders if isinstance(holder, dict) and "username" in holder]
