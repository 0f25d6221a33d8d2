"""What each key of an inventory may hold, in a file and on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from devices.errors import InventoryError

Kind = Literal[
    "a text", "a whole number", "a number", "a list of texts", "a list of whole numbers",
    "a list of clusters",
]  # fmt: skip
Value = str | int | float | list[str] | list[int]

#: What Latloop generates code for, as `uname -m` prints it.
ARCHITECTURES: Final = ("x86_64", "aarch64", "armv7l", "riscv64")
TRANSPORTS: Final = ("local", "ssh", "rpc")
RUNTIMES: Final = ("latloop", "onnxruntime")


def _anything(_: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """What a key may hold.

    Attributes:
        kind: The type of its values.
        meaning: What holds of them, after "must".
        holds: Whether it does, for a value of that type.
    """

    kind: Kind
    meaning: str = ""
    holds: Callable[..., bool] = _anything


Rules = Mapping[str, Rule]


def _one_of(values: tuple[str, ...]) -> Rule:
    return Rule("a text", f"be one of {', '.join(values)}", lambda value: value in values)


def _at_least(least: int) -> Rule:
    return Rule("a whole number", f"be >= {least}", lambda value: value >= least)


def _like(pattern: str, meaning: str) -> Rule:
    return Rule("a text", meaning, lambda value: re.fullmatch(pattern, value) is not None)


_TEXT: Final = Rule("a text")
_TEXTS: Final = Rule("a list of texts")
_ABSOLUTE: Final = _like(r"/[^\n]*", "be an absolute path on the board")
_CORES: Final = Rule(
    "a list of whole numbers",
    "name each core once, from 0",
    lambda cores: min(cores, default=0) >= 0 and len(set(cores)) == len(cores),
)
_CLOCK: Final = Rule("a number", "be > 0", lambda clock: clock > 0)
_PORT: Final = Rule("a whole number", "be 1 to 65535", lambda port: 0 < port < 1 << 16)
_VECTOR: Final = Rule(
    "a whole number",
    "be 4, 8, 16, 32, 64 or 128",
    lambda n_bytes: n_bytes in {4, 8, 16, 32, 64, 128},
)
_SWITCHES: Final = Rule(
    "a list of texts",
    "be switches such as +neon or -slowfpvfmx",
    lambda switches: all(re.fullmatch(r"[+-][a-z0-9._-]+", switch) for switch in switches),
)

#: `[device.NAME]`.
DEVICE_RULES: Final[Rules] = MappingProxyType(
    {
        "transport": _one_of(TRANSPORTS),
        "runtime": _one_of(RUNTIMES),
        "threads": _at_least(1),
        "core": _at_least(0),
        "notes": _TEXT,
        "host": _like(r"[^-\s@][^\s@]*", "be a name or an address"),
        "user": _like(r"[^-\s@][^\s@]*", "be the name of an account"),
        "port": _PORT,
        "jump": _like(r"\S+", "be hosts such as user@host:port, several with commas"),
        "key_file": _like(r".+", "be the path of a private key"),
        "folder": _like(r"(~?/)[^\n]*", "be an absolute path on the board, or begin with ~/"),
        "launcher": _TEXTS,
        "root": _ABSOLUTE,
        "rpc_port": _PORT,
        "rpc_server": _like(r"[^\n]+", "be one line for the board's shell"),
    }
)
#: Keys of `[device.NAME]` that say something of boards alone.
SSH_KEYS: Final = ("host", "user", "port", "jump", "key_file", "folder", "launcher", "root")
#: Of those with TVM's RPC server alone.
RPC_KEYS: Final = ("rpc_port", "rpc_server")
#: `[device.NAME.board]`.
BOARD_RULES: Final[Rules] = MappingProxyType(
    {
        "architecture": _one_of(ARCHITECTURES),
        "cpu_model": _TEXT,
        "cpu_features": _TEXTS,
        "n_cores": _at_least(1),
        "memory_bytes": _at_least(0),
        "l1_bytes": _at_least(0),
        "l2_bytes": _at_least(0),
        "l3_bytes": _at_least(0),
        "max_clock_mhz": _CLOCK,
        "serial": _TEXT,
        "measuring_cores": _CORES,
        "clusters": Rule("a list of clusters"),
        "governors": _TEXTS,
        "temperature_sensors": _TEXTS,
        "tick_ns": _at_least(1),
        "free_bytes": _at_least(0),
        "enrolled": _TEXT,
    }
)
#: `[device.NAME.target]`; `profiler.target` knows which triples there are.
TARGET_RULES: Final[Rules] = MappingProxyType(
    {
        "triple": _TEXT,
        "cpu": _like(r"[A-Za-z0-9._+-]+", "be LLVM's name of a processor"),
        "features": _SWITCHES,
        "vector_bytes": _VECTOR,
        "n_vector_registers": Rule("a whole number", "be 4 to 128", lambda n: 4 <= n <= 128),
        "l1_bytes": _at_least(1024),
        "l2_bytes": _at_least(1024),
    }
)
#: `[device.NAME.identity]`.
IDENTITY_RULES: Final[Rules] = MappingProxyType(
    {
        "architecture": _TEXT,
        "cpu_model": _TEXT,
        "n_cores": _at_least(1),
        "memory_bytes": _at_least(0),
        "serial": _TEXT,
    }
)
#: An element of `clusters`.
CLUSTER_RULES: Final[Rules] = MappingProxyType(
    {"cpu_model": _TEXT, "cores": _CORES, "max_clock_mhz": _CLOCK}
)
SUBTABLES: Final[Mapping[str, Rules]] = MappingProxyType(
    {"board": BOARD_RULES, "target": TARGET_RULES, "identity": IDENTITY_RULES}
)


def check_table(place: str, table: object, rules: Rules, others: tuple[str, ...] = ()) -> None:
    """Hold a table against its rules.

    Args:
        place: Where it stands, for messages.
        table: Anything that a file may hold there.
        rules: By key.
        others: Further keys that are allowed.

    Raises:
        InventoryError: place, value and rule.
    """
    if not isinstance(table, dict):
        raise InventoryError(f"{place} must be a table, got {table!r}")
    for key, value in table.items():
        if key in others:
            continue
        if key not in rules:
            known = ", ".join(rules)
            raise InventoryError(f"{place} unknown key {key!r}; known keys: {known}")
        check_value(place, key, value, rules[key])


def check_value(place: str, key: str, value: object, rule: Rule) -> None:
    """Hold one value against its rule.

    Raises:
        InventoryError: place, value and rule.
    """
    if not _is_kind(value, rule.kind):
        raise InventoryError(f"{place} {key} must be {rule.kind}, got {value!r}")
    if not rule.holds(value):
        raise InventoryError(f"{place} {key} must {rule.meaning}, got {value!r}")


def parse_value(place: str, key: str, text: str, rule: Rule) -> Value:
    """A value as a person types it; lists are divided by commas.

    Raises:
        InventoryError: place, value and rule.
    """
    value: Value = text
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        if rule.kind == "a whole number":
            value = int(text)
        elif rule.kind == "a number":
            value = float(text)
        elif rule.kind == "a list of whole numbers":
            value = [int(part) for part in parts]
        elif rule.kind == "a list of texts":
            value = parts
    except ValueError:
        pass  # the check below names the rule
    check_value(place, key, value, rule)
    return value


#: What the values of a kind are, by themselves or inside of a list.
_TYPES: Final[Mapping[Kind, tuple[type, ...]]] = MappingProxyType(
    {
        "a text": (str,),
        "a whole number": (int,),
        "a number": (int, float),
        "a list of texts": (str,),
        "a list of whole numbers": (int,),
        "a list of clusters": (dict,),
    }
)


def _is_kind(value: object, kind: Kind) -> bool:
    if not kind.startswith("a list"):
        return isinstance(value, _TYPES[kind]) and not isinstance(value, bool)
    return isinstance(value, list) and all(
        isinstance(each, _TYPES[kind]) and not isinstance(each, bool) for each in value
    )
