from __future__ import annotations

import json
from pathlib import Path

import pytest
from operators import DoneFile


def test_a_step_that_was_done_is_not_done_again_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    assert DoneFile(path).once("first", lambda: {"us": [1.5]}) == {"us": [1.5]}
    assert DoneFile(path).once("first", lambda: pytest.fail("done again")) == {"us": [1.5]}


def test_a_step_that_fails_leaves_what_was_done_before(tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    done = DoneFile(path)
    done.once("first", lambda: 1)
    with pytest.raises(KeyError):
        done.once("second", lambda: {}["nothing"])
    assert json.loads(path.read_text()) == {"first": 1}
    assert DoneFile(path).once("second", lambda: 2) == 2
