"""Which tensors of a network take memory, how much of it, and during which calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from profiler.network import Call, Network


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Bytes of the arena and the calls during which they must stay.

    Attributes:
        names: The tensors that lie there, one after another: each but the first is made in place
            of the one before it.
        size_bytes: Their size, without padding.
        first, last: Positions of the first and last call that need the bytes, both included.
    """

    names: tuple[str, ...]
    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are live during one call."""
        return self.first <= other.last and other.first <= self.last


def find_lifetimes(
    network: Network, *, in_place: bool = True, keeps_inputs: bool = True
) -> tuple[Lifetime, ...]:
    """Find when the bytes of each tensor must stay: inputs first, then in order of calls.

    Inputs are live throughout, because a program is run again and again on the same inputs;
    the network's outputs are live to the end; the rest from the call that makes it to the last
    call that reads it. A call's inputs and outputs share no byte, but for an input that the call
    is the last to read and whose place its output may take.

    Args:
        network: The network, in its order of calls.
        in_place: Whether outputs take the places of inputs at all.
        keeps_inputs: False for a part of a larger network, whose inputs are tensors like others.
    """
    end = max(len(network.calls) - 1, 0)
    last_read = {name: i for i, call in enumerate(network.calls) for name in call.inputs}
    sizes = {name: kind.n_bytes for name, kind in network.types.items()}
    kept = set(network.outputs)
    if keeps_inputs:
        kept |= {name for name, _ in network.inputs}
    found: list[Lifetime] = []
    places: dict[str, int] = {}
    for name, _ in network.inputs:
        last = end if name in kept else last_read.get(name, 0)
        places[name] = len(found)
        found.append(Lifetime((name,), sizes[name], 0, last))
    for position, call in enumerate(network.calls):
        for name in call.outputs:
            last = end if name in network.outputs else last_read.get(name, position)
            dying = [n for n in reusable_inputs(call, sizes, kept) if last_read[n] == position]
            if in_place and dying:
                index = places[dying[0]]
                before = found[index]
                found[index] = Lifetime((*before.names, name), sizes[name], before.first, last)
            else:
                index = len(found)
                found.append(Lifetime((name,), sizes[name], position, last))
            places[name] = index
    return tuple(found)


def reusable_inputs(
    call: Call, sizes: dict[str, int], kept: Iterable[str] = frozenset()
) -> tuple[str, ...]:
    """Inputs whose bytes the output may take if nobody reads them after the call.

    Args:
        call: It makes one tensor; a call that makes several takes no input's place.
        sizes: Bytes of each tensor, by name: both must have the same.
        kept: Tensors that must never be overwritten.
    """
    if call.more_outputs:
        return ()
    allowed = call.operator.in_place_inputs
    read_elsewhere = {name for i, name in enumerate(call.inputs) if i not in allowed}
    return tuple(
        dict.fromkeys(
            name
            for name in (call.inputs[i] for i in allowed)
            if name not in read_elsewhere and name not in kept and sizes[name] == sizes[call.output]
        )
    )


def live_bytes(lifetimes: Sequence[Lifetime]) -> list[int]:
    """Bytes that are live during each call; one number for a network without calls."""
    n_positions = 1 + max((lifetime.last for lifetime in lifetimes), default=0)
    steps = [0] * (n_positions + 1)
    for lifetime in lifetimes:
        steps[lifetime.first] += lifetime.size_bytes
        steps[lifetime.last + 1] -= lifetime.size_bytes
    total, live = 0, []
    for step in steps[:-1]:
        total += step
        live.append(total)
    return live
