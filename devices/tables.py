"""What stands in the tables below a device of the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from devices.board import Board
from devices.clusters import Cluster
from devices.errors import BoardChangedError

#: Memory that a kernel keeps for itself differs from version to version.
_MEMORY_TOLERANCE_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class BoardTable:
    """`[device.NAME.board]`: what enroll learned, or what a person put in its place.

    Attributes:
        architecture, cpu_model, cpu_features, n_cores, memory_bytes, l1_bytes, l2_bytes, l3_bytes,
            max_clock_mhz, serial: As in `devices.board.Board`; None takes what the board says when
            it is opened.
        measuring_cores: In the order in which threads take them.
        clusters: The kinds of its cores, the fastest first.
        governors: Clock governors that it offers.
        temperature_sensors: Their names.
        tick_ns: Smallest step of its clock.
        free_bytes: Free space in its folder when it was enrolled.
        enrolled: When, UTC.
    """

    architecture: str | None = None
    cpu_model: str | None = None
    cpu_features: tuple[str, ...] | None = None
    n_cores: int | None = None
    memory_bytes: int | None = None
    l1_bytes: int | None = None
    l2_bytes: int | None = None
    l3_bytes: int | None = None
    max_clock_mhz: float | None = None
    serial: str | None = None
    measuring_cores: tuple[int, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    governors: tuple[str, ...] = ()
    temperature_sensors: tuple[str, ...] = ()
    tick_ns: int | None = None
    free_bytes: int | None = None
    enrolled: str = ""

    def overlay(self, board: Board) -> Board:
        """The board that was read, with what this table says in its place."""
        said = {f.name: getattr(self, f.name) for f in fields(Board)}
        return replace(board, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True)
class TargetTable:
    """`[device.NAME.target]`: what code is generated for; None takes what follows from the board.

    Attributes:
        triple, cpu, features, vector_bytes, n_vector_registers, l1_bytes, l2_bytes: As in
            `profiler.target.Target`.
    """

    triple: str | None = None
    cpu: str | None = None
    features: tuple[str, ...] | None = None
    vector_bytes: int | None = None
    n_vector_registers: int | None = None
    l1_bytes: int | None = None
    l2_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """`[device.NAME.identity]`: what the board said of itself when it was enrolled.

    It tells this board from another one under its address, and is not meant to be edited.

    Attributes:
        architecture, cpu_model, n_cores, memory_bytes, serial: As in `devices.board.Board`.
    """

    architecture: str
    cpu_model: str
    n_cores: int
    memory_bytes: int
    serial: str

    def check(self, board: Board, name: str) -> None:
        """Compare with what the board says now.

        Args:
            board: As it was read, nothing put in its place.
            name: The device's.

        Raises:
            BoardChangedError: it is another one.
        """
        differing = [
            f"{key} was {was!r} and is {now!r}"
            for key, was, now in (
                ("architecture", self.architecture, board.architecture),
                ("cpu_model", self.cpu_model, board.cpu_model),
                ("n_cores", self.n_cores, board.n_cores),
                ("serial", self.serial, board.serial),
            )
            if was != now
        ]
        if abs(self.memory_bytes - board.memory_bytes) > _MEMORY_TOLERANCE_BYTES:
            differing.append(f"memory_bytes was {self.memory_bytes} and is {board.memory_bytes}")
        if differing:
            raise BoardChangedError(
                f"another board answers at the address of {name}: {', '.join(differing)}; if that "
                f"is right, run `latloop device enroll {name} user@host --replace`, or give it a "
                "name of its own: what was measured belongs to the board that was enrolled"
            )


def identity_of(board: Board) -> Identity:
    """What tells a board from others."""
    return Identity(
        board.architecture, board.cpu_model, board.n_cores, board.memory_bytes, board.serial
    )


_BOARD_KEYS: Final = tuple(field.name for field in fields(Board))


def facts_of(board: Board) -> Mapping[str, object]:
    """A board's attributes by the keys of `BoardTable`; what is unknown is left out."""
    values = {name: getattr(board, name) for name in _BOARD_KEYS}
    return {name: value for name, value in values.items() if value is not None}
