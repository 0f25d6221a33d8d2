"""Price every subnet: the true optimum under the latency model and the accuracy source."""

from __future__ import annotations

from searchspace.genes import Genomes
from searchspace.search.ledger import Ledger
from searchspace.search.result import InfeasibleLimitError


def evaluate_all(ledger: Ledger, genomes: Genomes, device: str | None = None) -> None:
    """Evaluate these subnets, accuracies beyond the limit included.

    Raises:
        InfeasibleLimitError: none of them meets the limit.
    """
    rows = ledger.evaluate(genomes, with_all_accuracies=True)
    if not rows.is_feasible.any():
        (fastest,) = ledger.candidates(rows.fastest())
        raise InfeasibleLimitError(ledger.space.name, ledger.limit, fastest, device)
