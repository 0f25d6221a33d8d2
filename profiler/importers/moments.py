"""Norms over pixels, written so that no tensor has to be turned around for them."""

from __future__ import annotations

import numpy as np

from profiler.generic import TensorType
from profiler.importers.graph import Graph, Node, Value, constant

_PIXELS = [2, 3]


def decompose_moments(graph: Graph) -> None:
    """Write group and instance norm of images as moments of channels, a factor and a term.

    A channel's mean is our own operator; its factor and term run along channels, wherever those
    lie. Nothing else changes: y = (x - mean) / sqrt(variance + epsilon) gamma + beta (Wu and He
    2018, eq. 1 to 3).
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        n_groups = _n_groups(node)
        if n_groups is None:
            nodes.append(node)
        else:
            nodes += _Writer(node, n_groups).write()
    graph.nodes = nodes


def _n_groups(node: Node) -> int | None:
    """How many groups of channels are normalised together; None for other operations."""
    if node.op not in {"nn.group_norm", "nn.instance_norm"}:
        return None
    x, attributes = node.inputs[0], node.attributes
    # Over a batch of one is over nothing: torch's export asks for that.
    axes = [axis for axis in attributes["axes"] if axis != 0 or x.shape[0] != 1]
    if len(x.shape) != 4 or axes != _PIXELS or attributes["channel_axis"] != 1:
        return None
    return int(attributes["num_groups"]) if node.op == "nn.group_norm" else x.shape[1]


class _Writer:
    """Writes one norm as nodes."""

    def __init__(self, node: Node, n_groups: int) -> None:
        self._node = node
        self._n_groups = n_groups
        self._nodes: list[Node] = []
        n, c, self._height, self._width = node.inputs[0].shape
        self._moment = (n, c, 1, 1)

    def write(self) -> list[Node]:
        """The nodes, the last of which makes the norm's output."""
        x, gamma, beta = self._node.inputs
        mean = self._over_groups(self._make("mean", [x], axis=_PIXELS, keepdims=True))
        off = self._make("subtract", [x, mean], x.shape)
        # A sum, not a mean: that would be an operator of its own, and its input a tensor.
        square = self._make("multiply", [off, off], x.shape)
        total = self._make("sum", [square], axis=_PIXELS, keepdims=True)
        share = self._number(1 / (self._height * self._width))
        variance = self._over_groups(self._make("multiply", [total, share]))
        widened = self._make("add", [variance, self._number(self._node.attributes["epsilon"])])
        a_channel = (1, *self._moment[1:])
        gamma, beta = (self._make("reshape", [each], a_channel) for each in (gamma, beta))
        factor = self._make("multiply", [self._make("rsqrt", [widened]), gamma])
        term = self._make("subtract", [beta, self._make("multiply", [mean, factor])])
        scaled = self._make("multiply", [x, factor], x.shape)
        self._nodes.append(Node("add", [scaled, term], [self._node.output]))
        return self._nodes

    def _over_groups(self, moment: Value) -> Value:
        """The mean over the channels of each group, given to each of its channels."""
        n, c, *_ = self._moment
        if self._n_groups == c:
            return moment
        grouped = (n, self._n_groups, c // self._n_groups)
        parts = self._make("reshape", [moment], grouped)
        mean = self._make("mean", [parts], (*grouped[:2], 1), axis=[2], keepdims=True)
        return self._make("reshape", [self._make("broadcast_to", [mean], grouped)])

    def _make(
        self,
        op: str,
        inputs: list[Value],
        shape: tuple[int, ...] | None = None,
        **attributes: object,
    ) -> Value:
        value = Value(TensorType(shape or self._moment, self._node.output.type.dtype))
        self._nodes.append(Node(op, inputs, [value], attributes))
        return value

    def _number(self, number: float) -> Value:
        return constant(np.asarray(number, self._node.output.type.dtype))
