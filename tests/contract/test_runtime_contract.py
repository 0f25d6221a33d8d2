"""What every runtime must do, whoever makes its code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from devices.device import Timing, TimingPlan
from devices.inventory import DeviceEntry, RuntimeName
from devices.open import open_device
from profiler.artifacts import ArtifactStore
from profiler.bench import Bench
from profiler.compilers import Compilers
from profiler.deployment import Deployment, DeploymentError, read_deployment
from profiler.network import Network
from profiler.operator import Operator
from profiler.runtime import Model, Runtime, time_networks
from profiler.runtimes.open import open_runtime, runtime_versions
from profiler.store import Store
from profiler.target import target_of
from tests.unit.profiler.examples import (
    Array,
    network_inputs,
    network_weights,
    relative_error,
)
from tests.unit.profiler.networks import call
from tests.unit.searchspace.network_interpreter import interpret

NETWORK = Network(
    "test:small",
    (("image", (1, 6, 6, 8)),),
    (
        call("conv", Operator("conv2d", (1, 6, 6, 8), 16, epilogue=("bias", "relu")), "image"),
        call("pool", Operator("global_avg_pool2d", (1, 6, 6, 16), 16), "conv"),
        call("logits", Operator("dense", (1, 1, 1, 16), 4, epilogue=("bias",)), "pool"),
    ),
    ("logits",),
)
WEIGHTS = network_weights(NETWORK, np.random.default_rng(3))
PLAN = TimingPlan(100_000, 100_000, 2, True, 20_000)
RUNTIMES = get_args(RuntimeName)


@dataclass(frozen=True)
class Place:
    """Where the runtimes of this session build."""

    build_cache: Path
    artifacts: ArtifactStore
    compilers: Compilers


@pytest.fixture(scope="session")
def place(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Compilers() as compilers:
        yield Place(build_cache, ArtifactStore(tmp_path_factory.mktemp("artifacts")), compilers)


def open_bench(name: RuntimeName, place: Place, store: Store) -> Runtime:
    device = open_device(DeviceEntry("here", runtime=name), runtime_versions(name))
    fingerprint = device.fingerprint()
    store.register_device(fingerprint)
    target = target_of(fingerprint.board)
    device_id = fingerprint.device_id
    bench = Bench(
        device, device_id, target, store, place.artifacts, place.build_cache, place.compilers
    )
    return open_runtime(name, bench)


@pytest.fixture(scope="session", params=RUNTIMES)
def name(request: pytest.FixtureRequest) -> RuntimeName:
    found: RuntimeName = request.param
    return found


@pytest.fixture(scope="session")
def runtime(
    name: RuntimeName, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    """A runtime that has timed the network's operators, and the network in two rounds."""
    with Store.open(tmp_path_factory.mktemp("store") / "store.sqlite") as store:
        opened = open_bench(name, place, store)
        rng = np.random.default_rng(0)
        opened.tune(NETWORK.operators, "tune", rng)
        time_networks(opened, [NETWORK], "profile", 2, rng, plan=PLAN)
        yield opened


def expected(image: Array) -> Array:
    return interpret(NETWORK, WEIGHTS, {"image": image})["logits"][:, 0, 0]


def images(seed: int) -> Array:
    return network_inputs(NETWORK, np.random.default_rng(seed))["image"]


def test_every_operator_that_was_tuned_has_a_latency_to_learn_from(runtime: Runtime) -> None:
    rows = runtime.operator_latencies({"tune", "profile"})
    assert {row.operator for row in rows} == set(NETWORK.operators)
    assert all(0 < row.alone_us < 10_000 and row.relative_spread >= 0 for row in rows)
    choose = runtime.choose_schedule()
    assert {row.operator: row.schedule for row in rows} == {
        op: choose(op) for op in NETWORK.operators
    }


def test_a_network_is_kept_with_the_keys_of_its_operators(runtime: Runtime) -> None:
    (row,) = runtime.bench.store.network_latencies(runtime.bench.device_id, {"profile"})
    assert row.name == "test:small"
    assert row.operators == NETWORK.operators
    assert len(row.session_us) >= 2  # more where the canary moved


