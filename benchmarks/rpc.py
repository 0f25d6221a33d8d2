"""What TVM's RPC costs: visits to 100 kernels through a server, beside the static runner's.

Run as root, after `make test-lab` has installed an SSH server: `PYTHONPATH=. python
benchmarks/rpc.py`. This machine is the board. Three ways take turns: the static runner as a child
process, the same over SSH, and the shared library in TVM's RPC server through a tunnel of SSH.
Resumable: a turn that is done is not done again. About two minutes from nothing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, parser
from operators import DoneFile

from devices.device import Device, Timing, TimingPlan
from devices.local import LocalDevice
from devices.rpc import RpcDevice
from devices.session import RunnerSession, TimingRequest
from devices.ssh.device import SshDevice
from latloop.home import Home
from latloop.workbench import Workbench, open_workbench
from profiler.bench import Bench
from profiler.build import Kernel, build_kernels, object_files
from profiler.link import link_for
from profiler.runtimes.tuning import operator_item
from profiler.schedules.space import candidates
from profiler.statistics import visit_median_us
from searchspace.space import load_space
from tests.lab.this_machine import leading_here
from tests.unit.devices.rpc import running_server

N_TURNS = 9
N_KERNELS = 100
#: The least that a visit can be: what is left beside the kernels is the way to them.
PLAN = TimingPlan(0, 0, 1, False, 10_000)
#: One that is as good as those of a sweep, for the latencies themselves.
LONG_PLAN = TimingPlan(2_000_000, 500_000, 7, False, 10_000)

Start = Callable[[], RunnerSession]


def kernels(bench: Bench) -> list[Kernel]:
    """The same kernels every time: candidates of a network's operators."""
    space = load_space("ofa_mbv3")
    operators = dict.fromkeys(space.lower(space.sample(np.random.default_rng(0))).operators)
    requests = [(op, schedule) for op in operators for schedule in candidates(op, bench.target)]
    built = build_kernels(requests[: N_KERNELS + 20], bench.target, bench.artifacts)
    found = {kernel.name: kernel for kernel in built if isinstance(kernel, Kernel)}
    return list(found.values())[:N_KERNELS]


def visit(start: Start, items: list[TimingRequest]) -> dict[str, Any]:
    """Seconds that a session takes to start, and all its visits; each visit's latency."""
    begin_s = time.perf_counter()
    with start() as session:
        started_s = time.perf_counter()
        outcomes = list(session.time_many(items))
        end_s = time.perf_counter()
    timings = [outcome for outcome in outcomes if isinstance(outcome, Timing)]
    assert len(timings) == len(items), outcomes
    return {
        "start_s": started_s - begin_s,
        "visits_s": end_s - started_s,
        "latency_us": [visit_median_us(t.block_ns, t.n_repeats) for t in timings],
    }


def ways(stack: ExitStack, workbench: Workbench, chosen: list[Kernel]) -> dict[str, Start]:
    """How to start a session, by the name of the way."""
    bench = workbench.bench
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    files = object_files(chosen, bench.artifacts, bench.link_folder / "objects")
    way = stack.enter_context(leading_here(folder))
    server = stack.enter_context(running_server(folder / "server-log"))
    connection = stack.enter_context(closing(way.connect("bench", folder / "known_hosts")))
    local = LocalDevice()
    board = SshDevice(connection, str(folder / "board"), cores=local.cores)
    devices: dict[str, Device] = {
        "local": local,
        "ssh": board,
        "rpc": RpcDevice(board, server.port),
    }

    def starting(device: Device) -> Start:
        linked = link_for(device, files, bench.target, bench.link_folder)
        return lambda: device.start(linked)  # type: ignore[return-value]  # all are sessions

    return {name: starting(device) for name, device in devices.items()}


def measure(workbench: Workbench, done: DoneFile) -> dict[str, list[dict[str, Any]]]:
    """All turns, by the way and the plan."""
    chosen = kernels(workbench.bench)
    workloads = [operator_item(kernel).workload for kernel in chosen]
    found: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        starts = ways(stack, workbench, chosen)
        for turn in range(N_TURNS):
            for plan_name, plan in (("short", PLAN), ("long", LONG_PLAN)):
                items = [(workload, plan) for workload in workloads]
                for name, start in starts.items():
                    key = f"{name} {plan_name}"
                    row = done.once(f"{key} {turn}", lambda s=start, i=items: visit(s, i))
                    found.setdefault(key, []).append(row)
                    print(f"{key}: {row['visits_s'] * 1e3:.0f} ms")
    return found


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians over the turns."""
    median = {
        key: {
            name: statistics.median(row[name] for row in rows) for name in ("start_s", "visits_s")
        }
        for key, rows in found.items()
    }
    for key, figures in median.items():
        beside_ms = (figures["visits_s"] - median[f"local {key.split()[1]}"]["visits_s"]) * 1e3
        print(
            f"{key}: start {figures['start_s']:.2f} s, visit "
            f"{figures['visits_s'] * 1e3 / N_KERNELS:.2f} ms, of which "
            f"{beside_ms / N_KERNELS:+.2f} ms more than local"
        )
    latency = {
        name: np.median([row["latency_us"] for row in found[f"{name} long"]], axis=0)
        for name in ("local", "ssh", "rpc")
    }
    for name in ("ssh", "rpc"):
        low, middle, high = np.percentile(latency[name] / latency["local"], [10, 50, 90])
        print(f"{name}: latencies over local's: median {middle:.3f}, 10-90 % {low:.3f}-{high:.3f}")


def main() -> None:
    given = parser(__doc__ or "").parse_args()
    with open_workbench(Home(given.home), given.device) as workbench:
        found = measure(workbench, DoneFile(given.home / "rpc-done.json"))
        show(found)
        print(f"raw figures: {keep('rpc', workbench, {'n_kernels': N_KERNELS, 'turns': found})}")


if __name__ == "__main__":
    main()
