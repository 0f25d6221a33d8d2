"""The integer program whose solution is the smallest arena, for HiGHS.

Variables: the offset o_i of each item, the arena's size M, and for each two items that are live
together x_ij = 1 where i lies below j, x_ji = 1 - x_ij otherwise. Minimise M under

    o_i + s_i <= o_j + U (1 - x_ij)                    disjoint; U bounds the arena
    sum of s_i x_ij over the others of C  <= o_j       for each set C of items live at one call,
    o_j + s_j + sum of s_i x_ji           <= M         and each j of C

The first line alone is enough, but its relaxation is weak: x = 1/2 makes it void. The other two
say the same of all items of a call together and are what makes the program solvable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import highspy
import numpy as np

from profiler.plan_pack import Items

_THREADS: Final = 1


def solve(
    items: Items, most_bytes: int, room: int, unit_bytes: int, time_limit_s: float
) -> tuple[tuple[float, ...] | None, bool]:
    """Look for a packing of at most some size, the smaller the better.

    Args:
        items: What is to be packed.
        most_bytes: The packing may reach so far.
        room: No packing is better than one that reaches so far.
        unit_bytes: Divides all of these.
        time_limit_s: Seconds that it may take.

    Returns:
        Offsets, in units, exact but for rounding, or None where none was found; and whether it is
        proved that none is smaller, or that there is none.
    """
    if time_limit_s <= 0:
        return None, False
    program = _Program(items, most_bytes // unit_bytes, room // unit_bytes, unit_bytes)
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", _THREADS),
        ("time_limit", time_limit_s),
        ("random_seed", 0),
        ("mip_rel_gap", 0.0),
        ("mip_abs_gap", 0.99),  # sizes are whole units
    ):
        solver.setOptionValue(option, value)
    solver.passModel(program.model())
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return None, True
    solution = solver.getSolution()
    if not solution.value_valid:
        return None, False
    offsets = tuple(solution.col_value[: len(items.sizes)])
    return offsets, status == highspy.HighsModelStatus.kOptimal


class _Program:
    """Columns: offsets, the arena's size, then x of each pair (i, j), i < j."""

    def __init__(self, items: Items, most: int, room: int, unit_bytes: int) -> None:
        self._sizes = [size // unit_bytes for size in items.sizes]
        self._most, self._room = most, room
        self._size_column = len(self._sizes)
        pairs = [(i, j) for i, near in enumerate(items.neighbours) for j in sorted(near) if i < j]
        self._columns = {pair: self._size_column + 1 + k for k, pair in enumerate(pairs)}
        self._rows: list[dict[int, float]] = []
        self._uppers: list[float] = []
        for i, j in pairs:
            self._keep_apart(i, j)
        for together in _largest_sets(items):
            for item in together:
                self._stack(item, [other for other in together if other != item])

    def _add(self, terms: Sequence[tuple[int, float]], upper: float) -> None:
        row: dict[int, float] = {}
        for column, factor in terms:
            row[column] = row.get(column, 0.0) + factor
        self._rows.append(row)
        self._uppers.append(upper)

    def _is_below(self, i: int, j: int, factor: float) -> tuple[int, float, float]:
        """Write factor * x_ij as a column, its factor and a constant."""
        if i < j:
            return self._columns[i, j], factor, 0.0
        return self._columns[j, i], -factor, factor

    def _keep_apart(self, i: int, j: int) -> None:
        x, most = self._columns[i, j], self._most
        self._add([(i, 1), (j, -1), (x, most)], most - self._sizes[i])
        self._add([(j, 1), (i, -1), (x, -most)], -self._sizes[j])

    def _stack(self, item: int, others: Sequence[int]) -> None:
        """What lies below an item, and what lies above it, among those live at one call."""
        below = [self._is_below(other, item, self._sizes[other]) for other in others]
        above = [self._is_below(item, other, self._sizes[other]) for other in others]
        self._add([(item, -1), *((c, f) for c, f, _ in below)], -sum(k for *_, k in below))
        self._add(
            [(item, 1), (self._size_column, -1), *((c, f) for c, f, _ in above)],
            -self._sizes[item] - sum(k for *_, k in above),
        )

    def model(self) -> highspy.HighsLp:
        """The program in HiGHS's form, rows compressed."""
        n_items, n_columns = self._size_column, self._size_column + 1 + len(self._columns)
        upper = np.ones(n_columns)
        upper[:n_items] = [self._most - size for size in self._sizes]
        upper[n_items] = self._most
        lower = np.zeros(n_columns)
        lower[n_items] = self._room
        if self._columns:
            # A packing turned upside down is a packing: the two largest lie in one order.
            pair = max(self._columns, key=lambda p: self._sizes[p[0]] + self._sizes[p[1]])
            lower[self._columns[pair]] = 1
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = n_columns, len(self._rows)
        model.col_cost_ = np.eye(1, n_columns, n_items)[0]
        model.col_lower_, model.col_upper_ = lower, upper
        model.row_lower_ = np.full(len(self._rows), -highspy.kHighsInf)
        model.row_upper_ = np.array(self._uppers, dtype=np.float64)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *map(len, self._rows)])
        model.a_matrix_.index_ = np.array([c for row in self._rows for c in row])
        model.a_matrix_.value_ = np.array([f for row in self._rows for f in row.values()])
        kind = highspy.HighsVarType
        model.integrality_ = [kind.kContinuous] * (n_items + 1) + [kind.kInteger] * len(
            self._columns
        )
        return model


def _largest_sets(items: Items) -> list[list[int]]:
    """Items that are live at one call, for the calls of which no other's items include them."""
    n_positions = 1 + max(last for _, last in items.spans)
    at_call: list[list[int]] = [[] for _ in range(n_positions)]
    for item, (first, last) in enumerate(items.spans):
        for position in range(first, last + 1):
            at_call[position].append(item)
    # With intervals a call's set is largest where the next change is an end after a beginning.
    ends = {last for _, last in items.spans}
    starts = {first for first, _ in items.spans}
    found, has_begun = [], False
    for position in range(n_positions):
        has_begun |= position in starts
        if has_begun and position in ends:
            found.append(at_call[position])
            has_begun = False
    return found
