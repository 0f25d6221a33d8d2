"""Products of two tensors that the network computes, each read as it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from profiler.kernels.lanes import Index, Place, Reader, Views
from profiler.kernels.panels import MOST_SUMS, Tile
from profiler.kernels.steps import OtherFormError, Step, aligned, n_calls, read_steps
from profiler.kernels.tasks import Part, Task, run
from profiler.kernels.tir import (
    Expression,
    RegisterFile,
    Statement,
    block,
    function,
    load,
    loop,
    number,
    store,
)
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, last_apart, pieces


@dataclass(frozen=True, slots=True)
class Product:
    """out[.., i, .., j] = f(sum over k of left[.., i, .., k] right[.., k, .., j]).

    Attributes:
        views: The function's tensors.
        product: The sums.
        last: What is stored: the sums' step itself, or a cheap one that reads them.
        left, right: The factors; neighbouring columns of the right one lie side by side.
        outer: Variables of the loops around, and their extents.
        row, column, depth: Variables of i, j and k; a row of None is one row.
        n_rows, n_columns, n_terms: Their extents.
    """

    views: Views
    product: Step
    last: Step
    left: Any
    right: Any
    outer: Mapping[Any, int]
    row: Any | None
    column: Any
    depth: Any
    n_rows: int
    n_columns: int
    n_terms: int


def read_product(source: tvm.tirx.PrimFunc) -> Product:
    """Read a function as a product.

    Raises:
        OtherFormError: it is something else.
    """
    views = Views(source.params)
    product, *rest = steps = aligned(read_steps(source))
    last = steps[-1]
    if len(rest) > 1 or any(step.combine or n_calls(step.value) for step in rest):
        raise OtherFormError("more than a product and cheap arithmetic")
    if product.combine != "add" or set(product.places) != set(last.places):
        raise OtherFormError("no sum for each number of the output")
    if not isinstance(product.start, tirx.FloatImm) or float(product.start.value) != 0.0:
        raise OtherFormError("sums that start with something")
    if len(product.terms) != 1 or not isinstance(product.value, tirx.Mul):
        raise OtherFormError("no sum of products along one axis")
    factors = product.value.a, product.value.b
    if not all(isinstance(f, tvm.ir.TensorLoad) and f.source in views for f in factors):
        raise OtherFormError("a factor that is no tensor of the function")
    for left, right in (factors, factors[::-1]):
        found = _arrange(views, product, last, left, right)
        if found is not None:
            return found
    raise OtherFormError("no factor whose columns lie side by side")


def _arrange(views: Views, product: Step, last: Step, left: Any, right: Any) -> Product | None:
    out, of_left, of_right = (
        Index(last.target, last.indices),
        Index(left.source, left.indices),
        Index(right.source, right.indices),
    )
    beside = [v for v in last.places if out.distance(v) == of_right.distance(v) == 1]
    column = next((v for v in beside if not of_left.distance(v)), None)
    if column is None:
        return None
    rest = {v: extent for v, extent in last.places.items() if not v.same_as(column)}
    rows = [v for v in rest if of_left.distance(v) and not of_right.distance(v)]
    row = max(rows, key=rest.__getitem__, default=None)
    n_rows = 1 if row is None else rest.pop(row)
    ((depth, n_terms),) = product.terms.items()
    if not of_left.distance(depth) or not of_right.distance(depth):
        return None
    return Product(
        views, product, last, left, right, rest, row, column, depth,
        n_rows, last.places[column], n_terms,
    )  # fmt: skip


def write(source: tvm.tirx.PrimFunc, schedule: Schedule) -> Any:
    """A product as a kernel of ours."""
    return write_product(read_product(source), schedule)


def write_product(form: Product, schedule: Schedule) -> Any:
    """The kernel of a product that was read."""
    return _Writer(form, schedule).function()


class _Writer:
    def __init__(self, form: Product, schedule: Schedule) -> None:
        self._form, self._schedule = form, schedule
        self._lanes = schedule["lanes"]
        n_vectors = -(-form.n_columns // self._lanes)
        self._rows = even_runs(form.n_rows, schedule["rows"])
        # The last one apart: its last vector overlaps the one before.
        self._columns = last_apart(even_runs(n_vectors, schedule["vectors"]))
        self._n_vectors = n_vectors
        self._columns_outer = bool(schedule["panels_outer"])
        self._registers = RegisterFile()
        self._reader = Reader(form.views, form.column)

    def function(self) -> Any:
        """The kernel."""
        body = run(self._schedule, self._registers, self._matrices)
        return function(self._form.views.buffers, body)

    def _matrices(self, task: Task) -> Statement:
        """A task's tiles of all products."""
        n_tiles = sum(tiles.count for tiles in self._rows)
        *outer, rows = task.rows.among(*self._form.outer.values(), n_tiles)
        return self._reader.over(self._form.outer, outer, lambda: self._matrix(rows, task.channels))

    def _matrix(self, rows: Part, columns: Part) -> Statement:
        if self._columns_outer:
            return columns.over(
                self._columns,
                lambda first, n: rows.over(self._rows, lambda row, m: self._tile(row, m, first, n)),
            )
        return rows.over(
            self._rows,
            lambda row, m: columns.over(
                self._columns, lambda first, n: self._tile(row, m, first, n)
            ),
        )

    def _tile(self, row: Expression, n_rows: int, first: Expression, n_vectors: int) -> Statement:
        form, lanes = self._form, self._lanes
        registers = self._registers.area("sums", MOST_SUMS, lanes)
        tile = Tile(registers, n_rows, n_vectors)
        starts = [(first + v) * lanes for v in range(n_vectors)]
        n_new = lanes
        if isinstance(first, int) and first + n_vectors == self._n_vectors:
            # Past the end there may be nothing to read.
            n_new = form.n_columns - (self._n_vectors - 1) * lanes
            starts[-1] = form.n_columns - lanes

        def term(k: Expression) -> Statement:
            def left(r: int) -> Expression:
                self._at(row + r, k)
                return load(*self._place(form.left, 0), 1)

            def right(v: int) -> Expression:
                self._at(row, k)
                return load(*self._place(form.right, starts[v]), lanes)

            return tile.add_products(range(n_rows), left, right)

        stored = []
        for r in range(n_rows):
            self._at(row + r, 0)
            for v, start in enumerate(starts):
                value = self._finished(tile[r, v], start)
                is_last = v == n_vectors - 1
                stored.append(self._stored(value, start, n_new if is_last else lanes))
        return block(tile.start(lambda _: number(0.0, lanes)), loop(form.n_terms, term), *stored)

    def _at(self, row: Expression, k: Expression) -> None:
        self._reader.places[self._form.depth] = k
        if self._form.row is not None:
            self._reader.places[self._form.row] = row

    def _place(self, factor: Any, column: Expression) -> Place:
        return self._reader.place(factor.source, factor.indices, column)

    def _finished(self, total: Expression, start: Expression) -> Expression:
        form = self._form
        if form.last is form.product:
            return total
        self._reader.moving[form.product.target] = lambda *_: total
        return self._reader.vector(form.last.value, start, self._lanes, None)

    def _stored(self, value: Expression, start: Expression, n_new: int) -> Statement:
        """Write a vector, or its last numbers: what lies before them may be read no more."""
        last, lanes = self._form.last, self._lanes
        if n_new == lanes:
            return store(*self._reader.place(last.target, last.indices, start), value, lanes)
        ragged = self._registers.area("ragged", 1, lanes)
        skipped = lanes - n_new
        return block(
            ragged.put(0, value),
            *(
                store(
                    *self._reader.place(last.target, last.indices, start + skipped + offset),
                    ragged.part(skipped + offset, width),
                    width,
                )
                for offset, width in pieces(n_new, lanes)
            ),
        )
