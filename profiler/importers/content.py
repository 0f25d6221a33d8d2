"""What an import depends on, as one digest: equal content is imported once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

import profiler
from profiler.build import compiler_versions
from profiler.importers.errors import UnreadableModelError

Shape = tuple[int, ...]

#: Sources that decide what an import makes of a model.
_SOURCES = ("importers/*.py", "operator.py", "generic.py", "network.py", "network_json.py")


def onnx_content(path: Path, shapes: Mapping[str, Shape], seed: int) -> str:
    """The SHA-256 of a model file with its external data, chosen shapes and seed.

    Raises:
        UnreadableModelError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in (path, *sorted(_external_files(path))):
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise UnreadableModelError(f"cannot read {file}: {error.strerror or error}") from error
    digest.update(json.dumps([sorted(shapes.items()), seed]).encode())
    return digest.hexdigest()


@cache
def importer_version() -> str:
    """Sixteen hexadecimal digits that change with the importer's code and what it builds on."""
    digest = hashlib.sha256()
    folder = Path(profiler.__file__).parent
    for pattern in _SOURCES:
        for path in sorted(folder.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    versions = [*compiler_versions(), ("numpy", version("numpy")), ("onnx", version("onnx"))]
    digest.update(json.dumps(versions).encode())
    return digest.hexdigest()[:16]


def _external_files(path: Path) -> set[Path]:
    """Files beside a model that hold some of its tensors."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError):
        return set()  # whoever imports it says what is wrong with it
    return {
        path.parent / entry.value
        for tensor in _tensors(model.graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
