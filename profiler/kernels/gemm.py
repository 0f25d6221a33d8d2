"""Matrix products with packed panels of weights."""

from __future__ import annotations

import math
from typing import Any

from profiler.kernels.arguments import Arguments, name_arguments
from profiler.kernels.panels import Panel, Panels
from profiler.kernels.tasks import ALL, Task
from profiler.kernels.tir import Expression, Statement, block, load, loop
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import even_runs


def write(operator: Operator, schedule: Schedule) -> Any:
    """out[i, j] = epilogue(sum over k of x[i, k] weight[k, j]); rows are all pixels."""
    arguments = name_arguments(operator, schedule)
    return arguments.function(schedule, _Product(operator, schedule, arguments).nest)


def write_product(operator: Operator, schedule: Schedule, arguments: Arguments) -> Statement:
    """The statements of a product whose arguments lie elsewhere."""
    return _Product(operator, schedule, arguments).nest(ALL)


class _Product:
    def __init__(self, operator: Operator, schedule: Schedule, arguments: Arguments) -> None:
        self._arguments = arguments
        self._depth = operator.input_shape[3]
        self._lanes = schedule["lanes"]
        self._rows = even_runs(math.prod(operator.input_shape[:3]), schedule["rows"])
        self._panels = Panels(operator, schedule)
        self._panels_outer = bool(schedule["panels_outer"])

    def nest(self, task: Task) -> Statement:
        """A task's tiles; the outer loop's slice of its operand stays near while the inner runs."""
        if self._panels_outer:
            return self._panels.over(
                task.channels,
                lambda panel: task.rows.over(self._rows, lambda row, n: self._tile(row, n, panel)),
            )
        return task.rows.over(
            self._rows,
            lambda row, n: self._panels.over(
                task.channels, lambda panel: self._tile(row, n, panel)
            ),
        )

    def _tile(self, row: Expression, n_rows: int, panel: Panel) -> Statement:
        arguments, lanes = self._arguments, self._lanes
        x, weight = arguments["x"], arguments["weight"]
        tile = arguments.tile(n_rows, panel.n_vectors, lanes)
        first_weight = panel.first * self._depth * lanes

        def step(k: Expression) -> Statement:
            at = first_weight + k * (panel.n_vectors * lanes)
            return tile.add_products(
                range(n_rows),
                lambda r: x[row + r, k],
                lambda v: load(weight, (at + v * lanes,), lanes),
            )

        return block(
            tile.start(lambda v: arguments.start((panel.first + v) * lanes, lanes)),
            loop(self._depth, step),
            arguments.output.write(
                tile.values(),
                lambda r: (row + r,),
                panel.first * lanes,
                lanes,
                panel.n_channels,
            ),
        )
