"""Group and instance norms, written as moments of channels, compute what torch computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from profiler.generic import TensorType
from profiler.importers.from_torch import import_torch
from profiler.importers.graph import Array, Graph, Node, Value, constant
from profiler.importers.moments import decompose_moments


def computed(graph: Graph, x: Array) -> Array:
    """The only output, by torch."""
    known: dict[Value, torch.Tensor] = {graph.inputs[0]: torch.from_numpy(x)}
    for node in graph.nodes:
        given_ = [known[v] if v.array is None else torch.as_tensor(v.array) for v in node.inputs]
        shape, attributes = node.output.shape, node.attributes
        if node.op in {"mean", "sum"}:
            reduce = torch.mean if node.op == "mean" else torch.sum
            made = reduce(given_[0], attributes["axis"], attributes["keepdims"])
        elif node.op == "reshape":
            made = given_[0].reshape(shape)
        elif node.op == "broadcast_to":
            made = given_[0].expand(shape)
        else:
            made = {"add": torch.add, "subtract": torch.sub, "multiply": torch.mul,
                    "rsqrt": torch.rsqrt}[node.op](*given_)  # fmt: skip
        assert tuple(made.shape) == shape
        known[node.output] = made
    return known[graph.outputs[0]].numpy()


def norm_node(op: str, x: Value, gamma: Array, beta: Array, **attributes: object) -> Node:
    inputs = [x, constant(gamma), constant(beta)]
    out = Value(x.type)
    return Node(op, inputs, [out], {"channel_axis": 1, "epsilon": 1e-3, **attributes})


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3),
    n_groups=st.integers(1, 4),
    width=st.integers(1, 4),
    pixels=st.tuples(st.integers(1, 5), st.integers(2, 5)),
    is_instance=st.booleans(),
    offset=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 1000),
)
def test_moments_give_what_torch_gives(
    n: int,
    n_groups: int,
    width: int,
    pixels: tuple[int, int],
    is_instance: bool,
    offset: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    c = n_groups * width
    x = (rng.normal(size=(n, c, *pixels)) + offset).astype(np.float32)
    gamma, beta = (rng.normal(size=c).astype(np.float32) for _ in range(2))
    value = Value(TensorType(x.shape))
    if is_instance:
        node = norm_node("nn.instance_norm", value, gamma, beta, axes=[2, 3])
    else:
        axes = [2, 3]
        node = norm_node("nn.group_norm", value, gamma, beta, axes=axes, num_groups=n_groups)
    graph = Graph([node], [value], [node.output])
    decompose_moments(graph)
    assert {"nn.instance_norm", "nn.group_norm"}.isdisjoint(each.op for each in graph.nodes)
    expected = functional.group_norm(
        torch.from_numpy(x),
        c if is_instance else n_groups,
        torch.from_numpy(gamma),
        torch.from_numpy(beta),
        1e-3,
    ).numpy()
    # The variance's error is divided by a deviation that may be as small as sqrt(epsilon).
    np.testing.assert_allclose(computed(graph, x), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("axes", [[0, 2, 3], [1, 2]])
def test_what_runs_along_other_axes_stays(axes: list[int]) -> None:
    value = Value(TensorType((2, 4, 3, 3)))
    ones = np.ones(4, np.float32)
    node = norm_node("nn.instance_norm", value, ones, ones, axes=axes)
    graph = Graph([node], [value], [node.output])
    decompose_moments(graph)
    assert graph.nodes == [node]


@pytest.mark.parametrize("norm", [nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True)])
def test_between_convolutions_no_tensor_is_turned_around(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), norm, nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()
    network = import_torch(module, (torch.rand(1, 3, 6, 5),), "norms").network
    kinds = [op.body.name if op.body else op.kind for op in network.operators]
    first, last = (i for i, kind in enumerate(kinds) if kind == "conv2d")
    between = kinds[first + 1 : last]
    assert "global_avg_pool2d" in between
    assert not any("transpose" in kind or "norm" in kind for kind in between)
