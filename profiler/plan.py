"""Where each activation of a network lies in one arena of memory.

Source: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020
(arXiv:2001.03288), offset calculation: Greedy by Size and Greedy by Breadth; TensorFlow Lite
uses the former. Beside them a third order of our own, in turns from both ends, which needs no
byte more than its worst call on every chain, where the greedy ones need up to half as much again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from profiler.network import Network

#: (start, end, tensor), in bytes of the arena.
_Placed: TypeAlias = "tuple[int, int, Lifetime]"


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """Offsets of tensors in one arena; tensors that are live together share no byte.

    Attributes:
        offsets: Offset in bytes of each of the network's inputs and calls' outputs, by name.
        arena_bytes: Size of the arena, a multiple of the alignment.
        peak_live_bytes: Most bytes that are live during one call: no plan needs less.
    """

    offsets: Mapping[str, int]
    arena_bytes: int
    peak_live_bytes: int


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A tensor and the calls during which its bytes must stay.

    Attributes:
        name: The tensor's name.
        size_bytes: Its size, without padding.
        first, last: Positions of the first and last call that need it, both included.
    """

    name: str
    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are live during one call."""
        return self.first <= other.last and other.first <= self.last


def find_lifetimes(network: Network) -> tuple[Lifetime, ...]:
    """Find when each tensor is live: inputs first, then outputs in order of calls.

    Inputs are live throughout, because a program is run again and again on the same inputs;
    the network's outputs are live to the end; the rest from the call that makes it to the last
    call that reads it. A call's inputs and output never share bytes.
    """
    end = max(len(network.calls) - 1, 0)
    last_read: dict[str, int] = {}
    for position, call in enumerate(network.calls):
        for name in call.inputs:
            last_read[name] = position
    types = network.types
    lifetimes = [Lifetime(name, types[name].n_bytes, 0, end) for name, _ in network.inputs]
    for position, call in enumerate(network.calls):
        for name in call.outputs:
            last = end if name in network.outputs else last_read.get(name, position)
            lifetimes.append(Lifetime(name, types[name].n_bytes, position, last))
    return tuple(lifetimes)


def plan_arena(network: Network, alignment: int = 64) -> ArenaPlan:
    """Place every activation of a network in one arena, by the best of three heuristics.

    Args:
        network: The network.
        alignment: Every offset and the arena's size are multiples of it, in bytes.

    Raises:
        ValueError: the alignment is not a power of two.
    """
    if alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"alignment must be a power of two, got {alignment}")
    lifetimes = find_lifetimes(network)
    breadths = _breadths(lifetimes, len(network.calls))
    plans = [
        _place(_by_size(lifetimes), alignment),
        _place(_by_breadth(lifetimes, breadths), alignment),
        _place_from_both_ends(lifetimes, len(network.inputs), len(network.calls), alignment),
    ]
    offsets, arena_bytes = min(plans, key=lambda plan: plan[1])
    ordered = {lifetime.name: offsets[lifetime.name] for lifetime in lifetimes}
    return ArenaPlan(ordered, arena_bytes, max(breadths, default=0))


def _breadths(lifetimes: Iterable[Lifetime], n_calls: int) -> list[int]:
    """Bytes that are live during each call."""
    breadths = [0] * n_calls
    for lifetime in lifetimes:
        for position in range(lifetime.first, min(lifetime.last + 1, n_calls)):
            breadths[position] += lifetime.size_bytes
    return breadths


def _by_size(lifetimes: Iterable[Lifetime]) -> list[Lifetime]:
    """Largest first; ties in order of calls."""
    return sorted(lifetimes, key=lambda lifetime: -lifetime.size_bytes)


def _by_breadth(lifetimes: Sequence[Lifetime], breadths: Sequence[int]) -> list[Lifetime]:
    """Tensors of the call with most live bytes first, largest first within a call."""
    by_size = _by_size(lifetimes)
    order: dict[str, Lifetime] = {}
    for position in sorted(range(len(breadths)), key=lambda position: -breadths[position]):
        for lifetime in by_size:
            if lifetime.first <= position <= lifetime.last:
                order.setdefault(lifetime.name, lifetime)
    for lifetime in by_size:  # inputs of a network without calls
        order.setdefault(lifetime.name, lifetime)
    return list(order.values())


def _place(order: Iterable[Lifetime], alignment: int) -> tuple[dict[str, int], int]:
    """Place tensors one after another, each in the smallest gap that holds it.

    Returns:
        Offsets by name, and the arena's size in bytes.
    """
    placed: list[_Placed] = []
    for lifetime in order:
        need = _padded(lifetime.size_bytes, alignment)
        start = _best_gap(_taken(placed, lifetime), need)
        placed.append((start, start + need, lifetime))
    return _result(placed)


def _place_from_both_ends(
    lifetimes: Iterable[Lifetime], n_inputs: int, n_calls: int, alignment: int
) -> tuple[dict[str, int], int]:
    """Place tensors in order of calls, in turns at the bottom and at the top of the least arena.

    Inputs lie at the bottom. In a chain only neighbours are live together; they lie at opposite
    ends, and the least arena holds every such pair. Where the top has no room, a tensor takes
    the smallest gap.

    Returns:
        Offsets by name, and the arena's size in bytes.
    """
    padded = [
        Lifetime(each.name, _padded(each.size_bytes, alignment), each.first, each.last)
        for each in lifetimes
    ]
    least_bytes = max(_breadths(padded, n_calls), default=0)
    placed: list[_Placed] = []
    for index, lifetime in enumerate(padded):
        taken = _taken(placed, lifetime)
        start = least_bytes - lifetime.size_bytes
        is_turn_of_top = index >= n_inputs and (index - n_inputs) % 2 == 1
        if not is_turn_of_top or start < max((end for _, end in taken), default=0):
            start = _best_gap(taken, lifetime.size_bytes)
        placed.append((start, start + lifetime.size_bytes, lifetime))
    return _result(placed)


def _padded(size_bytes: int, alignment: int) -> int:
    return -(-size_bytes // alignment) * alignment


def _taken(placed: Iterable[_Placed], lifetime: Lifetime) -> list[tuple[int, int]]:
    """Intervals that a tensor must keep out of, sorted by start."""
    return sorted((start, end) for start, end, other in placed if other.overlaps(lifetime))


def _result(placed: Iterable[_Placed]) -> tuple[dict[str, int], int]:
    offsets = {lifetime.name: start for start, _, lifetime in placed}
    return offsets, max((end for _, end, _ in placed), default=0)


def _best_gap(taken: Iterable[tuple[int, int]], need: int) -> int:
    """Start of the smallest gap between intervals, sorted by start, that holds `need` bytes."""
    best: tuple[int, int] | None = None
    reached = 0
    for start, end in taken:
        gap = start - reached
        if gap >= need and (best is None or gap < best[0]):
            best = (gap, reached)
        reached = max(reached, end)
    return reached if best is None else best[1]
