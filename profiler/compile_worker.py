"""A process that compiles kernels: `python -m profiler.compile_worker`.

TVM and LLVM live here and nowhere else: a crash of theirs costs one kernel, and who only predicts
never waits for their import, which takes seconds. It happens once: the process forks a child for
each compiler that is asked for, in milliseconds. `profiler.compilers` is the other side.

Standard input is a socket. The process sends a line `{}` when it is ready. A message with a
socket's descriptor asks for a child that serves it and is answered with the child's `pid`; a
message with a `pid` asks how that child ended and is answered with its exit `status`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable

from profiler.operator import Operator, parse_key
from profiler.schedules.schedule import Schedule, parse_schedule
from profiler.target import Target
from profiler.torchless import leave_torch_out

#: Operator, schedule, target and the text of a generic operator's loops to an object file.
Compile = Callable[[Operator, Schedule, Target, str | None], bytes]

_MESSAGE_BYTES = 4096
#: Others, the measuring host among them, come first.
_NICENESS = 10


def main() -> None:
    """Serve until standard input ends."""
    serve(_load_compiler)


def serve(load: Callable[[], Compile]) -> None:
    """Serve until standard input ends, and take all children along.

    Args:
        load: Imports the compiler.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when work stops
    os.nice(_NICENESS)
    compile_one = load()
    control = socket.socket(fileno=os.dup(0))
    control.sendall(b"{}\n")
    while True:
        message, descriptors, *_ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not message:
            break
        if descriptors:
            answer = {"pid": _fork(control, descriptors[0], compile_one)}
        else:
            _, status = os.waitpid(json.loads(message)["pid"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        control.sendall(json.dumps(answer).encode() + b"\n")
    os.killpg(0, signal.SIGKILL)


def _load_compiler() -> Compile:
    leave_torch_out()
    from profiler.compile import compile_kernel  # noqa: PLC0415  # seconds of import

    return compile_kernel


def _fork(control: socket.socket, descriptor: int, compile_one: Compile) -> int:
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    control.close()
    os.close(0)
    try:
        _compile_requests(socket.socket(fileno=descriptor), compile_one)
    finally:
        os._exit(0)


def _compile_requests(connection: socket.socket, compile_one: Compile) -> None:
    """Read one JSON request a line; answer with a JSON line, and the object file's bytes if any."""
    for line in connection.makefile("rb"):
        request = json.loads(line)
        target = Target(**{**request["target"], "features": tuple(request["target"]["features"])})
        try:
            data = compile_one(
                parse_key(request["operator"]),
                parse_schedule(request["schedule"]),
                target,
                request["loops"],
            )
        except Exception as error:  # TVM raises anything; it becomes a failure row
            header: dict[str, object] = {"error": f"{type(error).__name__}: {error}"[-2000:]}
            data = b""
        else:
            header = {"n_bytes": len(data)}
        connection.sendall(json.dumps(header).encode() + b"\n" + data)


if __name__ == "__main__":
    main()
