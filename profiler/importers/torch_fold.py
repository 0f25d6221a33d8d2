"""What a torch graph computes from its weights alone, computed now, by torch."""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch.export.graph_signature import InputKind

#: Name of the functions that stand for computed constants; their only argument is the tensor.
CONSTANT: Final = "latloop_constant"
_STORED: Final = frozenset({InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR})


class _Constant:
    """A function without arguments, as far as torch.fx is concerned.

    Attributes:
        tensor: What it returns.
    """

    __name__ = CONSTANT

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __call__(self) -> torch.Tensor:
        return self.tensor


def constant_of(node: torch.fx.Node) -> torch.Tensor:
    """The tensor of a node whose target is named `CONSTANT`."""
    tensor: torch.Tensor = node.target.tensor
    return tensor


def fold_constants(program: torch.export.ExportedProgram) -> None:
    """Compute every node that depends on no input: tables of positions, masks, ranges.

    Weights themselves stay what they are. The program must draw no random numbers.
    """
    graph = program.graph
    known = _stored(program)
    weights = set(known)
    for node in graph.nodes:
        if node.op == "call_function" and _can_compute(node, known):
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*arguments[0], **arguments[1])
    for node, result in known.items():
        is_read = any(reader not in known for reader in node.users)
        if node in weights or not is_read or not isinstance(result, torch.Tensor):
            continue
        with graph.inserting_before(node):
            constant = graph.call_function(_Constant(result.contiguous()))
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
    graph.eliminate_dead_code()


def _stored(program: torch.export.ExportedProgram) -> dict[torch.fx.Node, Any]:
    """What parameters, buffers and constants hold, by their placeholders."""
    targets = {
        spec.arg.name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.kind in _STORED
    }
    stored = {**program.constants, **program.state_dict}
    return {
        node: stored[targets[node.name]].detach()
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in targets
    }


def _can_compute(node: torch.fx.Node, known: dict[torch.fx.Node, Any]) -> bool:
    is_function = isinstance(node.target, torch._ops.OpOverload) or node.target is operator.getitem
    return is_function and all(each in known for each in node.all_input_nodes)
