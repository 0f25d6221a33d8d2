"""One device, and where what is measured and built for it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from devices.device import Device
from profiler.artifacts import ArtifactStore
from profiler.compilers import Compilers
from profiler.store import Purpose, Store
from profiler.target import Target

#: Called with what is being done, how much of it is done, and how much there is. Where there is
#: nothing to count (0 of 0) the text is a message to a person, such as why it takes longer.
StageProgress = Callable[[str, int, int], None]

#: Every visit that may decide which kernel of an operator is the fastest.
TUNING_PURPOSES: Final[frozenset[Purpose]] = frozenset({"tune", "evaluate", "measure"})


class NoKernelError(RuntimeError):
    """No schedule of an operator compiled and ran: the operator cannot be used on this device."""


def quiet(stage: str, done: int, total: int) -> None:
    """Report no progress."""


def staged(
    progress: StageProgress, stage: str, n_before: int = 0, total: int | None = None
) -> StageProgress:
    """Report what is counted under one stage, as a part of it; messages pass as they are."""

    def report(what: str, done: int, n: int) -> None:
        if n == 0:
            progress(what, 0, 0)
        else:
            progress(stage, n_before + done, n if total is None else total)

    return report


@dataclass(slots=True)
class Contact:
    """What became of a device while a bench was open.

    Attributes:
        was_had: Whether a runner answered on it: from then on it is waited for when it is away.
    """

    was_had: bool = False


@dataclass(frozen=True, slots=True)
class Bench:
    """One device, its target, and where results and builds are kept.

    Attributes:
        device: Where code runs.
        device_id: Its fingerprint, under which the store keeps what it did.
        target: What code is generated for.
        store, artifacts: Results and builds.
        link_folder: What devices are started with, and what goes into it; may be deleted.
        compilers: Processes that stay warm from build to build; whoever made the bench closes them.
        contact: Shared by all that this bench is used for.
    """

    device: Device
    device_id: str
    target: Target
    store: Store
    artifacts: ArtifactStore
    link_folder: Path
    compilers: Compilers
    contact: Contact = field(default_factory=Contact)
