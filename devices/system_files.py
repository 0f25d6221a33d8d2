"""Facts that Linux shows as small text files, read under a root that tests can make."""

from __future__ import annotations

import re
from pathlib import Path


def read_text(root: Path, path: str) -> str:
    """The stripped text of a file such as `proc/loadavg`; "" where there is none."""
    try:
        text = (root / path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.replace("\0", "").strip()


def read_int(root: Path, path: str) -> int | None:
    """The whole number that a file holds, or None."""
    text = read_text(root, path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def find_paths(root: Path, pattern: str) -> list[Path]:
    """Existing paths that match a glob pattern, sorted."""
    return sorted(root.glob(pattern))


def parse_size(text: str) -> int:
    """Bytes from a text such as `32K` or `8192K`; 0 where it says nothing."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if match is None:
        return 0
    return int(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[match[2]]


def parse_cores(text: str) -> tuple[int, ...]:
    """Core numbers from a list such as `0-3,6`; () where it is none."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return ()
    cores: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return tuple(cores)
