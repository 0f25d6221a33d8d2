"""Puts one device into an inventory file; all else in the file stays as a person wrote it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from devices.errors import InventoryError
from devices.inventory import Inventory, parse_inventory


@contextmanager
def staged_entry(path: Path, name: str, table: Mapping[str, Any]) -> Iterator[None]:
    """Write a device's table when the body ends well, and nothing when it does not.

    The file is replaced as a whole, so that an interrupt leaves the old or the new one. Two
    commands that write at once wait for each other.

    Args:
        path: The inventory, made when it is missing.
        name: The device; a table that it has is replaced.
        table: Texts, numbers, lists, and tables of them.

    Raises:
        InventoryError: the file is wrong, cannot be written, or would be wrong with the table.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            staged = _stage(path, name, table)
            try:
                yield
                staged.replace(path)
            finally:
                staged.unlink(missing_ok=True)
    except OSError as error:
        raise InventoryError(f"cannot write {path}: {error}") from error


def _stage(path: Path, name: str, table: Mapping[str, Any]) -> Path:
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before = parse_inventory(old, path)
    new = _with_table(old, name, table, path)
    after = parse_inventory(new, path)
    if _others(before, name) != _others(after, name):
        raise InventoryError(
            f"{path} cannot be changed without changing other devices; write [device.{name}] and "
            "its tables in one place, next to each other"
        )
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(new)
        file.flush()
        os.fsync(handle)
    return Path(staged)


def _with_table(text: str, name: str, table: Mapping[str, Any], path: Path) -> str:
    try:
        document = tomlkit.parse(text)
        devices = document.setdefault("device", tomlkit.table(is_super_table=True))
        if name in devices:
            del devices[name]
        devices[name] = tomlkit.item(dict(table))
        return tomlkit.dumps(document)
    except TOMLKitError as error:
        raise InventoryError(f"cannot change {path}: {error}") from error


def _others(inventory: Inventory, name: str) -> list[object]:
    return [entry for entry in inventory.entries if entry.name != name]
