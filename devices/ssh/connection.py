"""One SSH connection to a board, through jump hosts if need be, opened when it is first needed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import paramiko

from devices.errors import DeviceUnreachableError
from devices.ssh.address import Hop, SshAddress, find_hops
from devices.ssh.login import Ask
from devices.ssh.transport import BROKEN, open_transport

#: A busy board takes its time to start a command.
START_TIMEOUT_S: Final = 30.0


class SshConnection:
    """A connection that several threads share; after it broke the next use opens another.

    To enroll a board, `open` it: every host on the way whose key nobody has agreed to yet is an
    `UnknownHostKeyError` with that key. Once a person agrees, `trust_host_key` and open again.
    """

    def __init__(
        self,
        name: str,
        address: SshAddress,
        known_hosts: Path,
        ask: Ask | None = None,
        ssh_folder: Path | None = None,
    ) -> None:
        """Note where the board is; nothing is opened yet.

        Args:
            name: The device's name, for messages.
            address: Where the board is.
            known_hosts: Host keys that a person has agreed to.
            ask: Asks for passwords and passphrases; None never does.
            ssh_folder: Configuration and default keys; None takes `~/.ssh`.
        """
        self.name = name
        self.address = address
        self.known_hosts = known_hosts
        self._ask = ask
        self._ssh_folder = Path.home() / ".ssh" if ssh_folder is None else ssh_folder
        self._lock = threading.Lock()
        self._transports: list[paramiko.Transport] = []

    def open(self) -> None:
        """Connect and log in, unless that is done already.

        Raises:
            DeviceUnreachableError: a host on the way does not answer.
            AuthenticationRefusedError: one lets nobody in.
            UnknownHostKeyError, HostKeyChangedError: one shows another key than was agreed to.
            InventoryError: ~/.ssh/config or the known-hosts file is wrong.
        """
        self._connect()

    def execute(self, command: str, timeout_s: float = START_TIMEOUT_S) -> paramiko.Channel:
        """Start a command in the account's shell.

        Args:
            command: The command line.
            timeout_s: How long the server may take to start it.

        Returns:
            The channel to it, which the caller closes.

        Raises:
            DeviceUnreachableError: the connection broke, or the server opens no more sessions;
                see also `open`.
        """
        transport, is_fresh = self._connect()
        try:
            return _start(transport, command, timeout_s)
        except paramiko.ChannelException as error:
            raise DeviceUnreachableError(
                f"{self.name}: the SSH server opens no more sessions ({error.text}); end some, or "
                "raise MaxSessions in the board's sshd_config"
            ) from error
        except BROKEN as error:
            # It may have broken long ago, unnoticed. One that lives may have other users.
            if not is_fresh and not transport.is_active():
                return self.execute(command, timeout_s)
            raise DeviceUnreachableError(
                f"{self.name}: cannot start a command there: {error}; check power and network"
            ) from error

    def hops(self) -> tuple[Hop, ...]:
        """The servers to log in to, one after the other, the board last; see `find_hops`."""
        return find_hops(self.address, self._ssh_folder)

    def close(self) -> None:
        """Close the connection and all its channels; safe to call twice."""
        with self._lock:
            self._close()

    def _connect(self) -> tuple[paramiko.Transport, bool]:
        """The transport to the board, and whether it was opened just now."""
        with self._lock:
            if self._transports and all(each.is_active() for each in self._transports):
                return self._transports[-1], False
            self._close()
            try:
                for hop in self.hops():
                    before = self._transports[-1] if self._transports else None
                    self._transports.append(
                        open_transport(hop, before, self.name, self.known_hosts, self._ask)
                    )
            except BaseException:
                self._close()
                raise
            return self._transports[-1], True

    def _close(self) -> None:
        while self._transports:
            self._transports.pop().close()


def _start(transport: paramiko.Transport, command: str, timeout_s: float) -> paramiko.Channel:
    channel = transport.open_session(timeout=timeout_s)
    # The library waits without end for the server's word on the command.
    watchdog = threading.Timer(timeout_s, channel.close)
    watchdog.daemon = True
    watchdog.start()
    try:
        channel.exec_command(command)
    except BaseException:
        channel.close()
        raise
    finally:
        watchdog.cancel()
    return channel
