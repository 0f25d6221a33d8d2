"""What an evaluation that was kept puts into the report."""

from __future__ import annotations

from typing import Any

from latloop.report.data import (
    Estimate,
    FamilyQuality,
    FamilyShift,
    LearningPoint,
    NetworkPoint,
)
from latloop.workbench import Workbench
from profiler.network import count_operators


def judged_networks(workbench: Workbench, evaluation: dict[str, Any]) -> tuple[NetworkPoint, ...]:
    """The fresh networks of an evaluation, as the present model predicts them."""
    names = set(evaluation.get("networks", ()))
    rows = workbench.store.network_latencies(workbench.device_id, {"evaluate"})
    rows = tuple(row for row in rows if row.name in names)
    if not rows:
        return ()
    counts = count_operators([row.operators for row in rows])
    prediction = workbench.load_model().predict_networks_us(counts)
    points = []
    for index, row in enumerate(rows):
        mean, low, high = (
            float(array[index]) / 1e3
            for array in (prediction.mean_us, prediction.low_us, prediction.high_us)
        )
        sessions = [us / 1e3 for us in row.session_us]
        measured = Estimate(row.latency_us / 1e3, min(sessions), max(sessions))
        points.append(NetworkPoint(row.name, row.family, Estimate(mean, low, high), measured))
    return tuple(points)


def judged_families(evaluation: dict[str, Any]) -> tuple[FamilyQuality, ...]:
    """Errors by family, of the model and of baselines."""
    groups = {"Latloop": evaluation.get("families", {}), **evaluation.get("baselines", {})}
    return tuple(
        FamilyQuality(
            family=family,
            predictor=predictor,
            n_networks=errors["n_networks"],
            median_ape_percent=_median_ape(errors),
            within_5_percent=errors["within_5_percent"],
            within_10_percent=errors["within_10_percent"],
            coverage_percent=errors["coverage_percent"],
            half_width_percent=errors["half_width_percent"],
        )
        for predictor, families in groups.items()
        for family, errors in families.items()
    )


def family_shifts(evaluation: dict[str, Any]) -> tuple[FamilyShift, ...]:
    """How the device has changed since its model learned."""
    return tuple(
        FamilyShift(
            family,
            shift["n_networks"],
            Estimate(shift["median_percent"], shift["low_percent"], shift["high_percent"]),
        )
        for family, shift in evaluation.get("shifts", {}).items()
    )


def _median_ape(errors: dict[str, Any]) -> Estimate:
    return Estimate(
        errors["median_ape_percent"],
        errors["median_ape_low_percent"],
        errors["median_ape_high_percent"],
    )


def learning_curve(evaluation: dict[str, Any]) -> tuple[LearningPoint, ...]:
    """The learning curve, growing."""
    return tuple(
        LearningPoint(point["n_networks"], point["n_operators"], _median_ape(point["errors"]))
        for point in evaluation.get("learning", ())
    )
