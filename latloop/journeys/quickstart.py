"""The whole way in one go: profile, fit, judge, search, deploy, verify, report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from costmodel.latency import LatencyModel
from latloop.journeys import evaluate as evaluation
from latloop.journeys.deploy import Verdict
from latloop.journeys.fit import fit
from latloop.journeys.profile import ProfileSummary, default_share, profile
from latloop.journeys.report import gather_report
from latloop.journeys.search_and_deploy import Outcome, search_and_deploy
from latloop.report import write_report
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet
from searchspace.accuracy import AccuracySource, load_accuracy
from searchspace.constraint import LatencyLimit, Limits
from searchspace.genes import all_genomes
from searchspace.space import load_space

SPACE = "nas_bench_macro"
N_NETWORKS = 60
N_JUDGED = 20
REPORT_FILE = "report.html"


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """What a quickstart did.

    Attributes:
        summary: Of the profile.
        judgement: Of the model.
        accuracy: The accuracies searched.
        limit: A third of the way between the fastest and the slowest subnet.
        outcome: The search and its deployment.
        report: The page.
        seconds: Everything.
    """

    summary: ProfileSummary
    judgement: evaluation.Judgement
    accuracy: AccuracySource
    limit: LatencyLimit
    outcome: Outcome
    report: Path
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The deployment on its device."""
        return self.outcome.verdict


def quickstart(
    workbench: Workbench, seed: int = 0, progress: StageProgress = quiet
) -> QuickstartResult:
    """Do the main job for nas_bench_macro; what the home already holds is not done again."""
    started_s = time.monotonic()
    space = load_space(SPACE)
    accuracy = load_accuracy(space, None, workbench.home.accuracy)
    summary = profile(workbench, space, N_NETWORKS, default_share(space), seed, progress)
    model = fit(workbench)
    judgement = evaluation.evaluate(workbench, [space], N_JUDGED, progress)
    evaluation.keep(judgement, workbench.home.evaluation(workbench.device_id))
    limit = LatencyLimit(_a_third_of_the_way(model))
    limits = Limits(limit)
    outcome = search_and_deploy(workbench, space, accuracy, limits, seed, None, progress)
    page = outcome.verdict.deployment.folder / REPORT_FILE
    write_report(gather_report(workbench, outcome.verdict.deployment.folder), page)
    seconds = time.monotonic() - started_s
    return QuickstartResult(summary, judgement, accuracy, limit, outcome, page, seconds)


def _a_third_of_the_way(model: LatencyModel) -> float:
    """Between the fastest and the slowest predicted subnet, to ten microseconds."""
    space = load_space(SPACE)
    mean_us = model.predict_networks_us(space.counts(all_genomes(space.choices))).mean_us
    fastest, slowest = float(mean_us.min()), float(mean_us.max())
    return round((fastest + (slowest - fastest) / 3) / 10) * 10.0
