"""Matrix products with packed panels of weights."""

from __future__ import annotations

import math
from typing import Any

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.tir import (
    Expression,
    Statement,
    block,
    load,
    loop,
    over,
    spread,
)
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs, last_apart


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[i, j] = epilogue(sum over k of x[i, k] weight[k, j]); rows are all pixels."""
    arguments = name_arguments(operator, schedule)
    return arguments.function(_Product(operator, schedule, arguments).nest())


class _Product:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._depth = operator.input_shape[3]
        self._lanes = schedule["lanes"]
        self._n_channels = operator.out_channels
        self._arguments = arguments
        self._rows = even_runs(math.prod(operator.input_shape[:3]), schedule["rows"])
        n_vectors = -(-self._n_channels // self._lanes)
        self._panels = last_apart(even_runs(n_vectors, schedule["vectors"]))
        self._panels_outer = bool(schedule["panels_outer"])

    def nest(self) -> Statement:
        """All tiles; the outer loop's slice of its operand stays near while the inner one runs."""
        if self._panels_outer:
            return over(
                self._panels,
                lambda first, n_vectors: over(
                    self._rows, lambda row, n_rows: self._tile(row, n_rows, first, n_vectors)
                ),
            )
        return over(
            self._rows,
            lambda row, n_rows: over(
                self._panels,
                lambda first, n_vectors: self._tile(row, n_rows, first, n_vectors),
            ),
        )

    def _tile(self, row: Expression, n_rows: int, first: Expression, n_vectors: int) -> Statement:
        lanes, output = self._lanes, self._arguments.output
        x, weight = self._arguments["x"], self._arguments["weight"]
        sums = self._arguments.sums(lanes)
        tile = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
        panel = first * self._depth * lanes

        def step(k: Expression) -> Statement:
            at = panel + k * (n_vectors * lanes)
            return block(
                *(
                    sums.put(
                        i,
                        sums[i]
                        + spread(x[row + r, k], lanes) * load(weight, (at + v * lanes,), lanes),
                    )
                    for i, (r, v) in enumerate(tile)
                )
            )

        return block(
            *(
                sums.put(i, self._arguments.start((first + v) * lanes, lanes))
                for i, (_, v) in enumerate(tile)
            ),
            loop(self._depth, step),
            output.write(
                [[sums[r * n_vectors + v] for v in range(n_vectors)] for r in range(n_rows)],
                lambda r: (row + r,),
                first * lanes,
                lanes,
                self._end(first, n_vectors),
            ),
        )

    def _end(self, first: Expression, n_vectors: int) -> int | None:
        """Channels of the last panel, whose place is known and whose last vector may be ragged."""
        if not isinstance(first, int) or (first + n_vectors) * self._lanes < self._n_channels:
            return None
        return self._n_channels - first * self._lanes
