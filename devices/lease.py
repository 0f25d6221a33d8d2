"""The lease of a board: who measures there, as the runner on it has written down.

The lock is the board's own (`devices/runner/lease.c`); the record beside it is for people, and for
the generation number, which grows with every session.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from devices.errors import DeviceError, DeviceFullError, LeaseFailedError, LeaseHeldError

_TYPES: Final[Mapping[str, Any]] = {
    "generation": int,
    "holder": str,
    "host": str,
    "pid": int,
    "boot_id": str,
    "acquired": str,
    "expires": str | None,
    "released": str | None,
}


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Who holds a board's lease, or held it last.

    Attributes:
        generation: Number of the session; no two sessions on a board have the same.
        holder, host: Who measures, and from which machine.
        pid: The runner's process on the board.
        boot_id: Of the board, when the lease was taken; "" where the board does not tell.
        acquired: UTC time by the board's clock, in ISO 8601.
        expires: By when the lease ends unless the host is heard again, or None without heartbeats.
            For people to read: clocks jump, so the lock alone decides.
        released: When the session ended by itself, or None: it lives, or was killed.
    """

    generation: int
    holder: str
    host: str
    pid: int
    boot_id: str
    acquired: str
    expires: str | None
    released: str | None

    def __str__(self) -> str:
        until = f" until {self.expires}" if self.expires else ""
        return f"{self.holder} on {self.host} since {self.acquired}{until}"


def read_lease(record: object) -> LeaseRecord | None:
    """A record from the JSON of an answer; None when it is none."""
    if not isinstance(record, dict):
        return None
    values = {name: record.get(name) for name in _TYPES}
    if not all(isinstance(values[name], kind) for name, kind in _TYPES.items()):
        return None
    return LeaseRecord(**cast(dict[str, Any], values))


def parse_lease(text: str) -> LeaseRecord | None:
    """A record from the text of a lease file; None when it holds none."""
    try:
        return read_lease(json.loads(text))
    except ValueError:
        return None


def refusal(answer: Mapping[str, object], name: str) -> DeviceError:
    """Why a runner does not describe itself: it has no lease.

    Args:
        answer: Its answer, with a `failure`.
        name: The device's, or "".
    """
    failure = answer.get("failure")
    said = failure if isinstance(failure, dict) else {"detail": f"not a failure: {failure!r}"}
    detail, board = str(said.get("detail", "")), f"{name}: " if name else ""
    if said.get("reason") == "lease_held":
        lease = read_lease(answer.get("lease"))
        holder = f"{lease} measures there" if lease else detail
        advice = f"wait, or end that session with `latloop device steal {name or 'NAME'}`"
        return LeaseHeldError(f"{board}{holder}; {advice}", lease)
    kind = DeviceFullError if said.get("reason") == "device_full" else LeaseFailedError
    return kind(f"{board}{detail}")


def lease_arguments(file: str, holder: str, host: str, *, steal: bool = False) -> list[str]:
    """What a runner has to be told so that it takes a lease before it answers.

    Args:
        file: On the board; its folder exists.
        holder: Who measures; at most 100 bytes count, here and below.
        host: From which machine.
        steal: End whoever holds the lease now.
    """
    limited = (text.encode()[:100].decode(errors="ignore") for text in (holder, host))
    named = zip(("--holder", "--host"), limited, strict=True)
    arguments = ["--lease", file, *(part for pair in named for part in pair)]
    return [*arguments, "--steal"] if steal else arguments
