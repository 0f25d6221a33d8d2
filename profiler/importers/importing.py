"""Models imported in a process of their own, each content once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from profiler.artifacts import ArtifactError, ArtifactStore
from profiler.importers import errors
from profiler.importers.content import Shape, importer_version, onnx_content
from profiler.importers.errors import ImportCrashedError, ModelImportError
from profiler.importers.kept import KeptModel, read_kept

#: Called with how much of an import is done, and how much there is.
Progress = Callable[[int, int], None]

_N_NAME_DIGITS = 8


def unheard(done: int, total: int) -> None:  # a Progress
    """Report progress to nobody."""


def import_onnx_once(
    path: Path,
    shapes: Mapping[str, Shape],
    seed: int,
    artifacts: ArtifactStore,
    progress: Progress = unheard,
) -> KeptModel:
    """Import an ONNX file, or find what an earlier import kept of the same content.

    The network is named after the file and its content, such as `resnet18.onnx:1f0c92ab`.

    Args:
        path: The file; weights may lie in files beside it.
        shapes: A shape for each input that has free dimensions; others may be given, too.
        seed: Draws the weights that the file only has as placeholders.
        artifacts: Where models are kept.
        progress: Called around an import, which takes seconds, but not where none is needed.

    Raises:
        ModelImportError: the model cannot be taken as it is.
        ArtifactError: the artefact folder cannot be used.
    """
    content = onnx_content(path, shapes, seed)
    name = f"{path.name}:{content[:_N_NAME_DIGITS]}"
    key = f"imported {importer_version()} {name} {content}"
    digest = artifacts.lookup(key)
    kept = None if digest is None else read_kept(digest, artifacts)
    if kept is None:
        request = {
            "front_end": "onnx",
            "model": str(path.absolute()),
            "name": name,
            "shapes": {given: list(shape) for given, shape in shapes.items()},
            "seed": seed,
        }
        kept = _import(request, artifacts, progress)
        artifacts.alias(key, kept.digest)
    return kept


def import_torch_now(
    text: str, seed: int, artifacts: ArtifactStore, progress: Progress = unheard
) -> KeptModel:
    """Import what `module:function` returns: a torch module and example inputs.

    Only running the function can tell whether it returns what it did before, so it is imported
    every time.

    Raises:
        ModelImportError: nothing of that name exists, or its module cannot be taken as it is.
        ArtifactError: the artefact folder cannot be used.
    """
    request = {"front_end": "torch", "model": text, "name": text, "seed": seed}
    return _import(request, artifacts, progress)


def _import(request: Mapping[str, Any], artifacts: ArtifactStore, progress: Progress) -> KeptModel:
    progress(0, 1)
    folder = str(artifacts.folder.absolute())
    answer = _ask_worker({**request, "artifacts": folder, "parent": os.getpid()})
    if "error" in answer:
        if answer["kind"] in {"ArtifactError", "ArtifactSpaceError"}:
            raise ArtifactError(answer["error"])
        raise getattr(errors, answer["kind"], ModelImportError)(answer["error"])
    kept = read_kept(answer["digest"], artifacts)
    if kept is None:
        raise ArtifactError(
            f"what was imported vanished from {artifacts.folder}; run the command again"
        )
    progress(1, 1)
    return kept


def _ask_worker(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a process of its own; an interrupt of this process ends that one."""
    done = subprocess.run(
        [sys.executable, "-m", "profiler.importers.import_worker"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0 and done.stdout:
        return dict(json.loads(done.stdout))
    how = f"exit code {done.returncode}"
    if done.returncode < 0:
        how = f"signal {signal.Signals(-done.returncode).name}"
    said = [line for line in done.stderr.splitlines() if line.strip()]
    raise ImportCrashedError(
        f"the import of {request['model']} crashed ({how}"
        f"{': ' + said[-1].strip() if said else ''}); the model may hold something that the "
        "compiler cannot take: try a simpler export of it"
    )
