"""Which kinds of cores a board has, and on which of them it is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devices.cores import choose_cores
from devices.cpuinfo import core_models, read_fields
from devices.system_files import parse_cores, read_int, read_text

_CPU: Final = "sys/devices/system/cpu"
#: Small cores of processors with two kinds, where Linux does not tell a core's capacity.
_SMALL: Final = frozenset({"Cortex-A7", "Cortex-A35", "Cortex-A53", "Cortex-A55"})
_ALLOWED: Final = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Cores of one kind.

    Attributes:
        cpu_model: Their name.
        cores: Their numbers, ascending.
        max_clock_mhz: Their highest clock, or None where the board does not tell.
    """

    cpu_model: str
    cores: tuple[int, ...]
    max_clock_mhz: float | None

    def __str__(self) -> str:
        clock = "" if self.max_clock_mhz is None else f" at up to {self.max_clock_mhz:.0f} MHz"
        plural = "s" if len(self.cores) > 1 else ""
        return f"{self.cpu_model}{clock}, core{plural} {', '.join(map(str, self.cores))}"


def read_clusters(root: Path) -> tuple[Cluster, ...]:
    """The kinds of cores that are on, the fastest first.

    Cores are of one kind when their names, highest clocks and capacities are the same. How fast
    they are follows from the capacity that Linux gives cores of processors with several kinds,
    else from their names, else from their clocks.
    """
    fields = read_fields(root, "proc/cpuinfo")
    models = core_models(fields)
    online = parse_cores(read_text(root, f"{_CPU}/online")) or tuple(models) or (0,)
    kinds: dict[tuple[int, bool, int, str], list[int]] = {}
    for core in sorted(online):
        model = models.get(core, "unknown")
        capacity = read_int(root, f"{_CPU}/cpu{core}/cpu_capacity") or 0
        clock_khz = read_int(root, f"{_CPU}/cpu{core}/cpufreq/cpuinfo_max_freq") or 0
        kinds.setdefault((capacity, model not in _SMALL, clock_khz, model), []).append(core)
    return tuple(
        Cluster(model, tuple(cores), clock_khz / 1000 if clock_khz else None)
        for (_, _, clock_khz, model), cores in sorted(kinds.items(), reverse=True)
    )


def order_cores(root: Path) -> tuple[int, ...]:
    """The cores that a board may be measured on, in the order in which threads take them.

    The fastest cluster's come first, in it those that were isolated from the scheduler, then the
    last ones, which serve fewer interrupts than the first. Cores that share a processor's units
    with one before come after those that do not.

    Args:
        root: Of a snapshot; what its `proc/self` says of the script that read it holds for the
            runner, too. Isolated cores may be used although no process is on them by itself.
    """
    isolated = parse_cores(read_text(root, f"{_CPU}/isolated"))
    match = _ALLOWED.search(read_text(root, "proc/self/status"))
    allowed = None if match is None else {*parse_cores(match[1]), *isolated}
    ordered = [
        core
        for cluster in read_clusters(root)
        for core in sorted(cluster.cores, key=lambda core: (core not in isolated, -core))
        if allowed is None or core in allowed
    ]
    return choose_cores(len(ordered), None, root, ordered) if ordered else ()
