"""How good are predictions for 40 fresh networks of each space, beside three baselines?

Resumable: everything measured stays in the benchmark's home. About 15 minutes from nothing.
"""

from __future__ import annotations

import json

from common import keep, parser, profiled

from latloop.journeys import evaluate as journey
from searchspace.space import load_space

SPACES = ("nas_bench_macro", "ofa_mbv3")


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    with profiled(arguments, SPACES) as (workbench, progress):
        judgement = journey.evaluate(workbench, [load_space(s) for s in SPACES], 40, progress)
        journey.keep(judgement, workbench.home.evaluation(workbench.device_id))
        figures = journey.describe(judgement) | {
            "networks": {row.name: list(row.session_us) for row in judgement.test},
        }
        path = keep("evaluate", workbench, figures)
    print(json.dumps(figures["families"], indent=1))
    print(f"raw figures: {path}")


if __name__ == "__main__":
    main()
