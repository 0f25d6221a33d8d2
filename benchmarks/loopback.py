"""An SSH server on this machine's loopback, so that the same processor is a board, too."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv HOME={folder}
Subsystem sftp internal-sftp
"""
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Loopback:
    """A server that runs.

    Attributes:
        address: For `latloop device enroll`.
        key_file: The private key that it takes.
        fingerprint: Of its host key.
    """

    address: str
    key_file: Path
    fingerprint: str


@contextmanager
def loopback_server(folder: Path) -> Iterator[Loopback]:
    """Run OpenSSH's server for the present account, on a free port of 127.0.0.1.

    Raises:
        RuntimeError: there is no server, or it does not start; the message says why.
    """
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if server is None:
        raise RuntimeError("no sshd on this machine (Debian: package openssh-server)")
    for name in ("host_key", "key"):
        (folder / name).unlink(missing_ok=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(port=port, folder=folder))
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)  # the server wants it, whatever it is for
    process = subprocess.Popen([server, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        fingerprint = _run("ssh-keygen", "-lf", str(folder / "host_key.pub")).split()[1]
        address = f"{getpass.getuser()}@127.0.0.1:{port}"
        yield Loopback(address, folder / "key", fingerprint)
    finally:
        process.terminate()
        process.wait()


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"sshd does not listen on port {port}; run it with -d to see why")
