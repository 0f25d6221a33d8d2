"""The latency table of a device, in the layouts that existing search codes read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from costmodel.prediction import Prediction
from latloop.table_blocks import (
    Block,
    as_layered,
    fixed_blocks,
    searched_slots,
    slot_choices,
    slot_name,
)
from latloop.table_keys import FIRST, Entries, ofa_entries, proxyless_entries
from profiler.operator import Operator
from searchspace.space import SearchSpace
from searchspace.spaces.layered import LayeredSpace

#: Latency of each operator, arrays of shape (n_operators,), in input order.
PredictOperators = Callable[[Sequence[Operator]], Prediction]

FORMATS: Final = ("ofa", "proxyless", "fbnet", "csv")


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """A table and what its reader must know.

    Attributes:
        text: The file's content.
        outside_us: What every subnet costs beside the sum that the format's loader forms, in
            microseconds: FBNet's layout has no place for stem, tail and fixed cost.
        note: One sentence on units and on where the fixed cost is, for a person.
    """

    text: str
    outside_us: float
    note: str


@dataclass(frozen=True, slots=True)
class _Prices:
    """Predicted (mean, low, high) of operators, microseconds."""

    of: Mapping[Operator, tuple[float, float, float]]
    fixed_us: float

    def total_us(self, operators: Sequence[Operator]) -> tuple[float, float, float]:
        """Sums; the bounds add up as if all errors went one way, so they are wide."""
        rows = np.array([self.of[op] for op in operators]).reshape(-1, 3)
        mean, low, high = rows.sum(axis=0).tolist()
        return mean, low, high


def make_table(
    space: SearchSpace,
    predict_us: PredictOperators,
    table_format: str,
    fixed_us: float = 0.0,
    device: str = "unnamed device",
) -> LatencyTable:
    """Write the latency table of a space on a device.

    Args:
        space: Whose blocks.
        predict_us: The device's model, such as `LatencyModel.predict_operators_us`.
        table_format: One of `FORMATS`.
        fixed_us: What a network costs beside its operators (`LatencyModel.fixed_us`).
        device: The device's name, for the table's heading.

    Raises:
        ValueError: no such format, or it cannot hold this space; names those that can.
    """
    if table_format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {table_format!r}")
    try:
        operators = _needed(space, table_format)
    except ValueError as error:
        supported = ", ".join(supported_formats(space))
        raise ValueError(
            f"format {table_format} cannot hold {space.name}: {error}; use one of {supported}"
        ) from error
    prices = _price(operators, predict_us, fixed_us)
    heading = f"{space.name} on {' '.join(device.split())}, predicted by Latloop"
    layered = as_layered(space)
    if table_format == "csv":
        return _csv_table(space, prices, heading)
    if layered is None:  # _needed has refused it already
        raise ValueError(f"{space.name} has no blocks")
    if table_format == "fbnet":
        return _fbnet_table(layered, prices, heading)
    return _yaml_table(_entries(layered, table_format), prices, heading)


def supported_formats(space: SearchSpace) -> tuple[str, ...]:
    """The formats that can hold this space."""
    found = []
    for table_format in FORMATS:
        try:
            _needed(space, table_format)
        except ValueError:
            continue
        found.append(table_format)
    return tuple(found)


def _needed(space: SearchSpace, table_format: str) -> tuple[Operator, ...]:
    """Every operator that the table prices; ValueError where the format cannot hold the space."""
    layered = as_layered(space)
    if table_format == "csv":
        return space.operators()
    if layered is None:
        raise ValueError("it is not made of layers in slots")
    if table_format == "fbnet":
        choices = [block for _, row in _fbnet_rows(layered) for block in row.values()]
        blocks = [*fixed_blocks(layered), *(block for run in choices for block in run)]
        return tuple(op for block in blocks for op in block.operators)
    return tuple(op for run in _entries(layered, table_format).values() for op in run)


def _entries(space: LayeredSpace, table_format: str) -> Entries:
    return ofa_entries(space) if table_format == "ofa" else proxyless_entries(space)


def _price(operators: Sequence[Operator], predict_us: PredictOperators, fixed_us: float) -> _Prices:
    distinct = tuple(dict.fromkeys(operators))
    prediction = predict_us(distinct)
    bounds = (prediction.mean_us, prediction.low_us, prediction.high_us)
    rows = np.stack(bounds, axis=1).tolist()
    priced = {op: (m, low, high) for op, (m, low, high) in zip(distinct, rows, strict=True)}
    return _Prices(priced, fixed_us)


def _yaml_table(entries: Entries, prices: _Prices, heading: str) -> LatencyTable:
    """Keys in the layout of `mobile_trim.yaml`; the first layer carries the fixed cost.

    Numbers are written without an exponent: PyYAML reads `1e-05` as text.
    """
    first = next(iter(entries))
    note = (
        "mean, low and high in ms; the fixed cost of a network "
        f"({prices.fixed_us / 1e3:.6f} ms) is inside {FIRST}, which every network runs once"
    )
    lines = [f"# {heading}", f"# {note}"]
    for key, operators in entries.items():
        fixed_us = prices.fixed_us if key == first else 0.0
        lines.append(f"{key}:")
        for name, value_us in zip(("mean", "low", "high"), prices.total_us(operators), strict=True):
            lines.append(f"  {name}: {(value_us + fixed_us) / 1e3:.9f}")
    return LatencyTable("\n".join(lines) + "\n", 0.0, note)


def _fbnet_rows(space: LayeredSpace) -> list[tuple[str, dict[str, tuple[Block, ...]]]]:
    """Each searched slot's choices by name; every slot must offer the same names."""
    rows = [(slot_name(slot), dict(slot_choices(slot))) for slot in searched_slots(space)]
    names = {tuple(sorted(row)) for _, row in rows}
    if len(names) != 1:
        raise ValueError("its columns need the same choices in every slot")
    return rows


