"""Networks of the shapes that people build, made of dense layers and additions, and brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from profiler.network import Call, Network
from profiler.operator import Operator


class Writer:
    """Writes a network down; a tensor's width is its size in floats."""

    def __init__(self, *widths: int) -> None:
        self.widths = {f"i{index}": width for index, width in enumerate(widths)}
        self.inputs = tuple((name, (1, 1, 1, width)) for name, width in self.widths.items())
        self.calls: list[Call] = []

    def dense(self, source: str, width: int) -> str:
        return self._append(Operator("dense", (1, 1, 1, self.widths[source]), width), source)

    def add(self, one: str, other: str) -> str:
        width = self.widths[one]
        return self._append(Operator("add", (1, 1, 1, width), width), one, other)

    def scale(self, tensor: str, factor: str) -> str:
        width = self.widths[tensor]
        return self._append(Operator("scale", (1, 1, 1, width), width), tensor, factor)

    def dense_add(self, source: str, residual: str) -> str:
        """A dense layer that adds another tensor to its result."""
        width = self.widths[residual]
        shape = (1, 1, 1, self.widths[source])
        return self._append(Operator("dense", shape, width, epilogue=("add",)), source, residual)

    def join(self, *sources: str) -> str:
        """A tree of additions."""
        first, *rest = sources
        for source in rest:
            first = self.add(first, source)
        return first

    def network(self, *outputs: str) -> Network:
        return Network("test:plan", self.inputs, tuple(self.calls), outputs)

    def _append(self, operator: Operator, *inputs: str) -> str:
        output = f"t{len(self.calls)}"
        weights = (f"w_{output}",) if operator.weight_shapes else ()
        self.calls.append(Call(operator, inputs, output, weights))
        self.widths[output] = operator.out_channels
        return output


def chain(*widths: int) -> Network:
    """A chain of dense layers; tensor i has widths[i] floats."""
    calls = [
        Call(Operator("dense", (1, 1, 1, n_in), n_out), (f"t{i}",), f"t{i + 1}", (f"w{i}",))
        for i, (n_in, n_out) in enumerate(pairwise(widths))
    ]
    return Network("test:chain", (("t0", (1, 1, 1, widths[0])),), tuple(calls), (f"t{len(calls)}",))


Draw = Callable[[], int]


def residual(size: int, width: Draw) -> Network:
    """Blocks of two layers with a shortcut that is added or, every third time, widened first."""
    net = Writer(width())
    x = net.dense("i0", width())
    for block in range(size):
        inner = net.dense(x, width())
        x = net.dense_add(inner, net.dense(x, width()) if block % 3 == 2 else x)
    return net.network(net.dense(x, width()))


def densely_connected(size: int, width: Draw) -> Network:
    """Each layer reads the sum of a projection of every one before it, in blocks of four."""
    net = Writer(width())
    x = net.dense("i0", width())
    for _ in range(max(1, size // 2)):
        made = [x]
        for _ in range(4):
            target = width()
            made.append(net.join(*(net.dense(each, target) for each in made)))
        x = made[-1]
    return net.network(x)


def inception(size: int, width: Draw) -> Network:
    """Modules of four branches of one to four layers."""
    net = Writer(width())
    x = net.dense("i0", width())
    for _ in range(size):
        out_width, ends = width(), []
        for length in range(1, 5):
            branch = x
            for _ in range(length - 1):
                branch = net.dense(branch, width())
            ends.append(net.dense(branch, out_width))
        x = net.join(*ends)
    return net.network(x)


def u_net(size: int, width: Draw) -> Network:
    """Ever narrower tensors, all of which are read again on the way back."""
    net = Writer(width())
    x, kept = net.dense("i0", width()), []
    for _ in range(size):
        kept.append(x)
        x = net.dense(net.dense(x, width()), width())
    for skipped in reversed(kept):
        x = net.add(net.dense(x, net.widths[skipped]), skipped)
        x = net.dense(x, width())
    return net.network(x)


def attention(size: int, width: Draw) -> Network:
    """Blocks of heads whose queries, keys and values come from one tensor."""
    net = Writer(width())
    x = net.dense("i0", width())
    for _ in range(size):
        heads, head = [], width()
        for _ in range(3):
            query, key, value = (net.dense(x, head) for _ in range(3))
            scores = net.add(query, key)
            heads.append(net.dense(net.scale(net.dense(scores, head), value), net.widths[x]))
        x = net.add(net.join(*heads), x)
        x = net.dense_add(net.dense(x, width()), x)
    return net.network(x)


def cells(size: int, width: Draw) -> Network:
    """Cells as a search finds them: five nodes, each the sum of two layers of what came before."""
    net = Writer(width())
    before, x = net.dense("i0", width()), net.dense("i0", width())
    for cell in range(size):
        target, nodes = width(), [before, x]
        for node in range(5):
            first, second = nodes[(cell + node) % len(nodes)], nodes[-1]
            nodes.append(net.add(net.dense(first, target), net.dense(second, target)))
        before, x = x, net.join(*nodes[2:])
    return net.network(x)


FAMILIES = {
    family.__name__: family
    for family in (residual, densely_connected, inception, u_net, attention, cells)
}


def width_drawer(rng: np.random.Generator, most: int = 600) -> Draw:
    """Widths of which most are few different ones, as in real networks."""
    usual = rng.integers(16, most, size=4)
    return lambda: int(rng.choice(usual) if rng.random() < 0.8 else rng.integers(16, most))


@st.composite
def networks(draw: st.DrawFn, most_calls: int = 14, most_width: int = 300) -> Network:
    """Networks with several inputs, branches, additions, unread tensors and several outputs."""
    net = Writer(*(draw(st.integers(1, most_width)) for _ in range(draw(st.integers(1, 3)))))
    for _ in range(draw(st.integers(1, most_calls))):
        names = list(net.widths)
        source = draw(st.sampled_from(names))
        equal = [name for name in names if net.widths[name] == net.widths[source]]
        kind = draw(st.sampled_from(["dense", "add", "scale", "dense_add"]))
        if kind == "dense":
            net.dense(source, draw(st.integers(1, most_width)))
        elif kind == "dense_add":
            net.dense_add(source, draw(st.sampled_from(names)))
        else:
            getattr(net, kind)(source, draw(st.sampled_from(equal)))
    outputs = draw(st.sets(st.sampled_from(list(net.widths)), min_size=1, max_size=3))
    return net.network(*sorted(outputs))


def orders(network: Network) -> Iterator[tuple[int, ...]]:
    """Every order in which the calls can run."""
    makers = {name: i for i, call in enumerate(network.calls) for name in call.outputs}
    before = [{makers[n] for n in call.inputs if n in makers} for call in network.calls]

    def extend(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(order) == len(before):
            yield order
        for i, needed in enumerate(before):
            if i not in order and needed <= set(order):
                yield from extend((*order, i))

    return extend(())


def least_arena(sizes: Sequence[int], live_together: Sequence[set[int]]) -> int:
    """The smallest arena for items, of which each set is live at one moment: all orders of height.

    In some order each item lies right above the highest of those before it that it may not touch.
    """
    n = len(sizes)
    apart = [
        {j for j in range(n) if j != i and any({i, j} <= live for live in live_together)}
        for i in range(n)
    ]
    best = sum(sizes)
    for order in itertools.permutations(range(n)):
        ends: dict[int, int] = {}
        for i in order:
            ends[i] = sizes[i] + max((ends[j] for j in apart[i] if j in ends), default=0)
        best = min(best, max(ends.values(), default=0))
    return best
