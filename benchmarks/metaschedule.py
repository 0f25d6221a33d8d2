"""TVM's MetaSchedule tunes operators: `python benchmarks/metaschedule.py FOLDER TRIALS KEY...`.

A process of its own, because importing all that it needs takes half a minute. Each operator ends
as an object file and a JSON of shapes and seconds; those that have theirs are not tuned again.

It gets what is fair: the computation with its epilogue, written as a matrix product where it is
one; weights that it may lay out as it likes before the clock starts (`layout_free_placeholders`);
all cores to compile and search, one thread for kernels; and a builder without two traps of this
version, which import for half a minute in each of its processes and then time out.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from profiler.layout import is_pointwise
from profiler.operator import Operator, Shape, parse_key

N_TRIALS_A_ROUND: Final = 16
BUILD_TIMEOUT_S: Final = 120.0
_LIMIT_S: Final = 3600


class MetaScheduleError(RuntimeError):
    """It found no kernel or did not end: its log says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """What MetaSchedule made of an operator.

    Attributes:
        seconds: From the start of the search until it ended, all imports done before.
        n_trials: Candidates it was allowed to try.
        n_timed: Candidates that compiled and ran.
        shapes: Of the arguments: input, weights as it laid them out, output.
        object_file: Name of the object file beside.
    """

    seconds: float
    n_trials: int
    n_timed: int
    shapes: tuple[Shape, ...]
    object_file: str


def tune_all(
    operators: list[Operator], folder: Path, n_trials: int, packages: Path
) -> dict[Operator, Found]:
    """Tune operators in a process of its own; resumable operator by operator.

    Args:
        operators: What to tune.
        folder: Where results are kept.
        n_trials: Candidates for each operator.
        packages: A folder with the packages that MetaSchedule imports beside TVM's own.

    Raises:
        MetaScheduleError: the process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [op.key for op in operators if not _result(op, folder, n_trials).exists()]
    if missing:
        root = Path(__file__).parent.parent
        path = os.pathsep.join([str(root), str(packages.resolve())])
        log = folder / "log.txt"
        with log.open("ab") as output:
            done = subprocess.run(
                [sys.executable, __file__, str(folder), str(n_trials), *missing],
                env=os.environ | {"PYTHONPATH": path, "TVM_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
                timeout=_LIMIT_S,
                check=False,
            )
        if done.returncode:
            raise MetaScheduleError(f"MetaSchedule ended with {done.returncode}; see {log}")
    return {op: _read(_result(op, folder, n_trials)) for op in operators}


def _result(operator: Operator, folder: Path, n_trials: int) -> Path:
    digest = hashlib.sha256(operator.key.encode()).hexdigest()[:12]
    return folder / f"{digest}-{n_trials}.json"


def _read(path: Path) -> Found:
    document = json.loads(path.read_text())
    shapes = tuple(tuple(shape) for shape in document.pop("shapes"))
    return Found(**document, shapes=shapes)


def computation(operator: Operator) -> Any:
    """A convolution or product with bias and rectifier as a TIR function, not scheduled.

    Raises:
        ValueError: another kind, or another epilogue.
    """
    from tvm import te, tirx  # noqa: PLC0415  # seconds of import

    if not set(operator.epilogue) <= {"bias", "relu"}:
        raise ValueError(f"epilogue must be of bias and relu, got {operator.epilogue}")
    x, weight, sums = _product(operator) if is_pointwise(operator) else _window(operator)
    bias = te.placeholder((operator.out_channels,), name="bias")

    def finished(*index: Any) -> Any:
        value = sums(*index)
        if "bias" in operator.epilogue:
            value = value + bias[index[-1]]
        return te.max(value, tirx.const(0.0, "float32")) if "relu" in operator.epilogue else value

    out = te.compute(sums.shape, finished, name="out")
    weights = (weight, bias)[: len(operator.weight_shapes)]
    return te.create_prim_func([x, *weights, out])


def _product(operator: Operator) -> tuple[Any, Any, Any]:
    from tvm import te  # noqa: PLC0415

    rows, depth = math.prod(operator.input_shape[:3]), operator.input_shape[3]
    x = te.placeholder((rows, depth), name="x")
    weight = te.placeholder((depth, operator.out_channels), name="weight")
    k = te.reduce_axis((0, depth), name="k")
    sums = te.compute(
        (rows, operator.out_channels),
        lambda i, j: te.sum(x[i, k] * weight[k, j], axis=k),
        name="sums",
        attrs={"layout_free_placeholders": [weight]},
    )
    return x, weight, sums


def _window(operator: Operator) -> tuple[Any, Any, Any]:
    from tvm import te  # noqa: PLC0415

    if operator.kind not in {"conv2d", "depthwise_conv2d"} or operator.groups > 1:
        raise ValueError(f"a convolution without groups is needed, got {operator.key}")
    x = te.placeholder(operator.input_shape, name="x")
    weight = te.placeholder(operator.weight_shapes[0], name="weight")
    padded = _padded(x, operator)
    ky = te.reduce_axis((0, operator.kernel[0]), name="ky")
    kx = te.reduce_axis((0, operator.kernel[1]), name="kx")
    k = te.reduce_axis((0, operator.input_shape[3]), name="k")
    (sy, sx), (dy, dx) = operator.stride, operator.dilation

    def full(b: Any, i: Any, j: Any, o: Any) -> Any:
        value = padded[b, i * sy + ky * dy, j * sx + kx * dx, k]
        return te.sum(value * weight[ky, kx, k, o], axis=[ky, kx, k])

    def depthwise(b: Any, i: Any, j: Any, o: Any) -> Any:
        value = padded[b, i * sy + ky * dy, j * sx + kx * dx, o]
        return te.sum(value * weight[ky, kx, o], axis=[ky, kx])

    sums = te.compute(
        operator.output_shape,
        full if operator.kind == "conv2d" else depthwise,
        name="sums",
        attrs={"layout_free_placeholders": [weight]},
    )
    return x, weight, sums


def _padded(x: Any, operator: Operator) -> Any:
    from tvm import te, tirx  # noqa: PLC0415

    top, left, bottom, right = operator.padding
    if not any(operator.padding):
        return x
    n, height, width, channels = operator.input_shape

    def value(b: Any, i: Any, j: Any, k: Any) -> Any:
        inside = tirx.all(i >= top, i < top + height, j >= left, j < left + width)
        zero = tirx.const(0.0, "float32")
        return tirx.if_then_else(inside, x[b, i - top, j - left, k], zero)

    return te.compute((n, height + top + bottom, width + left + right, channels), value, "padded")


def _build(module: Any, target: Any, _: Any) -> Any:
    """As `default_build`, without an import of all intrinsics, of which none is used."""
    import tvm  # noqa: PLC0415  # runs in MetaSchedule's processes, which know this function alone
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock  # noqa: PLC0415

    return tvm.tirx.build(RemoveWeightLayoutRewriteBlock(True)(module), target=target)


def _export(module: Any) -> str:
    """A shared library by the pinned linker, as the machine may have no compiler."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    path = f"{tempfile.mkdtemp()}/kernel"
    module.write_to_file(f"{path}.o", "o")
    command = ["ld.lld", "-shared", "-o", f"{path}.so", f"{path}.o"]
    subprocess.run([sys.executable, "-m", "ziglang", *command], check=True)
    return f"{path}.so"


