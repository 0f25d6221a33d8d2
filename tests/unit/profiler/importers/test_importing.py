"""Imports in a process of their own: once for each content, and never a traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from profiler.artifacts import ArtifactStore
from profiler.importers.content import importer_version, onnx_content
from profiler.importers.errors import (
    DynamicShapeError,
    ImportCrashedError,
    ModelImportError,
    UnreadableModelError,
)
from profiler.importers.importing import import_onnx_once, import_torch_now

SHAPES = {"x": (2, 3)}


def write_model(path: Path, weight: float = 1.5, *, external: bool = False) -> Path:
    """`y` is the softmax of `x` times a matrix; the batch is open."""
    matrix = (np.eye(3, 5) * weight).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Softmax", ["h"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    if external:
        convert_model_to_external_data(model, location=f"{path.stem}.bin", size_threshold=0)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_a_content_is_imported_once_whatever_its_folder(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "net.onnx")
    steps: list[tuple[int, int]] = []
    kept = import_onnx_once(path, SHAPES, 0, store, lambda n, m: steps.append((n, m)))
    assert steps == [(0, 1), (1, 1)]
    assert kept.network.name.startswith("net.onnx:")
    assert kept.shapes == {"x": (2, 3), "y": (2, 5)}
    assert [op.kind for op in kept.network.operators] == ["dense", "generic"]
    (body,) = (op.body for op in kept.network.operators if op.body is not None)
    assert body.traits is not None
    assert body.traits.n_transcendentals >= 10  # an exponential for each of 2x5
    assert body.traits.n_terms == 5
    assert kept.plain_model is not None
    onnx.checker.check_model(str(kept.plain_model))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = import_onnx_once(shutil.copy(path, elsewhere / "net.onnx"), SHAPES, 0, store)
    assert again == kept


def test_what_decides_an_import_decides_its_content(tmp_path: Path) -> None:
    path = write_model(tmp_path / "net.onnx")
    content = onnx_content(path, SHAPES, 0)
    assert onnx_content(shutil.copy(path, tmp_path / "other.onnx"), SHAPES, 0) == content
    assert onnx_content(path, {"x": (1, 3)}, 0) != content
    assert onnx_content(path, SHAPES, 1) != content
    assert onnx_content(write_model(path, 1.25), SHAPES, 0) != content


def test_weights_beside_a_file_belong_to_its_content(tmp_path: Path) -> None:
    path = write_model(tmp_path / "net.onnx", external=True)
    content = onnx_content(path, SHAPES, 0)
    (tmp_path / "net.bin").write_bytes(b"\0" * (tmp_path / "net.bin").stat().st_size)
    assert onnx_content(path, SHAPES, 0) != content
    (tmp_path / "net.bin").unlink()
    with pytest.raises(UnreadableModelError, match=r"cannot read .*net\.bin: No such file"):
        onnx_content(path, SHAPES, 0)


def test_the_importers_version_is_one_for_a_process() -> None:
    assert len(importer_version()) == 16
    assert importer_version() == importer_version()


def test_an_error_of_the_import_comes_back_as_it_was(store: ArtifactStore, tmp_path: Path) -> None:
    path = write_model(tmp_path / "net.onnx")
    with pytest.raises(DynamicShapeError, match=r"x \(batchx3\)"):
        import_onnx_once(path, {}, 0, store)
    with pytest.raises(ModelImportError, match=r"--shape names 'image'.*inputs are 'x'"):
        import_onnx_once(path, {"image": (1, 3)}, 0, store)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -SEGV $$", r"crashed \(signal SIGSEGV\)"),
        ("echo half of an answ; kill -ABRT $$", r"crashed \(signal SIGABRT\)"),
        ("echo 'no memory' >&2; exit 3", r"crashed \(exit code 3: no memory\)"),
    ],
)
def test_a_crash_of_the_compiler_is_an_error_with_its_last_words(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    path = write_model(tmp_path / "net.onnx")
    with pytest.raises(ImportCrashedError, match=said):
        import_onnx_once(path, SHAPES, 0, store)


def test_an_interrupt_ends_the_import_too(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho $$ > {pid_file}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    def interrupted(self: subprocess.Popen[str], *_: object, **__: object) -> None:
        while not (pid_file.exists() and pid_file.read_text().strip()):
            self.poll()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_onnx_once(write_model(tmp_path / "net.onnx"), SHAPES, 0, store)
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()


def test_a_killed_command_takes_its_import_along(store: ArtifactStore, tmp_path: Path) -> None:
    path = write_model(tmp_path / "net.onnx")
    code = (
        "from pathlib import Path\n"
        "from profiler.artifacts import ArtifactStore\n"
        "from profiler.importers.importing import import_onnx_once\n"
        f"store = ArtifactStore(Path({str(store.folder)!r}))\n"
        f"import_onnx_once(Path({str(path)!r}), {SHAPES}, 0, store)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    while not (worker := children.read_text().strip()):
        assert command.poll() is None
    status = Path(f"/proc/{worker}/stat")
    while b"import_worker" not in Path(f"/proc/{worker}/cmdline").read_bytes():
        assert command.poll() is None
    command.kill()
    command.wait()
    deadline_s = time.monotonic() + 10
    while status.exists() and status.read_text().rpartition(") ")[2][0] != "Z":
        assert time.monotonic() < deadline_s, "the import outlives its command"
    found = [path for path in (store.folder / "keys").rglob("*") if path.is_file()]
    assert found == []


def test_a_function_that_fails_is_quoted(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_nets.py").write_text("def make():\n    raise KeyError('no weights')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelImportError, match="my_nets:make failed with KeyError: 'no weights'"):
        import_torch_now("my_nets:make", 0, store)


def test_who_finds_a_kept_model_waits_for_neither_tvm_nor_torch() -> None:
    code = "import sys, profiler.importers.importing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"onnx", "numpy"} <= set(done.stdout.split())
    assert not {"tvm", "torch", "scipy"} & set(done.stdout.split())
