"""Models that Latloop did not make, as deployments keep them beside their programs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from profiler.model_io import Shape

#: In place of an ONNX model, for a model that has no such form: inputs, and what it answered.
ANSWERS_FILE = "answers.npz"


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model that Latloop did not make.

    Attributes:
        shapes: The model's own shapes of inputs and outputs, by name.
        onnx_file: The model made plain, or None.
        answers_file: Inputs and what the model answered, where there is no `onnx_file`.
    """

    shapes: Mapping[str, Shape]
    onnx_file: Path | None
    answers_file: Path | None

    def __post_init__(self) -> None:
        if self.onnx_file is None and self.answers_file is None:
            raise ValueError("a model needs an ONNX file or answers to be checked by, got neither")

    def copy_to(self, folder: Path, onnx_name: str) -> None:
        """Put that with which a program's outputs are compared into its folder."""
        if self.onnx_file is not None:
            shutil.copyfile(self.onnx_file, folder / onnx_name)
        elif self.answers_file is not None:
            shutil.copyfile(self.answers_file, folder / ANSWERS_FILE)
