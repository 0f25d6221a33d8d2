"""What every store must do, whatever database is behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from devices.board import Board, Fingerprint, Runtime
from devices.device import Conditions, Failure, Timing, TimingPlan
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.store import RoundKey, Store, Visit
from profiler.store_schema import metadata

BOARD = Board("x86_64", "Some CPU", ("avx2", "fma"), 2, 1 << 32, 32768, 1 << 20, 0, None, "")
RUNTIME = Runtime("latloop", 1, (("runner", "1"), ("tvm", "0.27")), "6.1", "Debian 12", "")
DEVICE = Fingerprint(BOARD, RUNTIME)
OTHER = Fingerprint(BOARD, replace(RUNTIME, threads=2))
PLAN = TimingPlan(1000, 2000, 3, False, 500)
QUIET = Conditions(0.25, 1, None, 2400.0, None)
BUSY = Conditions(1.5, 3, 7, None, 61.5, 12, 0x50005, "ondemand")
CONV = Operator("conv2d", (1, 8, 8, 16), 32, epilogue=("bias", "relu"))
POOL = Operator("global_avg_pool2d", (1, 8, 8, 32), 32)
NOW = datetime(2025, 3, 1, 12, 30, tzinfo=UTC)


def _sqlite_path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


def _sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def _postgres(_: Path) -> str:
    url = os.environ["LATLOOP_TEST_POSTGRES"]
    engine = create_engine(url)
    metadata.drop_all(engine)
    engine.dispose()
    return url


BACKENDS = [_sqlite_path, _sqlite_url]
if "LATLOOP_TEST_POSTGRES" in os.environ:
    BACKENDS.append(_postgres)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    locate: Callable[[Path], str] = request.param
    return locate(tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url, clock=lambda: NOW) as opened:
        opened.register_device(DEVICE)
        yield opened


def timing(*block_us: float, call_us: list[list[float]] | None = None) -> Timing:
    """A timing of two repetitions a block, each repetition as long as given."""
    calls = None if call_us is None else np.rint(np.array(call_us) * 1000).astype(np.int64)
    return Timing(2, tuple(round(us * 2000) for us in block_us), calls, 20, 1, QUIET, BUSY)


def visit(
    outcome: Timing | Failure,
    subject: Operator | str = CONV,
    schedule: str = "gemm rows=4",
    **changes: object,
) -> Visit:
    made = Visit(
        device_id=DEVICE.device_id,
        subject_kind="operator" if isinstance(subject, Operator) else "network",
        subject=subject.key if isinstance(subject, Operator) else subject,
        kernel=f"hash of {schedule}",
        schedule=schedule if isinstance(subject, Operator) else "",
        purpose="profile",
        round_index=0,
        plan=PLAN,
        outcome=outcome,
        operators=() if isinstance(subject, Operator) else (CONV.key, POOL.key, CONV.key),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_visit_reads_back_as_it_was_appended(store: Store) -> None:
    made = visit(timing(3, 4, 5), flags=("canary_moved", "hot"), round_index=2, purpose="tune")
    store.append([made])
    assert list(store.visits(DEVICE.device_id)) == [
        replace(made, created="2025-03-01T12:30:00.000+00:00")
    ]


def test_a_network_reads_back_with_operators_and_call_times(store: Store) -> None:
    call_us = [[1.0, 2.0, 3.0], [1.5, 2.5, 2.0**40]]
    made = visit(timing(7, call_us=call_us), "space:01")
    store.append([made, visit(timing(7), "space:01", round_index=1)])
    with_calls, without = store.visits(DEVICE.device_id, "network")
    assert with_calls.operators == without.operators == (CONV.key, POOL.key, CONV.key)
    assert isinstance(with_calls.outcome, Timing)
    assert with_calls.outcome.call_ns is not None
    assert with_calls.outcome.call_ns.dtype == np.int64
    np.testing.assert_array_equal(with_calls.outcome.call_ns, np.rint(np.array(call_us) * 1000))
    assert isinstance(without.outcome, Timing)
    assert without.outcome.call_ns is None


def test_a_failure_is_a_row(store: Store) -> None:
    made = visit(Failure("timeout", "killed after 500 ms"))
    store.append([made])
    assert [row.outcome for row in store.visits(DEVICE.device_id)] == [made.outcome]


def test_visits_are_found_by_kind_subject_and_purpose_in_the_order_made(store: Store) -> None:
    store.append(
        [
            visit(timing(1), CONV, purpose="tune"),
            visit(timing(2), POOL, "pool"),
            visit(timing(3), "space:01", purpose="evaluate"),
            visit(timing(4), CONV),
        ]
    )

    def found(**query: object) -> list[int]:
        rows = store.visits(DEVICE.device_id, **query)  # type: ignore[arg-type]
        return [row.outcome.block_ns[0] // 2000 for row in rows if isinstance(row.outcome, Timing)]

    assert found() == [1, 2, 3, 4]
    assert found(subject_kind="operator") == [1, 2, 4]
    assert found(subject=CONV.key) == [1, 4]
    assert found(purposes={"profile", "evaluate"}) == [2, 3, 4]
    assert found(subject_kind="network", purposes={"tune"}) == []
    assert list(store.visits("another device")) == []


def test_more_visits_than_a_page_are_all_read(store: Store) -> None:
    store.append([visit(timing(1), round_index=i) for i in range(250)])
    assert [row.round_index for row in store.visits(DEVICE.device_id)] == list(range(250))


def test_devices_read_back_once_each(store: Store) -> None:
    store.register_device(OTHER)
    assert store.register_device(DEVICE) == DEVICE.device_id
    assert set(store.devices()) == {DEVICE, OTHER}
    assert len(store.devices()) == 2


def test_a_visit_to_an_unknown_device_is_refused_and_nothing_of_its_batch_kept(
    store: Store,
) -> None:
    with pytest.raises(ValueError, match="registered before"):
        store.append([visit(timing(1)), visit(timing(1), device_id="stranger")])
    assert list(store.visits(DEVICE.device_id)) == []


def test_what_was_appended_is_there_when_opened_again(url: str) -> None:
    with Store.open(url) as store:
        store.register_device(DEVICE)
        store.append([visit(timing(1))])
    with Store.open(url) as store:
        assert len(list(store.visits(DEVICE.device_id))) == 1


def test_rounds_done_hold_failures_and_one_purpose_only(store: Store) -> None:
    store.append(
        [
            visit(timing(1), round_index=0),
            visit(Failure("crash", "signal 11"), round_index=1),
            visit(timing(1), round_index=2, purpose="tune"),
        ]
    )
    assert store.rounds_done(DEVICE.device_id, "profile") == {
        RoundKey(CONV.key, "gemm rows=4", "hash of gemm rows=4", i) for i in (0, 1)
    }


def test_the_fastest_schedule_is_kept_by_the_median_of_visit_medians(store: Store) -> None:
    # gemm: visit medians 10, 12, 20 -> 12. tile: 5, 13, 14 -> 13, though its best is lower.
    slow = [visit(timing(*b), CONV, "tile rows=2") for b in ((5, 5, 5), (13, 1, 99), (14, 14, 14))]
    fast = [visit(timing(*b)) for b in ((9, 10, 50), (12, 12, 12), (20, 20, 20))]
    store.append([*slow, *fast])
    (latency,) = store.operator_latencies(DEVICE.device_id)
    assert latency.operator == CONV
    assert latency.schedule == Schedule("gemm", (("rows", 4),))
    assert latency.alone_us == pytest.approx(12.0)
    assert latency.relative_spread == pytest.approx((20 - 10) / 2 / 12)
    assert latency.in_place_us is None
    assert store.best_schedules(DEVICE.device_id) == {CONV: latency.schedule}
    assert store.best_schedules(DEVICE.device_id, operators=[CONV, POOL]) == {
        CONV: latency.schedule
    }
    assert store.best_schedules(DEVICE.device_id, operators=[POOL]) == {}


def test_a_kernel_that_failed_under_any_purpose_is_not_kept(store: Store) -> None:
    store.append(
        [
            visit(timing(1), CONV, "tile rows=2"),
            visit(Failure("crash", "signal 11"), CONV, "tile rows=2", purpose="tune"),
            visit(timing(9), CONV),
            visit(Failure("timeout", "500 ms"), POOL, "pool"),
        ]
    )
    schedules = store.best_schedules(DEVICE.device_id)
    assert {op: schedule.text for op, schedule in schedules.items()} == {CONV: "gemm rows=4"}


def test_equally_fast_schedules_go_by_text(store: Store) -> None:
    store.append([visit(timing(3), CONV, text) for text in ("tile rows=2", "gemm rows=8")])
    assert store.best_schedules(DEVICE.device_id)[CONV].text == "gemm rows=8"


def test_flagged_visits_are_left_out_only_while_three_others_remain(store: Store) -> None:
    clean = [visit(timing(us)) for us in (10, 11)]
    moved = [visit(timing(us), flags=("canary_moved",)) for us in (30, 31, 32)]
    store.append([*clean, *moved])
    (few_clean,) = store.operator_latencies(DEVICE.device_id)
    assert few_clean.alone_us == pytest.approx(30.0)
    store.append([visit(timing(12), flags=("warm",))])
    (enough,) = store.operator_latencies(DEVICE.device_id)
    assert enough.alone_us == pytest.approx(11.0)
    assert enough.relative_spread == pytest.approx(1 / 11)


def test_latency_in_place_is_the_median_over_visits_to_networks_that_hold_it(
    store: Store,
) -> None:
    def network(calls: list[list[float]], **changes: object) -> Visit:
        return visit(timing(50, call_us=calls), "space:01", **changes)

    store.append([visit(timing(9), CONV), visit(timing(2), POOL, "pool")])
    # conv is called first and third: a repetition's sample is their mean.
    store.append(
        [
            network([[10, 3, 20], [12, 4, 20], [90, 5, 90]]),  # 15, 16, 90 -> 16; pool 4
            network([[20, 6, 20]]),  # 20; pool 6
            network([[18, 7, 18]]),  # 18; pool 7
            network([[99, 99, 99]], purpose="evaluate"),
        ]
    )
    by_operator = {
        latency.operator: latency for latency in store.operator_latencies(DEVICE.device_id)
    }
    assert by_operator[CONV].in_place_us == pytest.approx(18.0)
    assert by_operator[POOL].in_place_us == pytest.approx(6.0)
    assert by_operator[CONV].alone_us == pytest.approx(9.0)


def test_a_network_has_one_session_for_each_visit(store: Store) -> None:
    store.append([visit(timing(*b), "space:01") for b in ((7, 8, 9), (4, 4, 99), (5, 6, 7))])
    store.append([visit(timing(1), "space:02", purpose="evaluate")])
    (latency,) = store.network_latencies(DEVICE.device_id)
    assert latency.name == "space:01"
    assert latency.operators == (CONV, POOL, CONV)
    assert latency.session_us == pytest.approx((8.0, 4.0, 6.0))
    assert latency.latency_us == pytest.approx(6.0)


def test_a_network_is_described_by_the_program_timed_last(store: Store) -> None:
    store.append(
        [
            visit(timing(9), "space:01", kernel="old"),
            visit(timing(5), "space:01", kernel="new"),
            visit(Failure("crash", "signal 11"), "space:01", kernel="newest"),
        ]
    )
    (latency,) = store.network_latencies(DEVICE.device_id)
    assert latency.session_us == pytest.approx((5.0,))


def test_the_tables_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
