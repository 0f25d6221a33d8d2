"""Predicted accuracy of once-for-all subnets: LightGBM on the measured ones that ship."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from searchspace.accuracy import read_shipped_rows
from searchspace.genes import Genomes, as_genomes
from searchspace.space import SearchSpace
from searchspace.spaces.ofa_mbv3 import MAX_DEPTH, N_STAGES, split_genomes

#: Chosen on the shipped rows: small trees because most effects add up, and no more of them than a
#: search can afford (20 us a subnet; four times the trees gain 0.003 points). One thread and fixed
#: seeds make the model the same everywhere.
_PARAMETERS: Final = {
    "objective": "regression",
    "learning_rate": 0.08,
    "num_leaves": 6,
    "min_data_in_leaf": 8,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 1,
    "deterministic": True,
    "num_threads": 1,
    "verbose": -1,
}
_N_TREES: Final = 500
_HELD_OUT_SHARE: Final = 0.2
_SPLIT_SEED: Final = 20
#: Raise when features or training change: models of an older recipe are then trained anew.
_RECIPE: Final = 1


@dataclass(frozen=True, slots=True)
class PredictedAccuracy:
    """A LightGBM accuracy predictor for `ofa_mbv3`, with its error on held-out genomes.

    Attributes:
        booster: Trained on all measured genomes.
        error_percent: Mean absolute error on held-out genomes, points.
        error_bound_percent: 95th percentile of the absolute error on held-out genomes, points.
        n_trained, n_held_out: Genomes; the error is that of a model trained without the latter.
    """

    booster: lightgbm.Booster
    error_percent: float
    error_bound_percent: float
    n_trained: int
    n_held_out: int

    def accuracy_percent(self, genomes: Genomes) -> NDArray[np.float64]:
        """Predicted ImageNet top-1 of each row, percent, shape (n_subnets,)."""
        if not len(genomes):
            return np.zeros(0)
        values = self.booster.predict(ofa_features(genomes), num_threads=1)
        return np.asarray(values, dtype=np.float64)

    def describe(self) -> str:
        """What it was trained on and how far off it is."""
        return (
            f"LightGBM on {self.n_trained} measured once-for-all networks (ImageNet top-1); mean "
            f"error {self.error_percent:.2f} points, 95 % within {self.error_bound_percent:.2f}, "
            f"on {self.n_held_out} held-out networks"
        )


def ofa_features(genomes: Genomes) -> NDArray[np.float64]:
    """Features of `ofa_mbv3` genomes; inactive slots are zero, so any genome of a net will do.

    Returns:
        Shape (n_subnets, 63): kernel and expansion of each slot, depths, then for each stage the
        sums of kernels, of expansions and of their products, and the sums over all stages.
    """
    kernels, expansions, depths, active = split_genomes(genomes)
    kernels, expansions = kernels * active, expansions * active

    def by_stage(values: NDArray[np.int64]) -> NDArray[np.int64]:
        total: NDArray[np.int64] = values.reshape(-1, N_STAGES, MAX_DEPTH).sum(axis=2)
        return total

    parts = [kernels, expansions, depths]
    parts += [by_stage(kernels), by_stage(expansions), by_stage(kernels * expansions)]
    parts += [values.sum(axis=1, keepdims=True) for values in (kernels, expansions, depths)]
    return np.hstack(parts).astype(np.float64)


def ofa_mbv3_accuracy(space: SearchSpace, cache_folder: Path | None = None) -> PredictedAccuracy:
    """Load the predictor from the cache, or train it (about two seconds) and keep it there.

    Args:
        space: `ofa_mbv3`; reads the genomes' text.
        cache_folder: Made when missing; None trains anew.
    """
    rows = list(read_shipped_rows("ofa_mbv3_accuracy"))
    stamp = _stamp(rows)
    if cache_folder is not None and (cached := _read(cache_folder, stamp)) is not None:
        return cached
    genomes = as_genomes([space.parse(row["genome"]) for row in rows])
    measured = np.array([float(row["accuracy_percent"]) for row in rows])
    predictor = train(genomes, measured)
    if cache_folder is not None:
        _write(predictor, cache_folder, stamp)
    return predictor


def train(genomes: Genomes, measured_percent: NDArray[np.float64]) -> PredictedAccuracy:
    """Train on distinct genomes; the error comes from a model trained on 80 % of them.

    Args:
        genomes: Distinct networks, shape (n_subnets, n_genes): splitting rows splits genomes.
        measured_percent: Shape (n_subnets,).
    """
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(genomes))
    n_held_out = round(_HELD_OUT_SHARE * len(genomes))
    held_out, kept = order[:n_held_out], order[n_held_out:]
    features = ofa_features(genomes)
    trial = _fit(features[kept], measured_percent[kept])
    predicted = np.asarray(trial.predict(features[held_out], num_threads=1), dtype=np.float64)
    errors = np.abs(predicted - measured_percent[held_out])
    return PredictedAccuracy(
        booster=_fit(features, measured_percent),
        error_percent=float(errors.mean()),
        error_bound_percent=float(np.quantile(errors, 0.95)),
        n_trained=len(genomes),
        n_held_out=n_held_out,
    )


def _fit(features: NDArray[np.float64], measured: NDArray[np.float64]) -> lightgbm.Booster:
    data = lightgbm.Dataset(features, measured)
    return lightgbm.train(dict(_PARAMETERS), data, num_boost_round=_N_TREES)


def _stamp(rows: Sequence[dict[str, str]]) -> str:
    text = json.dumps([_RECIPE, _N_TREES, _PARAMETERS, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(folder: Path, stamp: str) -> PredictedAccuracy | None:
    """The cached predictor, or None when there is none of this stamp."""
    try:
        facts = json.loads((folder / "ofa_mbv3_accuracy.json").read_text(encoding="utf-8"))
        model = (folder / "ofa_mbv3_accuracy.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    # The JSON is written last and holds the model's hash: a torn pair is trained anew.
    digest = hashlib.sha256(model.encode()).hexdigest()
    if facts.pop("stamp", None) != stamp or facts.pop("model_sha256", None) != digest:
        return None
    return PredictedAccuracy(booster=lightgbm.Booster(model_str=model), **facts)


def _write(predictor: PredictedAccuracy, folder: Path, stamp: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model: str = predictor.booster.model_to_string()
    facts = {
        "error_percent": predictor.error_percent,
        "error_bound_percent": predictor.error_bound_percent,
        "n_trained": predictor.n_trained,
        "n_held_out": predictor.n_held_out,
        "model_sha256": hashlib.sha256(model.encode()).hexdigest(),
        "stamp": stamp,
    }
    (folder / "ofa_mbv3_accuracy.txt").write_text(model, encoding="utf-8")
    text = json.dumps(facts, indent=2)
    (folder / "ofa_mbv3_accuracy.json").write_text(text + "\n", encoding="utf-8")
