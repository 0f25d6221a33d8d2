"""A board with a host that sweeps it, to be brought into trouble, and what must hold afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.device import Failure, Timing
from profiler.store import Store, Visit

from .board import USER, Board
from .naps import NAPS_US, least_ns
from .sweeper import DEVICE_TROUBLE, Settings

#: On the board, on a disk that can be filled and outlives restarts.
FOLDER = "/data/latloop"
DISK_BYTES = 4 << 20
ROOT = Path(__file__).parents[2]
WAIT_S = 240.0
#: Of answers that a killed host had, so much may be missing in the store: what it wrote down last.
MOST_LOST_S = 5.0
_Key = tuple[int, str, tuple[int, ...] | None, str | None]


class BrokenPromiseError(AssertionError):
    """Something was lost, wrong, or left behind."""


def insist(claim: object, text: str) -> None:
    """Fail with a text that says what is broken."""
    if not claim:
        raise BrokenPromiseError(text)


def wait_for(is_so: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Until something is so."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        insist(time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.02)


@dataclass
class Rig:
    """A board, a host, and what both did.

    Attributes:
        board: It is on.
        settings: Of the host.
        killed_at_s: Monotonic seconds at which hosts were killed.
        n_stops: How often a host found no board when it began a sweep, said so, and was started
            again, as a person would.
    """

    board: Board
    settings: Settings
    killed_at_s: list[float] = field(default_factory=list)
    n_stops: int = 0
    _host: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.settings.board

    def start_host(self) -> None:
        """Let a host go on from what the store has."""
        with (Path(self.settings.folder) / "said").open("ab") as said:
            self._host = subprocess.Popen(
                self.settings.arguments,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={name: text for name, text in os.environ.items() if name != "SSH_AUTH_SOCK"},
            )

    def kill_host(self) -> None:
        """SIGKILL."""
        assert self._host is not None
        self._host.kill()
        self._host.wait()
        self.killed_at_s.append(time.monotonic())

    def wait_for_host(self, timeout_s: float = WAIT_S) -> int:
        """Its exit code."""
        assert self._host is not None
        wait_for(self.has_ended, f"the host of {self.name} to end; {self.said()}", timeout_s)
        return int(self._host.returncode)

    def wait_until_done(self) -> None:
        """Until the host has made its last sweep."""
        while self.wait_for_host():
            self.restart_if_stopped()

    def freeze_host(self, seconds: float) -> None:
        """It stands still, and knows of nothing when it goes on."""
        assert self._host is not None
        self._host.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._host.send_signal(signal.SIGCONT)

    def restart_if_stopped(self) -> None:
        """Start a host again that found no board where a sweep begins, if it says which."""
        if not self.has_ended():
            return
        assert self._host is not None
        code, said = self._host.returncode, self.said().splitlines()[-1:]
        is_told = (
            code == DEVICE_TROUBLE
            and said
            and said[0].startswith(
                (f"DeviceUnreachableError: {self.name}:", f"RunnerLostError: {self.name}:")
            )
        )
        insist(is_told, f"the host of {self.name} ended with {code}: {self.said()}")
        self.n_stops += 1
        time.sleep(0.5)
        self.start_host()

    def has_ended(self) -> bool:
        """Whether no host is running."""
        return self._host is None or self._host.poll() is not None

    def said(self) -> str:
        """The end of what hosts said."""
        path = Path(self.settings.folder) / "said"
        return path.read_text(errors="replace")[-800:] if path.exists() else ""

    def journal(self) -> list[dict[str, Any]]:
        """Every answer that a host was given, in order."""
        if not self.settings.journal.exists():
            return []
        text = self.settings.journal.read_text(encoding="ascii")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def n_answers(self) -> int:
        """How many those are."""
        if not self.settings.journal.exists():
            return 0
        return self.settings.journal.read_bytes().count(b"\n")

    def wait_for_answers(self, n: int) -> None:
        """Until hosts were given so many more."""
        before = self.n_answers()

        def is_so() -> bool:
            self.restart_if_stopped()
            return self.n_answers() >= before + n

        wait_for(is_so, f"{n} answers of {self.name}; {self.said()}")

    def runners(self) -> dict[int, tuple[int, ...]]:
        """Runners on the board, and the processes that measure for each."""
        found = {pid for pid, words in self.board.commands().items() if "files/" in words}
        parents = {pid: parent for pid in found if (parent := _parent_of(pid)) is not None}
        heads = [pid for pid in parents if parents[pid] not in found]
        return {
            head: tuple(pid for pid, parent in parents.items() if parent == head) for head in heads
        }

    def runner(self) -> int:
        """The process that measures, waited for."""
        found: list[int] = []

        def is_so() -> bool:
            self.restart_if_stopped()
            found[:] = self.runners()
            return len(found) == 1

        wait_for(is_so, f"one runner on {self.name}")
        return found[0]

    def child(self) -> int:
        """A process that runs a kernel at this moment."""
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            runner = self.runner()
            path = Path(f"/proc/{runner}/task/{runner}/children")
            try:
                for _ in range(2000):
                    if children := path.read_text(encoding="ascii").split():
                        return int(children[0])
            except OSError:
                continue
        raise BrokenPromiseError(f"no kernel ran on {self.name}")

    def finish(self) -> None:
        """Let the host end after its last sweep, and see that nothing is left on the board."""
        self.wait_until_done()
        self.check_clean()

    def check_clean(self) -> None:
        """No process of ours, and the lease is free."""
        left = self.board.wait_until_idle()
        insist(not left, f"left on {self.name}: {left}")
        with (self.board.root_of(FOLDER) / "lease").open("rb") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BrokenPromiseError(f"the lease of {self.name} is stuck") from None

    def check_one_runner(self) -> None:
        """While a host measures: its runner alone is there."""
        wait_for(lambda: len(self.runners()) <= 1, f"orphans on {self.name} to end", 60.0)

    def rows(self) -> list[Visit]:
        """All that the store has of the board."""
        with Store.open(self.settings.store) as store:
            return [visit for device in store.devices() for visit in store.visits(device.device_id)]

    def check_rows(self) -> None:
        """Nothing lost, nothing wrong: the store is what hosts were answered, once each."""
        check_rows(self.rows(), self.journal(), self.killed_at_s)

    def check_whole(self) -> None:
        """Every visit of every sweep was made, but for kernels that failed."""
        rows = [row for row in self.rows() if row.purpose == "tune"]
        have = {(row.subject, row.round_index) for row in rows if isinstance(row.outcome, Timing)}
        with Store.open(self.settings.store) as store:
            ids = [device.device_id for device in store.devices()]
            failed = {name[0] for device_id in ids for name in store.failed_kernels(device_id)}
        sweeps = {tuple(row.subject.split()[:2]) for row in rows}
        wanted = {
            (subject, index)
            for host, number in sweeps
            for kernel in NAPS_US
            for index in range(self.settings.n_rounds)
            if (subject := f"{host} {number} {kernel}") not in failed
        }
        insist(wanted <= have, f"never visited on {self.name}: {sorted(wanted - have)[:5]}")


def check_rows(
    rows: list[Visit], journal: list[dict[str, Any]], killed_at_s: list[float], n_hosts: int = 1
) -> int:
    """Compare a store with what hosts were answered, and each row with what is known of it.

    What a host was answered last may be missing where that host was killed, or where another host
    took the board over before the answers were kept.

    Returns:
        How many answers are missing.
    """
    answered = Counter(map(_key_of_answer, journal))
    kept = Counter(key for row in rows if (key := _key_of_row(row)) is not None)
    insist(not (kept - answered), f"nobody was answered this: {list(kept - answered)[:3]}")
    missing = answered - kept
    lost = [line for line in journal if _key_of_answer(line) in missing]
    last_s = {line["generation"]: line["at_s"] for line in journal}
    for line in lost:
        generation, at_s = line["generation"], line["at_s"]
        is_killed = any(0 <= killed_s - at_s < MOST_LOST_S for killed_s in killed_at_s)
        is_taken_over = (
            n_hosts > 1 and generation < max(last_s) and last_s[generation] - at_s < MOST_LOST_S
        )
        insist(is_killed or is_taken_over, f"lost, for no reason: {line}")
    _check_each(rows)
    return missing.total()


def _check_each(rows: list[Visit]) -> None:
    latest = 0
    for row in rows:
        insist(row.session.generation >= latest, f"of an old generation: {row}")
        latest = row.session.generation
        if isinstance(row.outcome, Timing):
            least = least_ns(row.kernel) * row.outcome.n_repeats
            insist(min(row.outcome.block_ns) >= least, f"too fast to be true: {row}")
        else:
            insist(row.outcome.reason in {"timeout", "board_lost", "crash"}, f"wrong: {row}")
    boots: dict[int, str] = {}
    for row in rows:
        if row.outcome != Failure("board_lost", "the board went down while this was in flight"):
            was = boots.setdefault(row.session.generation, row.session.boot_id)
            insist(was == row.session.boot_id, f"of another boot than its session: {row}")


def _key_of_answer(line: dict[str, Any]) -> _Key:
    blocks = None if line["block_ns"] is None else tuple(line["block_ns"])
    return (line["generation"], line["kernel"], blocks, line["reason"])


def _key_of_row(row: Visit) -> _Key | None:
    generation = row.session.generation
    if isinstance(row.outcome, Timing):
        return (generation, row.kernel, row.outcome.block_ns, None)
    if row.outcome.reason == "board_lost" or "ended the runner" in row.outcome.detail:
        return None
    return (generation, row.kernel, None, row.outcome.reason)


def _parent_of(pid: int) -> int | None:
    """None for one that is gone, or only waits to be noticed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[1])


@contextmanager
def rigged(
    board: Board, folder: Path, executable: Path, known_hosts: Path, **options: Any
) -> Iterator[Rig]:
    """A host for a board that is on; it has not started. Ended whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {"n_sweeps": 1, "n_rounds": 25, "store": str(folder / "store.sqlite"), **options}
    settings = Settings(
        board=named.pop("name", "lab"),
        ip=board.ip_of(named.pop("link", 0)),
        user=USER,
        key=str(board.key),
        known_hosts=str(known_hosts),
        directory=FOLDER,
        executable=str(executable),
        triple="x86_64-linux-gnu",
        folder=str(folder),
        holder=named.pop("holder", "first"),
        **named,
    )
    rig = Rig(board, settings)
    try:
        yield rig
    finally:
        if not rig.has_ended():
            rig.kill_host()
