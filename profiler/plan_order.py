"""In which order a network's calls run, so that few bytes are live at the worst of them.

A call that comes before or after every other one stands at the same place in every order; it cuts
the network into segments that are ordered one by one. Inside a segment the sets of calls that may
have run are walked through layer by layer (all sets of one call, of two, ...), as Liberis & Lane,
"Neural networks on microcontrollers: saving memory at inference via operator reordering", 2019
(arXiv:1910.05110) do over all sets: exact as long as no layer holds more sets than are kept, a beam
search beyond that. A call that needs no more than was needed before, and leaves no more bytes than
it found, is run at once: no order gains by waiting, because what it frees only grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from profiler.network import Network
from profiler.plan_lifetimes import reusable_inputs

#: Sets of calls that a segment may look at, shared out among its layers.
_N_SETS: Final = 24_000
_MIN_WIDTH: Final = 48


@dataclass(frozen=True, slots=True)
class _Read:
    """A tensor that a call reads and that can die.

    Attributes:
        size_bytes: Padded.
        readers: Bit set of the calls that read it.
        is_reusable: Whether the call's output may take its place.
    """

    size_bytes: int
    readers: int
    is_reusable: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """A call as the order sees it; calls are bits by their positions in the network.

    Attributes:
        before, after: Bit sets of the calls that must run before it, and of those that wait for it.
        made_bytes: Padded bytes of its outputs.
        kept_bytes: Of these, what stays after the call.
        reads: Tensors that it may be the last to read.
    """

    before: int
    after: int
    made_bytes: int
    kept_bytes: int
    reads: tuple[_Read, ...]

    def run(self, live_bytes: int, done: int) -> tuple[int, int]:
        """Bytes needed by the call and bytes live after it.

        Args:
            live_bytes: Live before it.
            done: Bit set of the calls that have run, this one included.
        """
        freed = saved = 0
        for read in self.reads:
            if not read.readers & ~done:
                freed += read.size_bytes
                if read.is_reusable:
                    saved = self.made_bytes
        return live_bytes + self.made_bytes - saved, live_bytes + self.kept_bytes - freed


@dataclass(frozen=True, slots=True)
class _Way:
    """A call and those that ran before it."""

    call: int
    earlier: _Way | None

    def calls(self) -> list[int]:
        """All of them in order."""
        found: list[int] = []
        way: _Way | None = self
        while way is not None:
            found.append(way.call)
            way = way.earlier
        return found[::-1]


@dataclass(slots=True)
class _State:
    """A set of calls that have run, and the best way to it that was found.

    Attributes:
        peak_bytes: Most bytes that any of these calls needed.
        live_bytes: Live after them.
        ready: Bit set of the calls that may run next.
        way: The calls, the last one first.
    """

    peak_bytes: int
    live_bytes: int
    ready: int
    way: _Way | None


def choose_order(network: Network, alignment: int = 64) -> tuple[int, ...]:
    """Choose the order of execution with the lowest peak that is found.

    Parts of the network that do not decide about its peak keep the order that they have, and so
    does the whole network where no order is better.

    Args:
        network: The network.
        alignment: Sizes are rounded up to it, in bytes.

    Returns:
        Positions in `network.calls`, in order of execution.
    """
    steps = _make_steps(network, alignment)
    segments = list(_find_segments(steps))
    given = tuple(range(len(steps)))
    if len(segments) == len(steps):
        return given
    order = list(given)
    given_peaks = _segment_peaks(steps, segments)
    peaks = list(given_peaks)
    tried: set[int] = set()
    worst = _highest(peaks)
    while worst not in tried:
        # What was tried stays as high as it is: no other segment needs to be lower.
        floor = max((peaks[i] for i in tried), default=0)
        found = _order_segment(steps, segments[worst], peaks[worst], floor)
        if found is not None:
            start, end = segments[worst]
            peaks[worst], order[start:end] = found
        tried.add(worst)
        worst = _highest(peaks)
    return tuple(order) if max(peaks) < max(given_peaks) else given


def _highest(peaks: Sequence[int]) -> int:
    return max(range(len(peaks)), key=lambda i: peaks[i])


def _make_steps(network: Network, alignment: int) -> list[_Step]:
    sizes = {name: kind.n_bytes for name, kind in network.types.items()}
    padded = {name: -(-size // alignment) * alignment for name, size in sizes.items()}
    kept = {name for name, _ in network.inputs} | set(network.outputs)
    makers = {name: i for i, call in enumerate(network.calls) for name in call.outputs}
    readers = dict.fromkeys(sizes, 0)
    for i, call in enumerate(network.calls):
        for name in call.inputs:
            readers[name] |= 1 << i
    steps = []
    for call in network.calls:
        reusable = reusable_inputs(call, sizes, kept)
        before = after = made_bytes = kept_bytes = 0
        for name in call.outputs:
            after |= readers[name]
            made_bytes += padded[name]
            kept_bytes += padded[name] if readers[name] or name in kept else 0
        for name in call.inputs:
            before |= 1 << makers[name] if name in makers else 0
        reads = tuple(
            _Read(padded[name], readers[name], name in reusable)
            for name in dict.fromkeys(call.inputs)
            if name not in kept
        )
        steps.append(_Step(before, after, made_bytes, kept_bytes, reads))
    return steps


def _find_segments(steps: Sequence[_Step]) -> Iterator[tuple[int, int]]:
    """(start, end) of runs of calls; the last call of each but the last run cuts the network."""
    n = len(steps)
    earlier = [0] * n
    later = [0] * n
    for i in range(n):
        for j in _bits(steps[i].before):
            earlier[i] |= earlier[j] | 1 << j
    for i in reversed(range(n)):
        for j in _bits(steps[i].after):
            later[i] |= later[j] | 1 << j
    start = 0
    for i in range(n):
        if (earlier[i] | later[i]).bit_count() == n - 1:
            yield from ((start, i), (i, i + 1)) if start < i else ((i, i + 1),)
            start = i + 1
    if start < n:
        yield start, n


def _segment_peaks(steps: Sequence[_Step], segments: Sequence[tuple[int, int]]) -> list[int]:
    """Most bytes that any call of each segment needs in the given order."""
    live_bytes = done = 0
    peaks = []
    for start, end in segments:
        peak = 0
        for i in range(start, end):
            done |= 1 << i
            needed, live_bytes = steps[i].run(live_bytes, done)
            peak = max(peak, needed)
        peaks.append(peak)
    return peaks


def _order_segment(
    steps: Sequence[_Step], segment: tuple[int, int], peak_bytes: int, floor_bytes: int
) -> tuple[int, list[int]] | None:
    """A better order of a segment: its peak and its calls; None where none is found.

    Args:
        steps: Of the whole network.
        segment: The calls from its start to its end are ordered; those before it have run.
        peak_bytes: What the order found must stay below.
        floor_bytes: A peak below it is worth no more than itself.
    """
    start, end = segment
    done = (1 << start) - 1
    inside = (1 << end) - 1 & ~done
    live_bytes = 0
    for i in range(start):
        live_bytes = steps[i].run(live_bytes, (2 << i) - 1)[1]
    ready = sum(1 << i for i in range(start, end) if not steps[i].before & ~done)
    width = max(_MIN_WIDTH, _N_SETS // (end - start))
    layer = {done: _State(floor_bytes, live_bytes, ready, None)}
    for _ in range(end - start):
        following: dict[int, _State] = {}
        for ran, state in layer.items():
            _extend(steps, ran, state, inside, peak_bytes, following)
        if len(following) > width:
            best = sorted(following.items(), key=lambda s: (s[1].peak_bytes, s[1].live_bytes))
            following = dict(best[:width])
        layer = following
    if not layer:
        return None
    (last,) = layer.values()
    return None if last.way is None else (last.peak_bytes, last.way.calls())


def _extend(
    steps: Sequence[_Step],
    done: int,
    state: _State,
    inside: int,
    peak_bytes: int,
    following: dict[int, _State],
) -> None:
    """Run each call that is ready, or only one that costs nothing, from a set of calls."""
    options = []
    for i in _bits(state.ready):
        after = done | 1 << i
        needed, live_bytes = steps[i].run(state.live_bytes, after)
        if live_bytes <= state.live_bytes and needed <= state.peak_bytes:
            options = [(i, after, needed, live_bytes)]
            break
        if needed < peak_bytes:
            options.append((i, after, needed, live_bytes))
    for i, after, needed, live_bytes in options:
        peak = max(state.peak_bytes, needed)
        known = following.get(after)
        if known is not None and known.peak_bytes <= peak:
            continue
        ready = state.ready & ~(1 << i)
        for j in _bits(steps[i].after & inside):
            if not steps[j].before & ~after:
                ready |= 1 << j
        following[after] = _State(peak, live_bytes, ready, _Way(i, state.way))


def _bits(mask: int) -> Iterator[int]:
    """Positions of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
