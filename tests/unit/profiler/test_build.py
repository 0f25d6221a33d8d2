"""Builds with TVM, and with a compiler process that plays a part."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from profiler import build
from profiler.artifacts import ArtifactSpaceError, ArtifactStore
from profiler.build import (
    BuildCacheError,
    BuildFailure,
    CompilerLostError,
    Kernel,
    build_kernels,
    object_files,
)
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.space import default_schedule
from profiler.target import Target

TARGET = Target("x86_64-linux-gnu", "x86-64")
GEMM = Schedule("gemm", (("rows", 1), ("vectors", 2), ("lanes", 4), ("panels_outer", 1)))

#: Answers with the operator's key as object code; the operator's output channels tell it to fail.
WORKER = """
import json, os, signal, sys
with open(sys.argv[1], "a") as log:
    log.write("start\\n")
for line in sys.stdin:
    request = json.loads(line)
    n_channels = int(request["operator"].split(":o")[1].split(":")[0])
    with open(sys.argv[1], "a") as log:
        log.write(f"{n_channels}\\n")
    if n_channels == 901:
        os.kill(os.getpid(), signal.SIGSEGV)
    if n_channels == 902:
        os.kill(os.getpid(), signal.SIGABRT)
    if n_channels == 903:
        sys.exit(3)
    data = (request["operator"] + " k_0000000000000000").encode()
    header = {"n_bytes": len(data)}
    if n_channels == 904:
        header, data = {"error": "no such rule"}, b""
    sent = json.dumps(header).encode() + b"\\n" + data
    if n_channels in (905, 906):
        sent = sent[:5] if n_channels == 906 else sent[:-5]
    sys.stdout.buffer.write(sent)
    sys.stdout.flush()
    if n_channels in (905, 906):
        sys.exit(0)
"""
SEGFAULT, ABORT, EXIT, REFUSE, CUT, CUT_HEADER = range(901, 907)


@dataclass
class FakeCompiler:
    """What was asked of the processes that took the compiler's place."""

    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    @property
    def n_starts(self) -> int:
        return self.lines().count("start")

    @property
    def asked(self) -> Counter[int]:
        return Counter(int(line) for line in self.lines() if line != "start")


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    worker, program, log = tmp_path / "worker.py", tmp_path / "python", tmp_path / "log"
    worker.write_text(WORKER)
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -S {worker} {log}\n")
    program.chmod(0o755)
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
    assert 1 <= compiler.n_starts <= 3
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
        build_kernels(dense(EXIT, 8), TARGET, artifacts)
    assert compiler.asked == {EXIT: 1}


def test_a_full_disk_names_the_folder(
    compiler: FakeCompiler, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(artifacts.folder)._replace(free=5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactSpaceError) as caught:
        build_kernels(dense(8, 16), TARGET, artifacts)
    assert f"no space left in {artifacts.folder}" in str(caught.value)
    assert compiler.asked == {8: 1}
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
