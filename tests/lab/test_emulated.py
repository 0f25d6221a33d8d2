"""Boards of other processors, played by qemu: the same way to them as to any board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.target import Target

from .conftest import Lab, MakeDevice, build, running
from .emulation import PROCESSORS, Processor, emulated
from .test_device import times_kernels


@pytest.fixture(params=PROCESSORS.values(), ids=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Iterator[Processor]:
    found: Processor = request.param
    with emulated(found):
        yield found


def test_a_board_of_another_processor_is_measured_on(
    lab: Lab, processor: Processor, make_device: MakeDevice, build_cache: Path, tmp_path: Path
) -> None:
    executable = build(Target(processor.triple, "generic"), build_cache, tmp_path)
    for board in running(lab.board("openssh", processor.busybox)):
        device = make_device(board)
        assert device.fingerprint().board.architecture == processor.machine
        with device.start(executable) as session:
            assert times_kernels(session)
        assert board.wait_until_idle() == []
