"""Builds with TVM, and with a compiler process that plays a part."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from profiler import build
from profiler.artifacts import ArtifactSpaceError, ArtifactStore
from profiler.build import (
    BuildCacheError,
    BuildFailure,
    Kernel,
    build_kernels,
    object_files,
)
from profiler.compilers import CompilerLostError, Compilers
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import default_schedule
from profiler.target import Target

TARGET = Target("x86_64-linux-gnu", "x86-64")
GEMM = Schedule("gemm", (("rows", 1), ("vectors", 2), ("lanes", 4), ("panels_outer", 1)))

#: Answers with the operator's key as object code; the operator's output channels tell it to fail.
WORKER = """
import os, signal, sys
from pathlib import Path
from profiler.compile_worker import serve

def note(text):
    with open(sys.argv[1], "a") as log:
        log.write(text + "\\n")

def cut(answer):
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and os.readlink(entry).startswith("socket:"):
            os.write(int(entry.name), answer)
    os._exit(0)

def compile_one(operator, schedule, target, loops):
    n_channels = operator.out_channels
    note(f"{n_channels} {os.getpid()}")
    if n_channels == 901:
        os.kill(os.getpid(), signal.SIGSEGV)
    if n_channels == 902:
        os.kill(os.getpid(), signal.SIGABRT)
    if n_channels == 903:
        os._exit(3)
    if n_channels == 904:
        raise ValueError("no such rule")
    if n_channels == 905:
        cut(b'{"n_bytes": 9}\\nobject')
    if n_channels == 906:
        cut(b'{"n_b')
    return (operator.key + " k_0000000000000000").encode()

def load():
    note("start")
    if os.path.exists(sys.argv[1] + ".broken"):
        sys.exit(7)
    return compile_one

serve(load)
"""
SEGFAULT, ABORT, EXIT, REFUSE, CUT, CUT_HEADER = range(901, 907)


@dataclass
class FakeCompiler:
    """What was asked of the processes that took the compiler's place."""

    log: Path

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines() if line]

    def break_import(self) -> None:
        self.log.with_suffix(".broken").touch()

    @property
    def n_starts(self) -> int:
        return self.lines().count(["start"])

    @property
    def asked(self) -> Counter[int]:
        return Counter(int(line[0]) for line in self.lines() if len(line) == 2)

    @property
    def pids(self) -> set[int]:
        return {int(line[1]) for line in self.lines() if len(line) == 2}


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    worker, program, log = tmp_path / "worker.py", tmp_path / "python", tmp_path / "log"
    worker.write_text(WORKER)
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {worker} {log}\n")
    program.chmod(0o755)
    log.touch()
    monkeypatch.setattr("sys.executable", str(program))
    return FakeCompiler(log)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def dense(*n_outputs: int) -> list[tuple[Operator, Schedule]]:
    return [(Operator("dense", (1, 1, 1, 8), n), GEMM) for n in n_outputs]


