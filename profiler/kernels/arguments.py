"""The tensors that a kernel is called with, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm import tirx

from profiler.kernels.epilogue import Output
from profiler.kernels.panels import MOST_SUMS, Tile
from profiler.kernels.tasks import Task, run
from profiler.kernels.tir import (
    Buffer,
    Expression,
    RegisterFile,
    Statement,
    function,
    load,
    number,
)
from profiler.layout import argument_shapes
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Arguments:
    """Buffers of a kernel.

    Attributes:
        buffers: In the order in which a call names them: inputs, weights, output.
        output: Where the kernel writes.
        registers: What it keeps in registers.
    """

    buffers: Mapping[str, Buffer]
    output: Output
    registers: RegisterFile

    def __getitem__(self, name: str) -> Buffer:
        return self.buffers[name]

    def tile(self, n_rows: int, n_vectors: int, lanes: int) -> Tile:
        """A tile of sums; tiles follow each other and share their registers."""
        return Tile(self.registers.area("sums", MOST_SUMS, lanes), n_rows, n_vectors)

    def start(self, channel: Expression, lanes: int) -> Expression:
        """What a vector of sums starts with: the bias, or zeros."""
        if "bias" in self.buffers:
            return load(self["bias"], (channel,), lanes)
        return number(0.0, lanes)

    def function(self, schedule: Schedule, body: Callable[[Task], Statement]) -> object:
        """The kernel with these arguments; the body is what one task of the schedule's does."""
        return function(tuple(self.buffers.values()), run(schedule, self.registers, body))


def name_arguments(operator: Operator, schedule: Schedule) -> Arguments:
    """Buffers for an operator's tensors, shaped as `argument_shapes` says."""
    second = {"add": ("y",), "scale": ("factor",)}.get(operator.kind, ())
    residual = ("residual",) if "add" in operator.epilogue else ()
    weights = ("weight", "bias")[: len(operator.weight_shapes)]
    names = ("x", *second, *residual, *weights, "out")
    shapes = argument_shapes(operator, schedule)
    buffers = {
        name: tirx.decl_buffer(shape, "float32", name=name)
        for name, shape in zip(names, shapes, strict=True)
    }
    registers = RegisterFile()
    output = Output(operator, buffers["out"], buffers.get("residual"), registers)
    return Arguments(buffers, output, registers)
