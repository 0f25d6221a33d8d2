"""Sums, maxima and functions along the last axis, row by row: softmax, layer norm and chains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tvm
import tvm_ffi
from tvm import tirx

from profiler.kernels.lanes import Index, Reader, Views
from profiler.kernels.steps import OtherFormError, Step, aligned, loads_in, n_calls, read_steps
from profiler.kernels.tasks import Task, run
from profiler.kernels.tir import (
    MOST_NAMES,
    Buffer,
    Expression,
    Names,
    RegisterFile,
    Registers,
    Statement,
    block,
    function,
    load,
    number,
    over,
    store,
)
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, pieces

#: Narrower rows are not worth a vector.
_LEAST_COLUMNS: Final = 8
_MOST_KEPT: Final = 24
_MOST_STEPS: Final = 12
#: Functions in one step; the longest, erf, names 13 values.
_MOST_CALLS: Final = 2
_COMBINE: Final[Mapping[str, Callable[[Expression, Expression], Expression]]] = {
    "add": lambda a, b: a + b,
    "max": tirx.max,
}


@dataclass(frozen=True, slots=True)
class Rows:
    """A function whose every step runs along the same rows.

    Attributes:
        views: Its tensors.
        passes: Steps that run together: no total of a pass is read in the same one.
        rows: Variables of the loops around, and their extents.
        column: The variable along a row.
        n_columns: Numbers in a row.
        spilled: What is made in one pass and read in another; it lies in the output's row until
            that is overwritten. None where there is no such tensor.
    """

    views: Views
    passes: tuple[tuple[Step, ...], ...]
    rows: Mapping[Any, int]
    column: Any
    n_columns: int
    spilled: Buffer | None

    @property
    def last(self) -> Step:
        """The step that makes the output."""
        return self.passes[-1][-1]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.rows.values())


def read_rows(source: tvm.tirx.PrimFunc) -> Rows:
    """Read a function as rows.

    Raises:
        OtherFormError: it is something else.
    """
    views, steps = Views(source.params), read_steps(source)
    if len(steps) > _MOST_STEPS or any(n_calls(step.value) > _MOST_CALLS for step in steps):
        raise OtherFormError("a long chain")
    reason = OtherFormError("no neighbours in memory")
    for column, n_columns in _columns(steps):
        try:
            return _read_along(views, steps, column, n_columns)
        except OtherFormError as error:
            reason = error
    raise reason


def _columns(steps: Sequence[Step]) -> Iterator[tuple[Any, int]]:
    """Variables that rows may run along, with the last step's names."""
    last = steps[-1]
    place = Index(last.target, last.indices)
    yield from ((v, extent) for v, extent in last.places.items() if place.distance(v) == 1)
    yield from next((step.terms.items() for step in reversed(steps) if step.terms), ())


def _read_along(views: Views, steps: Sequence[Step], column: Any, n_columns: int) -> Rows:
    if n_columns < _LEAST_COLUMNS:
        raise OtherFormError("short rows")
    steps = aligned(steps, column)
    *_, last = steps
    rows = {v: extent for v, extent in last.places.items() if not v.same_as(column)}
    for step in steps:
        if {v for v in step.places if not v.same_as(column)} != set(rows):
            raise OtherFormError("steps that do not run along the same rows")
        start = step.start
        if start is not None and not (
            isinstance(start, tirx.FloatImm)
            and (step.combine == "max" or float(start.value) == 0.0)
        ):
            raise OtherFormError("sums that start with something")
    passes = _passes(steps)
    return Rows(views, passes, rows, column, n_columns, _find_spilled(passes, column))


def _passes(steps: Sequence[Step]) -> tuple[tuple[Step, ...], ...]:
    passes: list[list[Step]] = [[]]
    for step in steps:
        sources = [load.source for load in loads_in(step.value)]
        if any(made.combine and made.target in sources for made in passes[-1]):
            passes.append([])
        passes[-1].append(step)
    return tuple(tuple(each) for each in passes)


def _find_spilled(passes: Sequence[Sequence[Step]], column: Any) -> Buffer | None:
    """What passes leave for later ones, column by column."""
    last = passes[-1][-1]
    place = Index(last.target, last.indices)
    spilled = None
    for position, steps in enumerate(passes):
        later = [load for each in passes[position + 1 :] for step in each
                 for load in loads_in(step.value)]  # fmt: skip
        for order, step in enumerate(steps):
            if column not in step.places:
                continue
            if not any(load.source.same_as(step.target) for load in later):
                continue
            rest = [load for other in steps[order + 1 :] for load in loads_in(other.value)]
            if spilled is not None or place.distance(column) != 1:
                raise OtherFormError("more than its output holds is left for a later pass")
            # The output may lie where an input does: that must have been read by then.
            if any(
                not load.source.same_as(step.target) and Index(load.source, load.indices) == place
                for load in (*rest, *later)
            ):
                raise OtherFormError("an input is read after its place may be overwritten")
            spilled = step.target
    return spilled


def write(source: tvm.tirx.PrimFunc, schedule: Schedule) -> Any:
    """A function of rows as a kernel of ours."""
    return write_rows(read_rows(source), schedule)


def write_rows(form: Rows, schedule: Schedule) -> Any:
    """The kernel of a function of rows that was read.

    Raises:
        OtherFormError: what it computes cannot be written as vectors.
    """
    return _Writer(form, schedule).function()


