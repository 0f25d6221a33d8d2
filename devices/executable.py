"""Whether a machine can run an executable, told by the executable's header."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from devices.errors import ExecutableRefusedError

_ELF: Final = b"\x7fELF"
_HEADER_BYTES: Final = 20
_MACHINE_AT: Final = slice(18, 20)
#: ELF's e_machine that runs where `uname -m` prints this; a 64-bit Arm runs 32-bit programs, too.
_ELF_MACHINES: Final = {
    "x86_64": (62,),
    "aarch64": (183, 40),
    "armv7l": (40,),
    "armv8l": (40,),
    "riscv64": (243,),
}


def check_executable(executable: Path, machine: str | None, name: str = "") -> None:
    """Refuse what is no executable of Linux, or not one of this machine.

    Args:
        executable: The file.
        machine: As `uname -m` prints it; None, and what is not known here, takes any processor's.
        name: Of the device, for the message.

    Raises:
        ExecutableRefusedError: it cannot run there.
    """
    board = f"{name}: " if name else ""
    try:
        with executable.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise ExecutableRefusedError(f"{board}cannot read {executable}: {error}") from error
    if len(header) < _HEADER_BYTES or not header.startswith(_ELF):
        raise ExecutableRefusedError(f"{board}{executable} is not an executable of Linux")
    found = int.from_bytes(header[_MACHINE_AT], "little")
    wanted = _ELF_MACHINES.get(machine or "", (found,))
    if found not in wanted:
        raise ExecutableRefusedError(
            f"{board}{executable} is for ELF machine {found}, {machine} is {wanted[0]}; build it "
            "for this device's target"
        )
