from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from operator_verdicts import ratio, share, their_share, tuning_s, verdicts
from operators_table import bound, peak_gflops, write_page

Row = dict[str, Any]


def row(judged: str = "product", **given: Any) -> Row:
    """An operator of 20 MFLOP and 1 MB on a core of 100 GFLOP/s and 10 GB/s: 200 us and 100 us."""
    return {
        "name": "some operator",
        "judged": judged,
        "n_flops": 20_000_000,
        "n_bytes": 1_000_000,
        "peak_flops": 1_000_000,
        "peak_us": [10.0, 10.0, 20.0],
        "read_bytes": 500_000,
        "read_us": [50.0, 50.0, 50.0],
        "own_us": [250.0, 250.0, 500.0],
        "their_us": [500.0, 400.0, 500.0],
        "own": {"tune_s": 1.0, "start_s": 2.0, "schedule": "gemm"},
        "theirs": {"seconds": 100.0, "n_trials": 64},
    } | given


def figures(*eight: Row, more: tuple[Row, ...] = (), **network: Any) -> Row:
    kept = {"name": "net", "n_operators": 33, "tune_s": 20.0, "cached_s": 0.2} | network
    return {"eight": list(eight), "more": list(more), "network": kept}


def test_a_share_compares_each_round_with_the_core_of_that_round() -> None:
    # 200 of 250, 200 of 250, and 400 of 500 while the core ran at half its speed
    assert share(row()) == pytest.approx(0.8)
    assert their_share(row()) == pytest.approx(0.5)
    assert ratio(row()) == pytest.approx(0.625)
    assert peak_gflops(row()) == pytest.approx(100)


def test_the_roofline_is_memory_where_bytes_take_longer_than_operations() -> None:
    assert bound(row()) == "peak"
    assert bound(row(n_flops=2_000_000)) == "memory"
    assert share(row(n_flops=2_000_000)) == pytest.approx(0.4)  # 100 of 250 us


def test_a_vector_is_measured_by_the_bandwidth_alone() -> None:
    assert share(row("vector")) == pytest.approx(0.4)


def test_the_start_of_the_compiler_is_not_tuning() -> None:
    assert tuning_s(row()) == 1.0


def passes(found: list[str]) -> list[bool]:
    assert all(line.startswith(("- PASS: ", "- MISS: ")) for line in found)
    return [line.startswith("- PASS") for line in found]


def test_goals_are_met_at_their_limits_and_missed_beyond() -> None:
    fast = row(own_us=[235.0, 235.0, 470.0])  # 0.851
    slow = row(own_us=[285.0, 285.0, 570.0])  # 0.702
    vector = row("vector", own_us=[125.0, 125.0, 125.0])  # 0.8
    assert passes(verdicts(figures(fast, more=(fast, slow, vector)))) == [True] * 7
    slower = row(own_us=[286.0, 286.0, 572.0])  # 0.699
    assert passes(verdicts(figures(fast, more=(fast, slower)))) == [True, False, *[True] * 4]
    assert passes(verdicts(figures(fast, more=(slow, slow))))[:2] == [False, True]
    late = row("vector", own_us=[126.0, 126.0, 126.0])
    assert passes(verdicts(figures(fast, more=(vector, late))))[2] is False


def test_every_operator_must_beat_metaschedule_in_a_hundredth_of_its_time() -> None:
    def last_four(*eight: Row, **network: Any) -> list[bool]:
        return passes(verdicts(figures(*eight, **network)))[-4:]

    assert last_four(row(), row()) == [True] * 4
    assert last_four(row(), row(their_us=[240.0, 240.0, 499.0])) == [False, True, True, True]
    short = {"seconds": 99.0, "n_trials": 64}
    assert last_four(row(), row(theirs=short)) == [True, False, True, True]
    assert last_four(row(), tune_s=60.1) == [True, True, False, True]
    assert last_four(row(), n_operators=61) == [True, True, False, True]
    assert last_four(row(), cached_s=2.1) == [True, True, True, False]


def test_operators_that_nothing_is_asked_of_are_not_judged() -> None:
    hopeless = row("not", own_us=[9000.0, 9000.0, 9000.0])
    assert verdicts(figures(row(), more=(hopeless,))) == verdicts(figures(row()))


def test_the_page_has_a_row_for_each_operator_and_a_picture_of_both_sides(tmp_path: Path) -> None:
    source = tmp_path / "operators.json"
    board = {"n_cores": 2, "cpu_model": "Toy"}
    document = {
        "made_at": "2026-11-25T10:00:00",
        "board": board,
        "figures": figures(row(name="first"), row(name="second"), more=(row(name="third"),)),
    }
    source.write_text(json.dumps(document))
    write_page(source, tmp_path)
    page = (tmp_path / "operators.md").read_text()
    assert "| first | peak | 250.0 | 80 | 0.800 | 500.0 | 0.625 | 1.00 | 100 |" in page
    assert "| third | peak | 250.0 | 80 | 0.800 |" in page
    assert "2-core Toy virtual machine, 2026-11-25" in page
    assert "100 GFLOP/s in the median" in page
    picture = ET.fromstring((tmp_path / "operators.svg").read_text())
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [
        "roofline", "first", "0.80", "MetaSchedule", "0.50", "second", "0.80", "MetaSchedule",
        "0.50",
    ]  # fmt: skip
