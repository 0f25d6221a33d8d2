"""Which board this is and what runs on it, read from /proc and /sys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from devices.board import Board, Fingerprint, Runtime
from devices.protocol import PROTOCOL_VERSION
from devices.system_files import find_paths, parse_cores, parse_size, read_int, read_text

_MEMORY_STEP_BYTES: Final = 64 << 20
_CPU: Final = "sys/devices/system/cpu"
#: Instruction sets that code generation uses. The others (mitigations, virtualisation) come and go
#: with the version of the Linux kernel, and a board must not change with it.
_FEATURE: Final = re.compile(
    r"(sse|ssse|avx|fma|f16c|bmi|amx|aes$|pclmul|popcnt|movbe|abm|cx16|neon|vfp|asimd|fp|sve|sme(?!p)"
    r"|i8mm|bf16|atomics|crc32|idiv|half|thumb|rv).*"
)
#: (implementer, part) of processors that /proc/cpuinfo does not name.
_ARM_PARTS: Final = {
    ("0x41", "0xc07"): "Cortex-A7",
    ("0x41", "0xc08"): "Cortex-A8",
    ("0x41", "0xc09"): "Cortex-A9",
    ("0x41", "0xc0f"): "Cortex-A15",
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd49"): "Neoverse-N2",
}

Fields = list[tuple[str, str]]


def read_board(root: Path, architecture: str) -> Board:
    """Read the hardware alone.

    Args:
        root: Where `proc` and `sys` are found, `/` for this machine.
        architecture: As `uname -m` prints it, which no file holds.
    """
    fields = _read_fields(root, "proc/cpuinfo")
    cores = parse_cores(read_text(root, f"{_CPU}/present"))
    n_listed = sum(name == "processor" for name, _ in fields)
    return Board(
        architecture=architecture,
        cpu_model=_cpu_model(fields),
        cpu_features=_cpu_features(fields),
        n_cores=len(cores) or n_listed or 1,
        memory_bytes=_memory_bytes(root),
        l1_bytes=_cache_bytes(root, level=1),
        l2_bytes=_cache_bytes(root, level=2),
        l3_bytes=_cache_bytes(root, level=3),
        max_clock_mhz=_max_clock_mhz(root),
        serial=_serial(root, fields),
    )


def read_runtime(
    root: Path, threads: int, versions: Iterable[tuple[str, str]], name: str = "latloop"
) -> Runtime:
    """Read what runs on the board.

    Args:
        root: Where `proc`, `sys` and `etc` are found.
        threads: Threads that a kernel may use.
        versions: What the caller alone knows, such as the compiler's version; the runner
            protocol's is added.
        name: The kind of runtime.
    """
    return Runtime(
        name=name,
        threads=threads,
        versions=tuple(sorted({*versions, ("runner_protocol", str(PROTOCOL_VERSION))})),
        kernel_release=read_text(root, "proc/sys/kernel/osrelease"),
        os_image=_os_image(root),
        governor=read_text(root, f"{_CPU}/cpu0/cpufreq/scaling_governor"),
    )


def read_fingerprint(
    root: Path,
    architecture: str,
    threads: int,
    versions: Iterable[tuple[str, str]] = (),
    runtime: str = "latloop",
) -> Fingerprint:
    """Board and runtime together; see `read_board` and `read_runtime`."""
    board = read_board(root, architecture)
    return Fingerprint(board, read_runtime(root, threads, versions, runtime))


def _read_fields(root: Path, path: str) -> Fields:
    lines = (line.partition(":") for line in read_text(root, path).splitlines())
    return [(name.strip(), value.strip()) for name, colon, value in lines if colon]


def _values(fields: Fields, *names: str) -> list[str]:
    return [value for name, value in fields if name in names]


def _cpu_model(fields: Fields) -> str:
    parts = zip(_values(fields, "CPU implementer"), _values(fields, "CPU part"), strict=False)
    arm_names = {_ARM_PARTS.get(part, f"arm {part[0]}/{part[1]}") for part in parts}
    if arm_names:
        return " + ".join(sorted(arm_names))
    named = _values(fields, "model name", "uarch", "cpu model", "Processor")
    return named[0] if named else "unknown"


def _cpu_features(fields: Fields) -> tuple[str, ...]:
    shown = _values(fields, "flags", "Features", "isa")
    words = shown[0].lower().split() if shown else []
    return tuple(sorted({word for word in words if _FEATURE.fullmatch(word)}))


def _memory_bytes(root: Path) -> int:
    total = dict(_read_fields(root, "proc/meminfo")).get("MemTotal", "0 kB")
    n_bytes = int(total.split()[0]) * 1024
    return -(-n_bytes // _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES


def _cache_bytes(root: Path, level: int) -> int:
    for folder in find_paths(root, f"{_CPU}/cpu0/cache/index*"):
        is_data = read_text(folder, "type") in {"Data", "Unified"}
        if is_data and read_int(folder, "level") == level:
            return parse_size(read_text(folder, "size"))
    return 0


def _max_clock_mhz(root: Path) -> float | None:
    clocks = [
        read_int(path.parent, path.name)
        for path in find_paths(root, f"{_CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    ]
    known_khz = [clock for clock in clocks if clock is not None]
    return max(known_khz) / 1000 if known_khz else None


def _serial(root: Path, fields: Fields) -> str:
    shown = read_text(root, "proc/device-tree/serial-number")
    return shown or next(iter(_values(fields, "Serial")), "")


def _os_image(root: Path) -> str:
    for line in read_text(root, "etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return ""
