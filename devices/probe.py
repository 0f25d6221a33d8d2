"""What a board is, as far as it tells without a runner: what enroll writes down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from devices.board import Board
from devices.clusters import Cluster, order_cores, read_clusters
from devices.errors import UnsupportedBoardError
from devices.fingerprint import read_architecture, read_board, read_os_image
from devices.inventory_rules import ARCHITECTURES
from devices.system_files import find_paths, read_text
from devices.tables import Identity, facts_of, identity_of

_CPU: Final = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class Sensor:
    """A temperature sensor.

    Attributes:
        name: As the board calls it.
        temperature_c: What it shows, in degrees Celsius; None where it cannot be read.
    """

    name: str
    temperature_c: float | None

    def __str__(self) -> str:
        degrees = "" if self.temperature_c is None else f" {self.temperature_c:.0f} °C"
        return f"{self.name}{degrees}"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a snapshot tells of a board.

    Attributes:
        board: The hardware; caches are those of the first measuring core.
        identity: What tells it from other boards, as it says by itself.
        clusters: The kinds of its cores, the fastest first.
        measuring_cores: See `devices.clusters.order_cores`.
        governor, governors: The clock governor of the first measuring core, and those it offers;
            "" and () where the board does not tell.
        sensors: In the order of their zones.
        os_image: The operating system's name and version.
    """

    board: Board
    identity: Identity
    clusters: tuple[Cluster, ...]
    measuring_cores: tuple[int, ...]
    governor: str
    governors: tuple[str, ...]
    sensors: tuple[Sensor, ...]
    os_image: str

    def table(self) -> Mapping[str, Any]:
        """For `[device.NAME.board]`."""
        clusters = [
            {"cpu_model": cluster.cpu_model, "cores": list(cluster.cores)}
            | ({"max_clock_mhz": cluster.max_clock_mhz} if cluster.max_clock_mhz else {})
            for cluster in self.clusters
        ]
        facts = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in facts_of(self.board).items()
        }
        return facts | {
            "measuring_cores": list(self.measuring_cores),
            "clusters": clusters,
            "governors": list(self.governors),
            "temperature_sensors": [sensor.name for sensor in self.sensors],
        }


def probe(root: Path, architecture: str | None = None, name: str = "the board") -> Probe:
    """Read a snapshot of a board.

    Args:
        root: Where `devices.snapshot.fetch` put it.
        architecture: What a person says of it, instead of what it says of itself.
        name: What messages call the board.

    Raises:
        UnsupportedBoardError: there are no kernels for its architecture.
    """
    said = read_architecture(root)
    architecture = architecture or said
    if architecture not in ARCHITECTURES:
        raise UnsupportedBoardError(
            f"the architecture of {name} must be one of {', '.join(ARCHITECTURES)}, got "
            f"{architecture!r}; where that is wrong, enroll with --set board.architecture="
            f"{ARCHITECTURES[1]}"
        )
    cores = order_cores(root)
    core = cores[0] if cores else 0
    folder = f"{_CPU}/cpu{core}/cpufreq"
    board = read_board(root, architecture, core)
    return Probe(
        board=board,
        identity=identity_of(replace(board, architecture=said)),
        clusters=read_clusters(root),
        measuring_cores=cores,
        governor=read_text(root, f"{folder}/scaling_governor"),
        governors=tuple(read_text(root, f"{folder}/scaling_available_governors").split()),
        sensors=read_sensors(root),
        os_image=read_os_image(root),
    )


def read_sensors(root: Path) -> tuple[Sensor, ...]:
    """The board's temperature sensors."""
    zones = find_paths(root, "sys/class/thermal/thermal_zone[0-9]*")
    return tuple(
        Sensor(read_text(zone, "type") or zone.name, _degrees(read_text(zone, "temp")))
        for zone in zones
    )


def _degrees(millidegrees: str) -> float | None:
    return int(millidegrees) / 1000 if millidegrees.lstrip("-").isdigit() else None
