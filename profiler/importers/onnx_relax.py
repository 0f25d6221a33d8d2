"""A plain ONNX model in Relax, by TVM's front end and the conversions of ours."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from profiler.importers.errors import ModelImportError, UnsupportedOperatorError
from profiler.importers.onnx_converters import REFUSED, converters, convertible


def to_relax(model: onnx.ModelProto, path: Path) -> tvm.IRModule:
    """Convert a model that `onnx_file.read_onnx` made plain.

    Args:
        model: Fixed shapes, nothing in it constant.
        path: Where it came from, for messages.

    Raises:
        UnsupportedOperatorError: it holds operators that have no conversion.
        ModelImportError: a conversion refuses what it is given.
    """
    with converters():
        _refuse_unsupported(model, path)
        # The front end prints to standard output, which belongs to whoever called us.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Its function `from_onnx` would check the model again, which copies all weights.
            importer = _Importer({}, "float32", sanitize=False)
            importer.path = path
            module = importer.from_onnx(model.graph, _opset(model))
    return relax.transform.CanonicalizeBindings()(module)


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]  # TVM has no types
    """TVM's front end, whose errors name the node.

    Attributes:
        path: Where the model came from.
    """

    path: Path

    def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
        try:
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except (ValueError, TypeError, LookupError, AssertionError, AttributeError,
                RuntimeError) as error:  # fmt: skip
            name = attrs["tvm_custom"]["name"]
            raise ModelImportError(
                f"{self.path}: {op_name} {name!r} cannot be converted: {_last_line(error)}; "
                "replace it before the export"
            ) from error


def _opset(model: onnx.ModelProto) -> int:
    return next(int(o.version) for o in model.opset_import if o.domain in {"", "ai.onnx"})


def _refuse_unsupported(model: onnx.ModelProto, path: Path) -> None:
    known = convertible()
    missing: Counter[str] = Counter()
    first: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in known and node.domain in {"", "ai.onnx"}:
            continue
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        missing[name] += 1
        first.setdefault(name, node.name or node.output[0])
    if missing:
        listed = "; ".join(
            f"{name} ({count}, the first is node {first[name]!r})"
            + (f", which {REFUSED[name]}" if name in REFUSED else "")
            for name, count in sorted(missing.items())
        )
        raise UnsupportedOperatorError(
            f"{path} holds operators that cannot be imported: {listed}; replace them before the "
            "export"
        )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
