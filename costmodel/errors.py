"""What can go wrong in learning and predicting latencies, and what to do about it."""

from __future__ import annotations


class TooFewMeasurementsError(ValueError):
    """Not enough measurements to fit: profile more operators on this device."""


class ModelFolderError(ValueError):
    """A saved model is missing, damaged or written by a newer version: fit it again."""
