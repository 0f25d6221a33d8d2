"""Why a model cannot be imported; every message names the thing and says what to do."""

from __future__ import annotations


class ModelImportError(ValueError):
    """The model cannot be taken as it is: change the model or the command."""


class UnreadableModelError(ModelImportError):
    """The file is missing, cut short, or no such model at all: check the path, export it again."""


class DynamicShapeError(ModelImportError):
    """A dimension is not fixed: choose it with `--shape NAME=1x3x224x224`."""


class QuantizedModelError(ModelImportError):
    """The model computes with integers in place of floats: export it in float32."""


class UnsupportedOperatorError(ModelImportError):
    """The model holds operators that cannot be converted: replace them before the export."""


class ImportCrashedError(ModelImportError):
    """The compiler died of the model: export it in a simpler form."""
