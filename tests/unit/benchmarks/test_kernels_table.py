from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernels_table import geometric_mean, newest_figures, results_name, write_page

BOARD = "0123456789ab"


def write_figures(folder: Path, name: str, *ratios: float, board: str = BOARD) -> Path:
    rows = [
        {
            "group": "mobile",
            "name": f"net {position}",
            "ort_version": "1.32.0",
            "own_us": [1000.0 * ratio] * 3,
            "ort_us": [1000.0] * 3,
            "ratio": ratio,
            "ratio_quartiles": [ratio - 0.01, ratio + 0.01],
        }
        for position, ratio in enumerate(ratios)
    ]
    document = {
        "made_at": "2026-11-28T10:00:00+00:00",
        "board": {"n_cores": 2, "cpu_model": "A CPU"},
        "figures": rows,
    }
    path = folder / f"{name}-{board}.json"
    path.write_text(json.dumps(document))
    return path


def test_the_newest_figures_of_each_number_of_threads_are_found(tmp_path: Path) -> None:
    for name in ("kernels-2026-11-25", "kernels-2-threads-2026-11-26", "operators-2026-11-28"):
        write_figures(tmp_path, name, 1.0)
    write_figures(tmp_path, "kernels-2026-11-29", 1.0, board="another")
    one = write_figures(tmp_path, f"{results_name(1)}-2026-11-28", 1.0)
    two = write_figures(tmp_path, f"{results_name(2)}-2026-11-27", 1.0)
    assert newest_figures(tmp_path, BOARD) == {1: one, 2: two}


def test_the_page_has_a_section_and_a_picture_for_each_number_of_threads(tmp_path: Path) -> None:
    figures = {
        1: write_figures(tmp_path, "kernels-2026-11-25", 0.5, 2.0),
        2: write_figures(tmp_path, "kernels-2-threads-2026-11-25", 0.8, 0.2),
    }
    write_page(figures, tmp_path)
    first, one, two = (tmp_path / "kernels.md").read_text().split("\n## ")
    assert first.startswith("# Kernels beside ONNX Runtime's")
    assert one.startswith("One thread\n")
    assert "ONNX Runtime 1.32.0" in one
    assert "| net 1 | 2 | 1 | 2.000 [1.990, 2.010] |" in one
    assert "mobile: geometric mean 1.000" in one
    assert two.startswith("2 threads\n")
    assert "mobile: geometric mean 0.400" in two
    assert "(kernels-2-threads.svg)" in two
    assert "net 1" in (tmp_path / "kernels.svg").read_text()
    assert "net 1" in (tmp_path / "kernels-2-threads.svg").read_text()


def test_ratios_have_a_geometric_mean() -> None:
    rows = [{"group": "a", "ratio": 0.5}, {"group": "a", "ratio": 2.0}, {"group": "b", "ratio": 9}]
    assert geometric_mean(rows, "a") == pytest.approx(1.0)
