"""Gather what a device's store, model and deployments say, for the report page."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from devices.device import Failure, Timing
from devices.health import check as check_health
from devices.open import system_files
from latloop.journeys.report_evaluation import (
    family_shifts,
    judged_families,
    judged_networks,
    learning_curve,
)
from latloop.journeys.search_and_deploy import SEARCH_FILE
from latloop.report.data import (
    CallTime,
    Command,
    DeviceQuality,
    DeviceSummary,
    Estimate,
    Finding,
    Reading,
    ReportData,
    Series,
    SubnetPoint,
    Verdict,
)
from latloop.workbench import Workbench
from profiler.deployment import read_report
from profiler.network import Network
from profiler.operator import Operator
from profiler.plan import in_order, plan_arena
from profiler.statistics import visit_median_us
from profiler.store import Visit
from searchspace.space import parse_subnet

_COMMANDS = (
    Command("Everything below for a small space", "latloop quickstart"),
    Command("Measure a space on the device", "latloop profile {device} --space {space}"),
    Command("Learn from it", "latloop fit {device}"),
    Command("Judge the model on fresh networks", "latloop evaluate {device}"),
    Command("Search", "latloop search {device} --space {space} --latency {limit_ms:.3f}ms"),
    Command("Prove the result again", "latloop verify {folder} --device {device}"),
    Command("This page", "latloop report {device}"),
)


def gather_report(workbench: Workbench, folder: Path | None = None) -> ReportData:
    """Everything that the report shows of a device.

    Args:
        workbench: The device.
        folder: The deployment to show; None takes the newest one that a search made here.
    """
    folder = folder or _newest_deployment(workbench)
    search = _read_json(folder / SEARCH_FILE) if folder else {}
    deployed = read_report(folder) if folder else {}
    evaluation = _read_json(workbench.home.evaluation(workbench.device_id))
    visits = list(workbench.store.visits(workbench.device_id))
    fields = {
        "device": workbench.device.name,
        "space": search.get("space", "nas_bench_macro"),
        "limit_ms": search.get("limit_ms", 2.0),
        "folder": folder or "FOLDER",
    }
    return ReportData(
        summary=_summary(workbench, search, len(visits)),
        made_at=datetime.now(UTC),
        device=_device(workbench),
        commands=tuple(Command(c.purpose, c.text.format(**fields)) for c in _COMMANDS),
        verdict=_verdict(search, deployed) if search and deployed else None,
        networks=judged_networks(workbench, evaluation),
        families=judged_families(evaluation),
        shifts=family_shifts(evaluation),
        subnets=tuple(SubnetPoint(**point) for point in search.get("cloud", ())),
        front=tuple(SubnetPoint(**point) for point in search.get("front", ())),
        calls=_calls(workbench, search, visits) if search else (),
        are_calls_measured=_is_timed(search, visits),
        learning=learning_curve(evaluation),
        quality=_quality(workbench, visits),
    )


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _newest_deployment(workbench: Workbench) -> Path | None:
    root = workbench.home.deployment(workbench.device.name, "x").parent
    found = [
        path.parent
        for path in root.glob(f"*/{SEARCH_FILE}")
        if _read_json(path).get("device_id") == workbench.device_id
    ]
    return max(found, key=lambda folder: (folder / SEARCH_FILE).stat().st_mtime, default=None)


def _summary(workbench: Workbench, search: dict[str, Any], n_visits: int) -> str:
    name = workbench.device.name
    measured = f"Device {name} was measured {n_visits:,} times"
    if not search:
        return f"{measured}; no search has been made yet."
    return (
        f"{measured}, a latency model was fitted, and {search['evaluations']:,} subnets of "
        f"{search['space']} were searched for the most accurate one within "
        f"{search['limit_ms']:.2f} ms."
    )


def _device(workbench: Workbench) -> DeviceSummary:
    board, runtime = workbench.fingerprint.board, workbench.fingerprint.runtime
    memory_gib = board.memory_bytes / 2**30
    governor = runtime.governor or "unknown"
    threads = f"{runtime.threads} thread{'s' if runtime.threads > 1 else ''}"
    return DeviceSummary(
        name=workbench.device.name,
        device_id=workbench.device_id,
        board=f"{board.cpu_model}, {board.architecture}, {board.n_cores} cores, "
        f"{memory_gib:.1f} GiB",
        runtime=f"{runtime.name}, {threads}, {runtime.os_image}, "
        f"kernel {runtime.kernel_release}, governor {governor}",
        versions=runtime.versions,
    )


def _verdict(search: dict[str, Any], deployed: dict[str, Any]) -> Verdict:
    return Verdict(
        space=search["space"],
        subnet=search["subnet"],
        limit_ms=search["limit_ms"],
        confidence=search["limit_confidence"],
        predicted_ms=Estimate(search["predicted_ms"], search["low_ms"], search["high_ms"]),
        measured_ms=Estimate(
            deployed["measured_ms"], deployed["measured_low_ms"], deployed["measured_high_ms"]
        ),
        n_sessions=len(deployed["session_ms"]),
        meets_limit=deployed["meets_limit"],
        accuracy_percent=search["accuracy_percent"],
        accuracy_error_percent=search["accuracy_error_percent"],
        accuracy_source=search["accuracy_source"],
        n_evaluations=search["evaluations"],
        weights=deployed["weights"],
    )


def _chosen_network(search: dict[str, Any]) -> Network:
    space, genome = parse_subnet(f"{search['space']}:{search['subnet']}")
    return space.lower(genome)


def _timed_visits(search: dict[str, Any], visits: list[Visit]) -> list[Timing]:
    name = f"{search.get('space')}:{search.get('subnet')}"
    return [
        visit.outcome
        for visit in visits
        if visit.subject == name
        and isinstance(visit.outcome, Timing)
        and visit.outcome.call_ns is not None
    ]


def _is_timed(search: dict[str, Any], visits: list[Visit]) -> bool:
    return bool(_timed_visits(search, visits))


def _calls(
    workbench: Workbench, search: dict[str, Any], visits: list[Visit]
) -> tuple[CallTime, ...]:
    """The chosen network's calls: measured in place where a session had timestamps."""
    chosen = _chosen_network(search)
    network = in_order(chosen, plan_arena(chosen).order)  # as the program runs its calls
    timed = _timed_visits(search, visits)
    if timed:
        medians_us = [np.median(t.call_ns, axis=0) / 1e3 for t in timed if t.call_ns is not None]
        rows = np.stack(medians_us)
        values, low, high = np.median(rows, axis=0), rows.min(axis=0), rows.max(axis=0)
    else:
        prediction = workbench.load_model().predict_operators_us(network.operators)
        values, low, high = prediction.mean_us, prediction.low_us, prediction.high_us
    return tuple(
        CallTime(
            name=call.output,
            kind=call.operator.kind,
            shape=_shape(call.operator),
            latency_us=Estimate(float(values[i]), float(low[i]), float(high[i])),
        )
        for i, call in enumerate(network.calls)
    )


