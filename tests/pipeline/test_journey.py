"""The whole way through the real command line, on the machine that runs the tests."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from searchspace.genes import all_genomes
from tests.command import RunHere

from .command_line import insist, latloop, read_rows
from .conftest import ACCURACY, N_FRESH, N_NETWORKS, Journey
from .tiny_space import BLOCKS, GAINS, HEAD_WIDTH, N_CLASSES, N_SLOTS, NAME, TINY, WIDTH

PREDICT_KEYS = {
    "device", "latency_ms", "low_ms", "high_ms", "confidence", "peak_activation_bytes",
    "weight_bytes", "n_operators", "unseen_operators",
}  # fmt: skip
VERIFY_KEYS = {
    "measured_ms", "measured_low_ms", "measured_high_ms", "meets_limit", "max_output_error",
}  # fmt: skip
SEARCH_KEYS = {
    "space", "subnet", "accuracy_percent", "accuracy_error_percent", "predicted_ms", "low_ms",
    "high_ms", "measured_ms", "measured_low_ms", "measured_high_ms", "meets_limit", "evaluations",
    "seconds", "folder", "peak_activation_bytes",
}  # fmt: skip
FAMILY_KEYS = {
    "n_networks", "median_ape_percent", "within_5_percent", "within_10_percent",
    "coverage_percent", "half_width_percent", "spearman",
}  # fmt: skip
BEST = "1111"


def deployment(journey: Journey, home: Path) -> Path:
    """What the search deployed, in a copy of its home."""
    return home / Path(journey.steps["search"].answer["folder"]).relative_to(journey.home)


def write_images(path: Path, seed: int) -> np.ndarray:
    image = np.random.default_rng(seed).normal(size=(1, 3, 16, 16)).astype(np.float32)
    np.savez(path, input=image)
    return image


def test_profile_measures_all_operators_and_as_many_networks_as_asked(journey: Journey) -> None:
    # stem, head, pool, dense; a block's expansion by hidden width, and what follows by kernel, too
    n_operators = 4 + len({hidden for _, hidden in BLOCKS}) + len(BLOCKS)
    answer = journey.steps["profile"].answer
    assert answer["n_operators"] == answer["n_space_operators"] == n_operators
    assert answer["n_networks"] == N_NETWORKS
    assert answer["n_failures"] == 0


def test_fit_learns_from_all_that_was_profiled(journey: Journey) -> None:
    answer = journey.steps["fit"].answer
    assert answer["n_operators"] == journey.steps["profile"].answer["n_operators"]
    assert answer["n_networks"] == N_NETWORKS
    assert Path(answer["folder"]).is_dir()


def test_evaluate_judges_fresh_networks_beside_three_baselines(journey: Journey) -> None:
    answer = journey.steps["evaluate"].answer
    assert set(answer["families"]) == {NAME}
    assert len(answer["baselines"]) == 3
    for families in (answer["families"], *answer["baselines"].values()):
        assert set(families[NAME]) >= FAMILY_KEYS
        assert families[NAME]["n_networks"] == N_FRESH
    assert answer["shifts"][NAME]["n_networks"] == N_NETWORKS  # all: there are fewer than nine
    profiled = {row[3] for row in read_rows(journey.home) if row[2] == "network"}
    assert len(profiled) >= N_NETWORKS + N_FRESH, "the judges were among the profiled networks"


def test_predict_answers_what_a_network_costs_and_needs(journey: Journey) -> None:
    answer = journey.steps["predict"].answer
    kernel, hidden = BLOCKS[0]
    block = (WIDTH + 1) * hidden + (kernel**2 + 1) * hidden + (hidden + 1) * WIDTH
    tail = (WIDTH + 1) * HEAD_WIDTH + (HEAD_WIDTH + 1) * N_CLASSES
    assert set(answer) >= PREDICT_KEYS
    assert answer["device"] == "local"
    assert answer["weight_bytes"] == 4 * ((27 + 1) * WIDTH + N_SLOTS * block + tail)
    assert answer["n_operators"] == 1 + 2 * N_SLOTS + 3
    assert answer["unseen_operators"] == []
    assert 0 < answer["low_ms"] < answer["latency_ms"] < answer["high_ms"]
    # What reads most is the head or a block's expansion, all 8x8; and the image stays.
    most = WIDTH + max(hidden, HEAD_WIDTH)
    assert answer["peak_activation_bytes"] == 4 * (64 * most + 16 * 16 * 3)


def test_search_returns_the_most_accurate_subnet_that_meets_the_limit(journey: Journey) -> None:
    answer = journey.steps["search"].answer
    assert set(answer) >= SEARCH_KEYS
    assert answer["space"] == NAME
    # A machine that is busy just then makes the search go on, or the command run again.
    visits = read_rows(journey.home)
    proved = {row[3] for row in visits if (row[2], row[7]) == ("network", "measure")}
    assert f"{NAME}:{answer['subnet']}" in proved
    assert answer["subnet"] == BEST or len(proved) > 1
    genome = TINY.parse(answer["subnet"])
    assert answer["accuracy_percent"] == 60 + sum(GAINS[choice] for choice in genome)
    assert answer["accuracy_error_percent"] is None
    assert answer["evaluations"] == TINY.n_subnets
    assert answer["meets_limit"] is True
    assert answer["measured_low_ms"] <= answer["measured_ms"] <= answer["measured_high_ms"]
    assert answer["measured_ms"] <= journey.limit_ms
    (peak_bytes,) = TINY.peak_activation_bytes(np.array([genome]))
    assert answer["peak_activation_bytes"] == peak_bytes


def test_a_search_without_enough_memory_names_the_smallest_subnet(
    journey: Journey, here: Callable[[Path], RunHere]
) -> None:
    limits = ("--latency", "1s", "--memory", "1kB")
    done = here(journey.home)("search", "local", "--space", NAME, *limits, "--accuracy", ACCURACY)
    assert done.code == 1
    least = TINY.peak_activation_bytes(all_genomes(TINY.choices)).min()
    assert (
        f"no subnet of {NAME} has activations of at most 1 kB; "
        f"the smallest takes {least / 1000:g} kB: " in done.err
    )


def test_the_deployed_program_agrees_with_torch_and_onnx(journey: Journey) -> None:
    answer = journey.steps["search"].answer
    assert answer["max_output_error"] < 1e-3
    report = json.loads((deployment(journey, journey.home) / "report.json").read_text())
    assert report["min_output_difference"] > 1e-2, "inputs that tell nothing apart"
    assert report["n_checked_inputs"] >= 2


def test_a_deployment_holds_model_program_weights_and_reports(journey: Journey) -> None:
    folder = deployment(journey, journey.home)
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)
    assert (folder / "program").read_bytes().startswith(b"\x7fELF")
    assert (folder / "weights.bin").stat().st_size > 0
    report = json.loads((folder / "report.json").read_text())
    assert report["network"] == f"{NAME}:{journey.steps['search'].answer['subnet']}"
    assert report["limit_us"] == pytest.approx(1e3 * journey.limit_ms)
    assert report["measured_ms"] == journey.steps["search"].answer["measured_ms"]
    assert "not trained" in report["weights"]
    search = json.loads((folder / "search.json").read_text())
    assert search["limit_ms"] == pytest.approx(journey.limit_ms)
    for faster, slower in pairwise(search["front"]):
        assert faster["latency_ms"] < slower["latency_ms"]
        assert faster["accuracy_percent"] < slower["accuracy_percent"]


def test_nobody_warns_on_the_way(journey: Journey) -> None:
    for name, done in journey.steps.items():
        assert "Warning" not in done.err, name


def test_a_second_profile_measures_nothing(home: Path) -> None:
    before = read_rows(home)
    done = latloop(home, "profile", "local", "--space", NAME, "--networks", str(N_NETWORKS))
    assert done.code == 0
    assert read_rows(home) == before


def test_an_impossible_limit_ends_with_the_fastest_subnet_and_nothing_measured(
    home: Path, journey: Journey, here: Callable[[Path], RunHere]
) -> None:
    before = read_rows(home)
    done = here(home)(
        "search", "local", "--space", NAME, "--latency", "0.5us", "--accuracy", ACCURACY, "--json"
    )
    assert (done.code, done.out) == (1, "")
    said = re.search(r"the fastest is ([0-9.]+) ms: (\d+)", done.err)
    assert said, done.err
    assert said[2] == "0000"
    fastest = journey.steps["predict"].answer  # the limit's confidence asks for mean + z sigma
    # The message rounds to the digits that tell limit and fastest apart.
    assert fastest["latency_ms"] < float(said[1]) <= fastest["high_ms"] * 1.05
    assert read_rows(home) == before


@pytest.mark.usefixtures("board")
def test_verify_measures_again_and_says_whether_the_limit_holds(
    home: Path, journey: Journey
) -> None:
    folder = deployment(journey, home)
    done = insist(home, "verify", folder, "--device", "local", "--json")
    assert done.code == 0
    assert set(done.answer) >= VERIFY_KEYS
    assert done.answer["meets_limit"] is True
    assert done.answer["max_output_error"] < 1e-3
    report = json.loads((folder / "report.json").read_text())
    assert report["measured_ms"] == done.answer["measured_ms"]


def test_verify_sees_that_a_program_computes_something_else(
    home: Path,
    journey: Journey,
    here: Callable[[Path], RunHere],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = deployment(journey, home) / "weights.bin"
    damaged = np.frombuffer(weights.read_bytes(), np.float32) * np.float32(1.05)
    weights.write_bytes(damaged.tobytes())
    program = deployment(journey, home) / "program.json"
    description = json.loads(program.read_text())
    description["sha256"]["weights.bin"] = hashlib.sha256(damaged.tobytes()).hexdigest()
    program.write_text(json.dumps(description))
    # One session is enough: this is not about time.
    monkeypatch.setattr("latloop.journeys.measure.N_SESSIONS", 1)
    done = here(home)("verify", deployment(journey, home), "--latency", "10s", "--json")
    assert done.code == 1
    assert done.answer["meets_limit"] is True
    assert done.answer["max_output_error"] > 1e-3


@pytest.mark.usefixtures("board")
def test_deploy_of_a_subnet_over_its_limit_is_a_no_but_leaves_a_deployment(
    home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "slow-net"
    slow = f"{NAME}:2222"
    done = latloop(
        home, "deploy", "local", slow, "--folder", folder, "--latency", "0.5us", "--json"
    )
    assert done.code == 1
    assert (done.answer["network"], done.answer["meets_limit"]) == (slow, False)
    assert done.answer["max_output_error"] < 1e-3
    for name in ("model.onnx", "program", "weights.bin", "report.json"):
        assert (folder / name).is_file()


def test_run_computes_on_the_device_what_the_onnx_model_says(
    home: Path, journey: Journey, tmp_path: Path
) -> None:
    folder = deployment(journey, home)
    evaluator = ReferenceEvaluator(str(folder / "model.onnx"))
    computed = []
    for seed in (1, 2):
        image = write_images(tmp_path / "in.npz", seed)
        done = latloop(
            home, "run", "local", folder, "--inputs", tmp_path / "in.npz",
            "--outputs", tmp_path / "out.npz", "--json",
        )  # fmt: skip
        assert done.code == 0
        with np.load(tmp_path / "out.npz") as archive:
            (output,) = (archive[name] for name in archive.files)
        (expected,) = evaluator.run(None, {"input": image})
        assert list(done.answer["shapes"].values()) == [list(expected.shape)]
        assert np.abs(output - expected).max() < 1e-3 * np.abs(expected).max()
        computed.append(output)
    assert np.abs(computed[0] - computed[1]).max() > 1e-2 * np.abs(computed[0]).max()


def test_predict_answers_line_by_line_bad_lines_too(
    home: Path, journey: Journey, here: Callable[[Path], RunHere]
) -> None:
    lines = [
        f"{NAME}:0000", f"{NAME}:9999", "", "what is this", f"{NAME}:2222", "x" * 5000, "no:such",
        str(deployment(journey, home)),
    ]  # fmt: skip
    done = here(home)("predict", "local", "-", stdin="\n".join(lines) + "\n")
    assert done.code == 0
    answers = [json.loads(line) for line in done.out.splitlines()]
    asked = [line for line in lines if line]
    assert [answer["model"] for answer in answers] == asked
    good = {f"{NAME}:0000", f"{NAME}:2222", str(deployment(journey, home))}
    for line, answer in zip(asked, answers, strict=True):
        assert set(answer) >= (PREDICT_KEYS if line in good else {"error"}), answer
    assert answers[0] == journey.steps["predict"].answer
    assert answers[3]["latency_ms"] > answers[0]["latency_ms"]


def test_table_rows_add_up_to_the_prediction(
    home: Path, journey: Journey, here: Callable[[Path], RunHere]
) -> None:
    done = here(home)("table", "local", "--space", NAME, "--format", "csv")
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(done.out)))
    cost = {row["key"]: float(row["mean_ms"]) for row in rows if row["level"] == "operator"}
    (fixed,) = (float(row["mean_ms"]) for row in rows if row["level"] == "fixed")
    total_ms = fixed + sum(cost[operator.key] for operator in TINY.lower((0, 0, 0, 0)).operators)
    assert total_ms == pytest.approx(journey.steps["predict"].answer["latency_ms"], rel=1e-5)


def test_report_is_one_page_that_loads_nothing(
    home: Path, journey: Journey, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = latloop(home, "report", "local", "--output", page, "--json")
    assert done.code == 0
    assert Path(done.answer["report"]) == page
    text = page.read_text()
    assert NAME in text
    assert journey.steps["search"].answer["subnet"] in text
    assert not re.search(r"""<(?:script|img|iframe|link)\b[^>]*\s(?:src|href)\s*=""", text)
    assert not re.search(r"""@import|url\(\s*["']?http""", text)


def test_device_check_says_what_the_board_is(empty_home: Path) -> None:
    done = latloop(empty_home, "device", "check", "local", "--json")
    assert done.code == (0 if done.answer["is_fit"] else 1)
    assert done.answer["tick_ns"] >= 1
    assert done.answer["board"]["n_cores"] >= 1
    assert latloop(empty_home, "device", "list", "--json").answer[0]["name"] == "local"
