"""Price every subnet: the true optimum under the latency model and the accuracy source."""

from __future__ import annotations

from searchspace.genes import Genomes
from searchspace.search.ledger import Ledger, infeasible_latency, infeasible_memory


def evaluate_all(ledger: Ledger, genomes: Genomes, device: str | None = None) -> None:
    """Evaluate these subnets, accuracies beyond the limits included.

    Raises:
        InfeasibleMemoryError: none of them fits the memory limit.
        InfeasibleLimitError: none that fits meets the latency limit.
    """
    rows = ledger.evaluate(genomes, with_all_accuracies=True)
    if not rows.fits.any():
        raise infeasible_memory(ledger, rows.leanest())
    if not rows.is_feasible.any():
        raise infeasible_latency(ledger, rows.fastest(), device)
