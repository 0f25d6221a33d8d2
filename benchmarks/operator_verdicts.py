"""What the figures of `operators.py` amount to: shares of the roofline, and passes or misses."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]

MEDIAN_SHARE: Final = 0.85
WORST_SHARE: Final = 0.70
VECTOR_SHARE: Final = 0.80
TIME_SHARE: Final = 0.01
NETWORK_S: Final = 60.0
NETWORK_OPERATORS: Final = 60
CACHED_S: Final = 2.0


def roofline_us(row: Row) -> NDArray[np.float64]:
    """The least latency that the core allows, in microseconds, in each round.

    Whatever takes longer: the operations at the peak, or the bytes at the bandwidth (Williams et
    al. 2009, "Roofline"). For a product of a matrix and a vector that is the bandwidth.
    """
    peak_us = row["n_flops"] / row["peak_flops"] * np.array(row["peak_us"])
    memory_us = row["n_bytes"] / row["read_bytes"] * np.array(row["read_us"])
    return memory_us if row["judged"] == "vector" else np.maximum(peak_us, memory_us)


def share(row: Row) -> float:
    """Of the roofline, the median over the rounds."""
    return float(np.median(roofline_us(row) / np.array(row["own_us"])))


def their_share(row: Row) -> float:
    """The same of MetaSchedule's kernel."""
    return float(np.median(roofline_us(row) / np.array(row["their_us"])))


def ratio(row: Row) -> float:
    """Our latency over MetaSchedule's, the median over the rounds."""
    return float(np.median(np.array(row["own_us"]) / np.array(row["their_us"])))


def tuning_s(row: Row) -> float:
    """Seconds of our tuning, the compiler started, as MetaSchedule is before its clock starts."""
    return float(row["own"]["tune_s"])


def verdicts(figures: Row) -> list[str]:
    """Each goal, the figure it is judged by, and whether it was met."""
    eight: list[Row] = figures["eight"]
    rows = [*eight, *figures["more"]]
    products = [share(row) for row in rows if row["judged"] == "product"]
    vectors = [share(row) for row in rows if row["judged"] == "vector"]
    lines = []
    if products:
        lines += [
            _verdict(
                f"{len(products)} products of 16 rows and 10 MFLOP or more, share of the roofline "
                f"in the median {np.median(products):.3f}, goal {MEDIAN_SHARE}",
                np.median(products) >= MEDIAN_SHARE,
            ),
            _verdict(
                f"the worst of them {min(products):.3f}, goal {WORST_SHARE}",
                min(products) >= WORST_SHARE,
            ),
        ]
    if vectors:
        lines.append(
            _verdict(
                f"{len(vectors)} matrix-vector products, the worst share of the bandwidth "
                f"{min(vectors):.3f}, goal {VECTOR_SHARE}",
                min(vectors) >= VECTOR_SHARE,
            )
        )
    return [*lines, *_against_metaschedule(eight), *_network(figures.get("network"))]


def _against_metaschedule(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    n_trials = rows[0]["theirs"]["n_trials"]
    n_faster = sum(ratio(row) <= 1 for row in rows)
    shares = [tuning_s(row) / row["theirs"]["seconds"] for row in rows]
    return [
        _verdict(
            f"at least as fast as MetaSchedule's {n_trials} trials on {n_faster} of {len(rows)}",
            n_faster == len(rows),
        ),
        _verdict(
            f"in at most {100 * max(shares):.2f} % of its time, {100 * np.median(shares):.2f} % "
            f"in the median, goal {100 * TIME_SHARE:.0f} %",
            max(shares) <= TIME_SHARE,
        ),
    ]


def _network(network: Row | None) -> list[str]:
    if network is None:
        return []
    n = network["n_operators"]
    return [
        _verdict(
            f"{network['name']}, {n} distinct operators, tuned from nothing in "
            f"{network['tune_s']:.1f} s, goal {NETWORK_S:.0f} s for {NETWORK_OPERATORS}",
            network["tune_s"] <= NETWORK_S and n <= NETWORK_OPERATORS,
        ),
        _verdict(
            f"from a warm cache in {network['cached_s']:.2f} s, goal {CACHED_S:.0f} s",
            network["cached_s"] <= CACHED_S,
        ),
    ]


def _verdict(text: str, passed: bool) -> str:
    return f"- {'PASS' if passed else 'MISS'}: {text}"
