"""Imported models in the artefact store: all that later commands need, without importing again.

A model is kept as a JSON document that names its parts by digest: the loops of its generic
operators, its weights (.npz), the plain ONNX model, and what the model itself answered where no
ONNX model can tell.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiler.artifacts import ArtifactStore
from profiler.build import BuildCacheError
from profiler.importers.imported import ImportedModel, keep_loops
from profiler.network import Network
from profiler.network_json import network_from_json, network_to_json

Array = NDArray[Any]

#: Grows when the document changes, so that one of an earlier Latloop is imported anew.
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model makes of inputs, both by name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class KeptModel:
    """An imported model in an artefact store.

    Attributes:
        digest: Of the document that describes it.
        network: Its calls.
        output_shapes: The model's shape of each output, by name.
        artifacts: Where its parts are.
        weights_digest: Its weights as .npz.
        plain_digest: The plain ONNX model that was imported, or None.
        answers_digest: Answers of the model itself as .npz, or None.
    """

    digest: str
    network: Network
    output_shapes: Mapping[str, tuple[int, ...]]
    artifacts: ArtifactStore
    weights_digest: str
    plain_digest: str | None
    answers_digest: str | None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The model's own shape of each input and output, by name."""
        return {**dict(self.network.inputs), **self.output_shapes}

    @property
    def plain_model(self) -> Path | None:
        """The plain ONNX model, a file without suffix that belongs to the store."""
        return None if self.plain_digest is None else self._part(self.plain_digest)

    @property
    def answers_file(self) -> Path | None:
        """What `read_answers` reads."""
        return None if self.answers_digest is None else self._part(self.answers_digest)

    def read_weights(self) -> dict[str, Array]:
        """Logical weights and constants by the names that the calls give them.

        Raises:
            BuildCacheError: they are gone or damaged.
        """
        with np.load(self._part(self.weights_digest), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def _part(self, digest: str) -> Path:
        path = self.artifacts.path(digest)
        if path is None:
            raise BuildCacheError(
                f"a part of the imported {self.network.name} is missing or damaged in "
                f"{self.artifacts.folder}; run the command again to import the model anew"
            )
        return path


def keep_model(
    model: ImportedModel,
    artifacts: ArtifactStore,
    plain: bytes | None = None,
    answers: Sequence[Answer] = (),
) -> str:
    """Keep an imported model; whatever interrupts it, no half of one is ever found.

    Args:
        model: What was imported.
        artifacts: Where to keep it.
        plain: The plain ONNX model, serialised.
        answers: What the model itself answers.

    Returns:
        The digest of the document that `read_kept` reads.

    Raises:
        ArtifactError: the artefact folder cannot be written to.
    """
    keep_loops(model, artifacts)
    document = {
        "format": _FORMAT,
        "network": network_to_json(model.network),
        "output_shapes": {name: list(shape) for name, shape in model.output_shapes.items()},
        "loops": sorted(model.loops),
        "weights": artifacts.put_bytes(_as_npz(model.weights)),
        "plain_model": None if plain is None else artifacts.put_bytes(plain),
        "answers": artifacts.put_bytes(pack_answers(answers)) if answers else None,
    }
    # Last: its digest is what others look for.
    return artifacts.put_bytes(json.dumps(document).encode())


def read_kept(digest: str, artifacts: ArtifactStore) -> KeptModel | None:
    """Read what `keep_model` kept; None where the document or one of its parts is gone."""
    data = artifacts.get(digest)
    document: dict[str, Any] = {} if data is None else json.loads(data)
    if document.get("format") != _FORMAT:
        return None
    others = (document["weights"], document["plain_model"], document["answers"])
    parts = [*document["loops"], *(part for part in others if part is not None)]
    if not all(map(artifacts.holds, parts)):
        return None
    return KeptModel(
        digest=digest,
        network=network_from_json(document["network"]),
        output_shapes={n: tuple(shape) for n, shape in document["output_shapes"].items()},
        artifacts=artifacts,
        weights_digest=document["weights"],
        plain_digest=document["plain_model"],
        answers_digest=document["answers"],
    )


def pack_answers(answers: Sequence[Answer]) -> bytes:
    """Answers as an .npz file that `read_answers` reads back."""
    return _as_npz(
        {
            f"{index}/{side}/{name}": array
            for index, answer in enumerate(answers)
            for side, arrays in (("inputs", answer.inputs), ("outputs", answer.outputs))
            for name, array in arrays.items()
        }
    )


def read_answers(path: Path) -> tuple[Answer, ...]:
    """Read what `pack_answers` packed; nothing is unpickled.

    Raises:
        OSError, ValueError: the file cannot be read, or is no such file.
    """
    found: dict[int, dict[str, dict[str, Array]]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            index, side, name = key.split("/", 2)
            sides = found.setdefault(int(index), {"inputs": {}, "outputs": {}})
            sides[side][name] = archive[key]
    return tuple(Answer(sides["inputs"], sides["outputs"]) for _, sides in sorted(found.items()))


def _as_npz(arrays: Mapping[str, Array]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # numpy's stub has a flag there
    return file.getvalue()
