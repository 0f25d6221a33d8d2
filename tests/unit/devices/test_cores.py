from __future__ import annotations

from pathlib import Path

import pytest

from devices.cores import choose_cores
from devices.errors import TooFewCoresError


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 2, 3, 6})


@pytest.mark.parametrize(
    ("threads", "core", "expected"),
    [
        (1, None, (6,)),
        (2, None, (6, 3)),
        (4, None, (6, 3, 2, 1)),
        (1, 2, (2,)),
        (3, 2, (2, 6, 3)),
        (1, 9, (9,)),  # the runner says that there is no such core
    ],
)
def test_the_last_cores_are_taken_after_the_one_that_is_named(
    tmp_path: Path, threads: int, core: int | None, expected: tuple[int, ...]
) -> None:
    assert choose_cores(threads, core, tmp_path) == expected


def test_cores_that_share_their_units_come_last(tmp_path: Path) -> None:
    for pair in ((6, 3), (2, 1)):
        for core in pair:
            folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(f"{min(pair)},{max(pair)}\n")
    assert choose_cores(2, None, tmp_path) == (6, 2)
    assert choose_cores(3, None, tmp_path) == (6, 2, 3)
    assert choose_cores(4, 1, tmp_path) == (1, 6, 3, 2)


def test_more_threads_than_cores_are_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(TooFewCoresError, match=r"threads must be at most 4, .* got 5"):
        choose_cores(5, None, tmp_path)


def test_cores_that_the_caller_prefers_are_taken_in_that_order(tmp_path: Path) -> None:
    assert choose_cores(2, None, tmp_path, (9, 7, 8)) == (9, 7)
    assert choose_cores(3, 8, tmp_path, (9, 7, 8)) == (8, 9, 7)
    with pytest.raises(TooFewCoresError, match=r"threads must be at most 3, .* got 4"):
        choose_cores(4, None, tmp_path, (9, 7, 8))
