"""What a board behind SSH costs beside this machine: the same profile, and a hundred kernels.

The same processor is measured as `local` and, in turn, as a board through an SSH server on the
loopback, with the same kernels and the same plan. About ten minutes from nothing; resumable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, parser
from loopback import Loopback, loopback_server
from operators import DoneFile

from devices.device import Timing
from latloop.home import Home
from latloop.workbench import Workbench, open_workbench
from profiler.build import Kernel, build_kernels
from profiler.runtimes.own import OwnRuntime
from profiler.runtimes.tuning import operator_item
from profiler.schedules.space import candidates
from profiler.session_meter import kernel_ns
from profiler.sweep import OPERATOR_PLAN
from searchspace.space import load_space

SPACE = "nas_bench_macro"
BOARD = "loopback"
N_TURNS = 3
N_KERNELS = 100
MOST_RATIO = 1.15
LEAST_UTILIZATION = 0.85
MOST_OVERHEAD_MS = 2.0


def latloop(home: Path, *arguments: str) -> dict[str, Any]:
    """What a command prints with `--json`, run as a person runs it."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "latloop", *arguments, "--json"],
        env=os.environ | {"LATLOOP_HOME": str(home)},
        stdout=subprocess.PIPE,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def enroll(home: Path, server: Loopback) -> None:
    """Make the server a device of a home, measured on the core that `local` measures on."""
    core = max(os.sched_getaffinity(0))
    latloop(
        home, "device", "enroll", BOARD, server.address, "--key-file", str(server.key_file),
        "--fingerprint", server.fingerprint, "--set", f"core={core}", "--replace",
    )  # fmt: skip


def profile(home: Path, device: str) -> dict[str, float]:
    """Profile with an empty store and everything built; seconds, and the share kernels ran."""
    for path in home.glob("store.sqlite*"):
        path.unlink()
    start = time.monotonic()
    found = latloop(home, "profile", device, "--space", SPACE, "--exhaustive")
    return {
        "seconds": time.monotonic() - start,
        "utilization": found["utilization"],
        "n_operators": found["n_operators"],
        "n_networks": found["n_networks"],
    }


def compare_profiles(home: Path, done: DoneFile, n_turns: int) -> dict[str, list[dict[str, float]]]:
    """Both devices in turn, after a first profile that builds everything."""
    done.once("build", lambda: profile(home, "local"))
    found: dict[str, list[dict[str, float]]] = {"local": [], BOARD: []}
    for turn in range(n_turns):
        for device, rows in found.items():
            rows.append(done.once(f"{device} {turn}", lambda d=device: profile(home, d)))
            print(
                f"{device}: {rows[-1]['seconds']:.1f} s, kernels ran {rows[-1]['utilization']:.1%}"
            )
    return found


def time_hundred(workbench: Workbench, n_blocks: int) -> dict[str, float]:
    """Upload a hundred kernels, start them and visit each once.

    Returns:
        Seconds in all, and those that kernels ran.
    """
    bench, runtime = workbench.bench, workbench.runtime
    assert isinstance(runtime, OwnRuntime)
    operators = load_space(SPACE).operators()
    requests = [(op, schedule) for op in operators for schedule in candidates(op, bench.target)]
    built = build_kernels(
        requests[:N_KERNELS], bench.target, bench.artifacts, compilers=bench.compilers
    )
    kernels = [kernel for kernel in built if isinstance(kernel, Kernel)]
    executable = runtime.link(kernels).executable
    plan = replace(OPERATOR_PLAN, n_blocks=n_blocks)
    items = [(operator_item(kernel).workload, plan) for kernel in kernels]
    start = time.monotonic()
    with bench.device.start(executable) as runner:
        outcomes = list(runner.time_many(items))
    seconds = time.monotonic() - start
    timings = [outcome for outcome in outcomes if isinstance(outcome, Timing)]
    assert len(timings) == N_KERNELS, outcomes
    return {"seconds": seconds, "kernel_s": sum(kernel_ns(t, plan) for t in timings) / 1e9}


def upload_and_time(home: Path) -> dict[str, list[dict[str, float]]]:
    """A hundred kernels on both devices in turn; the board is emptied before each upload."""
    found: dict[str, list[dict[str, float]]] = {"local": [], BOARD: []}
    for _ in range(5):
        for device, rows in found.items():
            with open_workbench(Home(home), device) as workbench:
                folder = getattr(workbench.device, "folder", None)
                if folder is not None:
                    shutil.rmtree(Path(folder).expanduser() / "files", ignore_errors=True)
                rows.append(time_hundred(workbench, OPERATOR_PLAN.n_blocks))
    return found


def overhead_ms(rows: list[dict[str, float]]) -> float:
    """Of each kernel beside its run time, the median over the turns."""
    return float(np.median([(r["seconds"] - r["kernel_s"]) / N_KERNELS * 1e3 for r in rows]))


def verdicts(figures: dict[str, Any]) -> list[str]:
    """Each goal, the figure it is judged by, and whether it was met."""
    local, board = figures["profiles"]["local"], figures["profiles"][BOARD]
    ratio = float(
        np.median([b["seconds"] / a["seconds"] for a, b in zip(local, board, strict=True)])
    )
    share = min(row["utilization"] for row in board)
    here, there = (overhead_ms(figures["hundred"][name]) for name in ("local", BOARD))
    return [
        f"- {'PASS' if ratio <= MOST_RATIO else 'MISS'}: profile of {SPACE} over SSH takes "
        f"{ratio:.3f} of the local device's time, goal {MOST_RATIO}",
        f"- {'PASS' if share >= LEAST_UTILIZATION else 'MISS'}: kernels ran for {share:.1%} of "
        f"the board's sessions, goal {LEAST_UTILIZATION:.0%}",
        f"- {'PASS' if there <= MOST_OVERHEAD_MS else 'MISS'}: {N_KERNELS} kernels uploaded and "
        f"timed with {there:.2f} ms of overhead each (local: {here:.2f}), goal {MOST_OVERHEAD_MS}",
    ]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--turns", type=int, default=N_TURNS, help="Profiles of each device")
    given = arguments.parse_args()
    home = (given.home / "boards").resolve()
    home.mkdir(parents=True, exist_ok=True)
    done = DoneFile(home / "done.json")
    with loopback_server(home) as server:
        enroll(home, server)
        figures = {
            "profiles": compare_profiles(home, done, given.turns),
            "hundred": done.once("hundred", lambda: upload_and_time(home)),
        }
        print("\n".join(verdicts(figures)))
        with open_workbench(Home(home), BOARD) as workbench:
            print(f"raw figures: {keep('boards', workbench, figures)}")


if __name__ == "__main__":
    main()
