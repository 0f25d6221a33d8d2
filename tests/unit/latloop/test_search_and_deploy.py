"""A subnet that misses its limit once deployed is not the end of a search."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from latloop.journeys import search_and_deploy as journey
from searchspace.constraint import LatencyLimit, Limits
from searchspace.search.result import InfeasibleLimitError

LIMITS = Limits(LatencyLimit(100.0))


class Bench:
    """Searches and deployments that answer as they are told, and remember what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, upper_us: Sequence[float]) -> None:
        self.asked_us: list[float] = []
        self.may_recall: list[bool] = []
        self.kept: list[journey.Outcome] = []
        self._upper_us = list(upper_us)
        self.infeasible_below_us = 0.0
        monkeypatch.setattr(journey, "search", self._search)
        monkeypatch.setattr(journey, "_deploy", self._deploy)
        monkeypatch.setattr(journey, "_draw_cloud", lambda *_: [])
        monkeypatch.setattr(journey, "keep_search", lambda outcome, *_: self.kept.append(outcome))

    def _search(self, *arguments: Any, may_recall: bool) -> Any:
        limits: Limits = arguments[3]
        self.may_recall.append(may_recall)
        if limits.latency.limit_us < self.infeasible_below_us:
            raise InfeasibleLimitError.__new__(InfeasibleLimitError)
        self.asked_us.append(limits.latency.limit_us)
        return SimpleNamespace(proofs=("one", "two"))

    def _deploy(self, _bench: Any, _space: Any, _found: Any, limits: Limits, *_: Any) -> Any:
        upper_us = self._upper_us.pop(0)
        return SimpleNamespace(
            meets_limit=upper_us <= limits.latency.limit_us,
            measurement=SimpleNamespace(upper_us=upper_us),
        )

    def run(self) -> journey.Outcome:
        workbench: Any = SimpleNamespace(load_model=lambda: None)
        nothing: Any = None
        return journey.search_and_deploy(workbench, nothing, nothing, LIMITS, 0)


def test_what_holds_at_once_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [99.0])
    outcome = bench.run()
    assert bench.asked_us == [100.0]
    assert bench.may_recall == [True]
    assert outcome.verdict.meets_limit
    assert outcome.n_measured == 2


def test_a_missed_limit_is_searched_again_as_much_tighter(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [125.0, 97.0])
    outcome = bench.run()
    assert bench.asked_us == pytest.approx([100.0, 80.0])
    assert bench.may_recall == [True, False]  # what was measured before was not true any more
    assert outcome.verdict.meets_limit
    assert outcome.limits == LIMITS  # what was asked for, not what was searched under
    assert outcome.n_measured == 4
    assert bench.kept == [outcome]


def test_a_near_miss_is_tightened_by_three_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [100.1, 100.0])
    assert bench.run().verdict.meets_limit
    assert bench.asked_us == pytest.approx([100.0, 100.0 / 1.03])


def test_three_misses_end_it_with_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, [110.0, 110.0, 110.0])
    assert not bench.run().verdict.meets_limit
    assert bench.asked_us == pytest.approx([100.0, 100 / 1.1, 100 / 1.21])


def test_where_nothing_meets_the_tighter_limit_the_last_deployment_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, [110.0])
    bench.infeasible_below_us = 95.0
    assert not bench.run().verdict.meets_limit
    bench = Bench(monkeypatch, [])
    bench.infeasible_below_us = 200.0
    with pytest.raises(InfeasibleLimitError):
        bench.run()
