"""What a model itself makes of inputs: that with which a program's outputs are compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from profiler.deployment import MODEL_FILE, Deployment
from profiler.foreign import ANSWERS_FILE
from profiler.importers.kept import Answer, read_answers
from profiler.output_check import OutputCheck, compare_outputs
from searchspace.spaces.images import example_inputs

Array = NDArray[Any]

N_CHECKED_INPUTS: Final = 3
#: Integers of which nobody says what they index: flags, masks, and the first entries of any table.
_SAFE_LIMIT: Final = 2
#: What ONNX operators do to indices without changing what they index.
_KEEPS_INDICES: Final = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)


def known_answers(deployment: Deployment, rng: np.random.Generator) -> tuple[Answer, ...]:
    """What a deployed model makes of fresh inputs, or the answers that it was deployed with."""
    kept = deployment.folder / ANSWERS_FILE
    if kept.is_file():
        return read_answers(kept)
    # Between smooth images, noise gives what looks for edges something to find.
    inputs = [
        draw_inputs(deployment, rng, is_noise=index % 2 == 1) for index in range(N_CHECKED_INPUTS)
    ]
    # A model that ONNX Runtime runs is no check of itself.
    is_foreign = deployment.runtime == "latloop" and deployment.shapes is not None
    return answer_by_onnx(deployment.folder / MODEL_FILE, inputs, may_be_fast=is_foreign)


def draw_inputs(
    deployment: Deployment, rng: np.random.Generator, *, is_noise: bool = False
) -> dict[str, Array]:
    """Inputs of a deployed model by name: images with natural spectra, noise, known integers."""
    path = deployment.folder / MODEL_FILE
    limits = index_limits(path) if path.is_file() else {}
    drawn = {}
    for name, shape in deployment.input_shapes.items():
        dtype = np.dtype(deployment.workload.tensors[deployment.inputs[name]].dtype)
        if dtype.kind == "f" and len(shape) == 4 and not is_noise:
            n, c, h, w = shape
            drawn[name] = example_inputs(rng, n, (h, w, c)).transpose(0, 3, 1, 2).astype(dtype)
        elif dtype.kind == "f":
            # Of another size each time: networks that normalise would answer alike otherwise.
            drawn[name] = (rng.normal(size=shape) * rng.uniform(0.3, 3.0)).astype(dtype)
        else:
            # From another part of the table each time: all of it looks alike to what counts.
            limit = limits.get(name, _SAFE_LIMIT)
            most = int(rng.integers(max(_SAFE_LIMIT, limit // 4), limit + 1))
            drawn[name] = rng.integers(0, most, shape).astype(dtype)
    return drawn


def index_limits(path: Path) -> dict[str, int]:
    """For inputs of an ONNX model that choose rows of stored tables: how many rows there are.

    An input that is compared with stored integers, as where it is written as ones and zeros, may be
    any number up to the largest of them.
    """
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    sources = {value.name: value.name for value in graph.input}
    limits: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _KEEPS_INDICES and node.input[0] in sources:
            sources[node.output[0]] = sources[node.input[0]]
        limit = _limit_of(node, stored, sources)
        if limit is not None:
            name, n_known = limit
            limits[name] = min(limits.get(name, n_known), n_known)
    return limits


def _limit_of(
    node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto], sources: Mapping[str, str]
) -> tuple[str, int] | None:
    """The input that a node looks up or compares, and how many numbers it knows."""
    if node.op_type == "Gather" and node.input[0] in stored and node.input[1] in sources:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return sources[node.input[1]], stored[node.input[0]].dims[axis]
    if node.op_type == "Equal" and node.input[0] in sources and node.input[1] in stored:
        numbers = numpy_helper.to_array(stored[node.input[1]])
        if numbers.dtype.kind in "iu" and numbers.size > 1:
            return sources[node.input[0]], int(numbers.max()) + 1
    return None


def answer_by_onnx(
    path: Path, inputs: Sequence[Mapping[str, Array]], *, may_be_fast: bool
) -> tuple[Answer, ...]:
    """Run an ONNX model on inputs: by ONNX Runtime where it is installed, or by onnx's reference.

    Args:
        path: The model.
        inputs: By the model's names.
        may_be_fast: Whether ONNX Runtime may be asked.
    """
    session = _fast_session(path) if may_be_fast else None
    if session is None:
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  # only when it is needed

        session = ReferenceEvaluator(str(path))
    names = [value.name for value in onnx.load(str(path), load_external_data=False).graph.output]
    return tuple(
        Answer(
            given, dict(zip(names, map(np.asarray, session.run(None, dict(given))), strict=True))
        )
        for given in inputs
    )


def _fast_session(path: Path) -> Any | None:
    # Its telemetry would start a thread and send reports over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # noqa: PLC0415  # an optional dependency
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answer_by_module(
    module: Any, inputs: Sequence[Mapping[str, Array]], output: str
) -> tuple[Answer, ...]:
    """Run a torch module of one output on images by name, in order."""
    import torch  # noqa: PLC0415  # seconds of import

    answers = []
    for given in inputs:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in given.values()]
        with torch.no_grad():
            answers.append(Answer(given, {output: module(*tensors).numpy()}))
    return tuple(answers)


def compare_answers(
    answers: Sequence[Answer], others: Sequence[Sequence[Mapping[str, Array]]]
) -> OutputCheck:
    """Compare outputs by name of several ways with a model's own answers.

    Returns:
        The largest error over all outputs. Inputs are told apart as well as the output that tells
        them apart best: a model may have outputs that never change.
    """
    checks = [
        compare_outputs(
            [_number(answer.outputs[name]) for answer in answers],
            [[_number(outputs[name]) for outputs in way] for way in others],
        )
        for name in answers[0].outputs
    ]
    return OutputCheck(
        max(check.max_error for check in checks),
        max(check.min_difference for check in checks),
        len(answers),
    )


def _number(array: Array) -> Array:
    """An array whose differences are numbers: of truth values and integers, too."""
    return np.asarray(array, np.float32 if array.dtype == np.float32 else np.float64)
