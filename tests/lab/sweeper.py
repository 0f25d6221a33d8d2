"""A host of its own that sweeps a board: `python -m tests.lab.sweeper SETTINGS`, one JSON object.

It goes through the same device, recovery, pipeline and store as `latloop profile`, over short
visits. Beside the store it keeps a journal of every answer that it was given, as a
witness: a line each, written before anybody else sees the answer. It ends after its last sweep, or
after the one in which a file named `stop` was laid beside the journal.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from devices.board import Fingerprint
from devices.device import Failure, Timing, TimingRequest
from devices.errors import DeviceError
from devices.messages import RunnerDescription
from devices.session import RunnerSession
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.device import SshDevice
from profiler.artifacts import ArtifactStore
from profiler.bench import Bench
from profiler.compilers import Compilers
from profiler.measure import measure
from profiler.patience import Patience
from profiler.recovery import Held, hold_session
from profiler.store import Store
from profiler.target import Target

from .naps import item, items

DEVICE_TROUBLE = 21


@dataclass(frozen=True)
class Settings:
    """What a host is told.

    Attributes:
        board, ip, user, key, known_hosts, directory: The board, the way to it, its folder there.
        executable, triple: What is run.
        folder: Of this host: its journal, and a clock's offset in seconds, if there is one.
        store: Where results go.
        holder: Its name in leases.
        n_sweeps, n_rounds, n_blocks: How much is to be visited.
        silence_s, lease_s, longest_pause_s: See `SshDevice` and `Patience`.
        seed: Of the order of visits.
    """

    board: str
    ip: str
    user: str
    key: str
    known_hosts: str
    directory: str
    executable: str
    triple: str
    folder: str
    store: str
    holder: str
    n_sweeps: int
    n_rounds: int
    silence_s: float = 2.0
    lease_s: float = 600.0
    longest_pause_s: float = 15.0
    n_blocks: int = 3
    seed: int = 0

    @property
    def arguments(self) -> list[str]:
        """The command that is told this."""
        return [sys.executable, "-m", "tests.lab.sweeper", json.dumps(asdict(self))]

    @property
    def journal(self) -> Path:
        return Path(self.folder) / "journal"

    @property
    def stop_file(self) -> Path:
        return Path(self.folder) / "stop"

    @property
    def clock_file(self) -> Path:
        return Path(self.folder) / "clock"

    def now(self) -> datetime:
        """The time by this host's clock, which can be made to jump."""
        try:
            offset_s = float(self.clock_file.read_text(encoding="ascii") or 0)
        except FileNotFoundError:
            offset_s = 0.0
        return datetime.now(UTC) + timedelta(seconds=offset_s)


@dataclass
class WitnessedRunner:
    """A runner whose answers are written down."""

    session: RunnerSession
    journal: int
    host: str

    @property
    def description(self) -> RunnerDescription:
        return self.session.description

    def time_many(self, requests: Sequence[TimingRequest]) -> Iterator[Timing | Failure]:
        for index, outcome in enumerate(self.session.time_many(requests)):
            self._write(requests[index][0].calls[0].kernel, outcome)
            yield outcome

    def time(self, *request: object) -> Timing | Failure:
        workload, plan = request
        return next(self.time_many([(workload, plan)]))  # type: ignore[list-item]

    def run(self, *arguments: object) -> object:
        return self.session.run(*arguments)  # type: ignore[arg-type]

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, kernel: str, outcome: Timing | Failure) -> None:
        is_timing = isinstance(outcome, Timing)
        line = {
            "host": self.host,
            "generation": self.description.generation,
            "kernel": kernel,
            "block_ns": list(outcome.block_ns) if isinstance(outcome, Timing) else None,
            "reason": None if is_timing else outcome.reason,  # type: ignore[union-attr]
            "at_s": time.monotonic(),
        }
        os.write(self.journal, f"{json.dumps(line)}\n".encode())


@dataclass
class WitnessedDevice:
    """A board whose answers are written down."""

    board: SshDevice
    journal: int

    @property
    def name(self) -> str:
        return self.board.name

    @property
    def host_cores(self) -> tuple[int, ...]:
        return ()

    def fingerprint(self) -> Fingerprint:
        return self.board.fingerprint()

    def start(self, executable: Path) -> WitnessedRunner:
        return WitnessedRunner(self.board.start(executable), self.journal, self.board.holder)


def sweep_board(settings: Settings, device: WitnessedDevice, store: Store) -> None:
    """All sweeps, one after the other, from where the store is."""
    folder = Path(settings.folder)
    device_id = store.register_device(device.fingerprint())
    target = Target(settings.triple, "generic")
    artifacts = ArtifactStore(folder / "artifacts")
    bench = Bench(device, device_id, target, store, artifacts, folder, Compilers())  # type: ignore[arg-type]
    patience = Patience(lease_s=settings.lease_s, longest_pause_s=settings.longest_pause_s)
    done = [key.subject.split() for key in store.rounds_done(device_id, "tune")]
    first = max([int(number) for host, number, _ in done if host == settings.holder], default=0)
    for number in range(first, settings.n_sweeps):
        if settings.stop_file.exists():
            return

        def work(held: Held, number: int = number) -> None:
            rng = np.random.default_rng((settings.seed, number))
            sweep = held.sweep(
                item("canary", "canary", settings.n_blocks), "tune", settings.n_rounds, rng
            )
            measure(items(settings.holder, number, settings.n_blocks), sweep)

        hold_session(bench, Path(settings.executable), work, _say, patience)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(text: str) -> int:
    settings = Settings(**json.loads(text))
    address = SshAddress(settings.ip, settings.user, key_file=Path(settings.key))
    nowhere = Path(settings.folder) / "no-ssh"
    connection = SshConnection(
        settings.board, address, Path(settings.known_hosts), ssh_folder=nowhere
    )
    board = SshDevice(
        connection,
        settings.directory,
        holder=settings.holder,
        host="lab",
        silence_s=settings.silence_s,
    )
    journal = os.open(settings.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with Store.open(settings.store, settings.now) as store:
        try:
            sweep_board(settings, WitnessedDevice(board, journal), store)
        except DeviceError as error:
            _say(f"{type(error).__name__}: {error}")
            return DEVICE_TROUBLE
        finally:
            board.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
