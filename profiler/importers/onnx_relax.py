"""A plain ONNX model in Relax, by TVM's front end and the conversions of ours."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from pathlib import Path

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from profiler.importers.errors import ModelImportError, UnsupportedOperatorError
from profiler.importers.onnx_converters import converters, convertible


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
        try:
            # The front end prints to standard output, which belongs to whoever called us.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = from_onnx(model, keep_params_in_input=False, sanitize_input_names=False)
        except (ValueError, TypeError, KeyError, AssertionError, NotImplementedError,
                AttributeError, IndexError, RuntimeError) as error:  # fmt: skip
            raise ModelImportError(f"{path} cannot be converted: {_first_line(error)}") from error
    return relax.transform.CanonicalizeBindings()(module)


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
            for name, count in sorted(missing.items())
        )
        raise UnsupportedOperatorError(
            f"{path} holds operators that cannot be imported: {listed}; replace them before the "
            "export"
        )


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
