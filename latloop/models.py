"""What a person means by MODEL on the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from profiler.artifacts import ArtifactStore
from profiler.bench import StageProgress, quiet
from profiler.deployment import (
    MODEL_FILE,
    PROGRAM_FILE,
    Deployment,
    read_deployment,
)
from profiler.foreign import ANSWERS_FILE
from profiler.network import Network
from profiler.runtime import Model
from searchspace.genes import Genome
from searchspace.space import BUILT_IN, SearchSpace, UnknownSpaceError, parse_subnet

if TYPE_CHECKING:
    from profiler.importers.kept import KeptModel

Shapes = Mapping[str, tuple[int, ...]]

WHAT_A_MODEL_IS = (
    "MODEL is an ONNX file, module:function that returns a torch module and example inputs, "
    "SPACE:GENOME, or the folder of a deployment"
)
_SHAPE = re.compile(r"(?P<name>.+)=(?P<shape>[1-9]\d*(?:x[1-9]\d*)*)?", re.ASCII)


class UnsupportedModelError(ValueError):
    """The model exists but this command cannot take it: the message says what it can take."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network of a search space, which has no weights until a seed draws them."""

    space: SearchSpace
    genome: Genome


@dataclass(frozen=True, slots=True)
class Subject:
    """A network that a person named.

    Attributes:
        network: Its operators.
        source: Where it comes from, and with it its weights.
    """

    network: Network
    source: Subnet | KeptModel | Deployment


def resolve_model(
    text: str,
    artifacts: Path,
    shapes: Shapes | None = None,
    seed: int = 0,
    progress: StageProgress = quiet,
) -> Subject:
    """Find the network that a text names.

    An existing folder is a deployment, and so is the model.onnx inside one. What ends in `.onnx` is
    an ONNX file. Of texts with colons, `SPACE:GENOME` starts with a built-in space or with
    `module:object`, whereas `module:function` has one colon and ends in an identifier.

    Args:
        text: What a person typed.
        artifacts: The artefact store, in which imported models are kept; made when it is needed.
        shapes: For inputs of an ONNX file whose dimensions are free.
        seed: Draws weights that an ONNX file has only as placeholders.
        progress: Called around an import.

    Raises:
        ModelImportError: an ONNX file or torch module that cannot be imported.
        UnsupportedModelError: shapes for a model that is no ONNX file.
        DeploymentError: a damaged deployment.
        UnknownSpaceError: no such space.
        ValueError: a malformed genome, or no MODEL at all.
    """
    path = Path(text)
    folder = path.parent if path.name == MODEL_FILE else path
    is_folder = os.path.isdir(text)  # noqa: PTH112  # Path.is_dir raises for a name too long
    is_deployed = is_folder or (folder != path and (folder / PROGRAM_FILE).is_file())
    if path.suffix == ".onnx" and not is_deployed:
        return _import_onnx(path, artifacts, shapes or {}, seed, progress)
    if shapes:
        names = ", ".join(shapes)
        raise UnsupportedModelError(f"--shape is for ONNX files, got {names} for {text}")
    if is_deployed:
        return _read_deployed(read_deployment(folder))
    if _names_function(text):
        return _import_torch(text, artifacts, seed, progress)
    if ":" not in text:
        raise ValueError(f"{WHAT_A_MODEL_IS}, got {text!r}")
    try:
        space, genome = parse_subnet(text)
    except UnknownSpaceError as error:
        raise UnknownSpaceError(
            f"{error}; a torch module is named module:function, with one colon"
        ) from error
    return Subject(space.lower(genome), Subnet(space, genome))


def find_source(
    subject: Subject, artifacts: Path, seed: int = 0, progress: StageProgress = quiet
) -> Subject:
    """What a deployment was made from, so that it can be built anew; other subjects as they are.

    Args:
        subject: From `resolve_model`.
        artifacts: The artefact store.
        seed: As for `resolve_model`.
        progress: Called around an import.

    Raises:
        ModelImportError: the torch module that was deployed is no longer there.
    """
    if not isinstance(subject.source, Deployment):
        return subject
    folder, name = subject.source.folder, subject.source.network
    if (folder / ANSWERS_FILE).is_file():
        return _import_torch(name, artifacts, seed, progress)
    try:
        space, genome = parse_subnet(name)
    except ValueError:
        return _import_onnx(folder / MODEL_FILE, artifacts, {}, seed, progress)
    return Subject(space.lower(genome), Subnet(space, genome))


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read `--shape NAME=1x3x224x224` options; `NAME=` is a single number.

    Raises:
        ValueError: a text of another form, or a name that is given twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f"a shape is written NAME=1x3x224x224, got {text!r}")
        if match["name"] in shapes:
            raise ValueError(f"--shape names {match['name']!r} twice")
        extents = match["shape"].split("x") if match["shape"] else []
        shapes[match["name"]] = tuple(map(int, extents))
    return shapes


def as_model(subject: Subject, seed: int | None = None) -> Model:
    """A subject as a runtime takes it, with its weights.

    Args:
        subject: The network.
        seed: Draws a subnet's weights; None leaves it without any, which is enough to time it. So
            is a deployment, whose weights are laid out for its own program.
    """
    network, source = subject.network, subject.source
    if isinstance(source, Subnet):
        return Model(network, None if seed is None else _draw_weights(source, seed))
    if isinstance(source, Deployment):
        file = source.folder / MODEL_FILE
        return Model(network, None, file if file.is_file() else None, source.shapes)
    return Model(
        network,
        source.read_weights(),
        source.plain_model,
        source.shapes,
        answers_file=source.answers_file,
    )


def _draw_weights(subnet: Subnet, seed: int) -> dict[str, NDArray[np.float32]]:
    return subnet.space.weights(subnet.space.module(subnet.genome, np.random.default_rng(seed)))


def _names_function(text: str) -> bool:
    """Whether a text is `module:function`: one colon, no built-in space, no genome."""
    module, colon, function = text.partition(":")
    names = [*module.split("."), function]
    return bool(colon) and module not in BUILT_IN and all(name.isidentifier() for name in names)


def _read_deployed(deployment: Deployment) -> Subject:
    if deployment.graph is not None:
        return Subject(deployment.graph, deployment)
    space, genome = parse_subnet(deployment.network)
    return Subject(space.lower(genome), deployment)


def _import_onnx(
    path: Path, artifacts: Path, shapes: Shapes, seed: int, progress: StageProgress
) -> Subject:
    from profiler.importers.importing import import_onnx_once  # noqa: PLC0415  # imports onnx

    store = ArtifactStore(artifacts)
    kept = import_onnx_once(path, shapes, seed, store, lambda n, m: progress("import", n, m))
    return Subject(kept.network, kept)


def _import_torch(text: str, artifacts: Path, seed: int, progress: StageProgress) -> Subject:
    from profiler.importers.errors import UnreadableModelError  # noqa: PLC0415
    from profiler.importers.importing import import_torch_now  # noqa: PLC0415  # imports onnx

    store = ArtifactStore(artifacts)
    try:
        kept = import_torch_now(text, seed, store, lambda n, m: progress("import", n, m))
    except UnreadableModelError as error:
        spaces = ", ".join(BUILT_IN)
        raise UnreadableModelError(
            f"{error}; or did you mean SPACE:GENOME? SPACE is one of {spaces}, or module:object"
        ) from error
    return Subject(kept.network, kept)