def _shape(operator: Operator) -> str:
    source = "x".join(map(str, operator.input_shape[1:]))
    result = "x".join(map(str, operator.output_shape[1:]))
    kernel = "x".join(map(str, operator.kernel))
    return f"{source} to {result}" + ("" if kernel == "1x1" else f", {kernel}")


def _quality(workbench: Workbench, visits: list[Visit]) -> DeviceQuality | None:
    if not visits:
        return None
    started = datetime.fromisoformat(visits[0].created)

    def minutes(visit: Visit) -> float:
        return (datetime.fromisoformat(visit.created) - started).total_seconds() / 60

    canary = tuple(
        Reading(minutes(v), visit_median_us(v.outcome.block_ns, v.outcome.n_repeats))
        for v in visits
        if v.purpose == "canary" and isinstance(v.outcome, Timing)
    )
    flags = Counter(flag for visit in visits for flag in visit.flags)
    failures = Counter(v.outcome.reason for v in visits if isinstance(v.outcome, Failure))
    with system_files(workbench.device) as files:
        cores = workbench.device.cores
        health = check_health(cores, root=files.root, refresh=files.refresh)
    return DeviceQuality(
        n_visits=len(visits),
        flags=tuple(flags.most_common()),
        failures=tuple(failures.most_common()),
        canary_us=canary,
        conditions=_conditions([(minutes(v), v.outcome) for v in visits]),
        findings=tuple(Finding(f.text, f.remedy) for f in health.findings),
    )


def _conditions(outcomes: list[tuple[float, Timing | Failure]]) -> tuple[Series, ...]:
    timed = [(at, outcome) for at, outcome in outcomes if isinstance(outcome, Timing)]
    series = []
    for name, unit, field in (
        ("load average", "", "load_1min"),
        ("clock", "MHz", "clock_mhz"),
        ("temperature", "°C", "temperature_c"),
    ):
        values = [(at, getattr(outcome.after, field)) for at, outcome in timed]
        readings = tuple(Reading(at, float(v)) for at, v in values if v is not None)
        if readings:
            series.append(Series(name, unit, readings[:: max(1, len(readings) // 1000)]))
    stolen = [
        Reading(at, float(outcome.after.steal_ticks - outcome.before.steal_ticks))
        for at, outcome in timed
        if outcome.after.steal_ticks is not None and outcome.before.steal_ticks is not None
    ]
    if stolen:
        series.append(Series("stolen time", "ticks", tuple(stolen[:: max(1, len(stolen) // 1000)])))
    return tuple(series)