class _Writer:
    def __init__(self, form: Rows, schedule: Schedule) -> None:
        self._form, self._schedule = form, schedule
        self._lanes = schedule["lanes"]
        self._n_vectors = schedule["vectors"]
        self._registers = RegisterFile()
        self._reader = Reader(form.views, form.column, self._keep)
        self._kept: list[Expression] = []
        self._before: list[Statement] = []

    def function(self) -> Any:
        """The kernel."""
        body = run(self._schedule, self._registers, self._task)
        return function(self._form.views.buffers, body)

    def _task(self, task: Task) -> Statement:
        extents = self._form.rows.values()
        parts = task.rows.among(*extents) if extents else ()
        return self._reader.over(self._form.rows, parts, self._row)

    def _row(self) -> Statement:
        return block(*(self._pass(steps) for steps in self._form.passes))

    def _pass(self, steps: Sequence[Step]) -> Statement:
        """All steps of a pass: what a row has one of, then vectors along it, then its totals."""
        column = self._form.column
        moving = [s for s in steps if column in s.places or s.terms]
        single = [self._one(step) for step in steps if step not in moving]
        if not moving:
            before, self._before = self._before, []
            return block(*before, *single)
        n_whole, rest = divmod(self._form.n_columns, self._lanes)
        most = min(self._n_vectors, n_whole)
        narrow = pieces(rest, self._lanes)
        main = over(
            even_runs(n_whole, most),
            lambda i, n: block(
                *(self._vector(moving, (i + v) * self._lanes, v, self._lanes) for v in range(n))
            ),
        )
        ends = [
            self._vector(moving, n_whole * self._lanes + offset, None, lanes)
            for offset, lanes in narrow
        ]
        totals = [step for step in moving if step.combine]
        starts = [self._start(step, v) for step in totals for v in range(most)]
        folds = [self._fold(step, most, [lanes for _, lanes in narrow]) for step in totals]
        for step in moving:
            self._reader.moving.pop(step.target, None)
            if self._form.spilled is not None and step.target.same_as(self._form.spilled):
                self._reader.moving[step.target] = self._spilled
        before, self._before = self._before, []
        return block(*before, *single, *starts, main, *ends, *folds)

    def _one(self, step: Step) -> Statement | None:
        """What a row has one number of."""
        value = self._reader.number(step.value)
        self._reader.standing[step.target] = value
        if step.target not in self._form.views:
            return None
        return store(*self._reader.place(step.target, step.indices, 0), value, 1)

    def _vector(
        self, steps: Sequence[Step], first: Expression, slot: int | None, lanes: int
    ) -> Statement:
        """All steps at some columns; those of the ragged end, without a slot, are totals alone."""
        names = Names(self._registers.area("names", MOST_NAMES, lanes))
        values = self._registers.area("values", _MOST_STEPS, lanes)
        found: list[Statement] = []
        for position, step in enumerate(steps):
            value = self._reader.vector(step.value, first, lanes, names)
            if step.combine:
                total = self._total(step, lanes)
                new = value if slot is None else _COMBINE[step.combine](total[slot], value)
                found.append(names.then(total.put(slot or 0, new)))
                continue
            found.append(names.then(values.put(position, value)))
            self._reader.moving[step.target] = lambda *_, kept=values[position]: kept
            if place := self._stored_at(step, first):
                found.append(store(*place, values[position], lanes))
        return block(*found)

    def _stored_at(self, step: Step, first: Expression) -> tuple[Buffer, Any] | None:
        is_spilled = self._form.spilled is not None and step.target.same_as(self._form.spilled)
        if is_spilled or step is self._form.last:
            last = self._form.last
            return self._reader.place(last.target, last.indices, first)
        return None

    def _spilled(self, first: Expression, lanes: int) -> Expression:
        last = self._form.last
        return load(*self._reader.place(last.target, last.indices, first), lanes)

    def _total(self, step: Step, lanes: int) -> Registers:
        number_of = [each.target for steps in self._form.passes for each in steps]
        use = f"total {number_of.index(step.target)}"
        return self._registers.area(use, self._n_vectors, lanes)

    def _start(self, step: Step, slot: int) -> Statement:
        start = float(step.start.value)  # type: ignore[union-attr]  # read_rows saw that it is one
        return self._total(step, self._lanes).put(slot, number(start, self._lanes))

    def _fold(self, step: Step, n_vectors: int, narrow: Sequence[int]) -> Statement:
        """One total of all vectors and their lanes; the ragged end joins at its own width."""
        combine = _COMBINE[step.combine]
        total, lanes = self._total(step, self._lanes), self._lanes
        found = [total.put(0, combine(total[0], total[v])) for v in range(1, n_vectors)]
        while lanes > 1:
            half = lanes // 2
            value = combine(total.part(0, half), total.part(half, half))
            total = self._total(step, half)
            if half in narrow:
                value = combine(value, total[0])
            found.append(total.put(0, value))
            lanes = half
        self._reader.standing[step.target] = total[0]
        if step is self._form.last:
            place = self._reader.place(step.target, step.indices, 0)
            found.append(store(*place, total[0], 1))
        return block(*found)

    def _keep(self, value: Expression) -> Expression:
        """A register that holds what a row has one number of."""
        registers = self._registers.area("kept", _MOST_KEPT, 1)
        for index, kept in enumerate(self._kept):
            if tvm_ffi.structural_equal(kept, value):
                return registers[index]
        if len(self._kept) == _MOST_KEPT:
            raise OtherFormError("too much that a row has one number of")
        self._before.append(registers.put(len(self._kept), value))
        self._kept.append(value)
        return registers[len(self._kept) - 1]
