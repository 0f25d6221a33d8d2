"""A process that imports one model: `python -m profiler.importers.import_worker`.

TVM and torch live here: who predicts what was imported before does not wait for them, and a
crash of theirs is an answer to the caller. It reads one JSON request from standard input, keeps
the model in the artefact store, and answers with one JSON line.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from profiler.artifacts import ArtifactError, ArtifactStore
from profiler.importers.errors import ModelImportError
from profiler.importers.kept import keep_model
from profiler.torchless import leave_torch_out

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Import one model."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when work stops
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    request = json.load(sys.stdin)
    if os.getppid() != request["parent"]:  # it died before it could be watched
        sys.exit(1)
    try:
        answer = {"digest": _import(request)}
    except (ModelImportError, ArtifactError) as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    except Exception as error:  # TVM and torch raise anything
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        message = f"{request['model']} cannot be imported: {type(error).__name__}: {lines[-1]}"
        answer = {"error": message, "kind": ModelImportError.__name__}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _import(request: Mapping[str, Any]) -> str:
    """Import what a request names; returns the digest of what was kept."""
    artifacts = ArtifactStore(Path(request["artifacts"]))
    if request["front_end"] == "torch":
        return _import_torch(request, artifacts)
    leave_torch_out()
    from profiler.importers.from_onnx import import_plain  # noqa: PLC0415  # torch needs neither
    from profiler.importers.onnx_file import read_onnx  # noqa: PLC0415

    path = Path(request["model"])
    shapes = {name: tuple(shape) for name, shape in request["shapes"].items()}
    plain = read_onnx(path, shapes, request["seed"])
    model = import_plain(plain, path)
    named = replace(model, network=replace(model.network, name=request["name"]))
    return keep_model(named, artifacts, plain=plain.SerializeToString())


def _import_torch(request: Mapping[str, Any], artifacts: ArtifactStore) -> str:
    from profiler.importers.from_torch import import_torch, load_torch  # noqa: PLC0415
    from profiler.importers.torch_answers import answer_by_torch  # noqa: PLC0415

    module, example_inputs = load_torch(request["model"])
    model = import_torch(module, example_inputs, request["name"])
    answers = answer_by_torch(module, example_inputs, model, request["seed"])
    return keep_model(model, artifacts, answers=answers)


if __name__ == "__main__":
    main()
