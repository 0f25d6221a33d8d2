"""What a ranking may learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devices.board import Fingerprint
from devices.device import Failure, Timing
from profiler.measure import OPERATOR_PLAN
from profiler.operator import Operator
from profiler.schedules import space
from profiler.schedules.schedule import Schedule
from profiler.store import Purpose, Store, Visit
from profiler.target import target_of
from profiler.tunings import LEARNING_PURPOSES, read_trials

from .scripted import CRASH, timing
from .scripted import DEVICE as SCRIPTED

BOARD = SCRIPTED.board
RUNTIME = replace(
    SCRIPTED.runtime, versions=(("schedules", str(space.VERSION)), ("ziglang", "0.15"))
)
DEVICE = Fingerprint(BOARD, RUNTIME)
CONV = Operator("conv2d", (1, 8, 8, 16), 32)
FAST, SLOW, BROKEN = (Schedule("gemm", (("rows", n),)) for n in (4, 2, 1))


def visit(
    device: Fingerprint,
    schedule: Schedule,
    outcome: Timing | Failure,
    purpose: Purpose = "tune",
    kernel: str = "k",
) -> Visit:
    return Visit(
        device.device_id, "operator", CONV.key, f"{kernel} {schedule.text}", schedule.text,
        purpose, 0, OPERATOR_PLAN, outcome,
    )  # fmt: skip


def read(tmp_path: Path, *visits: tuple[Fingerprint, Visit]) -> list[tuple[str, Schedule, float]]:
    with Store.open(tmp_path / "store.sqlite") as store:
        for device, made in visits:
            store.register_device(device)
            store.append([made])
        trials = read_trials(store, "latloop", LEARNING_PURPOSES)
    assert all(trial.operator == CONV for trial in trials)
    return [(trial.device_id, trial.schedule, trial.alone_us) for trial in trials]


def test_every_sound_candidate_of_every_device_counts(tmp_path: Path) -> None:
    other = Fingerprint(replace(BOARD, serial="2"), RUNTIME)
    found = read(
        tmp_path,
        (DEVICE, visit(DEVICE, SLOW, timing(30))),
        (DEVICE, visit(DEVICE, SLOW, timing(50), "measure")),
        (DEVICE, visit(DEVICE, FAST, timing(20))),
        (DEVICE, visit(DEVICE, BROKEN, CRASH)),
        (other, visit(other, FAST, timing(200))),
    )
    expected = {
        (DEVICE.device_id, SLOW): 40.0,
        (DEVICE.device_id, FAST): 20.0,
        (other.device_id, FAST): 200.0,
    }
    assert len(found) == 3
    assert {(where, schedule): us for where, schedule, us in found} == pytest.approx(expected)


def test_of_two_kernels_of_a_schedule_the_faster_one_counts(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        (DEVICE, visit(DEVICE, FAST, timing(20), kernel="old")),
        (DEVICE, visit(DEVICE, FAST, timing(15), kernel="new")),
    )
    assert found == [(DEVICE.device_id, FAST, pytest.approx(15.0))]


def test_a_trial_has_the_target_of_its_device(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.sqlite") as store:
        pinned = Fingerprint(replace(BOARD, l2_bytes=1 << 21), replace(RUNTIME, threads=2))
        store.register_device(pinned)
        store.append([visit(pinned, FAST, timing(20))])
        (trial,) = read_trials(store, "latloop", LEARNING_PURPOSES)
    assert trial.target == target_of(pinned.board, threads=2)


@pytest.mark.parametrize(
    "runtime",
    [
        replace(RUNTIME, name="onnxruntime"),
        replace(RUNTIME, versions=(("schedules", str(space.VERSION - 1)),)),
        replace(RUNTIME, versions=()),
    ],
    ids=["another runtime", "older schedules", "no version"],
)
def test_other_code_teaches_nothing(tmp_path: Path, runtime: object) -> None:
    other = Fingerprint(BOARD, runtime)  # type: ignore[arg-type]
    assert read(tmp_path, (other, visit(other, FAST, timing(20)))) == []


def test_what_an_evaluation_timed_is_not_learned_from(tmp_path: Path) -> None:
    assert read(tmp_path, (DEVICE, visit(DEVICE, FAST, timing(20), "evaluate"))) == []
