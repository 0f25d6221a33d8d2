"""Which inputs of a function its output may overwrite: read from its loops, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_equal

from profiler.schedules.generic import blocks_of, nodes_of


def find_in_place(function: tvm.tirx.PrimFunc, n_inputs: int, n_outputs: int) -> tuple[int, ...]:
    """Find inputs that are read number by number, each just before its place is written.

    What is computed from such an input, through whatever blocks, may only be read at the indices
    that are being stored, and no sum may run over it: then every schedule that draws blocks into
    their readers, or runs them one after another, reads a number before its place is written, and
    not again after.

    Args:
        function: Its parameters are inputs, constants, outputs.
        n_inputs: Parameters, from the first one on, that may be overwritten at all.
        n_outputs: Parameters, at the end, that it writes; several outputs take no input's place.
    """
    if n_outputs != 1:
        return ()
    try:
        sch = s_tir.Schedule(function)
        blocks = [_Block(sch.get(block)) for block in blocks_of(sch)]
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return ()  # loops that cannot be scheduled, such as those with calls of libraries
    output = function.params[-1]
    return tuple(
        position
        for position in range(n_inputs)
        if _is_in_place(blocks, function.params[position], output)
    )


class _Block:
    """Reads and writes of one block of loops."""

    def __init__(self, block: Any) -> None:
        nodes = nodes_of(block.body)
        self.stores = [node for node in nodes if isinstance(node, tirx.BufferStore)]
        self.loads = [node for node in nodes if isinstance(node, tvm.ir.TensorLoad)]
        self.variables = [v.var for v in block.iter_vars]
        self.is_plain = block.init is None and all(int(v.iter_type) == 0 for v in block.iter_vars)

    def loads_of(self, buffers: Sequence[Any]) -> Iterator[Any]:
        return (load for load in self.loads if _holds(buffers, load.source))

    def writes_each_once(self) -> bool:
        """Whether one store runs through a tensor, each of its numbers once."""
        if not self.is_plain or len(self.stores) != 1:
            return False
        # Axes of extent 1 may be written as 0.
        indices = [i for i in self.stores[0].indices if not isinstance(i, tirx.IntImm)]
        return len(indices) == len(self.variables) and all(
            _holds(indices, variable) for variable in self.variables
        )


def _is_in_place(blocks: Sequence[_Block], given: Any, output: Any) -> bool:
    if list(given.shape) != list(output.shape) or not _is_same_size(given, output):
        return False
    made_of_it = [given]
    for block in blocks:
        loads = list(block.loads_of(made_of_it))
        if any(_holds([output], store.buffer) for store in block.stores):
            # Nothing may read it once its place is being written: this block must be the last.
            return block is blocks[-1] and bool(loads) and _reads_where_it_writes(block, loads)
        if loads:
            if not _reads_where_it_writes(block, loads):
                return False
            made_of_it.append(block.stores[0].buffer)
    return False


def _reads_where_it_writes(block: _Block, loads: Sequence[Any]) -> bool:
    if not block.writes_each_once():
        return False
    store = block.stores[0]
    return all(
        list(load.source.shape) == list(store.buffer.shape)
        and len(load.indices) == len(store.indices)
        and all(map(structural_equal, load.indices, store.indices))
        for load in loads
    )


def _is_same_size(one: Any, other: Any) -> bool:
    sizes = [int(tvm.DataType(str(each.dtype)).itemsize) for each in (one, other)]
    return sizes[0] == sizes[1]


def _holds(buffers: Sequence[Any], buffer: Any) -> bool:
    return any(buffer.same_as(each) for each in buffers)
