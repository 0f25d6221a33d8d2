"""Imported models in the artefact store: read back as they were, whole or not at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from profiler.artifacts import ArtifactSpaceError, ArtifactStore
from profiler.build import BuildCacheError
from profiler.importers.kept import Answer, keep_model, pack_answers, read_answers, read_kept
from profiler.network import Network
from profiler.network_json import network_from_json, network_to_json

from ..networks import EVERY_KIND, RESIDUAL
from .hand_made import LOOPS, hand_made_model

MODEL = hand_made_model()
ANSWERS = (
    Answer({"x": np.ones((2, 3), np.float32), "ids": np.array([0, 2])}, {"y": np.eye(2)}),
    Answer({"x": np.zeros((2, 3), np.float32), "ids": np.array([1, 1])}, {"y": -np.eye(2)}),
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.mark.parametrize("network", [RESIDUAL, EVERY_KIND, MODEL.network], ids=lambda n: n.name)
def test_a_network_goes_through_json_unchanged(network: Network) -> None:
    assert network_from_json(json.loads(json.dumps(network_to_json(network)))) == network


def test_a_kept_model_is_read_back_with_all_its_parts(store: ArtifactStore) -> None:
    kept = read_kept(keep_model(MODEL, store, b"plain", ANSWERS), store)
    assert kept is not None
    assert kept.network == MODEL.network
    assert kept.shapes == {"x": (2, 3), "ids": (2,), "y": (3, 2), "z": (2, 4)}
    weights = kept.read_weights()
    assert set(weights) == set(MODEL.weights)
    for name, array in MODEL.weights.items():
        np.testing.assert_array_equal(weights[name], array)
    (digest,) = MODEL.loops
    assert store.get(digest) == LOOPS.encode()
    assert kept.plain_model is not None
    assert kept.plain_model.read_bytes() == b"plain"
    assert kept.answers_file is not None
    assert len(read_answers(kept.answers_file)) == 2


def test_a_model_without_onnx_file_or_answers_has_none(store: ArtifactStore) -> None:
    kept = read_kept(keep_model(MODEL, store), store)
    assert kept is not None
    assert kept.plain_model is None
    assert kept.answers_file is None


def test_what_lost_a_part_is_not_found(store: ArtifactStore) -> None:
    digest = keep_model(MODEL, store, b"plain", ANSWERS)
    kept = read_kept(digest, store)
    assert kept is not None
    document = json.loads(store.get(digest) or b"")
    for part in (*document["loops"], document["weights"], document["plain_model"], digest):
        path = store.path(part)
        assert path is not None
        data = path.read_bytes()
        path.unlink()
        assert read_kept(digest, store) is None
        store.put_bytes(data)
    assert read_kept(digest, store) is not None


def test_damaged_weights_are_set_aside_so_that_the_next_import_makes_them_anew(
    store: ArtifactStore,
) -> None:
    digest = keep_model(MODEL, store)
    kept = read_kept(digest, store)
    assert kept is not None
    path = store.path(kept.weights_digest)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BuildCacheError, match="run the command again to import the model anew"):
        kept.read_weights()
    assert read_kept(digest, store) is None


def test_an_import_that_ends_early_leaves_no_model_wherever_it_ends(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ArtifactStore.put_bytes
    for n_puts in range(5):  # loops, weights, plain model, answers, document
        left = iter(range(n_puts))

        def put_some(self: ArtifactStore, data: bytes, left=left) -> str:  # type: ignore[no-untyped-def]
            if next(left, None) is None:
                raise ArtifactSpaceError("full")
            return put(self, data)

        with monkeypatch.context() as patched:
            patched.setattr(ArtifactStore, "put_bytes", put_some)
            with pytest.raises(ArtifactSpaceError):
                keep_model(MODEL, store, b"plain", ANSWERS)
        documents = [
            path
            for path in (store.folder / "objects").rglob("*")
            if path.is_file() and path.read_bytes().startswith(b'{"format"')
        ]
        assert documents == []


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
tensors = arrays.arrays(
    st.sampled_from([np.float32, np.int64, np.bool_, np.float16]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=3),
)
by_name = st.dictionaries(names, tensors, max_size=3)


@given(st.lists(st.builds(Answer, by_name, by_name), min_size=1, max_size=3))
def test_answers_are_read_back_whatever_tensors_are_called(answers: list[Answer]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.npz"
        path.write_bytes(pack_answers(answers))
        again = read_answers(path)
    full = [answer for answer in answers if answer.inputs or answer.outputs]
    assert len(again) == len(full)
    for before, after in zip(full, again, strict=True):
        for ours, theirs in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
            assert set(ours) == set(theirs)
            for name, array in ours.items():
                np.testing.assert_array_equal(theirs[name], array)
                assert theirs[name].dtype == array.dtype
