from __future__ import annotations

import struct
from pathlib import Path

import pytest

from devices.errors import ExecutableRefusedError
from devices.executable import check_executable

AARCH64, ARM, X86_64 = 183, 40, 62  # e_machine of the ELF specification


def elf(folder: Path, machine: int) -> Path:
    path = folder / f"elf{machine}"
    path.write_bytes(b"\x7fELF" + bytes(14) + struct.pack("<H", machine) + bytes(44))
    return path


@pytest.mark.parametrize(
    ("machine", "taken", "refused"),
    [
        ("x86_64", (X86_64,), (AARCH64, ARM)),
        ("aarch64", (AARCH64, ARM), (X86_64,)),
        ("armv7l", (ARM,), (AARCH64, X86_64)),
        ("unheard-of", (AARCH64, ARM, X86_64), ()),
        (None, (AARCH64, ARM, X86_64), ()),
    ],
)
def test_an_executable_runs_on_its_processors_alone(
    tmp_path: Path, machine: str | None, taken: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    for each in taken:
        check_executable(elf(tmp_path, each), machine)
    for each in refused:
        with pytest.raises(ExecutableRefusedError, match=f"pi4: .* ELF machine {each}, {machine}"):
            check_executable(elf(tmp_path, each), machine, "pi4")
