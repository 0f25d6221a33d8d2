"""A named device, opened with its store and builds: what every journey starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from costmodel.errors import ModelFolderError
from costmodel.latency import LatencyModel
from costmodel.persist import load_model
from costmodel.ranking import learn_ranking
from devices.board import Fingerprint
from devices.errors import InventoryError
from devices.inventory import DeviceEntry, read_inventory
from devices.open import Access, AnyDevice, close_device, open_device
from devices.ssh.login import Ask
from latloop.home import Home
from profiler.artifacts import ArtifactStore
from profiler.bench import Bench
from profiler.runtime import Runtime
from profiler.runtimes.open import open_runtime, runtime_versions
from profiler.store import Store
from profiler.target import Target, override_target, target_of
from profiler.tunings import TuningPolicy


class NoModelError(RuntimeError):
    """The device has no latency model yet: profile it and fit one."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """A device that is ready to be measured.

    Attributes:
        home: Where everything is kept.
        device: Where code runs.
        fingerprint: Its board and runtime, read when the workbench was opened, with what the
            inventory says in place of what the board says.
        runtime: What runs on it, with its builds and results.
    """

    home: Home
    device: AnyDevice
    fingerprint: Fingerprint
    runtime: Runtime

    @property
    def bench(self) -> Bench:
        """The device for the profiler."""
        return self.runtime.bench

    @property
    def store(self) -> Store:
        """Measurements of all devices."""
        return self.bench.store

    @property
    def device_id(self) -> str:
        """Names board and runtime in the store."""
        return self.bench.device_id

    def load_model(self) -> LatencyModel:
        """The latency model that was fitted last.

        Raises:
            NoModelError: there is none.
            ModelFolderError: it is damaged or of a newer format.
        """
        folder = self.home.model(self.device_id)
        if not folder.exists():
            name = self.device.name
            raise NoModelError(
                f"device {name} has no latency model yet; run `latloop profile {name} --space "
                f"nas_bench_macro` and then `latloop fit {name}`, or `latloop quickstart`"
            )
        try:
            return load_model(folder, self.runtime.choose_schedule())
        except ModelFolderError as error:
            raise ModelFolderError(f"{error}; run `latloop fit {self.device.name}`") from error


@contextmanager
def open_workbench(
    home: Home,
    device_name: str,
    store_url: str | None = None,
    devices_file: Path | None = None,
    *,
    is_exhaustive: bool = False,
    ask: Ask | None = None,
) -> Iterator[Workbench]:
    """Open a device by name; closes the store and the way to a board at the end.

    Args:
        home: Where everything is kept.
        device_name: In the inventory.
        store_url: Instead of the home's store.
        devices_file: Instead of the home's inventory.
        is_exhaustive: Whether operators are tuned with every candidate, not with the few that a
            ranking of all earlier tuning names.
        ask: Asks for the password of a board or a key; None never does.

    Raises:
        UnknownDeviceError: no device of that name.
        InventoryError: the inventory file is wrong.
        DeviceError: the board is out of reach, or another one than was enrolled.
        MissingRuntimeError: the device needs ONNX Runtime, which is not installed.
        StoreError: the store cannot be used.
        ArtifactError: the build cache cannot be used.
    """
    inventory = read_inventory(devices_file or home.inventory)
    entry = inventory.find(device_name)
    access = Access(home.known_hosts, ask)
    device = open_device(entry, runtime_versions(entry.runtime), access)
    try:
        fingerprint = _read_fingerprint(device, entry)
        if store_url is None:
            home.folder.mkdir(parents=True, exist_ok=True)
        with Store.open(store_url or home.store) as store:
            store.register_device(fingerprint)
            bench = Bench(
                device=device,
                device_id=fingerprint.device_id,
                target=find_target(entry, fingerprint),
                store=store,
                artifacts=ArtifactStore(home.artifacts),
                link_folder=home.link,
            )
            policy = TuningPolicy(learn_ranking, is_exhaustive)
            runtime = open_runtime(entry.runtime, bench, policy)
            yield Workbench(home, device, fingerprint, runtime)
    finally:
        close_device(device)


def find_target(entry: DeviceEntry, fingerprint: Fingerprint) -> Target:
    """What code is generated for: what follows from the board, and what the inventory says.

    Raises:
        InventoryError: what it says makes no sense.
    """
    target = target_of(fingerprint.board, entry.threads)
    try:
        return override_target(target, entry.target)
    except ValueError as error:
        place = entry.place.removesuffix("]")
        raise InventoryError(f"{place}.target] {error}") from error


def _read_fingerprint(device: AnyDevice, entry: DeviceEntry) -> Fingerprint:
    """What the device says of itself, and what the inventory says in place of it."""
    said = device.fingerprint()
    if entry.identity is not None:
        entry.identity.check(said.board, entry.name)
    return replace(said, board=entry.board.overlay(said.board))
