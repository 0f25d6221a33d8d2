"""Kernels of any origin in one executable, timed in turn by our runner."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.device import Fill, KernelCall, Tensor, Timing, Workload
from profiler.bench import Bench
from profiler.elf import CANONICAL_NAME, rename
from profiler.link import link_executable
from profiler.measure import WHOLE_PLAN
from profiler.plan import ALIGNMENT_BYTES
from profiler.statistics import visit_median_us
from profiler.target import Target

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contender:
    """A kernel that takes part.

    Attributes:
        code: Its object file, compiled under the canonical name.
        workload: One call of `kernel_name(code)`.
    """

    code: bytes
    workload: Workload


def kernel_name(code: bytes) -> str:
    """What a kernel is called once it is linked: as long as the canonical name."""
    return f"k_{hashlib.sha256(code).hexdigest()[:16]}"


def contender(
    code: bytes, inputs: Sequence[Shape], weights: Sequence[Shape], output: Shape
) -> Contender:
    """A kernel called on float32 inputs, weights and an output in this order, in places of ours."""
    inside = _placed("arena", (*inputs, output))
    constants = _placed("weights", weights)
    tensors = (*inside[:-1], *constants, inside[-1])
    call = KernelCall(kernel_name(code), tuple(range(len(tensors))))
    return Contender(code, Workload(tensors, (call,), _end(inside), _end(constants)))


def _placed(region: str, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    for index, shape in enumerate(shapes):
        fill = Fill(index, 1 / math.sqrt(shape[0]))
        tensors.append(Tensor(region, _end(tensors), shape, fill))  # type: ignore[arg-type]
    return tuple(tensors)


def _end(tensors: Sequence[Tensor]) -> int:
    if not tensors:
        return 0
    end = tensors[-1].offset_bytes + tensors[-1].n_bytes
    return -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def link_contenders(contenders: Iterable[Contender], target: Target, folder: Path) -> Path:
    """One executable of all their kernels, in a folder that the linker keeps things in."""
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    files = {}
    for each in contenders:
        name = kernel_name(each.code)
        files[name] = objects / f"{name}.o"
        files[name].write_bytes(rename(each.code, CANONICAL_NAME, name))
    return link_executable(files, target, folder)


def time_in_turn(
    contenders: Mapping[str, Contender], bench: Bench, n_rounds: int
) -> dict[str, list[float]]:
    """Visit each contender once a round.

    Returns:
        The median of each visit in microseconds, by the contender's name, in order of rounds.

    Raises:
        RuntimeError: a kernel failed.
    """
    executable = link_contenders(contenders.values(), bench.target, bench.link_folder)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    with bench.device.start(executable) as runner:
        for _ in range(n_rounds):
            for name, each in contenders.items():
                outcome = runner.time(each.workload, WHOLE_PLAN)
                if not isinstance(outcome, Timing):
                    raise RuntimeError(f"{name}: {outcome}")
                found[name].append(visit_median_us(outcome.block_ns, outcome.n_repeats))
    return found
