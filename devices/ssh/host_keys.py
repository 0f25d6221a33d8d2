"""Host keys that a person has agreed to, in a known-hosts file of Latloop's own."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from devices.errors import HostKeyChangedError, InventoryError, UnknownHostKeyError
from devices.host_key import HostKey


def trust_host_key(known_hosts: Path, key: HostKey) -> None:
    """Write down that a person has agreed to a key; it replaces others of the same host.

    Args:
        known_hosts: The file, made when it is missing.
        key: From `UnknownHostKeyError` or `HostKeyChangedError`, compared by that person.

    Raises:
        OSError: the file cannot be written.
    """
    known_hosts.parent.mkdir(parents=True, exist_ok=True)
    with _locked(known_hosts):
        old = known_hosts.read_text(encoding="utf-8") if known_hosts.exists() else ""
        kept = (_without(line, key.name) for line in old.splitlines())
        lines = [*filter(None, kept), f"{key.name} {key.kind} {key.base64}"]
        _replace(known_hosts, "".join(f"{line}\n" for line in lines))


def known_kinds(known_hosts: Path, name: str) -> list[str]:
    """Kinds of the keys that are trusted for a host.

    Raises:
        InventoryError: the file cannot be read or is damaged.
    """
    return list(_lookup(known_hosts, name))


def check_host_key(known_hosts: Path, key: HostKey, board: str) -> None:
    """Refuse a host whose key is not the one that a person has agreed to.

    Args:
        known_hosts: The file; a missing one trusts nobody.
        key: What the server showed.
        board: The device's name, for the message.

    Raises:
        UnknownHostKeyError: nobody has agreed to a key of this host yet.
        HostKeyChangedError: somebody has agreed to another key.
        InventoryError: the file cannot be read or is damaged.
    """
    trusted = _lookup(known_hosts, key.name)
    if not trusted:
        raise UnknownHostKeyError(
            f"{board}: nobody has agreed to the host key of {key.name} yet; it is {key.kind} "
            f"{key.fingerprint}. Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` on "
            f"the board, then run `latloop device enroll {board} ADDRESS`",
            key,
        )
    same_kind = trusted.get(key.kind)
    if same_kind is None or same_kind.get_base64() != key.base64:
        shown = ", ".join(f"{kind} {each.fingerprint}" for kind, each in trusted.items())
        raise HostKeyChangedError(
            f"{board}: the host key of {key.name} is {key.kind} {key.fingerprint}, but "
            f"{known_hosts} has {shown}. Another machine may be answering: nothing was sent to it. "
            "If the board was set up anew, compare the fingerprint on the board and run `latloop "
            f"device enroll {board} ADDRESS --replace`",
            key,
        )


def _lookup(known_hosts: Path, name: str) -> dict[str, paramiko.PKey]:
    """The keys of a host by their kind."""
    keys = paramiko.HostKeys()
    try:
        if known_hosts.exists():
            keys.load(str(known_hosts))
    except (OSError, ValueError, paramiko.hostkeys.InvalidHostKey) as error:
        raise InventoryError(f"cannot read {known_hosts}: {error}; mend or delete it") from error
    return dict(keys.lookup(name) or {})


def _without(line: str, name: str) -> str:
    """A line without one of its hosts; "" when it has no other."""
    names, *rest = line.split(" ", 1)
    others = [each for each in names.split(",") if each != name]
    return " ".join([",".join(others), *rest]) if others else ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
