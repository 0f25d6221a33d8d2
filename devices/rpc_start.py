"""Starts a runner in TVM's RPC server, through a client process that speaks with both."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.errors import (
    DeviceError,
    DeviceUnreachableError,
    ExecutableRefusedError,
    MissingRuntimeError,
    RunnerLostError,
)
from devices.local import start_process
from devices.protocol import PipeStream, read_frame

#: For importing TVM here, and for sending the library there.
_MARGIN_S: Final = 120.0
_LOOK_S: Final = 0.5
#: Reasons of `devices.rpc_client`.
_FAILURES: Final[dict[str, type[DeviceError]]] = {
    "missing": MissingRuntimeError,
    "unreachable": DeviceUnreachableError,
    "refused": ExecutableRefusedError,
}


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RpcServer:
    """A server that can be reached on this machine.

    Attributes:
        port: Of this machine's 127.0.0.1.
        own_port: That the server itself listens at, the same without a tunnel.
        connect_s: How long it may take to answer, its own start included.
        title: What messages call it, the device's name first.
        advice: What a person can do when it does not answer.
        is_reachable: False once the way to it is gone for good.
    """

    port: int
    own_port: int
    connect_s: float
    title: str
    advice: str
    is_reachable: Callable[[], bool] = _always


def start_in(
    server: RpcServer, library: Path, arguments: Sequence[str]
) -> tuple[PipeStream, Callable[[], str]]:
    """Load a library in a server and start the runner in it.

    Args:
        server: Serves nobody else now.
        library: From `profiler.link.link_library`.
        arguments: Of the runner.

    Returns:
        See `devices.local.start_process`.

    Raises:
        DeviceUnreachableError: the server does not answer.
        ExecutableRefusedError: it cannot load the library.
        MissingRuntimeError: this machine has no TVM with RPC.
    """
    ports = ["--port", str(server.port), "--server-port", str(server.own_port)]
    options = [*ports, "--connect-s", f"{server.connect_s:g}"]
    command = [sys.executable, "-P", "-m", "devices.rpc_client", *options, "--library"]
    stream, end = start_process([*command, str(library.absolute()), "--", *arguments])
    try:
        _await_ready(stream, server)
    except DeviceError as error:
        stream.close()
        said = end()
        raise (type(error)(f"{error}: {said}") if said else error) from error
    except BaseException:
        stream.close()
        end()
        raise
    return stream, end


def _await_ready(stream: PipeStream, server: RpcServer) -> None:
    deadline_s = time.monotonic() + server.connect_s + _MARGIN_S
    while not select.select([stream.read_fd], [], [], _LOOK_S)[0]:
        if not server.is_reachable():
            raise DeviceUnreachableError(f"{server.title} has ended; {server.advice}")
        if time.monotonic() > deadline_s:
            raise DeviceUnreachableError(f"{server.title} does not start a runner; try again")
    try:
        failure = read_frame(stream, _MARGIN_S).message.get("failure")
    except RunnerLostError as error:
        raise DeviceUnreachableError(f"{server.title} is gone; {server.advice}") from error
    if isinstance(failure, dict):
        kind = _FAILURES.get(str(failure.get("reason")), DeviceUnreachableError)
        advice = f"; {server.advice}" if kind is DeviceUnreachableError else ""
        raise kind(f"{server.title}: {failure.get('detail')}{advice}")
