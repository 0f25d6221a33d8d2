"""A process that compiles kernels: `python -m profiler.compile_worker`.

TVM and LLVM live here and nowhere else: a crash of theirs costs one kernel, and who only
predicts never waits for their import. It reads one JSON request a line from standard input, and
answers each with a JSON line, followed by the object file's bytes where there is one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import BinaryIO

from profiler.operator import parse_key
from profiler.schedules.schedule import parse_schedule
from profiler.target import Target


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when work stops
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    from profiler.compile import compile_kernel  # noqa: PLC0415  # seconds of import

    for line in sys.stdin:
        request = json.loads(line)
        target = Target(**{**request["target"], "features": tuple(request["target"]["features"])})
        try:
            data = compile_kernel(
                parse_key(request["operator"]),
                parse_schedule(request["schedule"]),
                target,
                request["loops"],
            )
        except Exception as error:  # TVM raises anything; it becomes a failure row
            _answer(answers, {"error": f"{type(error).__name__}: {error}"[-2000:]}, b"")
        else:
            _answer(answers, {"n_bytes": len(data)}, data)


def _answer(stream: BinaryIO, header: dict[str, object], data: bytes) -> None:
    stream.write(json.dumps(header).encode() + b"\n" + data)
    stream.flush()


if __name__ == "__main__":
    main()
