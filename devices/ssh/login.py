"""Logging in to an SSH server: with keys of the agent and of files, then with a password."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

from devices.errors import AuthenticationRefusedError
from devices.ssh.address import Hop

#: Asks a person for a secret, given the question; what it returns is used once and kept nowhere.
Ask = Callable[[str], str]
_PASSWORD_METHODS = {"password", "keyboard-interactive"}


@dataclass(frozen=True, slots=True)
class _Key:
    """A key to try, with words for what it is."""

    words: str
    key: paramiko.PKey


def log_in(transport: paramiko.Transport, hop: Hop, board: str, ask: Ask | None) -> None:
    """Log in with the first way that the server takes.

    Keys come first: those of the agent that belong to the hop's files, the files, the agent's
    others. A passphrase is asked for when a file needs one, a password when no key was taken.

    Args:
        transport: Its host key is checked already.
        hop: Who logs in, with which keys.
        board: The device's name, for messages.
        ask: Asks for secrets; None never does.

    Raises:
        AuthenticationRefusedError: no way was taken; the message lists those that were tried.
        paramiko.SSHException, EOFError, OSError: the connection broke.
    """
    tried: list[str] = []
    try:
        methods = _wanted_methods(transport, hop.user)
        if "publickey" in methods:
            methods = _try_keys(transport, hop, ask, tried) or methods
        if not transport.is_authenticated() and methods & _PASSWORD_METHODS:
            _try_password(transport, hop, ask, tried)
    except paramiko.AuthenticationException as error:
        tried.append(str(error))
    if not transport.is_authenticated():
        what = "; ".join(tried) or "nothing: there is no key, and nobody to ask for a password"
        raise AuthenticationRefusedError(
            f"{board}: {hop} takes {', '.join(sorted(methods)) or 'no login'}, and was offered "
            f"{what}. Try `ssh {hop.user}@{hop.host} -p {hop.port}`; `ssh-copy-id` puts a key there"
        )


def _wanted_methods(transport: paramiko.Transport, user: str) -> set[str]:
    """What the server would take; nothing when it lets the user in at once."""
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return set(error.allowed_types)
    return set()


def _try_keys(
    transport: paramiko.Transport, hop: Hop, ask: Ask | None, tried: list[str]
) -> set[str]:
    """Offer keys until one is taken; what the server wants beside it, if it wants more."""
    for each in _keys(hop, ask, tried):
        tried.append(each.words)
        try:
            return set(transport.auth_publickey(hop.user, each.key))
        except paramiko.BadAuthenticationType as error:
            return set(error.allowed_types)
        except paramiko.AuthenticationException:
            if not transport.is_active():
                raise
    return set()


def _keys(hop: Hop, ask: Ask | None, tried: list[str]) -> Iterator[_Key]:
    files = [path for path in hop.key_files if path.is_file()]
    agent = paramiko.Agent()
    try:
        held = {key.asbytes(): key for key in agent.get_keys()}
        of_file = {path: held.pop(_public_part(path), None) for path in files}
        for path in files:
            if of_file[path] is not None:
                yield _Key(f"the agent's key of {path}", of_file[path])
        for path in files:
            if of_file[path] is None and (key := _load(path, ask, tried)):
                yield _Key(f"key {path}", key)
        if hop.is_agent_wanted:
            for key in held.values():
                yield _Key(f"the agent's key {key.fingerprint}", key)
    finally:
        agent.close()


def _public_part(path: Path) -> bytes:
    """The public key beside a private one; b"" where there is none."""
    try:
        return base64.b64decode(Path(f"{path}.pub").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError, ValueError):
        return b""


def _load(path: Path, ask: Ask | None, tried: list[str]) -> paramiko.PKey | None:
    """A private key from its file; why it is not to be had goes to the list."""
    try:
        key = _read_key(path, None)
        if key is None and ask is None:
            tried.append(f"key {path}, which needs a passphrase (put it into ssh-agent)")
        elif key is None and ask is not None:
            key = _read_key(path, ask(f"Passphrase of {path}: "))
        if key is not None and (certificate := Path(f"{path}-cert.pub")).is_file():
            key.load_certificate(str(certificate))
    except (OSError, ValueError, paramiko.SSHException) as error:
        tried.append(f"key {path}, which cannot be read ({error})")
        return None
    return key


def _read_key(path: Path, passphrase: str | None) -> paramiko.PKey | None:
    """A private key of any kind; None when it needs a passphrase and none was given."""
    why: Exception | None = None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(str(path), passphrase)
        except paramiko.PasswordRequiredException:
            return None
        except paramiko.SSHException as error:
            why = why or error
    raise paramiko.SSHException(f"it is no key, or the passphrase is wrong: {why}")


def _try_password(
    transport: paramiko.Transport, hop: Hop, ask: Ask | None, tried: list[str]
) -> None:
    if ask is None:
        tried.append("no password, as there is nobody to ask")
        return
    tried.append("a password")
    try:
        transport.auth_password(hop.user, ask(f"Password of {hop}: "))
    finally:
        # The library would keep it for as long as the connection lives.
        transport.auth_handler.password = None
        transport.auth_handler.interactive_handler = None
