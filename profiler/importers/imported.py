"""What an import makes of a model: a network of calls, its weights, and loops of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from profiler.artifacts import ArtifactStore
from profiler.network import Network

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A model as calls of operators.

    Inputs and outputs lie in memory in the model's own order of axes, C order without gaps.

    Attributes:
        network: The calls; its inputs and outputs bear the model's names.
        weights: Logical weights and constants by the names that the calls give them.
        loops: Text of each generic operator's loops, by digest; see `keep_loops`.
        output_shapes: The model's shape of each output, by name; the network's own may have the
            same elements under another shape.
    """

    network: Network
    weights: Mapping[str, Array]
    loops: Mapping[str, str]
    output_shapes: Mapping[str, tuple[int, ...]]


def keep_loops(model: ImportedModel, artifacts: ArtifactStore) -> None:
    """Keep the loops of a model's generic operators where builds look for them.

    Raises:
        ArtifactError: the artefact folder cannot be written to.
    """
    for text in model.loops.values():
        artifacts.put_bytes(text.encode())
