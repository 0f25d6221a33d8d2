"""What single files of a board say against measuring on it, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from devices.clusters import read_clusters
from devices.probe import read_sensors
from devices.system_files import find_paths, read_int, read_text
from devices.throttling import read_throttle_flags

Severity = Literal["note", "warning", "unfit"]

_CPU: Final = "sys/devices/system/cpu"
_HOT_C: Final = 80.0
#: Bits of a Raspberry Pi's get_throttled; 16 higher: at some time since it was started.
_PI_BITS: Final = (
    "the supply voltage is too low",
    "the clock is capped",
    "the clock is throttled",
    "the soft temperature limit is reached",
)
_PI_REMEDY: Final = "use the board's own power supply and cable, and give it a fan or a heat sink"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reading that disturbs measurements.

    Attributes:
        severity: `unfit` means that measurements would be worthless now.
        text: The reading, with its number.
        remedy: A command to type on the board, or what to do.
    """

    severity: Severity
    text: str
    remedy: str


def read_governors(root: Path) -> dict[int, str]:
    """The clock governor of each core that tells."""
    paths = find_paths(root, f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor")
    found = {int(path.parts[-3][len("cpu") :]): read_text(path.parent, path.name) for path in paths}
    return dict(sorted(found.items()))


def check_throttling(root: Path, n_new_events: int) -> Iterator[Finding]:
    """Whether the board slows itself down, or did.

    Args:
        root: Where `sys` is found.
        n_new_events: By how much the counters of throttling have grown; see
            `devices.throttling`.
    """
    if n_new_events > 0:
        yield Finding(
            "unfit",
            f"the board was throttled {n_new_events} times within a second",
            "let it cool down, give it a fan, or lift the quota of its control group",
        )
    flags = read_throttle_flags(root) or 0
    now = [text for bit, text in enumerate(_PI_BITS) if flags >> bit & 1]
    past = [text for bit, text in enumerate(_PI_BITS) if flags >> 16 + bit & 1]
    if now:
        yield Finding("unfit", f"{', '.join(now)} (throttle flags {flags:#x})", _PI_REMEDY)
    elif past:
        text = f"since the board was started: {', '.join(past)} (throttle flags {flags:#x})"
        yield Finding("warning", text, f"{_PI_REMEDY}; then restart it: sudo reboot")


def check_clock_limits(root: Path, core: int) -> Iterator[Finding]:
    """Whether a core's clock is free to move, or held below its highest."""
    folder = f"{_CPU}/cpu{core}/cpufreq"
    governor = read_text(root, f"{folder}/scaling_governor")
    if governor and governor != "performance":
        offered = read_text(root, f"{folder}/scaling_available_governors").split()
        can_hold = not offered or "performance" in offered
        yield Finding(
            "warning",
            f"the clock governor of core {core} is {governor}: the clock follows the load",
            f"echo performance | sudo tee /{folder}/scaling_governor"
            if can_hold
            else f"its kernel offers {', '.join(offered)} only; take one with governor performance",
        )
    most_khz = read_int(root, f"{folder}/cpuinfo_max_freq")
    limit_khz = read_int(root, f"{folder}/scaling_max_freq")
    if most_khz and limit_khz and limit_khz < most_khz:
        yield Finding(
            "note",
            f"the clock of core {core} is held at {limit_khz / 1000:.0f} MHz or below, of "
            f"{most_khz / 1000:.0f}",
            f"echo {most_khz} | sudo tee /{folder}/scaling_max_freq  # unless it is meant to be",
        )


def check_turbo(root: Path) -> Iterator[Finding]:
    """Whether clocks above the nominal one are allowed."""
    no_turbo = f"{_CPU}/intel_pstate/no_turbo"
    boost = f"{_CPU}/cpufreq/boost"
    for path, on, off in ((no_turbo, "0", "1"), (boost, "1", "0")):
        if read_text(root, path) == on:
            yield Finding(
                "note",
                "turbo clocks are on: the clock depends on temperature and on other cores",
                f"echo {off} | sudo tee /{path}",
            )


def check_kinds(root: Path, cores: Sequence[int]) -> Iterator[Finding]:
    """Whether what is measured runs on cores of one kind, the fastest."""
    clusters = read_clusters(root)
    used = [cluster for cluster in clusters if set(cluster.cores) & set(cores)]
    if len(used) > 1:
        yield Finding(
            "warning",
            f"the cores used are of different kinds: {'; '.join(map(str, used))}",
            f"set threads to {len(clusters[0].cores)} or less in the inventory",
        )
    elif used and used[0] != clusters[0]:
        yield Finding(
            "note",
            f"measured on {used[0]}; the board has faster ones: {clusters[0]}",
            "set core in the inventory, unless it is meant to be",
        )


def check_temperature(root: Path) -> Iterator[Finding]:
    """Whether a sensor is near where processors throttle."""
    for sensor in read_sensors(root):
        if sensor.temperature_c is not None and sensor.temperature_c > _HOT_C:
            yield Finding(
                "warning",
                f"{sensor.name} is at {sensor.temperature_c:.0f} °C: the clock may be throttled",
                "let the board cool down, or give it a fan",
            )
