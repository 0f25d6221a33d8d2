"""OpenSSH's client configuration, with `Include`, which paramiko leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import paramiko

from devices.errors import InventoryError

_HEADER: Final = re.compile(r"\s*(?:host|match)[\s=]", re.IGNORECASE)
_INCLUDE: Final = re.compile(r"\s*include(?:\s*=\s*|\s+)(.+)", re.IGNORECASE)
_MAX_DEPTH: Final = 16  # as ssh


def read_config(path: Path) -> paramiko.SSHConfig:
    """Read a configuration; a missing one is empty.

    Raises:
        InventoryError: it cannot be read or makes no sense.
    """
    try:
        return paramiko.SSHConfig.from_text("\n".join(_lines(path, path.parent)))
    except (OSError, UnicodeDecodeError, paramiko.SSHException) as error:
        raise InventoryError(f"cannot read {path}: {error}") from error


def _lines(path: Path, folder: Path, depth: int = 0) -> Iterator[str]:
    """Lines of a file, those of included files in place."""
    if depth > _MAX_DEPTH:
        raise InventoryError(f"{path} is included more than {_MAX_DEPTH} levels deep")
    if not path.is_file():
        return
    header = "Host *"
    for line in path.read_text(encoding="utf-8").splitlines():
        include = _INCLUDE.fullmatch(line)
        if include is None:
            header = line if _HEADER.match(line) else header
            yield line
            continue
        for pattern in include[1].split():
            for included in _find(pattern.strip('"'), folder):
                yield from _lines(included, folder, depth + 1)
        # A section that an included file opened ends with that file.
        yield header


def _find(pattern: str, folder: Path) -> list[Path]:
    """Files of a pattern, which is relative to the folder of the user's configuration."""
    where = Path(pattern).expanduser()
    whole = where if where.is_absolute() else folder / where
    return sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))
