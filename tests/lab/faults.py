"""What happens to boards and hosts, at a moment that a seed chooses."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .rig import DEVICE_TROUBLE, FOLDER, Rig, insist, wait_for

_FILLER = ".filler"
_WEEK_S = 7 * 86400.0


def lose_connection(rig: Rig, rng: random.Random) -> None:
    """The cable is pulled, for a moment or for longer than silence is borne."""
    silence_s = rig.settings.silence_s
    outage_s = rng.uniform(0.1, 0.5) if rng.random() < 0.3 else rng.uniform(0.8, 2.0) * silence_s
    rig.board.cut()
    time.sleep(outage_s)
    rig.board.mend()


def reboot(rig: Rig, rng: random.Random) -> None:
    """Power goes and comes back: no process of before, another boot id, the disk as it was."""
    is_silent = rng.random() < 0.5
    if is_silent:
        rig.board.cut()  # a board without power says no goodbye
    rig.board.stop()
    time.sleep(rng.uniform(0.0, 1.0))
    if is_silent:
        rig.board.mend()
    rig.board.start()


def hang_kernel(rig: Rig, _: random.Random) -> None:
    """A kernel stands still for good, until the runner's time-out."""
    while True:
        child = rig.child()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
            if _state_of(child) == "T":
                break
    wait_for(lambda: _state_of(child) in {None, "Z"}, f"the hung kernel of {rig.name} to be ended")


def crash_kernel(rig: Rig, _: random.Random) -> None:
    """A kernel reads where it must not."""
    with suppress(ProcessLookupError):
        os.kill(rig.child(), signal.SIGSEGV)


def crash_runner(rig: Rig, _: random.Random) -> None:
    """The runner is ended from one moment to the next; its children see to themselves."""
    with suppress(ProcessLookupError):
        os.kill(rig.runner(), signal.SIGKILL)


def fill_disk(rig: Rig, rng: random.Random) -> None:
    """No byte is free on the board, while it measures, or when all has to be sent anew."""
    folder = rig.board.root_of(FOLDER)
    filler = folder.parent / _FILLER
    needs_room = rng.random() < 0.5
    if needs_room:
        os.kill(rig.runner(), signal.SIGSTOP)  # so that it meets a full disk when it comes back
        for path in (folder / "files").iterdir():
            if path.is_file():
                path.unlink()
    _fill(filler)
    if not needs_room:
        rig.wait_for_answers(3)
        filler.unlink()
        return
    crash_runner(rig, rng)
    code = rig.wait_for_host()
    insist(code == DEVICE_TROUBLE, f"ended with {code} on a full disk: {rig.said()}")
    said = rig.said()
    insist(f"DeviceFullError: {rig.name}" in said, f"does not name the full board: {said}")
    filler.unlink()
    rig.start_host()


def kill_host(rig: Rig, rng: random.Random) -> None:
    """SIGKILL, as when a machine loses power; another process goes on some time later."""
    rig.kill_host()
    time.sleep(rng.uniform(0.0, 1.0))
    rig.start_host()


def jump_clock(rig: Rig, rng: random.Random) -> None:
    """Clocks jump by up to a week, either way: the host's, and what the board's has left behind.

    No clock of one board alone can be set on a machine that plays several: the kernel has one
    CLOCK_REALTIME. So the board's jump is made where it can matter: in the times of its files.
    """
    rig.settings.clock_file.write_text(f"{rng.uniform(-_WEEK_S, _WEEK_S)}", encoding="ascii")
    at_s = time.time() + rng.uniform(-_WEEK_S, _WEEK_S)
    folder = rig.board.root_of(FOLDER)
    for path in (*folder.glob("files/*"), *folder.glob("lease*")):
        os.utime(path, (at_s, at_s))
    crash_runner(rig, rng)


FAULTS: dict[str, Callable[[Rig, random.Random], None]] = {
    "lost connection": lose_connection,
    "reboot": reboot,
    "hung kernel": hang_kernel,
    "crash of a kernel": crash_kernel,
    "crash of the runner": crash_runner,
    "full disk": fill_disk,
    "killed host": kill_host,
    "clock that jumps": jump_clock,
}


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def _state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
