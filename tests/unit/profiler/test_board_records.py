"""What a store remembers of boards: sessions and leases, flights, quarantine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.device import Failure
from profiler.board_records import NO_LEASE, Lease
from profiler.kernel_histories import BEHIND_FLAG, KernelName, in_flight
from profiler.session_meter import SessionUse
from profiler.store import Session, StaleGenerationError, Store, Visit

from .scripted import CRASH, DEVICE, PLAN, timing

ROOT = Path(__file__).parents[3]
BOARD = "a board"
VISIT = Visit(
    device_id=DEVICE.device_id,
    subject_kind="operator",
    subject="subject a",
    kernel="a",
    schedule="gemm rows=4",
    purpose="profile",
    round_index=0,
    plan=PLAN,
    outcome=timing(100),
)
A: KernelName = ("subject a", "gemm rows=4", "a")
LOST = Failure("board_lost", "gone")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        opened.register_device(DEVICE)
        yield opened


def begin(store: Store, generation: int, boot_id: str = "boot", name: str = BOARD) -> Session:
    """A session that starts when nobody else does."""
    latest = store.boards.latest_session(name)
    lease = Lease(name, generation)
    return store.boards.begin_session(DEVICE.device_id, lease, boot_id, latest)


def kept(store: Store) -> list[tuple[int, int]]:
    """Generation and round of each visit."""
    rows = store.visits(DEVICE.device_id)
    return [(row.session.generation, row.round_index) for row in rows]


def test_a_visit_keeps_its_session(store: Store) -> None:
    session = begin(store, 7)
    assert session == Session(session.number, 7, "boot")
    store.append([replace(VISIT, session=session), VISIT])
    assert [row.session for row in store.visits(DEVICE.device_id)] == [session, Session()]


def test_results_under_a_lease_that_was_taken_over_are_refused_as_a_whole(store: Store) -> None:
    old = begin(store, 7)
    store.append([replace(VISIT, session=old)])
    new = begin(store, 8)
    with pytest.raises(StaleGenerationError, match=r"generation 7 .* generation 8 has begun"):
        store.append(
            [replace(VISIT, session=new, round_index=1), replace(VISIT, session=old, round_index=2)]
        )
    store.append([replace(VISIT, session=new, round_index=3)])
    assert kept(store) == [(7, 0), (8, 3)]


def test_a_board_has_a_lease_of_its_own(store: Store) -> None:
    ours = begin(store, 7)
    begin(store, 900, name="another board")
    store.append([replace(VISIT, session=ours)])
    assert kept(store) == [(7, 0)]


def test_sessions_without_a_lease_do_not_shut_each_other_out(store: Store) -> None:
    sessions = [store.boards.begin_session(DEVICE.device_id, NO_LEASE, "boot", 0) for _ in range(3)]
    for session in sessions:
        store.append([replace(VISIT, session=session)])
    assert len(kept(store)) == 3


def test_a_session_that_was_slow_to_begin_is_refused(store: Store) -> None:
    """It took the lease, somebody else stole it and began, and then it comes."""
    latest = store.boards.latest_session(BOARD)
    begin(store, 8)
    with pytest.raises(StaleGenerationError, match="generation 7"):
        store.boards.begin_session(DEVICE.device_id, Lease(BOARD, 7), "boot", latest)


def test_a_lease_that_was_made_anew_counts_from_the_start(store: Store) -> None:
    old = begin(store, 57)
    new = begin(store, 1)
    store.append([replace(VISIT, session=new)])
    with pytest.raises(StaleGenerationError):
        store.append([replace(VISIT, session=old)])
    assert kept(store) == [(1, 0)]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=20))
def test_generations_of_kept_visits_never_go_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    """Four hosts take a lease over and over, and append whenever they like."""
    with Store.open(tmp_path_factory.mktemp("store") / "store.db") as store:
        store.register_device(DEVICE)
        held: dict[int, Session] = {}
        for n, (host, takes_over) in enumerate(steps):
            if takes_over:
                held[host] = begin(store, n + 1)
            if host in held:
                is_latest = held[host].generation == max(s.generation for s in held.values())
                visits = [replace(VISIT, session=held[host])]
                if is_latest:
                    store.append(visits)
                else:
                    with pytest.raises(StaleGenerationError):
                        store.append(visits)
        generations = [generation for generation, _ in kept(store)]
        assert generations == sorted(generations)


# Takes the lease over with the next generation, of which there is one on the board, and appends
# until somebody else has it.
CONTENDER = """
import fcntl, sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from profiler.store import StaleGenerationError, Store
from tests.unit.profiler.test_board_records import BOARD, DEVICE, VISIT, Lease
board = Path(sys.argv[2])
def take():
    with board.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        generation = int(file.read()) + 1
        file.seek(0)
        file.write(str(generation))
        return generation