def _fbnet_table(space: LayeredSpace, prices: _Prices, heading: str) -> LatencyTable:
    """A line of names, then a line of microseconds for each searched layer: no comments."""
    rows = [row for _, row in _fbnet_rows(space)]
    names = [name for name in rows[0] if name != "skip"] + ["skip"] * ("skip" in rows[0])
    lines = [" ".join(names)]
    for row in rows:
        costs = (prices.total_us([op for b in row[name] for op in b.operators]) for name in names)
        lines.append(" ".join(f"{mean_us:.6f}" for mean_us, _, _ in costs))
    always = [op for block in fixed_blocks(space) for op in block.operators]
    outside_us = prices.total_us(always)[0] + prices.fixed_us
    note = (
        f"{heading}; microseconds, {len(rows)} searched layers; stem, tail and fixed cost add "
        f"{outside_us:.6f} us to every network"
    )
    return LatencyTable("\n".join(lines) + "\n", outside_us, note)


def _csv_table(space: SearchSpace, prices: _Prices, heading: str) -> LatencyTable:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["level", "key", "mean_ms", "low_ms", "high_ms", "n_macs"])

    def write(level: str, key: str, operators: Sequence[Operator]) -> None:
        values = [f"{value_us / 1e3:.9f}" for value_us in prices.total_us(operators)]
        writer.writerow([level, key, *values, sum(op.n_macs for op in operators)])

    fixed_ms = f"{prices.fixed_us / 1e3:.9f}"
    writer.writerow(["fixed", "network", fixed_ms, fixed_ms, fixed_ms, 0])
    for operator in space.operators():
        write("operator", operator.key, [operator])
    for key, blocks in _csv_blocks(space):
        write("block", key, [op for block in blocks for op in block.operators])
    note = f"{heading}; ms; a network is the row `fixed` plus its operators, or plus its blocks"
    return LatencyTable(out.getvalue(), 0.0, note)


def _csv_blocks(space: SearchSpace) -> list[tuple[str, tuple[Block, ...]]]:
    """Blocks as `place:choice`; none where the space has no slots or unknown choices."""
    layered = as_layered(space)
    if layered is None:
        return []
    try:
        rows = [(slot_name(slot), dict(slot_choices(slot))) for slot in searched_slots(layered)]
    except ValueError:
        return []
    known = set(space.operators())
    found: list[tuple[str, tuple[Block, ...]]] = [
        (block.name, (block,)) for block in fixed_blocks(layered)
    ]
    for place, row in rows:
        for choice, blocks in row.items():
            if all(op in known for block in blocks for op in block.operators):
                found.append((f"{place}:{choice}", blocks))
    return found
