"""A port of this machine that leads to one of a board's own, through a separate `ssh` process.

Separate, because a forwarder in the process that waits for TVM's RPC hung: the library may hold
Python's lock while it waits. The process is told everything that `devices.ssh` knows: where to go,
which host keys are trusted (Latloop's own file), and which keys to try. It asks for nothing, so a
board that takes passwords alone is out of its reach.

The session that holds the tunnel open is a script on the board that ends with its input, which this
process alone can write to: so no tunnel is left when this process dies, however it does. (With `ssh
-N` there would be.)
"""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from devices.errors import (
    AuthenticationRefusedError,
    DeviceUnreachableError,
    InventoryError,
    MissingRuntimeError,
)
from devices.ssh import scripts
from devices.ssh.address import Hop

OPEN_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 3.0
_N_TRIES: Final = 5
_READY: Final = b"latloop tunnel\n"
_LAST_WORDS_CHARS: Final = 1000
_PORT_TAKEN: Final = re.compile(r"Address already in use|cannot listen to port")
_PID_LINE: Final = re.compile(r"^latloop \d+\n", re.MULTILINE)
_GLOBAL: Final = """\
BatchMode yes
StrictHostKeyChecking yes
UserKnownHostsFile {known_hosts}
GlobalKnownHostsFile /dev/null
UpdateHostKeys no
ConnectTimeout 15
ServerAliveInterval 5
ServerAliveCountMax 3
ExitOnForwardFailure yes
ControlPath none
LogLevel ERROR
"""
_HOLD: Final = f"echo {_READY.decode().strip()}; exec cat >/dev/null"
#: Ends with its input, and takes the server with it; or with the server.
_SERVE: Final = """\
/bin/sh -c {command} </dev/null >&2 &
server=$!
{{ while kill -0 $server 2>/dev/null; do sleep 1; done; kill $$; }} &
guard=$!
echo {ready}
cat >/dev/null
kill $guard
{kill_server}"""


@dataclass(slots=True)
class Tunnel:
    """An open tunnel.

    Attributes:
        port: Of 127.0.0.1, which leads to the board's.
    """

    port: int
    _process: subprocess.Popen[bytes]
    _folder: tempfile.TemporaryDirectory[str]
    _words: IO[bytes]

    @property
    def is_open(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    def close(self) -> str:
        """End it and what it started on the board, once; returns what was said there last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()
        with self._words:
            self._words.seek(0)
            said = self._words.read().decode(errors="replace").replace("\r", "")
        return _PID_LINE.sub("", said).strip()[-_LAST_WORDS_CHARS:]


def open_tunnel(
    name: str, hops: Sequence[Hop], known_hosts: Path, port: int, command: str = ""
) -> Tunnel:
    """Open a tunnel to a port of a board's own 127.0.0.1.

    Args:
        name: The device's, for messages.
        hops: The way to the board; see `devices.ssh.address.find_hops`.
        known_hosts: Host keys that a person has agreed to.
        port: On the board.
        command: A line for the board's shell that starts what listens there; it is ended with the
            tunnel, and the tunnel with it. "" when that runs already.

    Raises:
        MissingRuntimeError: this machine has no `ssh`.
        AuthenticationRefusedError: the board takes none of the keys that `ssh` may use.
        DeviceUnreachableError: `ssh` cannot get there.
        InventoryError: a path or a name cannot be told to `ssh`.
    """
    for _ in range(_N_TRIES):
        near_port = _free_port()
        tunnel = _start(hops, known_hosts, near_port, port)
        try:
            if _is_ready(tunnel, command):
                return tunnel
        except BaseException:
            tunnel.close()
            raise
        said = tunnel.close()
        if not _PORT_TAKEN.search(said):
            break
    if "Permission denied" in said:
        raise AuthenticationRefusedError(
            f"{name}: ssh may use keys alone for a tunnel to {hops[-1]}, and none is taken: put a "
            f"key into an agent, or name a key_file without a passphrase: {said}"
        )
    raise DeviceUnreachableError(
        f"{name}: no tunnel to {hops[-1]}: {said or 'ssh does not answer'}"
    )


def _start(hops: Sequence[Hop], known_hosts: Path, near_port: int, far_port: int) -> Tunnel:
    folder = tempfile.TemporaryDirectory(prefix="latloop-ssh-")
    config = Path(folder.name, "config")
    config.write_text(ssh_config(hops, known_hosts), encoding="utf-8")
    forward = f"127.0.0.1:{near_port}:127.0.0.1:{far_port}"
    words = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the tunnel
    try:
        process = subprocess.Popen(
            ["ssh", "-F", str(config), "-T", "-L", forward, _alias(len(hops) - 1), scripts.COMMAND],  # noqa: S607
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        folder.cleanup()
        words.close()
        raise MissingRuntimeError(
            "a tunnel to TVM's RPC server needs the program ssh; install it (Debian: apt install "
            "openssh-client)"
        ) from error
    return Tunnel(near_port, process, folder, words)


def _is_ready(tunnel: Tunnel, command: str) -> bool:
    """Send the script that holds the tunnel open, wait until it runs: then the port listens."""
    process = tunnel._process
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    deadline_s = time.monotonic() + OPEN_TIMEOUT_S
    try:
        process.stdin.write(scripts.encode(_script(command)))
        process.stdin.flush()
    except BrokenPipeError:
        return False
    while _READY not in said:
        left_s = deadline_s - time.monotonic()
        readable, _, _ = select.select([process.stdout], [], [], max(left_s, 0.0))
        part = os.read(process.stdout.fileno(), 4096) if readable else b""
        if not part:
            return False
        said += part
    return True


def _script(command: str) -> str:
    if not command:
        return _HOLD
    ready, end = _READY.decode().strip(), scripts.kill_tree("$server")
    return _SERVE.format(command=shlex.quote(command), ready=ready, kill_server=end)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ssh_config(hops: Sequence[Hop], known_hosts: Path) -> str:
    """OpenSSH's configuration for the way to a board, the last host of which is the board.

    Raises:
        InventoryError: a value cannot be written into it.
    """
    text = _GLOBAL.format(known_hosts=_quote(str(known_hosts)))
    for position, hop in enumerate(hops):
        lines = [
            f"Host {_alias(position)}",
            f"HostName {_quote(hop.host)}",
            f"Port {hop.port}",
            f"User {_quote(hop.user)}",
            f"HostKeyAlias {_quote(hop.key_name)}",
            f"IdentitiesOnly {'no' if hop.is_agent_wanted else 'yes'}",
            *(f"IdentityFile {_quote(str(path))}" for path in hop.key_files),
        ]
        if position:
            lines.append(f"ProxyJump {_alias(position - 1)}")
        text += "\n".join((*lines, ""))
    return text


def _alias(position: int) -> str:
    return f"latloop-hop-{position}"


def _quote(value: str) -> str:
    if re.search(r'["\\\x00-\x1f]', value):
        raise InventoryError(f"ssh cannot be told of {shlex.quote(value)}: rename it")
    return '"' + value.replace("%", "%%") + '"'