with Store.open(sys.argv[3]) as store:
    n_taken = 0
    while n_taken < 25:
        latest = store.boards.latest_session(BOARD)
        lease = Lease(BOARD, take())
        n_taken += 1
        try:
            session = store.boards.begin_session(DEVICE.device_id, lease, "", latest)
            for index in range(4):
                store.append([replace(VISIT, session=session, round_index=index)])
        except StaleGenerationError:
            continue
"""


def test_two_processes_that_contend_leave_no_visit_of_an_old_generation(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "board").write_text("0")
    arguments = [ROOT, tmp_path / "board", tmp_path / "store.db"]
    hosts = [
        subprocess.Popen([sys.executable, "-c", CONTENDER, *map(str, arguments)]) for _ in range(2)
    ]
    assert [host.wait(timeout=120) for host in hosts] == [0, 0]
    generations = [generation for generation, _ in kept(store)]
    assert generations == sorted(generations)
    assert len(set(generations)) > 2


def test_a_lease_has_a_name_and_a_generation_or_neither() -> None:
    for name, generation in (("", 1), ("board", 0), ("board", -1)):
        with pytest.raises(ValueError, match="generation must be above 0 with a lease"):
            Lease(name, generation)


def test_the_use_of_sessions_adds_up(store: Store) -> None:
    boards = store.boards
    assert boards.use_of_sessions(DEVICE.device_id) == SessionUse(0, 0, 0)
    assert boards.use_of_sessions(DEVICE.device_id).utilization is None
    first, second, third = (begin(store, n) for n in (1, 2, 3))
    boards.end_session(first, SessionUse(1, 0, 10))
    boards.end_session(second, SessionUse(6, 2, 10))
    assert boards.use_of_sessions(DEVICE.device_id) == SessionUse(7, 2, 20)
    after = boards.use_of_sessions(DEVICE.device_id, after=first.number)
    assert after == SessionUse(6, 2, 10)
    assert after.utilization == 0.75
    assert boards.last_session(DEVICE.device_id) == third.number


def flight(name: str, boot_id: str, *, is_running: bool = True) -> Visit:
    session = Session(1, 0, boot_id)
    made = replace(VISIT, subject=f"subject {name}", kernel=name, outcome=LOST, session=session)
    return in_flight(made, is_running=is_running)


def settle(store: Store, boot_id: str) -> set[str]:
    found = store.boards.settle_flights(DEVICE.device_id, Session(2, 0, boot_id))
    return {kernel for _, _, kernel in found}


def test_only_what_was_in_flight_when_the_board_went_down_is_lost(store: Store) -> None:
    boards = store.boards
    landed = boards.take_off([flight("a", "monday")])
    boards.land(landed)
    boards.take_off([flight("b", "tuesday")])
    boards.take_off([flight("c", "monday"), flight("d", "monday", is_running=False)])
    assert boards.n_open_flights(DEVICE.device_id) == 3
    assert settle(store, "tuesday") == {"c", "d"}
    assert boards.n_open_flights(DEVICE.device_id) == 0
    assert settle(store, "wednesday") == set()
    rows = list(store.visits(DEVICE.device_id))
    assert [(row.kernel, row.outcome, row.flags) for row in rows] == [
        ("c", LOST, ()),
        ("d", LOST, (BEHIND_FLAG,)),
    ]
    assert {row.session for row in rows} == {Session(2, 0, "monday")}
    assert all(row.created for row in rows)
    assert {name for _, _, name in boards.suspects(DEVICE.device_id)} == {"c", "d"}


def lose(store: Store, *, is_running: bool = True) -> None:
    store.append([flight("a", "", is_running=is_running)])


def succeed(store: Store) -> None:
    store.append([VISIT])


@pytest.mark.parametrize(
    ("history", "is_suspect", "is_quarantined"),
    [
        ("", False, False),
        ("+", False, False),
        ("-", True, False),
        ("-+", False, False),
        ("--", True, True),
        ("-+-", True, False),
        ("--+", False, True),  # what was condemned once stays so
        ("=", True, False),  # behind others
        ("==", True, False),
        ("=-", True, False),
        ("=--", True, True),
        ("-=-", True, True),
        ("+--", True, False),  # it has run well before
        ("+---", True, True),
        ("+--+--", True, False),
        ("+-=--", True, True),
    ],
)
def test_twice_one_after_the_other_is_quarantine_and_thrice_for_what_ran_well(
    store: Store, history: str, is_suspect: bool, is_quarantined: bool
) -> None:
    for step in history:
        succeed(store) if step == "+" else lose(store, is_running=step == "-")
    assert (A in store.boards.suspects(DEVICE.device_id)) == is_suspect
    assert (A in store.boards.quarantined_kernels(DEVICE.device_id)) == is_quarantined
    assert (A in store.failed_kernels(DEVICE.device_id)) == is_quarantined
    assert store.boards.quarantined_kernels("another device") == frozenset()


def test_another_kernel_that_runs_well_acquits_nobody(store: Store) -> None:
    lose(store)
    store.append([replace(VISIT, kernel="another")])
    lose(store)
    assert store.boards.quarantined_kernels(DEVICE.device_id) == {A}


def test_a_visit_that_lost_the_board_is_made_again_and_is_no_failure(store: Store) -> None:
    succeed(store)
    store.append([replace(flight("a", ""), round_index=1)])
    keys = store.rounds_done(DEVICE.device_id, "profile")
    assert {key.round_index for key in keys} == {0}
    assert store.failed_kernels(DEVICE.device_id) == frozenset()
    store.append([replace(VISIT, outcome=CRASH, kernel="crashing")])
    assert {kernel for _, _, kernel in store.failed_kernels(DEVICE.device_id)} == {"crashing"}
    assert store.n_visits(DEVICE.device_id) == 2


OPERATOR = "dense:1x1x1x8:o8:k1x1:s1x1:p0.0.0.0:d1x1::float32"


@pytest.mark.parametrize("n_lost", [0, 2, 3])
def test_what_is_learned_leaves_out_what_is_in_quarantine(store: Store, n_lost: int) -> None:
    fast = replace(VISIT, subject=OPERATOR, outcome=timing(10))
    slow = replace(fast, kernel="slow", schedule="gemm rows=8", outcome=timing(30))
    store.append([fast, slow, *([replace(fast, outcome=LOST)] * n_lost)])
    (latency,) = store.operator_latencies(DEVICE.device_id)
    assert latency.alone_us == pytest.approx(30 if n_lost == 3 else 10)
    rows = store.candidate_latencies(DEVICE.device_id, {"profile"})
    assert len(rows) == (1 if n_lost == 3 else 2)


def test_a_network_in_quarantine_is_not_learned_from(store: Store) -> None:
    network = replace(
        VISIT, subject_kind="network", subject="space:1", schedule="", operators=(OPERATOR,)
    )
    store.append([network, replace(network, subject="space:2")])
    store.append([replace(network, outcome=LOST)] * 3)
    names = [row.name for row in store.network_latencies(DEVICE.device_id)]
    assert names == ["space:2"]


def test_quarantine_lasts_until_it_is_cleared(store: Store) -> None:
    boards = store.boards
    assert boards.quarantine_of(DEVICE.device_id) is None
    boards.put_in_quarantine(DEVICE.device_id, "no answer")
    boards.put_in_quarantine(DEVICE.device_id, "still no answer")
    found = boards.quarantine_of(DEVICE.device_id)
    assert found is not None
    assert found.reason == "no answer"
    assert boards.quarantine_of("another device") is None
    assert boards.clear_quarantine(DEVICE.device_id)
    assert boards.quarantine_of(DEVICE.device_id) is None
    assert not boards.clear_quarantine(DEVICE.device_id)
    boards.put_in_quarantine(DEVICE.device_id, "again")
    again = boards.quarantine_of(DEVICE.device_id)
    assert again is not None
    assert again.reason == "again"


def test_a_negative_number_or_generation_means_nothing() -> None:
    for number, generation in product((-1, 1), (-1, 1)):
        if min(number, generation) < 0:
            with pytest.raises(ValueError, match="must be >= 0"):
                Session(number, generation)
