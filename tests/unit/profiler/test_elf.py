"""Edits of real object files, judged by where their code comes to lie."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

import numpy as np
import pytest

from devices.device import KernelCall, Tensor, Workload
from devices.local import LocalDevice
from profiler.elf import align_code, rename
from profiler.link import ZIG_TARGETS, link_executable
from profiler.target import Target
from tests.unit.devices.kernels import compile_object

#: A kernel that says how far it lies above a multiple of 4096; `padding` makes it longer.
KERNEL = """
#include "tvm_abi.h"
int __tvm_ffi_{name}(void *self, const TVMFFIAny *args, int32_t n, TVMFFIAny *result) {{
  float *out = ((DLTensor *)args[0].v_ptr)->data;
  {padding}
  out[0] = (float)((uintptr_t)__tvm_ffi_{name} % 4096);
  return 0;
}}
"""
HOST = Target(next(t for t in ZIG_TARGETS if t.startswith(platform.machine())), "generic")
ARM_32 = Target("armv7l-linux-gnueabihf", "cortex-a7")
NAMES = ("k_0001", "k_0002", "k_0003")


def make_object(folder: Path, build_cache: Path, name: str, target: Target = HOST) -> bytes:
    source = folder / f"{name}.c"
    padding = "out[1] += out[2];" * (7 * int(name[-1]))
    source.write_text(KERNEL.format(name=name, padding=padding))
    compile_object(source, source.with_suffix(".o"), target, build_cache)
    return source.with_suffix(".o").read_bytes()


@pytest.fixture(scope="module")
def objects(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("objects")
    return {name: make_object(folder, build_cache, name) for name in NAMES}


def places(objects: dict[str, bytes], folder: Path, build_cache: Path) -> list[float]:
    """What each kernel says of its place, linked into one executable."""
    files = {}
    for name, data in objects.items():
        files[name] = folder / f"{name}.o"
        files[name].write_bytes(data)
    found = []
    with LocalDevice().start(link_executable(files, HOST, build_cache)) as runner:
        for name in objects:
            workload = Workload((Tensor("arena", 0, (16,)),), (KernelCall(name, (0,)),), 64, 0)
            result = runner.run(workload, {}, (0,), 10_000)
            assert isinstance(result, dict), result
            found.append(float(result[0][0]))
    return found


def test_code_lies_on_the_wanted_boundaries_in_the_executable(
    objects: dict[str, bytes], build_cache: Path, tmp_path: Path
) -> None:
    aligned = {name: align_code(data, 4096) for name, data in objects.items()}
    assert places(aligned, tmp_path, build_cache) == [0, 0, 0]
    # Without the edit they do not, so the check above could have failed.
    assert places(objects, tmp_path, build_cache) != [0, 0, 0]


def test_only_alignments_of_code_are_edited_and_only_upwards(objects: dict[str, bytes]) -> None:
    data = objects["k_0001"]
    edited = align_code(data, 4096)
    assert edited != data
    assert len(edited) == len(data)
    n_changed = sum(a != b for a, b in zip(edited, data, strict=True))
    assert n_changed <= 2 * 4  # two bytes of a number, for the few sections of code there are
    assert align_code(edited, 64) == edited
    assert align_code(edited, 4096) == edited
    assert align_code(data, 1) == data


def test_code_of_a_32_bit_object_is_aligned_too(build_cache: Path, tmp_path: Path) -> None:
    data = align_code(make_object(tmp_path, build_cache, "k_0001", ARM_32), 256)
    # System V ABI, Elf32_Shdr: type at 4, flags at 8, size at 20, addralign at 32.
    (table,) = struct.unpack_from("<I", data, 32)
    entry_size, n_entries = struct.unpack_from("<HH", data, 46)
    sections = [
        np.frombuffer(data, "<u4", 10, table + index * entry_size) for index in range(n_entries)
    ]
    code = [s for s in sections if s[1] == 1 and s[2] & 4 and s[5]]
    others = [s for s in sections if not s[2] & 4]
    assert code
    assert all(section[8] == 256 for section in code)
    assert all(section[8] <= 16 for section in others)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"not an object file at all, though quite as long as the header of one is" * 2,
        b"\x7fELF\x02\x02" + bytes(80),  # big-endian
    ],
)
def test_what_is_no_little_endian_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a little-endian ELF object file: begins with"):
        align_code(data, 64)


def test_a_renamed_kernel_is_called_by_its_new_name(
    objects: dict[str, bytes], build_cache: Path, tmp_path: Path
) -> None:
    renamed = {"k_abcd": rename(objects["k_0001"], "k_0001", "k_abcd")}
    assert len(renamed["k_abcd"]) == len(objects["k_0001"])
    assert b"k_0001" not in renamed["k_abcd"]
    assert len(places(renamed, tmp_path, build_cache)) == 1


def test_a_name_of_another_length_is_refused_with_both(objects: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="equal length, got 'k_0001' and 'k_00001'"):
        rename(objects["k_0001"], "k_0001", "k_00001")


def test_a_name_that_is_not_there_is_refused(objects: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="no symbol 'k_9999' in the object file"):
        rename(objects["k_0001"], "k_9999", "k_0002")
