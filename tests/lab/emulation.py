"""Processors that qemu plays: programs for them start as if they were this machine's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .board import command

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_LAB = Path(__file__).parents[2] / ".lab"


@dataclass(frozen=True)
class Processor:
    """A foreign processor.

    Attributes:
        machine: As `uname -m` prints it.
        qemu: The emulator.
        debian: Debian's name of the architecture.
        triple: What code for it is generated for.
        elf: Class and machine in the header of its programs.
    """

    machine: str
    qemu: str
    debian: str
    triple: str
    elf: tuple[int, int]

    @property
    def busybox(self) -> Path:
        """A userland for it."""
        return _LAB / f"busybox-{self.debian}"


PROCESSORS = {
    "aarch64": Processor("aarch64", "qemu-aarch64-static", "arm64", "aarch64-linux-gnu", (2, 183)),
    "armv7": Processor("armv7l", "qemu-arm-static", "armhf", "armv7l-linux-gnueabihf", (1, 40)),
    "riscv64": Processor(
        "riscv64", "qemu-riscv64-static", "riscv64", "riscv64-linux-gnu", (2, 243)
    ),
}


@contextmanager
def emulated(processor: Processor) -> Iterator[None]:
    """Have the system start the processor's programs under qemu, in any root folder."""
    if not (_BINFMT / "register").exists():
        command("mount", "-t", "binfmt_misc", "none", _BINFMT)
    for rule in _BINFMT.glob("latloop-*"):  # of a test run that was killed
        if not Path(f"/proc/{rule.name.split('-')[1]}").exists():
            rule.write_text("-1", encoding="ascii")
    name = f"latloop-{os.getpid()}-{processor.machine}"
    bits, machine = processor.elf
    magic = (
        b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little")
    )
    mask = b"\xff" * 7 + b"\x00" * 9 + b"\xfe\xff\xff\xff"
    escaped = ["".join(f"\\x{byte:02x}" for byte in part) for part in (magic, mask)]
    qemu = shutil.which(processor.qemu)
    assert qemu, f"{processor.qemu} is missing; run tests/lab/install.sh"
    # F: the emulator is opened now, so that it need not lie in the board's root folder.
    # P: programs keep their first argument, by which busybox knows what it is to be.
    registration = f":{name}:M::{escaped[0]}:{escaped[1]}:{qemu}:PF"
    (_BINFMT / "register").write_text(registration, encoding="ascii")
    try:
        yield
    finally:
        (_BINFMT / name).write_text("-1", encoding="ascii")
