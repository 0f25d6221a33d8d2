"""Agree to the host keys on the way to a board, before any of them is written down for good."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.errors import HostKeyChangedError, UnknownHostKeyError
from devices.host_key import HostKey
from devices.open import Access
from devices.ssh.address import SshAddress, find_hops
from devices.ssh.connection import SshConnection
from devices.ssh.host_keys import check_host_key, trust_host_key

#: Asked whether a host key is the right one.
Agree = Callable[[HostKey], bool]

_MOST_HOPS: Final = 9


class NotAgreedError(RuntimeError):
    """A person did not agree to a host key: nothing was written down."""


class NobodyToAskError(ValueError):
    """There is no terminal to ask on: give the fingerprint that the message names."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How host keys are agreed to.

    Attributes:
        agree: Asks a person about a key that nobody has agreed to yet.
        fingerprints: Of keys that a person has compared already; with any, nobody is asked.
        may_replace: Whether another key than the board had before may be agreed to.
    """

    agree: Agree
    fingerprints: Collection[str] = ()
    may_replace: bool = False


def connect(
    name: str, address: SshAddress, access: Access, agreement: Agreement, staged: Path
) -> tuple[SshConnection, tuple[HostKey, ...]]:
    """Connect to a board, agreeing to keys on the way.

    Args:
        name: What the device will be called.
        address: Where the board is.
        access: How it is logged in to; its known-hosts file is only read.
        agreement: How keys are agreed to.
        staged: A known-hosts file for this connection, which must not exist yet.

    Returns:
        The connection, which is open, and the keys that were agreed to.

    Raises:
        HostKeyChangedError: a key is not the one that is expected.
        NotAgreedError: a person did not agree.
        DeviceUnreachableError: a host does not answer, or lets nobody in.
    """
    _copy_known_hosts(access, address, agreement, staged)
    connection = SshConnection(name, address, staged, access.ask, access.ssh_folder)
    keys: list[HostKey] = []
    while True:
        try:
            connection.open()
        except UnknownHostKeyError as error:
            if len(keys) == _MOST_HOPS:
                raise
            _judge(name, error.host_key, access.known_hosts, agreement)
            trust_host_key(staged, error.host_key)
            keys.append(error.host_key)
        else:
            return connection, tuple(keys)


def _copy_known_hosts(
    access: Access, address: SshAddress, agreement: Agreement, staged: Path
) -> None:
    """Everything but the board's own key where that is to be compared anew."""
    known = access.known_hosts
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    if agreement.fingerprints or agreement.may_replace:
        ssh_folder = access.ssh_folder or Path.home() / ".ssh"
        board = find_hops(address, ssh_folder)[-1].key_name
        lines = [line for line in lines if line.split(" ")[0] != board]
    staged.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _judge(name: str, key: HostKey, known_hosts: Path, agreement: Agreement) -> None:
    if not agreement.may_replace:
        with suppress(UnknownHostKeyError):  # a new one is judged below
            check_host_key(known_hosts, key, name)
    if agreement.fingerprints:
        if key.fingerprint not in agreement.fingerprints:
            expected = ", ".join(agreement.fingerprints)
            raise HostKeyChangedError(
                f"{name}: the host key of {key.name} is {key.kind} {key.fingerprint}, expected was "
                f"{expected}. Another machine may be answering: nothing was sent to it, nothing "
                "was written down. Compare the fingerprint on the board: "
                "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
                key,
            )
    elif not agreement.agree(key):
        raise NotAgreedError(f"{name}: the host key was not agreed to; nothing was written down")
