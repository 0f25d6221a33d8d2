"""What TVM's graph compiler makes of a torch module, as signatures that a rule can be held to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

from profiler.operator import Operator
from searchspace.spaces.modules import Unit

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    kind: str
    input_shape: Shape
    kernel: tuple[int, int]
    output_shape: Shape
    steps: tuple[str, ...]


def rule_signatures(operators: Iterable[Operator]) -> Counter[Signature]:
    return Counter(
        Signature(o.kind, o.input_shape, o.kernel, o.output_shape, o.epilogue) for o in operators
    )


def compiled_signatures(module: nn.Module, input_shape: Shape) -> Counter[Signature]:
    """Export, import into Relax, legalise, fuse; then read the fused kernels' names and shapes.

    Batch-norm is folded by torch's own `fuse_conv_bn_eval` first: what FoldBatchnormToConv2D and
    FoldConstant would do in a minute, compiling every constant.
    """
    for unit in module.modules():
        if isinstance(unit, Unit) and unit.norm is not None:
            unit.linear, unit.norm = fuse_conv_bn_eval(unit.linear, unit.norm), None
    n, h, w, c = input_shape
    exported = torch.export.export(module, (torch.zeros(n, c, h, w),))
    graph = from_exported_program(
        exported, keep_params_as_input=True, unwrap_unit_return_tuple=True
    )
    graph, _ = relax.frontend.detach_params(graph)
    for rewrite in (
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.DeadCodeElimination(),
        relax.transform.FuseOps(fuse_opt_level=2),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ):
        graph = rewrite(graph)
    found: Counter[Signature] = Counter()
    for block in graph["main"].body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Call):
                found.update(_read_kernel(binding))
    return found


def _read_kernel(binding: relax.VarBinding) -> list[Signature]:
    name = binding.value.args[0].name_hint.removeprefix("fused_")
    tokens = [re.sub(r"\d+$", "", token) for token in name.split("_") if token != "tir"]
    inputs = [_shape(argument) for argument in binding.value.args[1]]
    output = _shape(binding.var)
    if set(tokens) <= {"reshape", "permute", "dims", "transpose"}:
        return []  # views of weights and of one-pixel tensors
    if tokens[0] == "mean":
        return [Signature("global_avg_pool2d", _nhwc(inputs[0]), (1, 1), _nhwc(output), ())]
    kind, kernel = _anchor(tokens[0], inputs)
    steps, gated = _read_steps(tokens[1:], inputs[2:], output)
    if gated is None:
        return [Signature(kind, _nhwc(inputs[0]), kernel, _nhwc(output), steps)]
    # TVM runs the gate of squeeze-excite in one kernel with the product; the rule keeps two.
    gate = (output[0], output[1], 1, 1)
    return [
        Signature(kind, _nhwc(inputs[0]), kernel, _nhwc(gate), steps),
        Signature("scale", _nhwc(gated), (1, 1), _nhwc(output), ()),
    ]


def _anchor(token: str, inputs: list[Shape]) -> tuple[str, tuple[int, int]]:
    if token == "matmul":
        return "dense", (1, 1)
    assert token == "conv2d"
    (_, channels, height, width), weight = inputs[0], inputs[1]
    if weight[1] == 1 and weight[0] == channels:
        return "depthwise_conv2d", weight[2:]
    if (height, width) == (1, 1) and weight[2:] == (1, 1):
        return "dense", (1, 1)
    assert weight[1] == channels
    return "conv2d", weight[2:]


def _read_steps(
    tokens: list[str], extras: list[Shape], output: Shape
) -> tuple[tuple[str, ...], Shape | None]:
    """Name the fused steps; every tensor that the kernel reads must be used by one of them.

    hard_swish is add (3), clip, multiply, divide; hard_sigmoid the same without multiply.
    """
    steps: list[str] = []
    gated: Shape | None = None
    rest = list(extras)
    text = " ".join(tokens)
    text = re.sub(r"add (clip )+multiply divide", "hard-swish", text)
    text = re.sub(r"add (clip )+divide", "hard-sigmoid", text)
    for token in text.split():
        if token == "add" and rest:
            tensor = rest.pop(0)
            is_bias = tensor in {output[1:2], (1, output[1], 1, 1)} and "bias" not in steps
            assert is_bias or tensor == output
            steps.append("bias" if is_bias else "add")
        elif token == "multiply" and rest:
            gated = rest.pop(0)
            assert gated == output
        elif token in {"relu", "hard-swish", "hard-sigmoid"}:
            steps.append(token.replace("-", "_"))
        else:
            assert token == "reshape", f"unknown step {token} in {tokens}"
    assert not rest
    return tuple(steps), gated


def _shape(expression: relax.Expr) -> Shape:
    return tuple(int(size) for size in expression.ty.shape)


def _nhwc(shape: Shape) -> Shape:
    if len(shape) == 2:
        return (shape[0], 1, 1, shape[1])
    n, c, h, w = shape
    return (n, h, w, c)
