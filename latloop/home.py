"""The folder in which Latloop keeps everything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Where each thing lies under `LATLOOP_HOME`.

    Attributes:
        folder: The home itself; made when something is first written.
    """

    folder: Path

    @property
    def store(self) -> Path:
        """The SQLite store of measurements."""
        return self.folder / "store.sqlite"

    @property
    def inventory(self) -> Path:
        """The devices, in TOML."""
        return self.folder / "devices.toml"

    @property
    def known_hosts(self) -> Path:
        """Host keys of boards that a person has agreed to, in OpenSSH's format."""
        return self.folder / "known_hosts"

    @property
    def artifacts(self) -> Path:
        """Object files by content."""
        return self.folder / "artifacts"

    @property
    def link(self) -> Path:
        """What the linker reads and writes; may be deleted."""
        return self.folder / "cache" / "link"

    @property
    def accuracy(self) -> Path:
        """Trained accuracy predictors; may be deleted."""
        return self.folder / "cache" / "accuracy"

    def model(self, device_id: str) -> Path:
        """The latency model of a device."""
        return self.folder / "models" / device_id

    def evaluation(self, device_id: str) -> Path:
        """The last evaluation of a device's model."""
        return self.folder / "evaluations" / f"{device_id}.json"

    def deployment(self, device: str, name: str) -> Path:
        """Where a network is deployed unless a folder is given."""
        return self.folder / "deployments" / device / name.replace(":", "-")


def default_home() -> Home:
    """The user's data folder."""
    from platformdirs import user_data_path  # noqa: PLC0415  # keeps `latloop --help` fast

    return Home(user_data_path("latloop"))
