"""What a person means by MODEL on the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from profiler.deployment import Deployment, read_deployment
from profiler.network import Network
from searchspace.genes import Genome
from searchspace.space import SearchSpace, parse_subnet


class UnsupportedModelError(ValueError):
    """The model exists but this version cannot take it: the message says what it can take."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network that a person named.

    Attributes:
        network: Its operators.
        space, genome: Where it comes from.
        deployment: The folder it was read from, or None.
    """

    network: Network
    space: SearchSpace
    genome: Genome
    deployment: Deployment | None = None


def resolve_model(text: str) -> Subject:
    """Find the network that a text names: `SPACE:GENOME`, a deployment's folder or its model.onnx.

    Raises:
        UnsupportedModelError: an ONNX file that Latloop did not write, or no ONNX file at all.
        DeploymentError: a damaged deployment.
        UnknownSpaceError: no such space.
        ValueError: a malformed genome.
    """
    path = Path(text)
    if os.path.isdir(text):  # noqa: PTH112  # Path.is_dir raises for a name that is too long
        deployment = read_deployment(path)
        space, genome = parse_subnet(deployment.network)
        return Subject(space.lower(genome), space, genome, deployment)
    if path.suffix == ".onnx":
        space, genome = parse_subnet(_network_of_onnx(path))
    else:
        space, genome = parse_subnet(text)
    return Subject(space.lower(genome), space, genome)


def _network_of_onnx(path: Path) -> str:
    """The subnet that a model.onnx of a deployment holds."""
    import onnx  # noqa: PLC0415  # only who gives such a file waits for the import
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model)
    except OSError as error:
        raise UnsupportedModelError(f"cannot read {path}: {error.strerror}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModelError(f"{path} is not an ONNX model: {reason}") from error
    for entry in model.metadata_props:
        if entry.key == "network":
            return str(entry.value)
    raise UnsupportedModelError(
        f"{path} is an ONNX model that Latloop did not write, which this version cannot take; "
        "give SPACE:GENOME, a deployment's folder, or its model.onnx"
    )
