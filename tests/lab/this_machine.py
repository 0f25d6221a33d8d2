"""This machine as a board: an SSH server on 127.0.0.1 that leads to it."""

from __future__ import annotations

import getpass
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devices.host_key import HostKey
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.host_keys import trust_host_key
from tests.unit.devices.rpc import free_port, listens, wait_until

from .board import fingerprint_of, make_key

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PermitRootLogin prohibit-password
UsePAM no
LogLevel ERROR
"""


@dataclass(frozen=True)
class Way:
    """An SSH server that leads to this machine.

    Attributes:
        process: The server.
        address, host_key: Where it is, and what it shows.
    """

    process: subprocess.Popen[bytes]
    address: SshAddress
    host_key: HostKey

    def sessions(self) -> list[int]:
        """Its processes that serve somebody, and those below them."""
        found, rest = [], [self.process.pid]
        while rest:
            pid = rest.pop()
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                children = [int(word) for word in path.read_text(encoding="ascii").split()]
                found += children
                rest += children
        return found

    def connect(
        self, name: str, known_hosts: Path, address: SshAddress | None = None
    ) -> SshConnection:
        """A connection that trusts the server's key; the folder `ssh` configures it, if there."""
        trust_host_key(known_hosts, self.host_key)
        ssh_folder = known_hosts.with_name("ssh")
        return SshConnection(name, address or self.address, known_hosts, ssh_folder=ssh_folder)


@contextmanager
def leading_here(folder: Path) -> Iterator[Way]:
    """A server with keys and configuration in a folder; it must be root's to start."""
    port = free_port()
    make_key(folder / "host_key")
    make_key(folder / "key")
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "config").write_text(_CONFIG.format(port=port, folder=folder), encoding="ascii")
    process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")])
    kind, base64 = (folder / "host_key.pub").read_text(encoding="ascii").split()[:2]
    shown = fingerprint_of(folder / "host_key.pub")
    address = SshAddress("127.0.0.1", getpass.getuser(), port, None, folder / "key")
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, "the SSH server does not start"
        yield Way(process, address, HostKey(f"[127.0.0.1]:{port}", kind, base64, shown))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
