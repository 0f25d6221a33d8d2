"""Faults at random moments on several boards at once: `make soak`, or `python -m tests.lab.soak`.

Each board has a host that sweeps it without end; a thread brings both into trouble, waits until
answers come again, and sees that one runner is there. Every so often the host is let to its end,
and all that it was ever answered is compared with its store. The kinds of faults take turns in
random order, so that all come equally often. Beside them two hosts contend for a board of their
own. Progress stands in a folder: the same command goes on after it was interrupted.

What is drawn follows from the seed; at which instruction a fault strikes does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path

from devices.fingerprint import read_architecture, read_fingerprint
from devices.ssh.host_keys import trust_host_key
from profiler.target import Target

from .board import Board, Server, make_key
from .conftest import host_key_of
from .contention import Contended, contend, hosts_of
from .faults import FAULTS
from .naps import build_naps
from .rig import DISK_BYTES, ROOT, BrokenPromiseError, Rig, rigged

#: A store is compared with what its host was answered after so many faults.
FAULTS_A_STORE = 16
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Struck:
    """One fault, and what came of it.

    Attributes:
        board, index, kind: Which fault it was on which board.
        recovery_s: From its beginning until answers came again.
        error: What was broken, or "".
    """

    board: str
    index: int
    kind: str
    recovery_s: float
    error: str = ""


@dataclass
class Soak:
    """One run.

    Attributes:
        folder: Holds `faults.jsonl`, what runs before have done, and a folder of this run.
        seed: Of all that is drawn.
        n_faults: In all, those of runs before among them.
        deadline_s: Monotonic seconds at which the run ends early.
    """

    folder: Path
    seed: int
    n_faults: int
    deadline_s: float

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.struck = [Struck(**json.loads(line)) for line in self._lines()]
        self._n_begun = len(self.struck)
        self.n_visits = 0
        self.n_lost_with_hosts = 0
        self.n_stops = 0
        self.contended: Contended | None = None

    def _lines(self) -> list[str]:
        path = self.folder / "faults.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def may_go_on(self) -> bool:
        """Whether another fault is to be brought about; counts it."""
        with self._lock:
            if self._n_begun >= self.n_faults or time.monotonic() > self.deadline_s:
                return False
            self._n_begun += 1
            return True

    def end_early(self) -> None:
        """Bring no more about: what is under way comes to its end."""
        self.deadline_s = 0.0

    def note(self, struck: Struck) -> None:
        """Keep what came of a fault, and say so."""
        with self._lock:
            self.struck.append(struck)
            with (self.folder / "faults.jsonl").open("a") as file:
                file.write(json.dumps(asdict(struck)) + "\n")
            text = struck.error or f"{struck.recovery_s:.1f} s"
            say(f"{len(self.struck)}/{self.n_faults} {struck.board} {struck.kind}: {text}")

    def contend(self, hosts: Sequence[Rig], seconds: float) -> None:
        """Two hosts contend for a board."""
        try:
            self.contended = contend(hosts, seconds, random.Random(f"{self.seed} contention"))
        except (BrokenPromiseError, OSError, AssertionError) as error:
            self.note(Struck("contended", -1, "contention", 0.0, repr(error)))
        say(f"contention: {self.contended}")

    def count(self, rig: Rig) -> None:
        """Add up what a store holds."""
        n_kept = sum(row.outcome.__class__.__name__ == "Timing" for row in rig.rows())
        n_answered = sum(line["block_ns"] is not None for line in rig.journal())
        with self._lock:
            self.n_visits += n_kept
            self.n_lost_with_hosts += n_answered - n_kept
            self.n_stops += rig.n_stops

    def strike(self, board: Board, name: str, run: Path, executable: Path, known: Path) -> None:
        """Faults on one board, one after the other, until there are enough."""
        done = max((s.index + 1 for s in self.struck if s.board == name), default=0)
        indices = count(done)
        for segment in count():
            folder = run / f"{name}-{segment}"
            with rigged(
                board, folder, executable, known, name=name, n_sweeps=10**6, seed=self.seed
            ) as rig:
                goes_on = self._strike_store(rig, indices)
            if not goes_on:
                return
            shutil.rmtree(folder)

    def _strike_store(self, rig: Rig, indices: Iterator[int]) -> bool:
        rig.start_host()
        for _ in range(FAULTS_A_STORE):
            if not self.may_go_on():
                self._close_store(rig)
                return False
            index = next(indices)
            kind = kind_of(self.seed, rig.name, index)
            begun_s = time.monotonic()
            try:
                strike_once(rig, kind, random.Random(f"{self.seed} {rig.name} {index}"))
            except (BrokenPromiseError, OSError, AssertionError) as error:
                self.note(Struck(rig.name, index, kind, time.monotonic() - begun_s, repr(error)))
                return False
            self.note(Struck(rig.name, index, kind, time.monotonic() - begun_s))
        return self._close_store(rig)

    def _close_store(self, rig: Rig) -> bool:
        rig.settings.stop_file.touch()
        try:
            rig.finish()
            rig.check_rows()
            rig.check_whole()
        except BrokenPromiseError as error:
            self.note(Struck(rig.name, -1, "comparison", 0.0, repr(error)))
            return False
        self.count(rig)
        return True


def kind_of(seed: int, board: str, index: int) -> str:
    """Kinds take turns, each turn in an order of its own."""
    turn, place = divmod(index, len(FAULTS))
    return random.Random(f"{seed} {board} turn {turn}").sample(sorted(FAULTS), len(FAULTS))[place]


def strike_once(rig: Rig, kind: str, rng: random.Random) -> None:
    """One fault at a random moment, until the host measures again."""
    rig.wait_for_answers(rng.randint(12, 50))
    time.sleep(rng.uniform(0.0, 0.3))
    FAULTS[kind](rig, rng)
    rig.wait_for_answers(4)
    rig.check_one_runner()


def say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")
    sys.stdout.flush()


@contextmanager
def boards_of(folder: Path, servers: Sequence[Server]) -> Iterator[list[Board]]:
    """Boards that are on, the last in two networks; removed whatever happens."""
    key = make_key(folder / "key")
    busybox = Path(shutil.which("busybox") or "busybox")
    with ExitStack() as stack:
        boards = []
        for index, server in enumerate(servers):
            number = (os.getpid() * 16 + index) % 16384
            n_links = 2 if index == len(servers) - 1 else 1
            board = Board(
                folder / f"root-{index}", number, server, key, busybox, DISK_BYTES, n_links
            )
            stack.callback(board.remove)
            board.make()
            board.start()
            for link in range(n_links):
                trust_host_key(folder / "known_hosts", host_key_of(board, board.ip_of(link)))
            boards.append(board)
        yield boards


def run(soak: Soak, n_boards: int, contention_s: float, cache: Path) -> None:
    """All boards at once."""
    servers: list[Server] = ["openssh" if i % 2 == 0 else "dropbear" for i in range(n_boards)]
    with tempfile.TemporaryDirectory(prefix="run-", dir=soak.folder) as text, ExitStack() as stack:
        folder = Path(text)
        folder.chmod(0o755)
        executable = build_naps(Target("x86_64-linux-gnu", "generic"), cache, folder)
        known = folder / "known_hosts"
        *boards, contended = stack.enter_context(boards_of(folder, [*servers, "openssh"]))
        work: list[Callable[[], None]] = [
            partial(soak.strike, board, f"board-{i}", folder, executable, known)
            for i, board in enumerate(boards)
        ]
        if contention_s:
            hosts = hosts_of(contended, folder, executable, known, stack)
            work.append(partial(soak.contend, hosts, contention_s))
        threads = [threading.Thread(target=each) for each in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if any(struck.error for struck in soak.struck):
            kept = soak.folder / f"broken-{datetime.now(UTC):%H%M%S}"
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("root-*", "*.c", "*.o"))


def summary(soak: Soak, n_boards: int, minutes: float, n_before: int) -> dict[str, object]:
    """Figures of a run."""
    n_done = len([s for s in soak.struck[n_before:] if s.index >= 0])
    times_s = sorted(s.recovery_s for s in soak.struck if not s.error and s.index >= 0)
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.strip()
    return {
        "seed": soak.seed,
        "n_boards": n_boards,
        "faults": dict(sorted(Counter(s.kind for s in soak.struck if s.index >= 0).items())),
        "n_faults": len([s for s in soak.struck if s.index >= 0]),
        "n_faults_of_this_run": n_done,
        "minutes_of_this_run": round(minutes, 2),
        "faults_per_minute": round(n_done / minutes, 1),
        "recovery_s_median": round(times_s[len(times_s) // 2], 2) if times_s else None,
        "recovery_s_max": round(times_s[-1], 2) if times_s else None,
        "visits_compared_in_this_run": soak.n_visits,
        "answers_lost_with_killed_hosts": soak.n_lost_with_hosts,
        "hosts_that_stopped_and_named_the_board": soak.n_stops,
        "contention": soak.contended and asdict(soak.contended),
        "broken": [asdict(s) for s in soak.struck if s.error],
        "versions": {"ssh": ssh, "paramiko": version("paramiko"), "python": sys.version.split()[0]},
    }


def keep(figures: dict[str, object]) -> Path:
    """Write raw figures with the machine that played the boards, and the date."""
    root = Path("/")
    machine = read_fingerprint(root, read_architecture(root), 1, ())
    now = datetime.now(UTC)
    path = RESULTS / f"soak-{now:%Y-%m-%d}-{machine.board.id}.json"
    document = {
        "made_at": now.isoformat(timespec="seconds"),
        "board": asdict(machine.board),
        "kernel": platform.release(),
        "figures": figures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="in all, with runs before")
    parser.add_argument("--boards", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=90.0, help="end after so long")
    parser.add_argument("--contention-minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="default: that of the folder, or a new one")
    parser.add_argument("--folder", type=Path, default=Path(".soak"), help="progress")
    parser.add_argument("--cache", type=Path, default=Path(".test-cache"))
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    folder.mkdir(exist_ok=True)
    seed_file = folder / "seed"
    if given.seed is not None and not seed_file.exists():
        seed_file.write_text(f"{given.seed}\n")
    elif not seed_file.exists():
        seed_file.write_text(f"{random.SystemRandom().randrange(10**6)}\n")
    seed = int(seed_file.read_text())
    if given.seed not in {None, seed}:
        parser.error(f"{folder} holds progress of seed {seed}; give another --folder")
    say(f"seed {seed}; to go on, or to repeat it in an empty folder: --seed {seed}")
    begun_s = time.monotonic()
    soak = Soak(folder, seed, given.faults, begun_s + given.minutes * 60)
    n_before = len(soak.struck)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: soak.end_early())
    run(soak, given.boards, given.contention_minutes * 60, given.cache.absolute())
    figures = summary(soak, given.boards, (time.monotonic() - begun_s) / 60, n_before)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    say(f"written to {keep(figures)}")
    return 1 if figures["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
