"""ONNX files as networks of Latloop's operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.importers.imported import ImportedModel
from profiler.importers.onnx_file import Shape, read_onnx

if TYPE_CHECKING:
    import onnx


def import_onnx(path: Path, shapes: Mapping[str, Shape], seed: int = 0) -> ImportedModel:
    """Import a model; its name is the file's without `.onnx`.

    Args:
        path: The file; weights may lie in files beside it.
        shapes: A shape for each input that has free dimensions; others may be given, too.
        seed: Draws the weights that the file only has as placeholders.

    Raises:
        ModelImportError: the model cannot be taken as it is; the message names the thing and what
            to do.
    """
    return import_plain(read_onnx(path, shapes, seed), path)


def import_plain(model: onnx.ModelProto, path: Path) -> ImportedModel:
    """Import what `read_onnx` made of a file; see `import_onnx`."""
    # Seconds of import, which a file that cannot be read does not wait for.
    from profiler.importers.lowering import lower_relax  # noqa: PLC0415
    from profiler.importers.onnx_relax import to_relax  # noqa: PLC0415

    module = to_relax(model, path)
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    return lower_relax(path.stem, module, inputs, outputs)
