"""LightGBM with settings for tens to hundreds of samples, cross-fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

# Few leaves and small steps: a kind has 10 to 200 samples. Monotone constraints would not hold
# for the sum: these trees learn what the base, which rises with work, missed in either sense.
_SETTINGS: Final[dict[str, Any]] = {
    "objective": "regression",
    "num_leaves": 6,
    "min_data_in_leaf": 4,
    "min_data_in_bin": 1,
    "learning_rate": 0.05,
    "lambda_l2": 1.0,
    "feature_fraction": 0.7,
    "boost_from_average": False,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "seed": 1,
    "verbose": -1,
}
_ROUNDS: Final = (5, 20, 60, 120)


@dataclass(frozen=True, slots=True)
class Trees:
    """A fitted booster; `text` is its LightGBM text, from which it is always read."""

    text: str
    booster: Any

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """What to add to the base's log latency; shape (n,)."""
        if not len(features):
            return np.zeros(0)
        return np.asarray(self.booster.predict(features, num_threads=1), dtype=np.float64)


def read_trees(text: str) -> Trees:
    """Read a booster from LightGBM text.

    Raises:
        ValueError: the text is not a LightGBM model.
    """
    if not text.startswith("tree\n") or "end of trees" not in text:
        raise ValueError("not a complete LightGBM model text")
    try:
        return Trees(text, lightgbm.Booster(model_str=text))
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(f"not a LightGBM model text: {error}") from error


def cross_fit_trees(
    features: NDArray[np.float64],
    errors: NDArray[np.float64],
    partitions: Sequence[NDArray[np.intp]],
) -> tuple[Trees, NDArray[np.float64]]:
    """Learn what a base misses on held-out operators, with as many rounds as pay off there.

    Args:
        features: Shape (n_operators, n_features).
        errors: What the base missed, one row for each partition: (n_partitions, n_operators).
        partitions: The fold of each operator, one array for each row of `errors`.

    Returns:
        Trees fitted to all rows, and each row's corrections predicted from the other folds,
        shape (n_partitions, n_operators).
    """
    corrections = {rounds: np.zeros(errors.shape) for rounds in _ROUNDS}
    for row, folds in enumerate(partitions):
        for fold in np.unique(folds):
            test = folds == fold
            if test.all():
                continue
            booster = _train(features[~test], errors[row, ~test], max(_ROUNDS))
            for rounds, values in corrections.items():
                values[row, test] = booster.predict(
                    features[test], num_iteration=rounds, num_threads=1
                )
    best = _choose_rounds({n: np.abs(errors - corrections[n]) for n in _ROUNDS})
    booster = _train(np.tile(features, (len(errors), 1)), errors.ravel(), best, len(errors))
    return read_trees(booster.model_to_string()), corrections[best]


def _choose_rounds(errors: dict[int, NDArray[np.float64]]) -> int:
    """The fewest rounds after which more no longer pay: 5 % of the mean error for each step."""
    best = _ROUNDS[0]
    for rounds in _ROUNDS[1:]:
        if errors[rounds].mean() < 0.95 * errors[best].mean():
            best = rounds
    return best


def _train(
    features: NDArray[np.float64], errors: NDArray[np.float64], rounds: int, n_copies: int = 1
) -> Any:
    """Boost the errors; each sample may appear in several copies, which count as one."""
    copies = {
        "min_data_in_leaf": _SETTINGS["min_data_in_leaf"] * n_copies,
        "lambda_l2": _SETTINGS["lambda_l2"] * n_copies,
    }
    settings = {**_SETTINGS, **copies}
    data = lightgbm.Dataset(features, errors, params=settings)
    return lightgbm.train(settings, data, rounds)
