"""An ONNX file made plain: fixed shapes, real weights, nothing left that is constant.

What remains has only nodes that must run, so that the front end behind it meets no shape
arithmetic and no placeholder.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto

from profiler.importers.errors import (
    DynamicShapeError,
    ModelImportError,
    QuantizedModelError,
    UnreadableModelError,
)
from profiler.importers.onnx_fold import fold_constants
from profiler.importers.onnx_weights import replace_placeholders

Shape = tuple[int, ...]

#: Oldest opset that is read; before it, shapes of several operators were attributes of other kinds.
OLDEST_OPSET: Final = 7
#: Operators that ONNX defines as functions of others, and that have no conversion.
EXPANDED: Final = frozenset({
    "Attention", "Celu", "CenterCropPad", "LinearAttention", "RotaryEmbedding", "SwiGLU", "Swish",
})  # fmt: skip
_QUANTIZED: Final = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
)


def read_onnx(path: Path, shapes: Mapping[str, Shape], seed: int = 0) -> onnx.ModelProto:
    """Read a model and make it plain.

    Args:
        path: The file; weights may lie in files beside it.
        shapes: A shape for each input that has free dimensions; others may be given, too.
        seed: Draws the weights that the file only has as placeholders.

    Returns:
        A model whose inputs have fixed shapes and whose nodes all depend on an input.

    Raises:
        UnreadableModelError: no ONNX file, or a damaged one.
        DynamicShapeError: an input's dimension is free and not given.
        QuantizedModelError: it holds quantised operators.
        ModelImportError: a shape is given for no input, or does not fit it.
    """
    model = _load(path)
    _refuse_quantized(model.graph.node, path)
    _fix_inputs(model, shapes, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model = _expand(model)
    replace_placeholders(model, seed)
    return fold_constants(model)


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise UnreadableModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).strip() or "it cannot be parsed").splitlines()[0]
        raise UnreadableModelError(f"{path} is not an ONNX model: {reason}") from error
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if not model.graph.node or not model.graph.output:
        raise UnreadableModelError(f"{path} is not an ONNX model: it holds no graph")
    if not opset:
        domains = ", ".join(sorted(o.domain for o in model.opset_import)) or "no domain"
        raise ModelImportError(
            f"{path} has operators of {domains} alone; those of ONNX's own domain can be imported"
        )
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelImportError(
            f"{path} has opset {opset}; opsets {OLDEST_OPSET} to {newest} can be imported, convert "
            "it with onnx.version_converter"
        )
    return model


def _refuse_quantized(nodes: Iterable[onnx.NodeProto], path: Path) -> None:
    found = Counter(
        node.op_type
        for node in nodes
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear")
    )
    if found:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
        raise QuantizedModelError(
            f"{path} is quantised ({listed}); only float32 models can be imported for now, export "
            "it without quantisation"
        )


def _expand(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write operators that ONNX defines by others as those, where nothing converts them whole."""
    seen: set[str] = set()
    while names := {node.op_type for node in model.graph.node} & EXPANDED - seen:
        seen |= names
        ids = [("", name) for name in sorted(names)]
        try:
            model = onnx.inliner.inline_selected_functions(model, ids, inline_schema_functions=True)
        except RuntimeError:  # a form without a definition; it is refused by name later
            return model
    return model


def _fix_inputs(model: onnx.ModelProto, shapes: Mapping[str, Shape], path: Path) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in stored}
    for name in shapes:
        if name not in inputs:
            raise ModelImportError(
                f"--shape names {name!r}, which is no input of {path}; its inputs are "
                f"{', '.join(map(repr, inputs))}"
            )
    free, example = [], []
    for name, value in inputs.items():
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.elem_type in {TensorProto.STRING, TensorProto.UNDEFINED}:
            raise ModelImportError(f"{path}: input {name} is no tensor of numbers, give it codes")
        if name in shapes:
            _set_shape(value, shapes[name], path)
        elif not value.type.tensor_type.HasField("shape") or any(d.dim_value < 1 for d in dims):
            texts = [str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in dims]
            free.append(f"{name} ({'x'.join(texts) or 'of any shape'})")
            chosen = "x".join(text if text.isdecimal() else "1" for text in texts)
            example.append(f"--shape {shlex.quote(name)}={chosen or '1x3x224x224'}")
    if free:
        raise DynamicShapeError(
            f"{path} leaves dimensions open: {', '.join(free)}; choose them, for example with "
            f"{' '.join(example)}"
        )
    # Shapes that the file states for inner tensors may be those of other inputs.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _set_shape(value: onnx.ValueInfoProto, shape: Shape, path: Path) -> None:
    kind = value.type.tensor_type
    dims = [d.dim_value for d in kind.shape.dim]
    fits = len(dims) == len(shape) and all(
        d < 1 or d == s for d, s in zip(dims, shape, strict=True)
    )
    if kind.HasField("shape") and not fits:
        wanted = "x".join(str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim)
        raise ModelImportError(
            f"--shape {value.name}={'x'.join(map(str, shape))} does not fit input {value.name} of "
            f"{path}, which is {wanted}"
        )
    kind.shape.ClearField("dim")
    for size in shape:
        kind.shape.dim.add().dim_value = size