def test_a_second_build_starts_no_compiler(
    compiler: FakeCompiler, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_kernels(dense(8, 16), TARGET, artifacts)
    assert (compiler.n_starts, compiler.asked) == (1, {8: 1, 16: 1})
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert build_kernels(dense(8, 16), TARGET, artifacts) == first
    assert build_kernels(dense(16), TARGET, ArtifactStore(artifacts.folder)) == first[1:]


def test_only_what_is_missing_is_compiled(compiler: FakeCompiler, artifacts: ArtifactStore) -> None:
    build_kernels(dense(8, 16), TARGET, artifacts)
    kernels = build_kernels(dense(24, 8, 32, 16), TARGET, artifacts)
    assert compiler.asked == {8: 1, 16: 1, 24: 1, 32: 1}
    assert [kernel.operator.out_channels for kernel in kernels] == [24, 8, 32, 16]


def test_another_target_schedule_or_compiler_is_compiled_anew(
    compiler: FakeCompiler, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_kernels(dense(8), TARGET, artifacts)
    build_kernels(dense(8), Target("x86_64-linux-gnu", "x86-64-v3"), artifacts)
    build_kernels([(dense(8)[0][0], Schedule("gemm"))], TARGET, artifacts)
    assert compiler.asked[8] == 3
    versions = (*build.compiler_versions(), ("another", "1"))
    monkeypatch.setattr(build, "compiler_versions", lambda: versions)
    build_kernels(dense(8), TARGET, artifacts)
    assert compiler.asked[8] == 4


def test_what_a_changed_writer_makes_is_compiled_anew(
    compiler: FakeCompiler, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_kernels(dense(8), TARGET, artifacts)
    monkeypatch.setattr(build, "writers_digest", lambda: "another")
    build_kernels(dense(8), TARGET, artifacts)
    assert compiler.asked[8] == 2


@pytest.mark.parametrize(
    ("file", "is_writer"),
    [
        ("kernels/gemm.py", True),
        ("kernels/new.py", True),
        ("schedules/tiles.py", True),
        ("compile.py", True),
        ("fast_math.py", True),
        ("layout.py", True),
        ("minimal_filtering.py", True),
        ("store.py", False),
    ],
)
def test_a_writers_source_changes_the_digest(tmp_path: Path, file: str, is_writer: bool) -> None:
    folder = tmp_path / "profiler"
    shutil.copytree(Path(build.__file__).parent, folder)
    assert build.writers_digest(folder) == build.writers_digest()
    build.writers_digest.cache_clear()
    with (folder / file).open("a") as source:
        source.write("# another line\n")
    assert (build.writers_digest(folder) != build.writers_digest()) == is_writer


def test_many_kernels_are_shared_out_among_as_many_processes_as_cores(
    compiler: FakeCompiler, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    reports: list[tuple[int, int]] = []
    widths = list(range(1, 41))
    kernels = build_kernels(
        dense(*widths), TARGET, artifacts, lambda done, n: reports.append((done, n))
    )
    assert compiler.asked == dict.fromkeys(widths, 1)
    assert compiler.n_starts == 1
    assert 1 <= len(compiler.pids) <= 3
    assert [kernel.operator.out_channels for kernel in kernels] == widths
    for kernel in kernels:
        assert isinstance(kernel, Kernel)
        data = artifacts.get(kernel.object_digest)
        assert data == f"{kernel.operator.key} k_0000000000000000".encode()
    assert len(reports) == 40
    assert max(reports) == (40, 40)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (SEGFAULT, "crashed"),
        (ABORT, "crashed"),
        (REFUSE, "no such rule"),
        (CUT, "crashed"),
        (CUT_HEADER, "crashed"),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_kernel_that_fails_is_a_failure_and_the_others_go_on(
    compiler: FakeCompiler, artifacts: ArtifactStore, fault: int, detail: str, position: int
) -> None:
    widths = [8, 16]
    widths.insert(position, fault)
    results = build_kernels(dense(*widths), TARGET, artifacts)
    assert [result.operator.out_channels for result in results] == widths
    failure = results[position]
    assert isinstance(failure, BuildFailure)
    assert detail in failure.detail
    assert sum(isinstance(result, Kernel) for result in results) == 2
    # It is no part of the cache: a repaired compiler is asked again.
    build_kernels(dense(fault), TARGET, artifacts)
    assert compiler.asked[fault] == 2


def test_a_compiler_that_ends_at_once_is_lost(
    compiler: FakeCompiler, artifacts: ArtifactStore
) -> None:
    with pytest.raises(CompilerLostError, match=r"exit code 3 .*-m profiler.compile_worker"):
        build_kernels(dense(EXIT), TARGET, artifacts)
    assert compiler.asked == {EXIT: 1}


def test_a_compiler_that_cannot_be_imported_is_lost(
    compiler: FakeCompiler, artifacts: ArtifactStore
) -> None:
    compiler.break_import()
    with pytest.raises(CompilerLostError, match=r"exit code 7 .*-m profiler.compile_worker"):
        build_kernels(dense(8, 16), TARGET, artifacts)
    assert not compiler.asked


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pids: Iterable[int]) -> None:
    for _ in range(1000):
        if not any(map(is_alive, pids)):
            return
        time.sleep(0.01)
    pytest.fail("compiler processes live on")


def test_compilers_stay_from_build_to_build_and_end_together(
    compiler: FakeCompiler, artifacts: ArtifactStore
) -> None:
    with Compilers() as compilers:
        build_kernels(dense(*range(1, 9)), TARGET, artifacts, compilers=compilers)
        pids = compiler.pids
        build_kernels(dense(SEGFAULT), TARGET, artifacts, compilers=compilers)
        build_kernels(dense(9, 10), TARGET, artifacts, compilers=compilers)
        assert compiler.n_starts == 1
        assert any(map(is_alive, pids))
    wait_for_end(compiler.pids)
    with pytest.raises(CompilerLostError, match="ended"):
        build_kernels(dense(11), TARGET, artifacts, compilers=compilers)


@pytest.mark.usefixtures("compiler")
def test_compilers_end_with_their_host() -> None:
    host = (
        "import os, sys\n"
        "from profiler.compilers import Compilers\n"
        f"sys.executable = {sys.executable!r}\n"
        "compilers = Compilers()\n"
        "compilers.start()\n"
        "print('started', flush=True)\n"
        "sys.stdin.read()\n"
    )
    python = Path(sys.executable).read_text().split()[2]
    process = subprocess.Popen(
        [python, "-c", host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    process.kill()
    process.communicate()
    wait_for_end(map(int, children))


def test_compilers_keep_off_cores_while_they_are_asked_to(
    compiler: FakeCompiler, artifacts: ArtifactStore
) -> None:
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    with Compilers() as compilers:
        build_kernels(dense(8), TARGET, artifacts, compilers=compilers)
        (pid,) = compiler.pids
        with compilers.keep_off([core]):
            assert os.sched_getaffinity(pid) == (allowed - {core} or allowed)
        assert os.sched_getaffinity(pid) == allowed


def test_a_full_disk_names_the_folder(
    compiler: FakeCompiler, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(artifacts.folder)._replace(free=5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactSpaceError) as caught:
        build_kernels(dense(*range(1, 41)), TARGET, artifacts)
    assert f"no space left in {artifacts.folder}" in str(caught.value)
    assert compiler.asked.total() <= 2 * (os.cpu_count() or 1)
    monkeypatch.undo()
    assert all(path.is_dir() for path in artifacts.folder.rglob("*"))


def test_objects_stand_under_their_own_symbols(
    compiler: FakeCompiler, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    kernels = [k for k in build_kernels(dense(8, 16), TARGET, artifacts) if isinstance(k, Kernel)]
    assert compiler.n_starts == 1
    files = object_files(kernels, artifacts, tmp_path / "objects")
    assert list(files) == [kernel.name for kernel in kernels]
    for kernel in kernels:
        assert kernel.name == f"k_{kernel.object_digest[:16]}"
        text = files[kernel.name].read_text()
        assert text == f"{kernel.operator.key} {kernel.name}"


def test_a_damaged_object_is_told_and_compiled_anew(
    compiler: FakeCompiler, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    (kernel,) = build_kernels(dense(8), TARGET, artifacts)
    assert isinstance(kernel, Kernel)
    place = artifacts.path(kernel.object_digest)
    assert place is not None
    place.chmod(0o644)
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(BuildCacheError, match=f"{kernel.object_digest} .* missing or damaged"):
        object_files([kernel], artifacts, tmp_path / "objects")
    assert build_kernels(dense(8), TARGET, artifacts) == (kernel,)
    assert compiler.asked == {8: 2}
    assert list(object_files([kernel], artifacts, tmp_path / "objects")) == [kernel.name]


REAL = Operator("dense", (1, 1, 1, 8), 8, epilogue=("bias", "swish"))


def test_tvm_makes_the_same_code_in_another_process_and_goes_on_after_a_bad_schedule(
    host_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (REAL, default_schedule(REAL, host_target))
    bad = (
        (REAL, Schedule("no_such_rule", GEMM.parameters)),
        (REAL, Schedule("gemm", (("rows", 1), ("vectors", 2)))),  # a parameter is missing
    )
    found = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        artifacts = ArtifactStore(tmp_path / seed)
        *failures, kernel = build_kernels([*bad, good], host_target, artifacts)
        assert all(isinstance(failure, BuildFailure) for failure in failures)
        assert "no_such_rule" in failures[0].detail
        assert "lanes" in failures[1].detail
        assert isinstance(kernel, Kernel)
        found.append(kernel)
    assert found[0] == found[1]


def test_a_kernel_does_not_look_at_its_arguments_at_every_call(
    host_target: Target, artifacts: ArtifactStore
) -> None:
    """TVM's checks of shapes and types end in a message that begins so."""
    (kernel,) = build_kernels([(REAL, default_schedule(REAL, host_target))], host_target, artifacts)
    assert isinstance(kernel, Kernel)
    code = artifacts.get(kernel.object_digest)
    assert code is not None
    assert b"Mismatched" not in code


def test_a_compiler_starts_without_torch(host_target: Target, artifacts: ArtifactStore) -> None:
    with Compilers() as compilers:
        request = [(REAL, default_schedule(REAL, host_target))]
        build_kernels(request, host_target, artifacts, compilers=compilers)
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in compilers.pids]
    assert all("libtvm" in text for text in maps)
    assert not any("libtorch" in text for text in maps)
