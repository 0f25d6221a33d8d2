"""What the benchmarks share: a home of their own, and where raw figures go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from latloop.cli.output import StageProgress, progress_bars
from latloop.home import Home
from latloop.journeys.fit import fit
from latloop.journeys.profile import default_share, profile
from latloop.workbench import Workbench, open_workbench
from searchspace.space import load_space

RESULTS = Path(__file__).parent / "results"
N_PROFILED_NETWORKS = 60


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--device", default="local")
    found.add_argument(
        "--home",
        type=Path,
        default=Path(".bench-home"),
        help="Latloop's home for benchmarks; what it holds is not measured again",
    )
    return found


@contextmanager
def profiled(
    arguments: argparse.Namespace, spaces: tuple[str, ...]
) -> Iterator[tuple[Workbench, StageProgress]]:
    """A device that is profiled for some spaces and has a model of them."""
    with (
        open_workbench(Home(arguments.home), arguments.device) as workbench,
        progress_bars() as bar,
    ):
        for name in spaces:
            space = load_space(name)
            profile(workbench, space, N_PROFILED_NETWORKS, default_share(space), 0, bar)
        fit(workbench)
        yield workbench, bar


def keep(name: str, workbench: Workbench, figures: object) -> Path:
    """Write raw figures with device, versions and date."""
    now = datetime.now(UTC)
    path = RESULTS / f"{name}-{now:%Y-%m-%d}-{workbench.fingerprint.board.id}.json"
    document = {
        "made_at": now.isoformat(timespec="seconds"),
        "board": asdict(workbench.fingerprint.board),
        "runtime": asdict(workbench.fingerprint.runtime),
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
