from __future__ import annotations

from dataclasses import replace

import pytest

from devices.board import Board
from devices.errors import BoardChangedError
from devices.tables import BoardTable, facts_of, identity_of

BOARD = Board(
    architecture="aarch64",
    cpu_model="Cortex-A72",
    cpu_features=("asimd",),
    n_cores=4,
    memory_bytes=4 << 30,
    l1_bytes=0,
    l2_bytes=0,
    l3_bytes=0,
    max_clock_mhz=None,
    serial="s1",
)


def test_what_the_table_says_stands_in_place_of_what_the_board_says() -> None:
    table = BoardTable(architecture="armv7l", l2_bytes=1 << 20, max_clock_mhz=1500.0)
    changed = table.overlay(BOARD)
    assert changed == replace(BOARD, architecture="armv7l", l2_bytes=1 << 20, max_clock_mhz=1500.0)
    assert BoardTable().overlay(BOARD) == BOARD


def test_a_table_of_a_boards_own_facts_changes_nothing() -> None:
    assert BoardTable(**facts_of(BOARD)).overlay(BOARD) == BOARD  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "same",
    [
        BOARD,
        replace(BOARD, memory_bytes=BOARD.memory_bytes - (256 << 20)),  # a newer kernel's share
        replace(BOARD, max_clock_mhz=1500.0, l1_bytes=1, cpu_features=("asimd", "crc32")),
    ],
)
def test_a_board_stays_itself_under_another_kernel(same: Board) -> None:
    identity_of(BOARD).check(same, "desk")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("serial", "s2"),
        ("cpu_model", "Cortex-A76"),
        ("architecture", "armv7l"),
        ("n_cores", 8),
        ("memory_bytes", 8 << 30),
    ],
)
def test_another_board_is_told_apart_with_what_differs(key: str, value: object) -> None:
    other = replace(BOARD, **{key: value})  # type: ignore[arg-type]
    was = getattr(BOARD, key)
    with pytest.raises(BoardChangedError) as caught:
        identity_of(BOARD).check(other, "desk")
    said = str(caught.value)
    assert "another board answers at the address of desk" in said
    assert f"{key} was {was!r} and is {value!r}" in said
    assert "latloop device enroll desk user@host --replace" in said
