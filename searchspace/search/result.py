"""What a search returns, and what it reports on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from searchspace.constraint import LatencyLimit, MemoryLimit, format_memory
from searchspace.genes import Genome


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subnet with what is predicted of it.

    Attributes:
        genome: Canonical.
        text: The genome as people write it.
        accuracy_percent: Top-1; NaN where the search had no reason to ask.
        mean_us, sigma_us: Predicted latency, microseconds.
        upper_us: The latency that is kept with the limit's confidence, microseconds.
        peak_activation_bytes: Memory that its activations take.
    """

    genome: Genome
    text: str
    accuracy_percent: float
    mean_us: float
    sigma_us: float
    upper_us: float
    peak_activation_bytes: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The best subnets within a limit.

    Attributes:
        space: Its name.
        limit: What every candidate meets.
        memory: What every candidate meets, too, or None.
        candidates: Best first: higher accuracy, then lower latency, then lower genome; never
            empty.
        front: The subnets that no other one evaluated beats in both accuracy and mean latency,
            fastest first; reaches beyond the limit where the search did.
        n_evaluations: Distinct subnets whose latency was predicted.
        elapsed_s: Seconds by the injected clock.
        method: `exhaustive` or `evolution`.
    """

    space: str
    limit: LatencyLimit
    memory: MemoryLimit | None
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    n_evaluations: int
    elapsed_s: float
    method: str

    @property
    def best(self) -> Candidate:
        """The first candidate."""
        return self.candidates[0]


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How far a search has come.

    Attributes:
        share: Work done, 0 to 1.
        n_evaluations: Distinct subnets priced so far.
        best: The best subnet within the limit so far.
    """

    share: float
    n_evaluations: int
    best: Candidate | None


#: Called now and then from inside a search; raising from it ends the search.
OnProgress = Callable[[SearchProgress], None]


class InfeasibleLimitError(Exception):
    """No subnet known meets the limit: raise the limit to the fastest subnet's latency or above.

    Attributes:
        limit: What was asked.
        fastest: The fastest subnet known that fits the memory; its `upper_us` is the least limit
            that can be met.
    """

    def __init__(
        self,
        space: str,
        limit: LatencyLimit,
        fastest: Candidate,
        device: str | None = None,
        memory: MemoryLimit | None = None,
    ) -> None:
        asked, least = _distinct_ms(limit.limit_us, fastest.upper_us)
        where = f" on {device}" if device else ""
        inside = "" if memory is None else f" in {format_memory(memory.limit_bytes)}"
        super().__init__(
            f"no subnet of {space} within {asked} ms{where}{inside} "
            f"({100 * limit.confidence:g}% confidence); "
            f"the fastest{inside} is {least} ms: {fastest.text}"
        )
        self.limit = limit
        self.fastest = fastest


class InfeasibleMemoryError(Exception):
    """No subnet known fits the memory: raise the limit to what the smallest one takes or above.

    Attributes:
        memory: What was asked.
        smallest: The subnet known whose activations take the fewest bytes.
    """

    def __init__(self, space: str, memory: MemoryLimit, smallest: Candidate) -> None:
        super().__init__(
            f"no subnet of {space} has activations of at most {format_memory(memory.limit_bytes)}; "
            f"the smallest takes {format_memory(smallest.peak_activation_bytes)}: {smallest.text}"
        )
        self.memory = memory
        self.smallest = smallest


def _distinct_ms(a_us: float, b_us: float) -> tuple[str, str]:
    """Both in milliseconds with as many decimals as tell them apart, at least two."""
    for n_decimals in range(2, 9):
        a, b = f"{a_us / 1e3:.{n_decimals}f}", f"{b_us / 1e3:.{n_decimals}f}"
        if a != b and float(a) > 0:
            break
    return a, b
