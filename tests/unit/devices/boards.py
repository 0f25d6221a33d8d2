"""Boards as their files describe them: facts of well-known ones, in the kernel's words."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

CPU = "sys/devices/system/cpu"


def make(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def elf_header(bits: int, machine: int) -> bytes:
    """The first 20 bytes of a little-endian executable."""
    magic = bytes([0x7F, *b"ELF", bits // 32, 1, 1, 0]) + bytes(8)
    return magic + struct.pack("<HH", 2, machine)


def _arm_core(number: int, part: str, features: str) -> str:
    return (
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {part}\nCPU revision\t: 3\n\n"
    )


def _cpufreq(core: int, max_khz: int, governor: str = "ondemand") -> dict[str, str]:
    folder = f"{CPU}/cpu{core}/cpufreq"
    return {
        f"{folder}/cpuinfo_max_freq": f"{max_khz}\n",
        f"{folder}/scaling_max_freq": f"{max_khz}\n",
        f"{folder}/scaling_governor": f"{governor}\n",
        f"{folder}/scaling_available_governors": "conservative ondemand performance \n",
    }


V8 = "fp asimd evtstrm crc32 cpuid"
#: Four Cortex-A72 under a 64-bit system.
RPI4: dict[str, str | bytes] = {
    "board/machine": "aarch64\n",
    "board/shell": elf_header(64, 183),
    "proc/cpuinfo": "".join(_arm_core(core, "0xd08", V8) for core in range(4))
    + "Revision\t: c03115\nSerial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 4 Model B\n",
    "proc/meminfo": "MemTotal:        3884384 kB\nMemFree:         3000000 kB\n",
    "proc/device-tree/serial-number": b"10000000abcdef01\0",
    "proc/self/status": "Name:\thead\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n",
    f"{CPU}/present": "0-3\n",
    f"{CPU}/online": "0-3\n",
    f"{CPU}/isolated": "\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48200\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    **{path: text for core in range(4) for path, text in _cpufreq(core, 1800000).items()},
}
#: The same board under a 32-bit system, whose kernel is a 64-bit one.
RPI4_32: dict[str, str | bytes] = {**RPI4, "board/shell": elf_header(32, 40)}
#: Four Cortex-A55 and four Cortex-A76, whose capacities the kernel tells.
BIG_LITTLE: dict[str, str | bytes] = {
    "board/machine": "aarch64\n",
    "board/shell": elf_header(64, 183),
    "proc/cpuinfo": "".join(
        _arm_core(core, "0xd05" if core < 4 else "0xd0b", f"{V8} atomics asimddp")
        for core in range(8)
    ),
    "proc/meminfo": "MemTotal:       16000000 kB\n",
    "proc/self/status": "Cpus_allowed_list:\t0-7\n",
    f"{CPU}/present": "0-7\n",
    f"{CPU}/online": "0-7\n",
    **{f"{CPU}/cpu{core}/cpu_capacity": "414\n" if core < 4 else "1024\n" for core in range(8)},
    **{
        path: text
        for core in range(8)
        for path, text in _cpufreq(core, 1800000 if core < 4 else 2256000).items()
    },
    **{
        f"{CPU}/cpu{core}/cache/index{level}/{name}": f"{value}\n"
        for core in range(8)
        for level, size in ((0, "32K" if core < 4 else "64K"), (2, "128K" if core < 4 else "512K"))
        for name, value in (
            ("type", "Data" if level == 0 else "Unified"),
            ("level", 1 if level == 0 else 2),
            ("size", size),
        )
    },
}
#: Four cores without vectors.
RISCV: dict[str, str | bytes] = {
    "board/machine": "riscv64\n",
    "board/shell": elf_header(64, 243),
    "proc/cpuinfo": "".join(
        f"processor\t: {core}\nhart\t\t: {core + 1}\nisa\t\t: rv64imafdc_zicntr_zicsr_zifencei\n"
        "mmu\t\t: sv39\nuarch\t\t: sifive,u74-mc\n\n"
        for core in range(4)
    ),
    "proc/meminfo": "MemTotal:        8130000 kB\n",
    "proc/self/status": "Cpus_allowed_list:\t0-3\n",
    f"{CPU}/present": "0-3\n",
    f"{CPU}/online": "0-3\n",
}
