"""Which cores the threads of a device run on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from devices.errors import TooFewCoresError
from devices.system_files import parse_cores, read_text


def choose_cores(
    threads: int,
    core: int | None = None,
    root: Path = Path("/"),
    allowed: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """A core for each thread, that of the thread which measures first.

    The others are the first of those allowed, those that share a processor's units with one chosen
    before (simultaneous multithreading) only when no others are left.

    Args:
        threads: How many are wanted.
        core: The one that measures; None takes the first of those allowed.
        root: Where `sys` is found.
        allowed: In order of preference. None takes those that this process may use, the last
            ones first, which serve fewer interrupts.

    Raises:
        TooFewCoresError: fewer cores are allowed.
    """
    if allowed is None:
        allowed = sorted(os.sched_getaffinity(0), reverse=True)
    chosen = [allowed[0] if core is None else core]
    rest = [other for other in allowed if other not in chosen]
    if threads - 1 > len(rest):
        n_most = 1 + len(rest)
        raise TooFewCoresError(
            f"threads must be at most {n_most}, the cores that may be used, got {threads}"
        )
    while len(chosen) < threads:
        shared = {twin for each in chosen for twin in _siblings(each, root)}
        following = next((other for other in rest if other not in shared), rest[0])
        chosen.append(following)
        rest.remove(following)
    return tuple(chosen)


def _siblings(core: int, root: Path) -> tuple[int, ...]:
    """Cores of the same units as this one, where the system tells."""
    folder = f"sys/devices/system/cpu/cpu{core}/topology"
    return parse_cores(read_text(root, f"{folder}/thread_siblings_list"))
