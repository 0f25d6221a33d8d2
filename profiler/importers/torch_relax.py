"""An exported torch program in Relax, by TVM's front end and the conversions of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from profiler.importers.errors import ModelImportError, UnsupportedOperatorError
from profiler.importers.torch_converters import converters
from profiler.importers.torch_export import first_line, location

Convert = Callable[[torch.fx.Node], Any]

#: TVM's conversions of these give other numbers than torch, or what no loops are made of.
_WRONG: Final = frozenset({
    "_upsample_bilinear2d_aa.default", "argsort.default", "bernoulli.p", "cond", "cumprod.default",
    "grid_sampler_2d.default", "index_put.default", "max_pool2d_with_indices.default",
    "max_pool3d_with_indices.default", "native_dropout.default", "sort.default",
    "to_sparse.default", "topk.default",
})  # fmt: skip


def to_relax(program: torch.export.ExportedProgram, name: str) -> tvm.IRModule:
    """Convert a program that `torch_export.export` made; weights become constants.

    Args:
        program: Fixed shapes, no side effects.
        name: What it is called, for messages.

    Raises:
        UnsupportedOperatorError: it holds operators that have no conversion.
        ModelImportError: a conversion refuses what it is given.
    """
    importer = ExportedProgramImporter()
    table = {key: f for key, f in importer.convert_map.items() if key not in _WRONG}
    table |= converters(importer)
    _refuse_unsupported(program, table, name)
    importer.convert_map = {key: _explained(f, name) for key, f in table.items()}
    module = importer.from_exported_program(
        program,
        keep_params_as_input=False,
        unwrap_unit_return_tuple=True,
        no_bind_return_tuple=False,
        custom_convert_map=None,
    )
    return relax.transform.CanonicalizeBindings()(module)


def _refuse_unsupported(
    program: torch.export.ExportedProgram, table: Mapping[str, Convert], name: str
) -> None:
    missing: dict[str, list[torch.fx.Node]] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target.__name__ not in table:
            missing.setdefault(str(node.target), []).append(node)
    if missing:
        listed = "; ".join(
            f"{target} ({len(nodes)}, the first in {location(nodes[0])})"
            for target, nodes in sorted(missing.items())
        )
        raise UnsupportedOperatorError(
            f"{name} holds operators that cannot be imported: {listed}; write them with others"
        )


def _explained(convert: Convert, name: str) -> Convert:
    """A conversion whose failure names the node."""

    def converted(node: torch.fx.Node) -> Any:
        try:
            return convert(node)
        except (ValueError, TypeError, KeyError, AssertionError, NotImplementedError,
                AttributeError, IndexError, RuntimeError) as error:  # fmt: skip
            raise ModelImportError(
                f"{name}: {node.target} in {location(node)} cannot be converted: "
                f"{first_line(error)}; write it with other operators"
            ) from error

    return converted
