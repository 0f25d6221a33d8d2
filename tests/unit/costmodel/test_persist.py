from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import Study
from simulated import choose_schedule, generic

from costmodel.errors import ModelFolderError
from costmodel.persist import load_model, save_model
from profiler.network import count_operators

CREATED = datetime(2025, 1, 2, tzinfo=UTC)


@pytest.fixture
def folder(mobile: Study, tmp_path: Path) -> Path:
    save_model(mobile.model, tmp_path / "model", CREATED)
    return tmp_path / "model"


def test_what_is_read_back_predicts_the_same_to_the_last_bit(mobile: Study, folder: Path):
    loaded = load_model(folder, choose_schedule)
    counts = count_operators([*(row.operators for row in mobile.test), (generic(1000),)])
    before, after = (m.predict_networks_us(counts, 0.9) for m in (mobile.model, loaded))
    for name in ("mean_us", "sigma_us", "low_us", "high_us"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert loaded.target == mobile.model.target
    assert loaded.roofline == mobile.model.roofline
    assert loaded.measured == mobile.model.measured
    assert loaded.n_networks == len(mobile.networks)


def test_saving_what_was_loaded_writes_the_same_files(folder: Path, tmp_path: Path):
    save_model(load_model(folder, choose_schedule), tmp_path / "again", CREATED)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_folder_holds_text_only_and_says_where_it_comes_from(folder: Path):
    assert {path.suffix for path in folder.iterdir()} == {".json", ".txt"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["device_id"] == "board-runtime"
    assert manifest["created"] == CREATED.isoformat()
    assert manifest["n_networks"] == 40
    assert "lightgbm" in manifest["versions"]


@pytest.mark.parametrize("name", ["model.json", "manifest.json", "trees_conv2d.txt"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_folder_is_a_clear_error(folder: Path, name: str, damage: str):
    path = folder / name
    text = path.read_text()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_text(text[: len(text) // 2])
    else:
        path.write_text(text.replace("1", "2"))
    with pytest.raises(ModelFolderError, match=str(folder)):
        load_model(folder, choose_schedule)


def test_a_newer_format_asks_for_an_update(folder: Path):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(ModelFolderError, match="format version 2, this latloop reads up to 1"):
        load_model(folder, choose_schedule)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "\x00"])
def test_a_foreign_manifest_is_refused(folder: Path, text: str):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ModelFolderError):
        load_model(folder, choose_schedule)


def test_a_model_with_other_features_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("costmodel.persist.FEATURE_NAMES", ("log_flops",))
    with pytest.raises(ModelFolderError, match="features"):
        load_model(folder, choose_schedule)
