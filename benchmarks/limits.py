"""Does a limit hold when it is measured, and what accuracy does keeping it cost?

Five limits between the fastest and the slowest subnet of nas_bench_macro. For each: search, deploy,
then verify once more. The accuracy is compared with the best that the model believes to run within
0.95 of the limit.
"""

from __future__ import annotations

import json

import numpy as np
from common import keep, parser, profiled

from latloop.journeys.deploy import verify
from latloop.journeys.search_and_deploy import describe, search_and_deploy
from searchspace.accuracy import load_accuracy
from searchspace.constraint import LatencyLimit, Limits
from searchspace.genes import all_genomes
from searchspace.space import load_space

SPACE = "nas_bench_macro"
SHARES = (0.12, 0.25, 0.4, 0.6, 0.85)


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    rows = []
    with profiled(arguments, (SPACE,)) as (workbench, progress):
        space = load_space(SPACE)
        accuracy = load_accuracy(space)
        genomes = all_genomes(space.choices)
        mean_us = workbench.load_model().predict_networks_us(space.counts(genomes)).mean_us
        percent = accuracy.accuracy_percent(genomes)
        for share in SHARES:
            limit_us = float(mean_us.min() + share * (mean_us.max() - mean_us.min()))
            limit = LatencyLimit(limit_us)
            folder = workbench.home.folder / "limits" / f"{share}"
            limits = Limits(limit)
            outcome = search_and_deploy(workbench, space, accuracy, limits, 0, folder, progress)
            again = verify(workbench, outcome.verdict.deployment, None, progress)
            allowed = mean_us <= 0.95 * limit_us
            optimum = float(np.max(percent[allowed])) if allowed.any() else None
            rows.append(
                describe(outcome, accuracy)
                | {
                    "limit_ms": limit_us / 1e3,
                    "again_ms": again.measurement.latency_us / 1e3,
                    "again_upper_ms": again.measurement.upper_us / 1e3,
                    "again_meets_limit": again.meets_limit,
                    "optimum_at_095_percent": optimum,
                }
            )
            del rows[-1]["folder"]  # a path of the machine says nothing
            print(json.dumps(rows[-1]))
        path = keep("limits", workbench, rows)
    print(f"raw figures: {path}")


if __name__ == "__main__":
    main()
