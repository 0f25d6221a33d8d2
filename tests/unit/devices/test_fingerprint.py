from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import pytest

from devices.fingerprint import read_board, read_fingerprint
from devices.local import LocalDevice
from devices.protocol import PROTOCOL_VERSION

CPU = "sys/devices/system/cpu"
X86 = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Xeon 5\nflags\t\t: fpu avx2 sse2 ibpb fma\n\n"
    "processor\t: 1\nmodel name\t: Xeon 5\nflags\t\t: fpu avx2 sse2 ibpb fma\n",
    "proc/meminfo": "MemTotal:       16300000 kB\nMemFree: 5 kB\n",
    "proc/sys/kernel/osrelease": "6.1.0-13\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\n',
    f"{CPU}/present": "0-1\n",
    f"{CPU}/cpu0/cache/index0/type": "Data\n",
    f"{CPU}/cpu0/cache/index0/level": "1\n",
    f"{CPU}/cpu0/cache/index0/size": "32K\n",
    f"{CPU}/cpu0/cache/index1/type": "Instruction\n",
    f"{CPU}/cpu0/cache/index1/level": "1\n",
    f"{CPU}/cpu0/cache/index1/size": "64K\n",
    f"{CPU}/cpu0/cache/index2/type": "Unified\n",
    f"{CPU}/cpu0/cache/index2/level": "2\n",
    f"{CPU}/cpu0/cache/index2/size": "1M\n",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n",
    f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "3600000\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
}
RPI4 = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"
    "processor\t: 1\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"
    "Hardware\t: BCM2711\nSerial\t\t: 10000000abcd\n",
    "proc/device-tree/serial-number": "10000000abcd\0",
}


def make(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_pc_is_read_as_its_files_say(tmp_path: Path) -> None:
    found = read_fingerprint(make(tmp_path, X86), "x86_64", 1, [("tvm", "0.27"), ("llvm", "20")])
    board, runtime = found.board, found.runtime
    assert (board.architecture, board.cpu_model, board.n_cores) == ("x86_64", "Xeon 5", 2)
    assert board.cpu_features == ("avx2", "fma", "fpu", "sse2")
    assert board.memory_bytes == 249 * 64 * 2**20  # 16300000 KiB are 248.7 times 64 MiB
    assert (board.l1_bytes, board.l2_bytes, board.l3_bytes) == (32 << 10, 1 << 20, 0)
    assert board.max_clock_mhz == 3600
    protocol = ("runner_protocol", str(PROTOCOL_VERSION))
    assert runtime.versions == (("llvm", "20"), protocol, ("tvm", "0.27"))
    assert runtime.kernel_release == "6.1.0-13"
    assert runtime.os_image == "Debian GNU/Linux 12"
    assert runtime.governor == "powersave"


def test_a_raspberry_pi_is_read_as_its_files_say(tmp_path: Path) -> None:
    board = read_board(make(tmp_path, RPI4), "aarch64")
    assert (board.cpu_model, board.n_cores) == ("Cortex-A72", 2)
    assert board.cpu_features == ("asimd", "crc32", "fp")
    assert board.serial == "10000000abcd"
    assert board.max_clock_mhz is None


def test_a_processor_with_two_kinds_of_cores_has_both_names(tmp_path: Path) -> None:
    text = "CPU implementer : 0x41\nCPU part : 0xd09\n\nCPU implementer : 0x41\nCPU part : 0xd03\n"
    board = read_board(make(tmp_path, {"proc/cpuinfo": text}), "aarch64")
    assert board.cpu_model == "Cortex-A53 + Cortex-A73"


def test_a_board_that_tells_nothing_still_has_a_fingerprint(tmp_path: Path) -> None:
    found = read_fingerprint(tmp_path, "riscv64", 1)
    assert found.board.n_cores == 1
    assert len(found.device_id) == 25


RUNTIME_CHANGES = {
    "proc/sys/kernel/osrelease": "6.9.9\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13"\n',
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
}


@pytest.mark.parametrize("path", RUNTIME_CHANGES)
def test_the_board_stays_the_same_when_its_runtime_changes(tmp_path: Path, path: str) -> None:
    before = read_fingerprint(make(tmp_path, X86), "x86_64", 1)
    make(tmp_path, {path: RUNTIME_CHANGES[path]})
    after = read_fingerprint(tmp_path, "x86_64", 1)
    assert before.board.id == after.board.id
    assert before.runtime.id != after.runtime.id


def test_the_board_does_not_change_with_the_flags_that_a_linux_version_adds(
    tmp_path: Path,
) -> None:
    before = read_board(make(tmp_path, X86), "x86_64")
    make(tmp_path, {"proc/cpuinfo": X86["proc/cpuinfo"].replace("ibpb", "its_no smep lam")})
    assert read_board(tmp_path, "x86_64") == before
    make(tmp_path, {"proc/cpuinfo": X86["proc/cpuinfo"].replace("fma", "avx512f")})
    assert read_board(tmp_path, "x86_64") != before


def test_versions_change_the_runtime_alone() -> None:
    a, b = (LocalDevice(versions=(("tvm", v),)).fingerprint() for v in ("1", "2"))
    assert a.board == b.board
    assert a.runtime.id != b.runtime.id


def test_this_machine_has_a_steady_fingerprint() -> None:
    found = LocalDevice().fingerprint()
    assert found == LocalDevice().fingerprint()
    assert found.board.architecture == platform.machine()
    assert found.board.memory_bytes > 0
