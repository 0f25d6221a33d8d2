"""What happens to a sum before it is stored: the residual, the activation, the ragged end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tvm import tirx

from profiler.fast_math import error_function, sigmoid
from profiler.kernels.tir import (
    MOST_NAMES,
    Buffer,
    Expression,
    Index,
    Names,
    RegisterFile,
    Statement,
    block,
    load,
    loop,
    number,
    store,
)
from profiler.operator import Operator
from profiler.schedules.tiles import pieces


class Output:
    """Where a kernel writes, and what it does to each number on the way.

    Args:
        operator: Whose epilogue is applied, all but the bias, which sums start with.
        target: The output's buffer.
        residual: What is added, or None; read just before the same place is written.
        registers: Of the kernel.
        seat: The buffer's indices of an output's.
    """

    def __init__(
        self,
        operator: Operator,
        target: Buffer,
        residual: Buffer | None,
        registers: RegisterFile,
        seat: Callable[[Index], Index] = lambda index: index,
    ) -> None:
        self._target = target
        self._seat = seat
        self._residual = residual
        self._activation = operator.activation
        self._registers = registers

    def write(
        self,
        values: Sequence[Sequence[Expression]],
        place: Callable[[Expression], Index],
        channel: Expression,
        lanes: int,
        n_channels: int | None = None,
    ) -> Statement:
        """Finish a tile of sums and store it.

        Args:
            values: Vectors of neighbouring channels, for each row of the tile.
            place: The output's indices before the channel, for a row.
            channel: The first channel.
            lanes: Of each vector.
            n_channels: How many channels the tile has where the last vector is not full.
        """
        n_vectors = len(values[0])
        is_late = self._activation in _COSTLY and len(values) * n_vectors > 1
        ends = [lanes] * n_vectors
        if n_channels is not None:
            ends[-1] = n_channels - (n_vectors - 1) * lanes
        stored = [
            self._vector(value, place(row), channel + v * lanes, lanes, ends[v], is_late=is_late)
            for row, vectors in enumerate(values)
            for v, value in enumerate(vectors)
        ]
        if not is_late:
            return block(*stored)
        n_whole = sum(end == lanes for end in ends)

        def row_again(row: Expression) -> Statement:
            whole = loop(n_whole, lambda v: self._again(place(row), channel + v * lanes, lanes))
            ragged = [
                self._again(place(row), channel + n_whole * lanes + offset, n)
                for offset, n in (pieces(ends[-1], lanes) if n_whole < n_vectors else ())
            ]
            return block(whole if n_whole else None, *ragged)

        return block(*stored, loop(len(values), row_again))

    def _vector(
        self,
        value: Expression,
        first: Index,
        channel: Expression,
        lanes: int,
        end: int,
        *,
        is_late: bool,
    ) -> Statement:
        if end == lanes:
            return self._store(value, (*first, channel), lanes, is_late=is_late)
        ragged = self._registers.area("ragged", 1, lanes)
        return block(
            ragged.put(0, value),
            *(
                self._store(ragged.part(offset, n), (*first, channel + offset), n, is_late=is_late)
                for offset, n in pieces(end, lanes)
            ),
        )

    def _store(self, value: Expression, place: Index, lanes: int, *, is_late: bool) -> Statement:
        index = self._seat(place)
        if self._residual is not None:
            value = value + load(self._residual, index, lanes)
        if self._activation is None or is_late:
            return store(self._target, index, value, lanes)
        return self._activate(value, index, lanes)

    def _again(self, first: Index, channel: Expression, lanes: int) -> Statement:
        """Activate what was stored without, from the nearest cache.

        A loop of a costly activation is a tenth of the code, and of the time to compile it, that
        one behind each sum would be.
        """
        index = self._seat((*first, channel))
        return self._activate(load(self._target, index, lanes), index, lanes)

    def _activate(self, value: Expression, index: Index, lanes: int) -> Statement:
        names = Names(self._registers.area("names", MOST_NAMES, lanes))
        result = _ACTIVATIONS[str(self._activation)](names(value), lanes, names)
        return names.then(store(self._target, index, result, lanes))


def _clip(x: Expression, lanes: int, _: Names) -> Expression:
    return tirx.min(tirx.max(x, number(0, lanes)), number(6, lanes))


def _hard_sigmoid(x: Expression, lanes: int, name: Names) -> Expression:
    return _clip(x + number(3, lanes), lanes, name) * number(1 / 6, lanes)


def _gelu(x: Expression, lanes: int, name: Names) -> Expression:  # Hendrycks and Gimpel 2016
    bell = number(1, lanes) + error_function(x * number(0.5**0.5, lanes), name)
    return number(0.5, lanes) * x * bell


#: Those with an exponential.
_COSTLY: Final = frozenset({"swish", "sigmoid", "gelu"})

#: Activations of a named float32 vector. hard_sigmoid is relu6(x + 3) / 6 and hard_swish x times
#: that (Howard et al. 2019, Searching for MobileNetV3).
_ACTIVATIONS: Final[Mapping[str, Callable[[Expression, int, Names], Expression]]] = {
    "relu": lambda x, lanes, _: tirx.max(x, number(0, lanes)),
    "relu6": _clip,
    "hard_swish": lambda x, lanes, name: x * _hard_sigmoid(x, lanes, name),
    "hard_sigmoid": _hard_sigmoid,
    "swish": lambda x, _, name: x * sigmoid(x, name),
    "sigmoid": lambda x, _, name: sigmoid(x, name),
    "gelu": _gelu,
}
