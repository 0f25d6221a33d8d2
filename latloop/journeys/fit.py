"""Fit a device's latency model to what its store holds, and keep it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import numpy as np

from costmodel.errors import TooFewMeasurementsError
from costmodel.latency import LatencyModel
from costmodel.persist import save_model
from latloop.workbench import Workbench
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.store import Purpose

#: Visits that a model may learn from; those of `evaluate` judge it and those of `verify` prove it.
OPERATOR_PURPOSES: Collection[Purpose] = frozenset({"tune", "profile", "measure"})
NETWORK_PURPOSES: Collection[Purpose] = frozenset({"profile", "measure"})
_SEED = 20  # folds are dealt alike each time, so that the same data gives the same model


def training_data(
    workbench: Workbench,
) -> tuple[tuple[OperatorLatency, ...], tuple[NetworkLatency, ...]]:
    """What the store holds for learning: operators, and whole networks."""
    operators = workbench.runtime.operator_latencies(OPERATOR_PURPOSES)
    networks = workbench.store.network_latencies(workbench.device_id, NETWORK_PURPOSES)
    return operators, networks


def fit(workbench: Workbench) -> LatencyModel:
    """Fit a latency model to all that was measured on the device, and keep it in the home.

    Raises:
        TooFewMeasurementsError: nothing was measured on this device.
    """
    operators, networks = training_data(workbench)
    if not operators:
        name = workbench.device.name
        raise TooFewMeasurementsError(
            f"nothing was measured on device {name} yet; run `latloop profile {name} --space "
            "nas_bench_macro` first"
        )
    model = fit_rows(workbench, operators, networks)
    save_model(model, workbench.home.model(workbench.device_id), datetime.now(UTC))
    return model


def fit_rows(
    workbench: Workbench,
    operators: Sequence[OperatorLatency],
    networks: Sequence[NetworkLatency],
) -> LatencyModel:
    """Fit a latency model of the device to some measurements, without keeping it."""
    return LatencyModel.fit(
        operators,
        networks,
        workbench.bench.target,
        workbench.device_id,
        workbench.runtime.choose_schedule(),
        np.random.default_rng(_SEED),
    )
