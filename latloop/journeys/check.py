"""Say whether a device is fit to be measured on now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devices.clusters import Cluster, read_clusters
from devices.findings import read_governors
from devices.health import Health
from devices.health import check as check_health
from devices.open import AnyDevice, board_of, system_files
from devices.probe import Sensor, read_sensors
from latloop.workbench import Workbench
from profiler.bench import StageProgress, quiet


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """What a device is like at this moment.

    Attributes:
        health: The findings.
        tick_ns: Smallest step of its clock, read by its own runner.
        clusters: The kinds of its cores, the fastest first.
        governors: The clock governor of each core that tells.
        sensors: Its temperatures.
        login: The command that a person reaches a board with; "" for this machine.
        was_quarantined: Why it was in quarantine until now; "" where it was not.
        barred: Subjects of the kernels that took it down twice and are not run again.
    """

    health: Health
    tick_ns: int
    clusters: tuple[Cluster, ...]
    governors: Mapping[int, str]
    sensors: tuple[Sensor, ...]
    login: str
    was_quarantined: str
    barred: tuple[str, ...]


def check(workbench: Workbench, progress: StageProgress = quiet) -> DeviceCheck:
    """Start the runner on the device, and read what would disturb measurements.

    A board that answers and is fit is let out of quarantine.
    """
    device = workbench.device
    progress("check", 0, 2)
    linked = workbench.runtime.prepare([]).link()
    with device.start(linked.executable) as runner:
        tick_ns = runner.description.tick_ns
    progress("check", 1, 2)
    with system_files(device) as files:
        health = check_health(device.cores, tick_ns, files.root, refresh=files.refresh)
        clusters = read_clusters(files.root)
        governors = read_governors(files.root)
        sensors = read_sensors(files.root)
    progress("check", 2, 2)
    boards, device_id = workbench.store.boards, workbench.device_id
    quarantine = boards.quarantine_of(device_id)
    if health.is_fit:
        boards.clear_quarantine(device_id)
    return DeviceCheck(
        health=health,
        tick_ns=tick_ns,
        clusters=clusters,
        governors=governors,
        sensors=sensors,
        login=_login(device),
        was_quarantined="" if quarantine is None else quarantine.reason,
        barred=tuple(sorted({subject for subject, *_ in boards.quarantined_kernels(device_id)})),
    )


def _login(device: AnyDevice) -> str:
    board = board_of(device)
    if board is None:
        return ""
    address = board.connection.address
    options = [
        *(("-J", address.jump) if address.jump else ()),
        *(("-p", str(address.port)) if address.port else ()),
    ]
    account = f"{address.user}@" if address.user else ""
    return " ".join(("ssh", *options, f"{account}{address.host}"))
