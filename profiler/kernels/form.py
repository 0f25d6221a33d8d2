"""Which kernels of ours compute what somebody else's loops compute."""

from __future__ import annotations

import tvm

from profiler.generic import LoopForm
from profiler.kernels import matmul, rowwise
from profiler.kernels.steps import OtherFormError
from profiler.schedules import matmul as matmul_rules
from profiler.schedules import rowwise as rowwise_rules
from profiler.schedules.schedule import Schedule


def find_form(function: tvm.tirx.PrimFunc) -> LoopForm | None:
    """The form of a function; None where the loops themselves are all there is."""
    try:
        product = matmul.read_product(function)
        matmul.write_product(product, _SMALL_TILE)
        return LoopForm(matmul_rules.RULE, product.n_rows, product.n_columns)
    except OtherFormError:
        pass
    try:
        rows = rowwise.read_rows(function)
        rowwise.write_rows(rows, _ONE_VECTOR)
        return LoopForm(rowwise_rules.RULE, rows.n_rows, rows.n_columns)
    except OtherFormError:
        return None


#: What is written to see whether it can be.
_SMALL_TILE = Schedule(
    matmul_rules.RULE, (("rows", 1), ("vectors", 1), ("lanes", 1), ("panels_outer", 1))
)
_ONE_VECTOR = Schedule(rowwise_rules.RULE, (("vectors", 1), ("lanes", 1)))
