"""What /proc/cpuinfo says, on each architecture in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from devices.system_files import read_text

#: (implementer, part) of processors that /proc/cpuinfo does not name.
_ARM_PARTS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
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
)
_NAMES: Final = ("model name", "uarch", "cpu model", "Processor")

#: (name, value) pairs in the order of the file.
Fields = list[tuple[str, str]]


def read_fields(root: Path, path: str) -> Fields:
    """The `name : value` lines of a file."""
    lines = (line.partition(":") for line in read_text(root, path).splitlines())
    return [(name.strip(), value.strip()) for name, colon, value in lines if colon]


def field_values(fields: Fields, *names: str) -> list[str]:
    """Values of the fields of these names, in order."""
    return [value for name, value in fields if name in names]


def cpu_model(fields: Fields) -> str:
    """The processor's name; those of all kinds of its cores, sorted; "unknown"."""
    arm_names = _arm_names(fields)
    if arm_names:
        return " + ".join(sorted(arm_names))
    named = field_values(fields, *_NAMES)
    return named[0] if named else "unknown"


def core_models(fields: Fields) -> dict[int, str]:
    """Each core's name; the processor's where it has none of its own."""
    blocks: dict[int, Fields] = {}
    block: Fields = []
    for name, value in fields:
        if name == "processor" and value.isdigit():
            block = blocks.setdefault(int(value), [])
        else:
            block.append((name, value))
    whole = cpu_model(fields)
    return {
        core: cpu_model(block) if cpu_model(block) != "unknown" else whole
        for core, block in blocks.items()
    }


def _arm_names(fields: Fields) -> set[str]:
    implementers, parts = field_values(fields, "CPU implementer"), field_values(fields, "CPU part")
    pairs = zip(implementers, parts, strict=False)
    return {_ARM_PARTS.get(pair, f"arm {pair[0]}/{pair[1]}") for pair in pairs}
