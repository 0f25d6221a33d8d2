from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.device import Fill, KernelCall, Tensor, Workload
from devices.fill import uniform
from devices.local import LocalDevice
from profiler import link
from profiler.link import ZIG_TARGETS, LinkError, NoDiskSpaceError, link_executable, link_library
from profiler.target import Target
from tests.unit.devices.kernels import compile_object

KERNEL = """
#include "tvm_abi.h"
int __tvm_ffi_{name}(void *self, const TVMFFIAny *args, int32_t n, TVMFFIAny *result) {{
  DLTensor *in = args[0].v_ptr, *out = args[1].v_ptr;
  for (int i = 0; i < in->shape[0]; i++) ((float *)out->data)[i] = {value};
  return 0;
}}
"""
HOST = Target(next(t for t in ZIG_TARGETS if t.startswith(platform.machine())), "generic")
#: ELF's e_machine.
MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40, "riscv64": 243}


def make_object(
    folder: Path, build_cache: Path, name: str, value: str = "1", target: Target = HOST
) -> Path:
    source = folder / f"{name}.c"
    source.write_text(KERNEL.format(name=name, value=value))
    compile_object(source, source.with_suffix(".o"), target, build_cache)
    return source.with_suffix(".o")


def run(executable: Path, kernel: str) -> np.ndarray:
    tensors = (Tensor("arena", 0, (8,), Fill(1, 1.0)), Tensor("arena", 64, (8,)))
    workload = Workload(tensors, (KernelCall(kernel, (0, 1)),), 128, 0)
    with LocalDevice().start(executable) as runner:
        result = runner.run(workload, {}, (1,), 10_000)
    assert isinstance(result, dict), result
    return result[1]


def test_each_kernel_is_called_by_its_name(build_cache: Path, tmp_path: Path) -> None:
    kernels = {
        name: make_object(tmp_path, build_cache, name, f"{value} + ((float *)in->data)[i]")
        for name, value in (("k1", 10), ("k2", 20))
    }
    executable = link_executable(kernels, HOST, build_cache)
    for name, value in (("k1", 10), ("k2", 20)):
        expected = np.float32(value) + uniform(1, 1.0, (8,))
        np.testing.assert_array_equal(run(executable, name), expected)


def test_a_few_hundred_objects_under_long_paths_are_linked(
    build_cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / ("a #folder 'with' \"spaces\" " + "x" * 150)
    folder.mkdir()
    first = make_object(tmp_path, build_cache, "k000").read_bytes()
    kernels = {f"k{i:03}": folder / f"{i:03}.o" for i in range(300)}
    for name, path in kernels.items():
        # Names of one length: they can be exchanged in the object.
        path.write_bytes(first.replace(b"k000", name.encode()))
    executable = link_executable(kernels, HOST, build_cache)
    np.testing.assert_array_equal(run(executable, "k299"), np.ones(8))


def test_the_same_contents_are_linked_once_and_other_contents_again(
    build_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_object(tmp_path, build_cache, "k", "3")
    first = link_executable({"k": kernel}, HOST, build_cache)
    other = make_object(tmp_path, build_cache, "k", "4")
    assert link_executable({"k": other}, HOST, build_cache) != first
    again = make_object(tmp_path, build_cache, "k", "3")
    moved = again.rename(tmp_path / "moved.o")
    monkeypatch.setattr(link, "_run_zig", lambda *_: pytest.fail("linked again"))
    assert link_executable({"k": moved}, HOST, build_cache) == first


def test_a_missing_function_is_a_link_error_with_its_name(
    build_cache: Path, tmp_path: Path
) -> None:
    kernel = make_object(tmp_path, build_cache, "present")
    with pytest.raises(LinkError, match="__tvm_ffi_absent"):
        link_executable({"absent": kernel}, HOST, build_cache)
    assert not list((build_cache / "executables").glob(".new-*"))


def test_bytes_that_are_no_object_are_a_link_error(build_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "k.o"
    path.write_bytes(b"not an object")
    with pytest.raises(LinkError, match="zig failed for"):
        link_executable({"k": path}, HOST, build_cache)


@pytest.mark.parametrize("name", ["", "a-b", 'a", 0}, {"b', "ä"])
def test_a_name_that_is_no_identifier_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and _"):
        link_executable({name: tmp_path}, HOST, tmp_path)


def test_an_unknown_target_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of x86_64-linux-gnu, .*got 'sparc-linux-gnu'"):
        link_executable({}, Target("sparc-linux-gnu", "v9"), tmp_path)


def fake_zig(folder: Path, script: str) -> Path:
    """A python that plays `python -m ziglang`."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_full_disk_is_reported_with_folder_and_free_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zig = fake_zig(tmp_path, "echo 'error: unable to write: NoSpaceLeft' >&2; exit 1")
    monkeypatch.setattr("sys.executable", str(zig))
    with pytest.raises(NoDiskSpaceError, match=r"\d+ bytes are free") as caught:
        link_executable({}, HOST, tmp_path / "cache")
    assert caught.value.filename == str(tmp_path / "cache")
    assert isinstance(caught.value, OSError)


def test_a_full_disk_seen_by_python_is_reported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(link, "_compile_runner", fail)
    with pytest.raises(NoDiskSpaceError, match="no disk space for the build cache"):
        link_executable({}, HOST, tmp_path / "cache")


@pytest.mark.parametrize("form", [link._EXECUTABLE, link._LIBRARY], ids=["alone", "library"])
@pytest.mark.parametrize("triple", ZIG_TARGETS)
def test_the_runner_compiles_for_every_target(
    build_cache: Path, tmp_path: Path, triple: str, form: link._Form
) -> None:
    # Without the link, which builds the target's libc for a minute or two the first time.
    strict = replace(form, compile_flags=(*form.compile_flags, "-Wpedantic", "-Werror"))
    (tmp_path / "zig").symlink_to(build_cache / "zig")
    runner = link._compile_runner(strict, form.zig_targets[triple], tmp_path)
    header = runner.read_bytes()[:20]
    assert header.startswith(b"\x7fELF")
    assert struct.unpack("<H", header[18:20])[0] == MACHINES[triple.partition("-")[0]]


def test_a_library_shows_its_entries_alone(build_cache: Path) -> None:
    """A process that loads it has functions of the same names, which kernels must not reach."""
    library = ctypes.CDLL(str(link_library({}, HOST, build_cache)))
    for name in ("start", "exchange", "end"):
        assert getattr(library, f"__tvm_ffi_latloop_{name}")
    for name in ("runner_main", "TVMFFIFunctionCall", "__TVMBackendAllocWorkspace"):
        with pytest.raises(AttributeError):
            getattr(library, name)
