from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from searchspace.accuracy import (
    FunctionAccuracy,
    TableAccuracy,
    UnknownAccuracyError,
    load_accuracy,
)
from searchspace.genes import as_genomes
from searchspace.predicted import PredictedAccuracy, ofa_features
from searchspace.space import load_space

MACRO, OFA = load_space("nas_bench_macro"), load_space("ofa_mbv3")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accuracy")


@pytest.fixture(scope="module")
def predicted(cache: Path) -> PredictedAccuracy:
    source = load_accuracy(OFA, None, cache)
    assert isinstance(source, PredictedAccuracy)
    return source


def test_nas_bench_macro_accuracies_are_the_published_means() -> None:
    source = load_accuracy(MACRO)
    genomes = as_genomes(
        [MACRO.parse("22212220"), (2, 2, 2, 1, 2, 2, 0, 2), MACRO.parse("00000000")]
    )
    expected = [(93.28 + 93.33 + 92.77) / 3] * 2 + [(45.32 + 45.33 + 45.44) / 3]
    assert source.accuracy_percent(genomes) == pytest.approx(expected, abs=1e-9)
    assert isinstance(source, TableAccuracy)
    assert source.values.max() == pytest.approx(93.1267, abs=1e-4)
    assert len(source.values) == MACRO.n_subnets


def test_error_of_nas_bench_macro_is_the_pooled_standard_error() -> None:
    source = load_accuracy(MACRO)
    assert source.error_percent is not None
    assert source.error_bound_percent == pytest.approx(1.96 * source.error_percent)
    # Three trainings of one network differ by a few tenths of a point.
    assert 0.05 < source.error_percent < 0.3
    assert "standard error" in source.describe()


def test_predictor_is_close_on_genomes_that_it_never_saw(predicted: PredictedAccuracy) -> None:
    assert predicted.n_held_out >= 400
    assert predicted.error_percent < 0.1
    assert predicted.error_percent < predicted.error_bound_percent < 0.3
    assert f"{predicted.error_percent:.2f}" in predicted.describe()


def test_predictor_prefers_larger_networks(predicted: PredictedAccuracy) -> None:
    small, large = predicted.accuracy_percent(as_genomes([OFA.smallest(), OFA.largest()]))
    assert small < large - 3.0
    assert predicted.accuracy_percent(np.zeros((0, OFA.n_genes), dtype=np.int64)).shape == (0,)


def test_inactive_slots_do_not_reach_the_features() -> None:
    rng = np.random.default_rng(0)
    raw = np.stack([[rng.choice(values) for values in OFA.choices] for _ in range(50)])
    assert np.array_equal(ofa_features(raw), ofa_features(OFA.canonical_many(raw)))
    assert not np.array_equal(raw, OFA.canonical_many(raw))


def test_cached_predictor_answers_the_same_and_a_torn_cache_is_trained_anew(
    cache: Path, predicted: PredictedAccuracy
) -> None:
    rng = np.random.default_rng(1)
    genomes = as_genomes([OFA.sample(rng) for _ in range(50)])
    names = {path.name for path in cache.iterdir()}
    assert names == {"ofa_mbv3_accuracy.txt", "ofa_mbv3_accuracy.json"}
    model = cache / "ofa_mbv3_accuracy.txt"
    expected = predicted.accuracy_percent(genomes)
    again = load_accuracy(OFA, None, cache)
    assert np.array_equal(again.accuracy_percent(genomes), expected)
    assert again.error_percent == predicted.error_percent
    model.write_text(model.read_text()[:1000])
    anew = load_accuracy(OFA, None, cache)
    assert np.array_equal(anew.accuracy_percent(genomes), expected)


def test_csv_accuracies_are_looked_up_and_a_missing_genome_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("genome,accuracy\n00000000,50.5\n00001000,60\n00010000,62\n")
    source = load_accuracy(MACRO, str(path))
    genomes = as_genomes([MACRO.parse("00000000"), MACRO.parse("00001000")])
    assert source.accuracy_percent(genomes).tolist() == [50.5, 61.0]  # one network, averaged
    assert source.error_percent is None
    with pytest.raises(UnknownAccuracyError, match=r"mine.csv has no accuracy for 22222222"):
        source.accuracy_percent(as_genomes([MACRO.largest()]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("00000000,abc\n", "line 1"),
        ("genome,accuracy\n0000,50\n", "line 2: a genome of nas_bench_macro"),
        ("00000000\n", "GENOME,ACCURACY_PERCENT"),
        ("00000000,nan\n", "must lie in"),
        ("00000000,101\n", "must lie in"),
        ("", "lists no accuracies"),
    ],
)
def test_malformed_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_accuracy(MACRO, str(path))


def test_unreadable_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_accuracy(MACRO, str(tmp_path / "absent.csv"))


def test_function_is_a_source_and_its_answer_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_accuracies")
    module.good = lambda genomes: genomes.sum(axis=1)  # type: ignore[attr-defined]
    module.bad = lambda genomes: [math.nan] * len(genomes)  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_accuracies", module)
    source = load_accuracy(MACRO, "my_accuracies:good")
    assert isinstance(source, FunctionAccuracy)
    assert source.accuracy_percent(as_genomes([MACRO.largest()])).tolist() == [16.0]
    with pytest.raises(ValueError, match="finite accuracies"):
        load_accuracy(MACRO, "my_accuracies:bad").accuracy_percent(as_genomes([MACRO.largest()]))
    for text in ("my_accuracies:number", "my_accuracies:absent", "nonsense"):
        with pytest.raises(UnknownAccuracyError):
            load_accuracy(MACRO, text)
