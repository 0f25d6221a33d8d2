"""Words for writing kernels: loops, vectors, and sums that stay in registers.

Kernels are written as TIR statements, not scheduled: tiles of several sizes, borders and ragged
ends each get code of their own, which no transformation of one loop nest gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tvm import tirx

from profiler.schedules.tiles import Run, even_runs, pieces

Expression = Any
Statement = Any
Buffer = Any
Index = Sequence[Any]

#: Values of one expression that are named.
MOST_NAMES: Final = 32
_FILE_FLOATS: Final = 4096


def number(value: float, lanes: int = 1) -> Expression:
    """A float32 constant, or a vector of it."""
    return spread(tirx.const(value, "float32"), lanes)


def spread(value: Expression, lanes: int) -> Expression:
    """A vector that holds one number in all lanes."""
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def load(buffer: Buffer, index: Index, lanes: int) -> Expression:
    """So many neighbours along the last axis."""
    return buffer[_along(index, lanes)]


def store(buffer: Buffer, index: Index, value: Expression, lanes: int) -> Statement:
    """Write so many neighbours along the last axis."""
    return tirx.BufferStore(buffer, value, list(_along(index, lanes)))


def _along(index: Index, lanes: int) -> tuple[Any, ...]:
    *first, last = index
    return (*first, tirx.Ramp(last, 1, lanes) if lanes > 1 else last)


def block(*statements: Statement | None) -> Statement | None:
    """Statements one after the other; None stands for nothing to do."""
    present = [statement for statement in statements if statement is not None]
    if not present:
        return None
    return present[0] if len(present) == 1 else tirx.SeqStmt(present)


def loop(
    extent: Expression, body: Callable[[Expression], Statement], first: Expression = 0
) -> Statement | None:
    """Run a body for each number from `first` on; one that runs once needs no loop."""
    if isinstance(extent, int) and extent == 1:
        return body(first)
    variable = tirx.Var("i", "int32")
    inner = body(variable)
    if inner is None:
        return None
    return tirx.For(variable, first, extent, tirx.ForKind.SERIAL, inner)


def over(runs: Sequence[Run], body: Callable[[Expression, int], Statement]) -> Statement:
    """Run a body for each tile, with its first number and its size."""
    return block(*(_each(run, body) for run in runs))


def _each(run: Run, body: Callable[[Expression, int], Statement]) -> Statement:
    if run.count == 1:
        return body(run.start, run.size)
    return loop(run.count, lambda i: body(run.start + i * run.size, run.size))


def over_channels(
    n_channels: int,
    vectors: int,
    lanes: int,
    body: Callable[[Expression, int, int], Statement],
) -> Statement:
    """Run a body for each block of channels: whole vectors, then the ragged end in narrower ones.

    Args:
        n_channels: How many there are.
        vectors: In a block, at most.
        lanes: Of whole vectors.
        body: Takes the first channel, the number of vectors and their lanes.
    """
    n_whole, rest = divmod(n_channels, lanes)
    runs = even_runs(n_whole, vectors) if n_whole else ()
    scaled = [Run(r.start * lanes, r.count, r.size * lanes) for r in runs]
    return block(
        over(scaled, lambda c, size: body(c, size // lanes, lanes)) if n_whole else None,
        *(body(n_whole * lanes + offset, 1, narrow) for offset, narrow in pieces(rest, lanes)),
    )


def where(
    condition: Expression | None, then: Statement, otherwise: Statement | None = None
) -> Statement:
    """One of two statements, or the first where nothing is asked."""
    return then if condition is None else tirx.IfThenElse(condition, then, otherwise)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Parts of a length, larger ones first, as a loop over their numbers sees them.

    A loop over each run would need the code of its body twice.
    """

    runs: tuple[Run, ...]

    @property
    def count(self) -> int:
        """How many parts."""
        return sum(run.count for run in self.runs)

    def start(self, index: Expression) -> Expression:
        """The first number of a part."""
        larger, last = self.runs[0], self.runs[-1]
        more = tirx.min(index, larger.count) if len(self.runs) > 1 else 0
        return index * last.size + more

    def size(self, index: Expression) -> Expression:
        """How many numbers a part has."""
        if len(self.runs) == 1:
            return self.runs[0].size
        return tirx.Select(self._is_larger(index), self.runs[0].size, self.runs[1].size)

    def by_size(self, index: Expression, body: Callable[[int], Statement]) -> Statement:
        """Code for each of the sizes, of which the part's own runs."""
        codes = [body(run.size) for run in self.runs]
        return codes[0] if len(codes) == 1 else where(self._is_larger(index), *codes)

    def _is_larger(self, index: Expression) -> Expression:
        return index < self.runs[0].count


class RegisterFile:
    """A kernel's vectors that live in registers: all their indices are constants.

    They are slices of one local array, declared once: of several, TVM makes one allocation whose
    size it no longer knows, and takes it from the runner's memory at every call.
    """

    def __init__(self) -> None:
        self._areas: dict[tuple[str, int], int] = {}
        # As long as can be needed; LLVM drops what is not.
        self._buffer = tirx.decl_buffer((_FILE_FLOATS,), "float32", name="registers", scope="local")
        self._n_used = 0

    def declare(self) -> Statement:
        """Comes before everything else."""
        return tirx.AllocBuffer(self._buffer)

    def area(self, use: str, n_vectors: int, lanes: int) -> Registers:
        """So many vectors for one use; every call for a use has the same ones."""
        key = (use, lanes)
        if key not in self._areas:
            self._areas[key] = self._n_used
            self._n_used += n_vectors * lanes
        return Registers(self._buffer, self._areas[key], lanes)


@dataclass(frozen=True, slots=True)
class Registers:
    """Some vectors of a register file."""

    buffer: Buffer
    offset: int
    lanes: int

    def __getitem__(self, index: int) -> Expression:
        return load(self.buffer, (self.offset + index * self.lanes,), self.lanes)

    def part(self, offset: int, lanes: int) -> Expression:
        """Some neighbouring numbers of the first vector."""
        return load(self.buffer, (self.offset + offset,), lanes)

    def put(self, index: int, value: Expression) -> Statement:
        """Set one of the vectors."""
        return store(self.buffer, (self.offset + index * self.lanes,), value, self.lanes)


class Names:
    """Values that several places read, each kept in a register of its own.

    Not bound to variables: TVM's passes look through those, again at every place, and a kernel
    with a few exponentials took minutes.
    """

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self._statements: list[Statement] = []

    def __call__(self, value: Expression) -> Expression:
        """Keep a value, until `then`; returns what reads it."""
        index = len(self._statements)
        assert index < MOST_NAMES
        _, _, lanes = (dtype := str(value.ty.dtype)).partition("x")
        if dtype.startswith("float32"):
            self._statements.append(self._registers.put(index, value))
            return self._registers[index]
        bits = f"float32x{lanes}" if lanes else "float32"
        self._statements.append(self._registers.put(index, tirx.reinterpret(bits, value)))
        return tirx.reinterpret(dtype, self._registers[index])

    def then(self, statement: Statement) -> Statement:
        """A statement behind all that it reads; the registers are free again after it."""
        found, self._statements = self._statements, []
        return block(*found, statement)


def function(arguments: Sequence[Buffer], body: Statement) -> Any:
    """A kernel whose arguments do not overlap, except where the planner says they may.

    An output may take the place of an input that each number of it is read from just before; no
    statement here is moved across such a pair, because both are one load and one store of an
    address that nothing else touches.
    """
    return tirx.PrimFunc(list(arguments), body).with_attr("tirx.noalias", True)
