"""The few calls that a search code or a script needs.

import latloop

with latloop.open_device("local") as device:
    space = latloop.load_space("nas_bench_macro")
    genomes = [space.parse("22212220"), space.parse("00000000")]
    latency = device.predict_us(space, genomes)
    print(latency.mean_us, latency.low_us, latency.high_us)
    outcome = device.search(space, "3ms")
    print(outcome.found.answer.candidate.text, outcome.verdict.meets_limit)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from costmodel.latency import LatencyModel
from costmodel.prediction import Prediction
from latloop.home import Home, default_home
from latloop.journeys.search_and_deploy import Outcome, search_and_deploy
from latloop.workbench import Workbench, open_workbench
from searchspace.accuracy import load_accuracy
from searchspace.constraint import LatencyLimit, Limits, MemoryLimit
from searchspace.genes import Genome, Genomes
from searchspace.space import SearchSpace


@dataclass(frozen=True, slots=True)
class ModelledDevice:
    """A device with its latency model.

    Attributes:
        workbench: For everything else that can be done with the device.
        model: Fitted by `latloop fit`.
    """

    workbench: Workbench
    model: LatencyModel

    def predict_us(
        self, space: SearchSpace, genomes: Sequence[Genome] | Genomes, confidence: float = 0.95
    ) -> Prediction:
        """Predict many subnets at once; 100,000 take about a second.

        Args:
            space: Where the genomes come from.
            genomes: Shape (n_subnets, n_genes).
            confidence: Of the intervals.

        Returns:
            Mean, calibrated sigma and interval in microseconds, arrays of shape (n_subnets,).
        """
        counts = space.counts(np.asarray(genomes, dtype=np.int64))
        return self.model.predict_networks_us(counts, confidence)

    def search(
        self,
        space: SearchSpace,
        latency: str,
        accuracy: str | None = None,
        seed: int = 0,
        memory: str | None = None,
    ) -> Outcome:
        """Find, prove and deploy the most accurate subnet within a limit such as `8ms`.

        Args:
            space: Where to search.
            latency: The limit with its unit.
            accuracy: A CSV of genome,accuracy or `module:function`; None takes the built-in one.
            seed: Of every random choice.
            memory: What the activations may take at once, such as `320kB`; None for no limit.

        Raises:
            InfeasibleMemoryError: no subnet known fits the memory; carries the smallest.
            InfeasibleLimitError: no subnet known that fits meets the limit; carries the fastest.
        """
        source = load_accuracy(space, accuracy, self.workbench.home.accuracy)
        fits = None if memory is None else MemoryLimit.parse(memory)
        limits = Limits(LatencyLimit.parse(latency), fits)
        return search_and_deploy(self.workbench, space, source, limits, seed)


@contextmanager
def open_device(name: str = "local", home: Path | None = None) -> Iterator[ModelledDevice]:
    """Open a device that was profiled and fitted.

    Args:
        name: In the inventory; `local` is this machine.
        home: The folder that LATLOOP_HOME names; None takes the user's data folder.

    Raises:
        UnknownDeviceError: no device of that name.
        NoModelError: the device has no latency model yet.
    """
    place = default_home() if home is None else Home(home)
    with open_workbench(place, name) as workbench:
        yield ModelledDevice(workbench, workbench.load_model())
