"""One hop of the way to a board: TCP, the host key, the login, and whether it is still alive."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import paramiko

from devices.errors import DeviceUnreachableError
from devices.host_key import HostKey
from devices.ssh.address import Hop
from devices.ssh.host_keys import check_host_key, known_kinds
from devices.ssh.login import Ask, log_in

CONNECT_TIMEOUT_S: Final = 15.0
#: How often the server is asked whether it is still there, and how long its answer may take.
KEEPALIVE_S: Final = 10.0
KEEPALIVE_TIMEOUT_S: Final = 15.0
#: What the library raises when a connection breaks.
BROKEN: Final = (paramiko.SSHException, OSError, EOFError)
_RSA_KINDS: Final = ("rsa-sha2-512", "rsa-sha2-256")

# What the library logs is for whoever turns logging on; without a handler it would go to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def open_transport(
    hop: Hop, before: paramiko.Transport | None, board: str, known_hosts: Path, ask: Ask | None
) -> paramiko.Transport:
    """Connect to a server, check its host key, log in.

    Args:
        hop: The server.
        before: The hop to go through; None connects from here.
        board: The device's name, for messages.
        known_hosts: Host keys that a person has agreed to.
        ask: Asks for secrets; None never does.

    Returns:
        A transport that is logged in and watched: it closes itself when the server falls silent.

    Raises:
        DeviceUnreachableError: it does not answer.
        AuthenticationRefusedError: it lets nobody in.
        UnknownHostKeyError, HostKeyChangedError: it shows another key than was agreed to.
        InventoryError: the known-hosts file is damaged.
    """
    kinds = known_kinds(known_hosts, hop.key_name)
    with _reaching(hop, board):
        transport = paramiko.Transport(_open_socket(hop, before))
        try:
            _prefer(transport, kinds)
            transport.start_client(timeout=CONNECT_TIMEOUT_S)
            key = transport.get_remote_server_key()
            shown = HostKey(hop.key_name, key.get_name(), key.get_base64(), key.fingerprint)
            check_host_key(known_hosts, shown, board)
            log_in(transport, hop, board, ask)
        except BaseException:
            transport.close()
            raise
    threading.Thread(target=_keep_alive, args=(transport,), daemon=True).start()
    return transport


@contextmanager
def _reaching(hop: Hop, board: str) -> Iterator[None]:
    """Turn what breaks on the way into an error that names the board and what to check."""
    try:
        yield
    except socket.gaierror as error:
        raise DeviceUnreachableError(
            f"{board}: no address is known for {hop.host} ({error.strerror}); check the name in "
            "the inventory and in ~/.ssh/config"
        ) from error
    except ConnectionRefusedError as error:
        raise DeviceUnreachableError(
            f"{board}: nothing listens at {hop.place}; check the port, and that its SSH server runs"
        ) from error
    except TimeoutError as error:
        raise DeviceUnreachableError(
            f"{board}: {hop.place} did not answer within {CONNECT_TIMEOUT_S:g} s; check power and "
            "network"
        ) from error
    except paramiko.ChannelException as error:
        raise DeviceUnreachableError(
            f"{board}: {hop.via} cannot connect to {hop.place}: {error.text}; check the board's "
            "power and network, and that the jump host allows forwarding"
        ) from error
    except BROKEN as error:
        raise DeviceUnreachableError(f"{board}: cannot connect to {hop}: {error}") from error


def _open_socket(hop: Hop, before: paramiko.Transport | None) -> socket.socket | paramiko.Channel:
    if before is not None:
        destination = (hop.host, hop.port)
        return before.open_channel(
            "direct-tcpip", destination, ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT_S
        )
    link = socket.create_connection((hop.host, hop.port), CONNECT_TIMEOUT_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Bytes that nobody acknowledges break the connection; else a cut link would block writers.
    timeout_ms = int(KEEPALIVE_TIMEOUT_S * 1000)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    return link


def _prefer(transport: paramiko.Transport, kinds: list[str]) -> None:
    """Let the server show a kind of key that is known, where it has several."""
    options = transport.get_security_options()
    first = [name for kind in kinds for name in (_RSA_KINDS if kind == "ssh-rsa" else (kind,))]
    known = [name for name in first if name in options.key_types]
    options.key_types = (*known, *(name for name in options.key_types if name not in known))


def _keep_alive(transport: paramiko.Transport) -> None:
    """Ask for a sign of life now and then, and close a transport that gives none."""
    while transport.is_active():
        watchdog = threading.Timer(KEEPALIVE_TIMEOUT_S, transport.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            transport.global_request("keepalive@openssh.com", wait=True)
        except BROKEN:
            return
        finally:
            watchdog.cancel()
        time.sleep(KEEPALIVE_S)
