"""Which board this is and what runs on it, read from /proc and /sys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from devices.board import Board, Fingerprint, Runtime
from devices.cpuinfo import Fields, cpu_model, field_values, read_fields
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
#: (class, machine) of ELF headers, as `uname -m` calls what executes them.
_ELF_ARCHITECTURES: Final[Mapping[tuple[int, int], str]] = MappingProxyType(
    {
        (2, 62): "x86_64",
        (1, 3): "i686",
        (2, 183): "aarch64",
        (1, 40): "armv7l",
        (2, 243): "riscv64",
        (1, 243): "riscv32",
    }
)


def read_architecture(root: Path) -> str:
    """What executables of a board are made for, from a snapshot of it.

    `uname -m` tells of the kernel. A 32-bit system on a 64-bit kernel may lack all that 64-bit
    programs need, so the ELF header of its shell decides. "" where neither tells.
    """
    machine = read_text(root, "board/machine")
    shell = root / "board/shell"
    header = shell.read_bytes() if shell.is_file() else b""
    if len(header) < 20 or not header.startswith(b"\x7fELF") or header[5] != 1:  # little endian
        return machine
    userland = _ELF_ARCHITECTURES.get((header[4], int.from_bytes(header[18:20], "little")))
    # Their programs are armv7's in the header, and lack half of its registers and NEON.
    is_older_arm = userland == "armv7l" and machine.startswith(("armv5", "armv6"))
    return machine if userland is None or is_older_arm else userland


def read_board(root: Path, architecture: str, core: int = 0) -> Board:
    """Read the hardware alone.

    Args:
        root: Where `proc` and `sys` are found, `/` for this machine.
        architecture: As `uname -m` prints it, which no file holds.
        core: The core whose caches count.
    """
    fields = read_fields(root, "proc/cpuinfo")
    cores = parse_cores(read_text(root, f"{_CPU}/present"))
    n_listed = sum(name == "processor" for name, _ in fields)
    return Board(
        architecture=architecture,
        cpu_model=cpu_model(fields),
        cpu_features=_cpu_features(fields),
        n_cores=len(cores) or n_listed or 1,
        memory_bytes=_memory_bytes(root),
        l1_bytes=_cache_bytes(root, core, level=1),
        l2_bytes=_cache_bytes(root, core, level=2),
        l3_bytes=_cache_bytes(root, core, level=3),
        max_clock_mhz=_max_clock_mhz(root),
        serial=_serial(root, fields),
    )


def read_runtime(
    root: Path,
    threads: int,
    versions: Iterable[tuple[str, str]],
    name: str = "latloop",
    core: int = 0,
) -> Runtime:
    """Read what runs on the board.

    Args:
        root: Where `proc`, `sys` and `etc` are found.
        threads: Threads that a kernel may use.
        versions: What the caller alone knows, such as the compiler's version; the runner
            protocol's is added.
        name: The kind of runtime.
        core: The core whose governor counts.
    """
    return Runtime(
        name=name,
        threads=threads,
        versions=tuple(sorted({*versions, ("runner_protocol", str(PROTOCOL_VERSION))})),
        kernel_release=read_text(root, "proc/sys/kernel/osrelease"),
        os_image=read_os_image(root),
        governor=read_text(root, f"{_CPU}/cpu{core}/cpufreq/scaling_governor"),
    )


def read_fingerprint(
    root: Path,
    architecture: str,
    threads: int,
    versions: Iterable[tuple[str, str]] = (),
    runtime: str = "latloop",
    core: int = 0,
) -> Fingerprint:
    """Board and runtime together; see `read_board` and `read_runtime`."""
    board = read_board(root, architecture, core)
    return Fingerprint(board, read_runtime(root, threads, versions, runtime, core))


def _cpu_features(fields: Fields) -> tuple[str, ...]:
    shown = field_values(fields, "flags", "Features", "isa")
    words = shown[0].lower().split() if shown else []
    return tuple(sorted({word for word in words if _FEATURE.fullmatch(word)}))


def _memory_bytes(root: Path) -> int:
    total = dict(read_fields(root, "proc/meminfo")).get("MemTotal", "0 kB")
    n_bytes = int(total.split()[0]) * 1024
    return -(-n_bytes // _MEMORY_STEP_BYTES) * _MEMORY_STEP_BYTES


def _cache_bytes(root: Path, core: int, level: int) -> int:
    for folder in find_paths(root, f"{_CPU}/cpu{core}/cache/index*"):
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
    return shown or next(iter(field_values(fields, "Serial")), "")


def read_os_image(root: Path) -> str:
    """The operating system's name and version; "" where it has none."""
    for line in read_text(root, "etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return ""
