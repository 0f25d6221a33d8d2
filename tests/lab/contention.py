"""Hosts that want one board, with a store that all share, while their links are cut at random.

Three witnesses look for a moment at which two measured: a lock that every kernel's process takes
on the board (`naps.py`), the processes there (one that is in two looks was alive between them), and
the order of generations in the store.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from devices.device import Failure

from .board import Board
from .naps import OVERLAP
from .rig import Rig, check_rows, insist, rigged


@dataclass
class Watch:
    """Looks at a board's processes again and again, in a thread of its own.

    Attributes:
        overlaps: Pairs of runners whose children lived at the same time.
        n_looks: How often it looked, and how often it saw a kernel run.
        n_seen: The latter.
    """

    rig: Rig
    overlaps: list[tuple[int, ...]] = field(default_factory=list)
    n_looks: int = 0
    n_seen: int = 0

    def __post_init__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        before: dict[int, set[str]] = {}
        heads: set[int] = set()
        while not self._done.wait(0.002):
            if self.n_looks % 10 == 0:
                heads = set(self.rig.runners())
            now = {head: _children_of(head) for head in heads}
            # Alive between the two looks, all of them at once.
            measuring = tuple(head for head in now if now[head] & before.get(head, set()))
            self.n_looks += 1
            self.n_seen += bool(measuring)
            if len(measuring) > 1:
                self.overlaps.append(measuring)
            before = now


def _children_of(pid: int) -> set[str]:
    try:
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())
    except OSError:
        return set()


@dataclass(frozen=True)
class Contended:
    """What came of it.

    Attributes:
        n_troubles: Cut links, hosts that stood still, hosts that were killed.
        answers: That each host was given.
        sessions: That each host had.
        n_rows: In the store.
        n_refused: Answers that came under a lease that the other had taken over meanwhile.
        n_looks, n_seen: Of the watch.
    """

    n_troubles: dict[str, int]
    answers: dict[str, int]
    sessions: dict[str, int]
    n_rows: int
    n_refused: int
    n_looks: int
    n_seen: int


def hosts_of(
    board: Board, folder: Path, executable: Path, known_hosts: Path, stack: ExitStack
) -> list[Rig]:
    """One for each link of a board, with sweeps of a second, so that the lease goes round."""
    return [
        stack.enter_context(
            rigged(
                board,
                folder / f"host-{link}",
                executable,
                known_hosts,
                holder=f"host-{link}",
                link=link,
                store=str(folder / "shared.sqlite"),
                n_sweeps=10**6,
                n_rounds=3,
                n_blocks=40,  # so long that two at once would not go by unnoticed
                longest_pause_s=1.0,
            )
        )
        for link in range(board.n_links)
    ]


def contend(hosts: Sequence[Rig], seconds: float, rng: random.Random) -> Contended:
    """Let hosts contend for one board for so long, then compare all that they were told."""
    first = hosts[0]
    end_s = time.monotonic() + seconds
    n_troubles: Counter[str] = Counter()
    for host in hosts:
        host.start_host()
    with Watch(first) as watch:
        while time.monotonic() < end_s:
            time.sleep(rng.uniform(0.5, 3.0))
            for host in hosts:
                host.restart_if_stopped()
            chosen = rng.randrange(len(hosts))
            trouble = rng.choices(("cut", "freeze", "kill"), (6, 2, 1))[0]
            n_troubles[trouble] += 1
            _trouble(hosts[chosen], trouble, chosen, rng)
        for host in hosts:
            host.settings.stop_file.touch()
        for host in hosts:
            host.wait_until_done()
    first.check_clean()
    return _compare(hosts, watch, n_troubles)


def _trouble(host: Rig, trouble: str, link: int, rng: random.Random) -> None:
    """A host's own link is cut, it stands still for a while, or it dies."""
    seconds = rng.uniform(0.2, 2.5) * host.settings.silence_s
    if trouble == "cut":
        host.board.cut(link)
        time.sleep(seconds)
        host.board.mend(link)
    elif trouble == "freeze":
        host.freeze_host(seconds)
    else:
        host.kill_host()
        host.start_host()


def _compare(hosts: Sequence[Rig], watch: Watch, n_troubles: Counter[str]) -> Contended:
    rows = hosts[0].rows()
    journal = [line for host in hosts for line in host.journal()]
    killed_at_s = [at_s for host in hosts for at_s in host.killed_at_s]
    insist(not watch.overlaps, f"runners that measured at once: {watch.overlaps}")
    overlaps = [
        row for row in rows if isinstance(row.outcome, Failure) and OVERLAP in row.outcome.detail
    ]
    insist(not overlaps, f"kernels that met on the board: {overlaps}")
    holders: dict[int, set[str]] = {}
    for line in journal:
        holders.setdefault(line["generation"], set()).add(line["host"])
    shared = {generation: names for generation, names in holders.items() if len(names) > 1}
    insist(not shared, f"one generation, two hosts: {shared}")
    n_missing = check_rows(rows, journal, killed_at_s, len(hosts))
    names = Counter(line["host"] for line in journal)
    sessions = Counter(next(iter(each)) for each in holders.values())
    return Contended(
        dict(n_troubles), dict(names), dict(sessions), len(rows), n_missing, watch.n_looks,
        watch.n_seen,
    )  # fmt: skip
