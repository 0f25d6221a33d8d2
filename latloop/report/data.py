"""What a report shows, as pure values; a part that was not done stays empty or None."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; the unit stands in the name of the field that holds it."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            raise ValueError(f"an estimate must be finite, got {self}")
        if not self.low <= self.high:
            raise ValueError(f"low must be <= high, got {self.low} and {self.high}")


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """The device of the report.

    Attributes:
        name: The name in the inventory.
        device_id: The fingerprint's id, board and runtime.
        board: The hardware for a person to read: processor, cores, memory.
        runtime: What runs on it: name, threads, operating system, governor.
        versions: (component, version) pairs.
    """

    name: str
    device_id: str
    board: str
    runtime: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The network that was chosen, and whether it keeps the limit.

    Attributes:
        space: Where it was searched.
        subnet: Its genome as people write it.
        limit_ms: The latency limit.
        confidence: Of the limit and of all intervals here, between 0 and 1.
        predicted_ms: What the model said before it was measured.
        measured_ms: Median over the sessions, or None where it was not measured.
        n_sessions: Spaced sessions of that measurement.
        meets_limit: As `verify` judged it; None where it was not measured.
        accuracy_percent: Top-1.
        accuracy_error_percent: Half width in points that 95 % of the errors stay within, or None
            where nobody knows.
        accuracy_source: One sentence: where the accuracy comes from.
        n_evaluations: Subnets whose latency the search predicted.
        weights: What weights were deployed, such as "untrained, seeded random".
    """

    space: str
    subnet: str
    limit_ms: float
    confidence: float
    predicted_ms: Estimate
    measured_ms: Estimate | None
    n_sessions: int
    meets_limit: bool | None
    accuracy_percent: float
    accuracy_error_percent: float | None
    accuracy_source: str
    n_evaluations: int
    weights: str = ""


@dataclass(frozen=True, slots=True)
class NetworkPoint:
    """A network that was predicted and measured, and was not used in the fit."""

    name: str
    family: str
    predicted_ms: Estimate
    measured_ms: Estimate

    def __post_init__(self) -> None:
        if self.predicted_ms.value <= 0 or self.measured_ms.value <= 0:
            raise ValueError(f"latencies of {self.name} must be > 0")


@dataclass(frozen=True, slots=True)
class FamilyQuality:
    """How well one predictor did on one family of networks.

    Attributes:
        family: The family's name.
        predictor: "Latloop" or the name of a baseline.
        n_networks: Networks judged.
        median_ape_percent: Median absolute percentage error with its 95 % interval.
        within_5_percent, within_10_percent: Share of networks with at most that error, percent.
        coverage_percent: Share of networks inside their interval.
        half_width_percent: Median half width of the intervals over the prediction.
    """

    family: str
    predictor: str
    n_networks: int
    median_ape_percent: Estimate
    within_5_percent: float
    within_10_percent: float
    coverage_percent: float
    half_width_percent: float


@dataclass(frozen=True, slots=True)
class FamilyShift:
    """How much longer networks that the model learned from take now than then.

    Attributes:
        family: The family's name.
        n_networks: Networks measured both times.
        percent: Median over them with its 95 % interval; negative where they are faster.
    """

    family: str
    n_networks: int
    percent: Estimate


@dataclass(frozen=True, slots=True)
class SubnetPoint:
    """A subnet with its predicted latency."""

    subnet: str
    latency_ms: float
    accuracy_percent: float


@dataclass(frozen=True, slots=True)
class CallTime:
    """One operator call of the chosen network, in order of execution.

    Attributes:
        name: The tensor that it makes, such as `stage1.block2.project`.
        kind: The operator's kind.
        shape: Shapes for a person, such as "56x56x24 to 28x28x40, 5x5".
        latency_us: Median between timestamps on the device with its 95 % interval, or what was
            predicted.
    """

    name: str
    kind: str
    shape: str
    latency_us: Estimate


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """The error of a model that was fitted to part of the measurements."""

    n_networks: int
    n_operators: int
    median_ape_percent: Estimate


@dataclass(frozen=True, slots=True)
class Reading:
    """A number at a time.

    Attributes:
        minutes: Since the first measurement.
        value: In the unit of its series.
    """

    minutes: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """A condition of the device over time, such as load, stolen time or clock.

    Attributes:
        name: What it is.
        unit: Its unit; "" for a bare number.
        readings: In order of time.
    """

    name: str
    unit: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the device, and what to do about it."""

    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DeviceQuality:
    """How far the device's measurements can be trusted.

    Attributes:
        n_visits: All measurements, the failed ones too.
        flags: (flag, number of visits that carry it), the most frequent first.
        failures: (reason, number of visits).
        canary_us: The unchanging kernel over time, microseconds.
        conditions: Load, steal, clock, temperature: what the device tells.
        findings: Of `device check`; empty where nothing was found.
    """

    n_visits: int
    flags: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, int], ...]
    canary_us: tuple[Reading, ...]
    conditions: tuple[Series, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command that makes a part of the report again."""

    purpose: str
    text: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the page shows.

    Attributes:
        summary: What was done, in one sentence.
        made_at: When; with a time zone.
        device: Where.
        commands: How to make it again, in order.
        verdict: None where nothing was searched.
        networks: Predicted and measured networks outside of the fit.
        families: Errors by family, of the model and of baselines.
        shifts: How the device has changed since its profile, by family.
        subnets: Evaluated subnets: the cloud.
        front: The subnets that no other one beats, fastest first.
        calls: The chosen network's calls, in order.
        are_calls_measured: Whether the calls' times are measured; else they are predicted.
        learning: The learning curve, growing.
        quality: None where the device was not asked.
    """

    summary: str
    made_at: datetime
    device: DeviceSummary
    commands: tuple[Command, ...] = ()
    verdict: Verdict | None = None
    networks: tuple[NetworkPoint, ...] = ()
    families: tuple[FamilyQuality, ...] = ()
    shifts: tuple[FamilyShift, ...] = ()
    subnets: tuple[SubnetPoint, ...] = ()
    front: tuple[SubnetPoint, ...] = ()
    calls: tuple[CallTime, ...] = ()
    are_calls_measured: bool = True
    learning: tuple[LearningPoint, ...] = ()
    quality: DeviceQuality | None = None
