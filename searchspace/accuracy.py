"""Where a subnet's accuracy comes from: tables of trained networks, or the user's own function."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from searchspace.genes import Genomes, as_genomes
from searchspace.space import SearchSpace

#: Normal quantile of a two-sided 95 % interval.
_Z_95: Final = 1.96


class UnknownAccuracyError(ValueError):
    """No accuracy is known for a genome or a space: give a source that covers it."""


class AccuracySource(Protocol):
    """Accuracies of subnets, with the error that must be shown beside them."""

    @property
    def error_percent(self) -> float | None:
        """Expected error in points of accuracy; None where nobody knows."""
        ...

    @property
    def error_bound_percent(self) -> float | None:
        """Half-width in points that 95 % of the errors stay within; None where nobody knows."""
        ...

    def accuracy_percent(self, genomes: Genomes) -> NDArray[np.float64]:
        """Top-1 accuracy of each row, percent, shape (n_subnets,)."""
        ...

    def describe(self) -> str:
        """One sentence: where the accuracies come from and how far they can be trusted."""
        ...


@dataclass(frozen=True, slots=True)
class TableAccuracy:
    """Accuracies of listed subnets.

    Attributes:
        space: Whose genomes these are.
        genomes: Canonical and distinct, shape (n_listed, n_genes).
        values: Percent, shape (n_listed,).
        source: Where they come from, for `describe`.
        error_percent: Standard error of a value; None where nobody knows.
    """

    space: SearchSpace
    genomes: Genomes
    values: NDArray[np.float64]
    source: str
    error_percent: float | None = None
    _rows: dict[bytes, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = {row.tobytes(): index for index, row in enumerate(self.genomes)}
        object.__setattr__(self, "_rows", rows)

    @property
    def error_bound_percent(self) -> float | None:
        """95 % half-width of a value, from its standard error."""
        return None if self.error_percent is None else _Z_95 * self.error_percent

    def accuracy_percent(self, genomes: Genomes) -> NDArray[np.float64]:
        """Look up each row; UnknownAccuracyError names the first that is not listed."""
        canonical = np.ascontiguousarray(self.space.canonical_many(genomes), dtype=np.int64)
        found = [self._rows.get(row.tobytes(), -1) for row in canonical]
        if -1 in found:
            missing = self.space.format(tuple(canonical[found.index(-1)].tolist()))
            raise UnknownAccuracyError(f"{self.source} has no accuracy for {missing}")
        return self.values[np.array(found, dtype=np.int64)]

    def describe(self) -> str:
        """Source, size and standard error."""
        error = "unknown" if self.error_percent is None else f"{self.error_percent:.2f} points"
        return f"{self.source}: {len(self.genomes)} networks, standard error {error}"


@dataclass(frozen=True, slots=True)
class FunctionAccuracy:
    """Accuracies from a user's function of the genome array; its error is unknown."""

    function: Callable[[Genomes], NDArray[np.float64]]
    source: str
    error_percent: float | None = None
    error_bound_percent: float | None = None

    def accuracy_percent(self, genomes: Genomes) -> NDArray[np.float64]:
        """Call the function; ValueError when its answer is not finite of shape (n_subnets,)."""
        values = np.asarray(self.function(genomes), dtype=np.float64)
        if values.shape != (len(genomes),) or not np.isfinite(values).all():
            raise ValueError(
                f"{self.source} must return {len(genomes)} finite accuracies in percent, "
                f"got shape {values.shape}"
            )
        return values

    def describe(self) -> str:
        """The function's name."""
        return f"{self.source}: error unknown"


def read_shipped_rows(name: str) -> Iterator[dict[str, str]]:
    """Read a table of `latloop_data`: the rows of `NAME/accuracy.csv.gz`."""
    resource = files("latloop_data") / name / "accuracy.csv.gz"
    text = gzip.decompress(resource.read_bytes()).decode()
    yield from csv.DictReader(io.StringIO(text))


def nas_bench_macro_accuracy(space: SearchSpace) -> TableAccuracy:
    """CIFAR-10 accuracies of all NAS-Bench-Macro networks, means of three trainings.

    The standard error is pooled over all networks: root of the mean sample variance, over root 3.
    """
    rows = {space.parse(row["genome"]): row for row in read_shipped_rows("nas_bench_macro")}
    trainings = np.array(
        [[float(row[f"accuracy_{run}_percent"]) for run in (1, 2, 3)] for row in rows.values()]
    )
    error = math.sqrt(float(trainings.var(axis=1, ddof=1).mean()) / trainings.shape[1])
    source = "NAS-Bench-Macro, CIFAR-10 test accuracy, mean of three trainings"
    return TableAccuracy(space, as_genomes(list(rows)), trainings.mean(axis=1), source, error)


def read_csv_accuracy(space: SearchSpace, path: Path) -> TableAccuracy:
    """Read a CSV of genome and accuracy in percent, with or without a header line.

    Genomes of one network are averaged.

    Raises:
        ValueError: the file cannot be read, or a line is malformed; names file and line.
    """
    values: dict[tuple[int, ...], list[float]] = {}
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"accuracies cannot be read from {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line[0].strip().lower() in {"genome", "subnet"}):
            continue
        try:
            genome, accuracy = space.parse(line[0].strip()), _percent(line)
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        values.setdefault(genome, []).append(accuracy)
    if not values:
        raise ValueError(f"{path} lists no accuracies; a line is GENOME,ACCURACY_PERCENT")
    means = np.array([sum(found) / len(found) for found in values.values()])
    return TableAccuracy(space, as_genomes(list(values)), means, path.name)


def _percent(line: Sequence[str]) -> float:
    if len(line) < 2:
        raise ValueError(f"a line is GENOME,ACCURACY_PERCENT, got {','.join(line)!r}")
    accuracy = float(line[1])
    if not 0.0 <= accuracy <= 100.0:
        raise ValueError(f"accuracy must lie in [0, 100] percent, got {line[1]!r}")
    return accuracy


def load_accuracy(
    space: SearchSpace, source: str | None = None, cache_folder: Path | None = None
) -> AccuracySource:
    """Find the accuracies of a space.

    Args:
        space: Whose subnets.
        source: None for what is built in, the path of a CSV file, or `module:function`, a
            function of the genome array (n_subnets, n_genes) that returns percent.
        cache_folder: Where a trained predictor is kept; trained anew each time when None.

    Raises:
        UnknownAccuracyError: nothing is built in for this space, or the function is missing.
        ValueError: the CSV is unreadable or malformed.
    """
    if source is None:
        return _built_in(space, cache_folder)
    if source.lower().endswith(".csv") or Path(source).is_file():
        return read_csv_accuracy(space, Path(source))
    module_name, colon, attribute = source.partition(":")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise UnknownAccuracyError(
            f"an accuracy source is a CSV file or module:function, got {source!r}"
        )
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownAccuracyError(f"accuracy source {source!r}: {error}") from error
    if not callable(function):
        raise UnknownAccuracyError(f"accuracy source {source!r} is not a function")
    return FunctionAccuracy(function, source)


def _built_in(space: SearchSpace, cache_folder: Path | None) -> AccuracySource:
    if space.name == "nas_bench_macro":
        return nas_bench_macro_accuracy(space)
    if space.name == "ofa_mbv3":
        from searchspace.predicted import ofa_mbv3_accuracy  # noqa: PLC0415 LightGBM is slow to load

        return ofa_mbv3_accuracy(space, cache_folder)
    raise UnknownAccuracyError(
        f"no accuracies are built in for {space.name}; give a CSV file or module:function"
    )