def _tune(operator: Operator, folder: Path, n_trials: int) -> None:
    from tvm.s_tir import meta_schedule  # noqa: PLC0415
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock  # noqa: PLC0415

    from devices.local import LocalDevice  # noqa: PLC0415
    from profiler.compile import compile_function, tvm_target  # noqa: PLC0415
    from profiler.target import target_of  # noqa: PLC0415

    target = tvm_target(target_of(LocalDevice().fingerprint().board))
    function = computation(operator)
    result = _result(operator, folder, n_trials)
    work = result.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    builder = meta_schedule.builder.LocalBuilder(
        timeout_sec=BUILD_TIMEOUT_S, f_build=_build, f_export=_export
    )
    runner = meta_schedule.runner.LocalRunner()
    start = time.monotonic()
    database = meta_schedule.tune_tir(
        function, target, str(work), n_trials, num_trials_per_iter=N_TRIALS_A_ROUND,
        builder=builder, runner=runner, num_tuning_cores=os.cpu_count() or 1, seed=0,
    )  # fmt: skip
    seconds = time.monotonic() - start
    schedule = meta_schedule.tir_integration.compile_tir(database, function, target)
    if schedule is None:
        raise MetaScheduleError(f"no candidate of {operator.key} ran")
    best = RemoveWeightLayoutRewriteBlock(True)(schedule.mod)["main"]
    object_file = result.with_suffix(".o")
    object_file.write_bytes(compile_function(best, target))
    runs = [record.run_secs for record in database.get_all_tuning_records()]
    found = Found(
        seconds=seconds,
        n_trials=n_trials,
        n_timed=sum(bool(run) and float(run[0]) < 1e9 for run in runs),  # 1e10 s marks a failure
        shapes=tuple(tuple(int(n) for n in parameter.shape) for parameter in best.params),
        object_file=object_file.name,
    )
    new = result.with_suffix(".new")
    new.write_text(json.dumps(asdict(found)))
    new.replace(result)


def main() -> None:
    """Tune what the command line names."""
    import tvm.s_tir.tensor_intrin  # noqa: F401, PLC0415  # half a minute, before any clock starts

    folder, n_trials, *keys = sys.argv[1:]
    for key in keys:
        _tune(parse_key(key), Path(folder), int(n_trials))


if __name__ == "__main__":
    main()
