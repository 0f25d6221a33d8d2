"""Say whether a device is fit to be measured on now."""

from __future__ import annotations

from dataclasses import dataclass

from devices.health import Health
from devices.health import check as check_health
from devices.open import system_files
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """The findings on a device, and its clock's smallest step in ns, read by its own runner."""

    health: Health
    tick_ns: int


def check(workbench: Workbench, progress: StageProgress = quiet) -> DeviceCheck:
    """Start the runner on the device, and read what would disturb measurements."""
    progress("check", 0, 2)
    linked = workbench.runtime.prepare([]).link()
    with workbench.device.start(linked.executable) as runner:
        tick_ns = runner.description.tick_ns
    progress("check", 1, 2)
    with system_files(workbench.device) as files:
        health = check_health(
            workbench.device.cores, tick_ns, files.root, refresh=files.refresh
        )
    progress("check", 2, 2)
    return DeviceCheck(health, tick_ns)