def test_what_was_timed_is_not_timed_again(runtime: Runtime) -> None:
    def visits() -> int:
        return sum(1 for _ in runtime.bench.store.visits(runtime.bench.device_id))

    before = visits()
    rng = np.random.default_rng(1)
    runtime.tune(NETWORK.operators, "tune", rng)
    runtime.tune(NETWORK.operators, "measure", rng)
    time_networks(runtime, [NETWORK], "profile", 2, rng, plan=PLAN)
    assert visits() == before


def test_a_prepared_network_computes_what_it_stands_for(runtime: Runtime) -> None:
    prepared = runtime.prepare([Model(NETWORK, WEIGHTS)])
    with runtime.bench.device.start(prepared.link().executable) as runner:
        for seed in (1, 2):
            image = images(seed)
            outputs = prepared.bound[0].run(runner, {"image": image.transpose(0, 3, 1, 2)})
            assert set(outputs) == {"logits"}
            assert relative_error(outputs["logits"], expected(image)) < 1e-5
        with pytest.raises(ValueError, match=r"image must have shape \(1, 8, 6, 6\)"):
            prepared.bound[0].run(runner, {"image": images(1)})
        with pytest.raises(ValueError, match="inputs must be image, got none"):
            prepared.bound[0].run(runner, {})


def test_networks_and_canary_lie_in_one_executable_and_are_timed(runtime: Runtime) -> None:
    prepared = runtime.prepare([Model(NETWORK), Model(NETWORK, WEIGHTS)])
    linked = prepared.link()
    assert len(prepared.bound) == 2
    with runtime.bench.device.start(linked.executable) as runner:
        for item in (linked.canary, *(bound.item(PLAN) for bound in prepared.bound)):
            timing = runner.time(item.workload, item.plan)
            assert isinstance(timing, Timing), timing
            assert min(timing.block_ns) >= item.plan.min_block_ns


def test_an_executable_can_be_made_for_the_canary_alone(runtime: Runtime) -> None:
    linked = runtime.prepare([]).link()
    with runtime.bench.device.start(linked.executable) as runner:
        timing = runner.time(linked.canary.workload, PLAN)
        assert isinstance(timing, Timing), timing


@pytest.fixture
def deployed(runtime: Runtime, tmp_path: Path) -> Deployment:
    return runtime.deploy(Model(NETWORK, WEIGHTS), tmp_path / "net")


def test_a_deployment_is_read_back_and_computes_what_was_deployed(
    runtime: Runtime, deployed: Deployment, name: RuntimeName
) -> None:
    assert read_deployment(deployed.folder) == deployed
    assert deployed.runtime == name
    assert deployed.device_id == runtime.bench.device_id
    assert deployed.operators == tuple(op.key for op in NETWORK.operators)
    assert deployed.input_shapes == {"image": (1, 8, 6, 6)}
    prepared = runtime.open(deployed)
    linked = prepared.link()
    image = images(3)
    with runtime.bench.device.start(linked.executable) as runner:
        outputs = prepared.bound[0].run(runner, {"image": image.transpose(0, 3, 1, 2)})
        assert relative_error(outputs["logits"], expected(image)) < 1e-5
        for item in (linked.canary, prepared.bound[0].item(PLAN)):
            assert isinstance(runner.time(item.workload, item.plan), Timing)


def test_a_deployment_of_another_runtime_is_refused_with_both_names(
    deployed: Deployment, name: RuntimeName, place: Place, tmp_path: Path
) -> None:
    (other,) = set(RUNTIMES) - {name}
    with Store.open(tmp_path / "store.sqlite") as store:
        stranger = open_bench(other, place, store)
        with pytest.raises(DeploymentError, match=f"for runtime {name}, the device runs {other}"):
            stranger.open(deployed)


def test_a_network_without_weights_is_not_deployed(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="test:small has no weights to deploy"):
        runtime.deploy(Model(NETWORK), tmp_path / "net")


def test_a_runtime_names_the_versions_that_decide_its_code(
    runtime: Runtime, name: RuntimeName
) -> None:
    versions = dict(runtime.versions())
    assert versions
    assert all(versions.values())
    device = runtime.bench.device.fingerprint().runtime
    assert device.name == name
    assert set(runtime.versions()) <= set(device.versions)
