"""A latency model as a folder: LightGBM text for the trees, JSON for all else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from costmodel.conformal import Calibration
from costmodel.errors import ModelFolderError
from costmodel.features import FEATURE_NAMES, SMOOTH_COLUMNS, ChooseSchedule
from costmodel.latency import LatencyModel
from costmodel.model import KindModel, OperatorModel
from costmodel.network import SHARED, NetworkPosterior, OperatorPrior
from costmodel.roofline import Rates, Roofline
from costmodel.smooth import SmoothFit
from costmodel.strangers import Strangers
from costmodel.trees import read_trees
from profiler.operator import KINDS, parse_key
from profiler.target import Target

FORMAT: Final = "latloop-latency-model"
FORMAT_VERSION: Final = 1
_MODEL: Final = "model.json"
_MANIFEST: Final = "manifest.json"
_POOLED: Final = "pooled"
_SMOOTH_ARRAYS: Final = ("center", "spread", "log_scales", "inputs", "inverse", "weights")


def save_model(model: LatencyModel, folder: Path, created: datetime) -> None:
    """Write a model to a folder; what is read back predicts the same to the last bit.

    Args:
        model: What to write.
        folder: Made if missing; files of an earlier model there are replaced.
        created: When the model was fitted, for the record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {**model.operators.kinds, _POOLED: model.operators.pooled}
    texts = {f"trees_{name}.txt": kind.trees.text for name, kind in kinds.items()}
    texts[_MODEL] = json.dumps(_describe(model), indent=1)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "device_id": model.device_id,
        "created": created.isoformat(),
        "n_operators": len(model.measured),
        "n_networks": model.n_networks,
        "versions": {name: version(name) for name in ("lightgbm", "numpy", "scipy")},
        "sha256": {name: _digest(text) for name, text in sorted(texts.items())},
    }
    # Last: a folder whose writing was cut short has no manifest that fits its files.
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def load_model(folder: Path, choose_schedule: ChooseSchedule) -> LatencyModel:
    """Read a model that `save_model` wrote.

    Args:
        folder: Where it was written.
        choose_schedule: As for `LatencyModel.fit`.

    Raises:
        ModelFolderError: the folder is missing, damaged, or of a newer format.
    """
    manifest = _read_manifest(folder)
    texts = {
        str(name): _read_checked(folder / str(name), str(digest))
        for name, digest in manifest["sha256"].items()
    }
    try:
        return _assemble(json.loads(texts[_MODEL]), texts, choose_schedule)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ModelFolderError(
            f"{folder} holds a model that this version cannot read ({error}); fit it again"
        ) from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{folder} holds no latency model: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} is damaged ({error}); fit the model again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFolderError(f"{path} is not the manifest of a latency model")
    found = manifest.get("format_version")
    if not isinstance(found, int) or found > FORMAT_VERSION:
        raise ModelFolderError(
            f"{folder} has format version {found}, this latloop reads up to {FORMAT_VERSION}; "
            "update latloop or fit the model again"
        )
    if not isinstance(manifest.get("sha256"), dict) or _MODEL not in manifest["sha256"]:
        raise ModelFolderError(f"{path} is damaged (no list of files); fit the model again")
    return manifest


def _read_checked(path: Path, digest: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); fit the model again") from error
    if _digest(text) != digest:
        raise ModelFolderError(f"{path} is damaged (wrong SHA-256); fit the model again")
    return text


def _describe(model: LatencyModel) -> dict[str, Any]:
    posterior = model.networks
    kinds = {**model.operators.kinds, _POOLED: model.operators.pooled}
    return {
        # A model fits only code that makes the same columns.
        "layout": _layout(),
        "device_id": model.device_id,
        "target": asdict(model.target),
        "roofline": asdict(model.roofline),
        "measured": [op.key for op in model.measured],
        "n_networks": model.n_networks,
        "kinds": {name: _describe_kind(kind) for name, kind in kinds.items()},
        "pooled_kinds": list(model.operators.pooled_kinds),
        "strangers": {
            "rates": list(model.operators.strangers.rates.coefficients),
            "between": model.operators.strangers.between,
            "within": model.operators.strangers.within,
        },
        "networks": {
            "operators": [op.key for op in posterior.prior.operators],
            "mean_us": _encode(posterior.prior.mean_us),
            "relative_covariance": _encode(posterior.prior.relative_covariance),
            "mean": _encode(posterior.mean),
            "covariance": _encode(posterior.covariance),
            "noise": posterior.noise,
            "floor_us": posterior.floor_us,
        },
        "calibration": {
            "scores": _encode(model.calibration.scores),
            "unseen_factor": model.calibration.unseen_factor,
            "drift": model.calibration.drift,
        },
    }


def _describe_kind(kind: KindModel) -> dict[str, Any]:
    return {
        "rates": list(kind.rates.coefficients),
        "smooth": {name: _encode(getattr(kind.smooth, name)) for name in _SMOOTH_ARRAYS},
        "inflation": kind.inflation,
    }


def _assemble(
    data: Mapping[str, Any], texts: Mapping[str, str], choose_schedule: ChooseSchedule
) -> LatencyModel:
    if data["layout"] != _layout():
        raise ValueError("its features are not those of this version")
    kinds = {
        name: _assemble_kind(kind, texts[f"trees_{name}.txt"], is_pooled=name == _POOLED)
        for name, kind in data["kinds"].items()
    }
    pooled = kinds.pop(_POOLED)
    networks = data["networks"]
    prior = OperatorPrior(
        tuple(parse_key(key) for key in networks["operators"]),
        _decode(networks["mean_us"]),
        _decode(networks["relative_covariance"]),
    )
    return LatencyModel(
        device_id=data["device_id"],
        target=Target(**{**data["target"], "features": tuple(data["target"]["features"])}),
        roofline=Roofline(**data["roofline"]),
        operators=OperatorModel(
            kinds,
            pooled,
            tuple(data["pooled_kinds"]),
            Strangers(
                _rates(data["strangers"]["rates"]),
                data["strangers"]["between"],
                data["strangers"]["within"],
            ),
        ),
        networks=NetworkPosterior(
            prior,
            _decode(networks["mean"]),
            _decode(networks["covariance"]),
            networks["noise"],
            networks["floor_us"],
        ),
        calibration=Calibration(
            _decode(data["calibration"]["scores"]),
            data["calibration"]["unseen_factor"],
            data["calibration"]["drift"],
        ),
        measured=tuple(parse_key(key) for key in data["measured"]),
        n_networks=data["n_networks"],
        choose_schedule=choose_schedule,
    )


def _assemble_kind(data: Mapping[str, Any], trees: str, *, is_pooled: bool) -> KindModel:
    return KindModel(
        _rates(data["rates"]),
        SmoothFit(*(_decode(data["smooth"][name]) for name in _SMOOTH_ARRAYS)),
        read_trees(trees),
        data["inflation"],
        is_pooled,
    )


def _rates(coefficients: list[float]) -> Rates:
    call, operation, moved = coefficients
    return Rates((call, operation, moved))


def _layout() -> dict[str, list[str]]:
    return {
        "features": list(FEATURE_NAMES),
        "smooth": list(SMOOTH_COLUMNS),
        "shared": list(SHARED),
        "kinds": list(KINDS),
    }


def _encode(array: NDArray[np.float64]) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return {"shape": list(array.shape), "f8": base64.b64encode(data).decode("ascii")}


def _decode(data: Mapping[str, Any]) -> NDArray[np.float64]:
    flat = np.frombuffer(base64.b64decode(data["f8"], validate=True), dtype="<f8")
    return flat.reshape(data["shape"]).astype(np.float64)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
