"""The same command for several boards at once, each in a process of its own.

A board that is slow, hangs or is lost holds up its own process alone. The processes share the store
and the builds, which both are made for that.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from profiler.bench import StageProgress, quiet

_PROGRESS: Final = re.compile(r"(.+): (\d+)/(\d+)")
_N_LAST_LINES: Final = 15
#: A Python that is importing may swallow an interrupt: each is asked again, and killed in the end.
_N_INTERRUPTS: Final = 6
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended for one device.

    Attributes:
        exit_code: Of the process; negative where a signal ended it.
        document: The JSON document that it printed, or None.
        words: What it said on stderr besides its progress, the last lines.
    """

    exit_code: int
    document: Mapping[str, Any] | None
    words: str


@dataclass(slots=True)
class _Worker:
    device: str
    process: subprocess.Popen[str]
    words: deque[str] = field(default_factory=lambda: deque(maxlen=_N_LAST_LINES))
    printed: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)

    def listen(self, progress: StageProgress) -> None:
        """Read what the process says, in threads of their own."""
        for read in (lambda: self._read_words(progress), self._read_document):
            self.readers.append(threading.Thread(target=read, daemon=True))
            self.readers[-1].start()

    def wait(self) -> None:
        """Wait for the end of the process."""
        for reader in self.readers:
            reader.join()
        self.process.wait()

    def has_ended_by(self, deadline_s: float) -> bool:
        """Whether the process ends before a time of the monotonic clock, in seconds."""
        try:
            self.process.wait(max(0.0, deadline_s - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a person who asks again
            return False
        return True

    def _read_words(self, progress: StageProgress) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                found = _PROGRESS.fullmatch(line.strip())
                if found:
                    progress(f"{self.device}: {found[1]}", int(found[2]), int(found[3]))
                else:
                    self.words.append(line)
                    progress(f"{self.device}: {line.strip()}", 0, 0)

    def _read_document(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.printed += lines

    def end(self) -> Ended:
        """What is left of a process that has ended."""
        printed = "".join(self.printed)
        document = json.loads(printed) if printed else None
        return Ended(self.process.returncode, document, "".join(self.words).strip())


def work_side_by_side(
    commands: Mapping[str, Sequence[str]], progress: StageProgress = quiet
) -> dict[str, Ended]:
    """Run a `latloop` command for each device, and wait for all.

    An interrupt is passed on, and every process ends as it does when it runs alone: what it
    measured is kept. One that has not ended after some seconds is asked again.

    Args:
        commands: Arguments of `latloop`, with `--json`, by device.
        progress: Called with the device's name and its stage.

    Returns:
        How each ended, in the order of the commands.
    """
    workers: list[_Worker] = []
    try:
        for device, arguments in commands.items():
            workers.append(_start(device, arguments, progress))
        for worker in workers:
            worker.wait()
    except KeyboardInterrupt:
        _interrupt(workers)
        raise
    return {worker.device: worker.end() for worker in workers}


def _interrupt(workers: Sequence[_Worker]) -> None:
    for _ in range(_N_INTERRUPTS):
        for worker in workers:
            worker.process.send_signal(signal.SIGINT)
        deadline_s = time.monotonic() + _PATIENCE_S
        if all(worker.has_ended_by(deadline_s) for worker in workers):
            return
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def _start(device: str, arguments: Sequence[str], progress: StageProgress) -> _Worker:
    # A session of its own: Ctrl-C reaches the caller alone, who passes it on.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "latloop", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    worker = _Worker(device, process)
    worker.listen(progress)
    return worker
