"""What a person says on the command line in place of what enroll would find: `--set key=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from devices.errors import InventoryError
from devices.inventory_rules import (
    BOARD_RULES,
    DEVICE_RULES,
    TARGET_RULES,
    Rules,
    parse_value,
)

_TABLES: Final[Mapping[str, Rules]] = {"board": BOARD_RULES, "target": TARGET_RULES}
#: These are said by the address and its options, or follow from it.
_OF_THE_ADDRESS: Final = ("transport", "host", "user", "port", "jump", "key_file")


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """A table of the inventory from texts such as `folder=/data/latloop` and `board.n_cores=4`.

    Lists are divided by commas. The last of several texts for one key counts.

    Raises:
        InventoryError: an unknown key, or a value that its rule refuses.
    """
    table: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name, dot, rest = key.strip().rpartition(".")
        if not equals:
            raise InventoryError(f"--set must be key=value, such as folder=/data, got {text!r}")
        rules = _TABLES.get(name, {}) if dot else DEVICE_RULES
        if rest in _OF_THE_ADDRESS and not dot:
            raise InventoryError(f"--set {rest}: say it in the address, or with --{_option(rest)}")
        if rest not in rules or rest == "clusters":
            raise InventoryError(f"--set unknown key {key.strip()!r}; known keys: {_known_keys()}")
        into = table.setdefault(name, {}) if dot else table
        into[rest] = parse_value("--set", key.strip(), value.strip(), rules[rest])
    return table


def merge(found: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """A table with what a person said in place of what was found, tables inside likewise."""
    merged = dict(found)
    for key, value in said.items():
        is_table = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if is_table else value
    return merged


def _option(key: str) -> str:
    return {"jump": "jump", "key_file": "key-file"}.get(key, "help")


def _known_keys() -> str:
    plain = [key for key in DEVICE_RULES if key not in _OF_THE_ADDRESS]
    inner = [f"{name}.{key}" for name, rules in _TABLES.items() for key in rules]
    return ", ".join([*plain, *(key for key in inner if key != "board.clusters")])
