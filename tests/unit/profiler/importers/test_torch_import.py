"""Torch modules: what they become, and why they are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from profiler.importers.errors import (
    ModelImportError,
    UnreadableModelError,
    UnsupportedOperatorError,
)
from profiler.importers.from_torch import import_torch, load_torch

EXAMPLE = torch.ones(2, 4)


class Wrapped(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def refusal(module: nn.Module, *inputs: Tensor) -> ModelImportError:
    with pytest.raises(ModelImportError) as caught:
        import_torch(module, inputs or (EXAMPLE,), "net")
    assert "\n" not in str(caught.value)
    return caught.value


def test_batch_norm_and_activation_end_in_the_convolution() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
    model = import_torch(module, (torch.ones(1, 3, 6, 6),), "net")
    (operator,) = (call.operator for call in model.network.calls if call.operator.kind == "conv2d")
    assert operator.epilogue == ("bias", "relu6")
    others = [call.operator.body for call in model.network.calls if call.operator is not operator]
    assert all(body is not None and "transpose" in body.name for body in others)


def test_parts_keep_the_mode_that_they_were_in() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    module[0].eval()
    import_torch(module, (EXAMPLE,), "net")
    assert [part.training for part in module] == [False, True, True]


def test_inputs_and_outputs_bear_their_own_names() -> None:
    class Named(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> dict[str, object]:
            return {"sum": left + right, "both": [left * 2, right.relu()]}

    model = import_torch(Named(), {"right": EXAMPLE, "left": EXAMPLE + 1}, "net")
    assert {name for name, _ in model.network.inputs} == {"left", "right"}
    assert model.network.outputs == ("sum", "both.0", "both.1")


def test_an_only_output_is_called_output_and_several_are_numbered() -> None:
    one = import_torch(Wrapped(torch.relu), (EXAMPLE,), "net")
    two = import_torch(Wrapped(lambda x: (x + 1, x.relu())), (EXAMPLE,), "net")
    assert one.network.outputs == ("output",)
    assert two.network.outputs == ("output0", "output1")


def test_tables_that_depend_on_weights_alone_are_computed_at_the_import() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(7, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.table[torch.arange(2) * 3].cos().flip(0)

    module = Positions()
    model = import_torch(module, (EXAMPLE,), "net")
    (call,) = model.network.calls
    expected = module.table.detach()[[3, 0]].cos().numpy()
    assert torch.allclose(torch.from_numpy(model.weights[call.weights[0]]), torch.tensor(expected))


def test_a_path_that_depends_on_values_is_refused() -> None:
    error = refusal(Wrapped(lambda x: x + 1 if x.sum() > 0 else x))
    assert "torch.export cannot trace net" in str(error)
    assert "torch.where" in str(error)


def test_a_module_that_fails_on_its_inputs_is_told_so() -> None:
    error = refusal(nn.Linear(5, 2))
    assert "net fails on its example inputs with RuntimeError" in str(error)


def test_unknown_operators_are_counted_and_placed() -> None:
    inner = Wrapped(lambda x: torch.special.bessel_j0(x) + torch.special.bessel_j0(x + 1))
    error = refusal(nn.Sequential(nn.ReLU(), inner))
    assert isinstance(error, UnsupportedOperatorError)
    assert "aten.special_bessel_j0.default (2, the first in 1)" in str(error)


def test_randomness_is_refused() -> None:
    error = refusal(Wrapped(lambda x: nn.functional.dropout(x, 0.5, training=True)))
    assert isinstance(error, UnsupportedOperatorError)
    assert "random" in str(error)


def test_state_is_refused_by_name() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("n_calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.n_calls += 1
            return x * self.n_calls

    assert "'n_calls'" in str(refusal(Counting()))


def test_other_precisions_are_refused_with_their_number() -> None:
    assert "2 of float64" in str(refusal(nn.Linear(4, 2).double()))
    assert "1 of float16" in str(refusal(nn.ReLU(), EXAMPLE.half()))


MODELS = """
import torch
from torch import nn

def good():
    return nn.Linear(3, 2), (torch.ones(1, 3),)

def by_name():
    return nn.Linear(3, 2), {"input": torch.ones(1, 3)}

def bare():
    return nn.Linear(3, 2)

def no_tensors():
    return nn.Linear(3, 2), (1, 2)

def failing():
    raise KeyError("weights.pt")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "zoo_of_mine.py").write_text(MODELS)
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # puts the path back afterwards
    return tmp_path


def test_a_function_of_the_current_folder_is_called(folder: Path) -> None:
    assert folder.is_dir()
    module, inputs = load_torch("zoo_of_mine:good")
    assert isinstance(module, nn.Linear)
    assert [each.shape for each in inputs] == [(1, 3)]
    assert set(load_torch("zoo_of_mine:by_name")[1]) == {"input"}


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("zoo_of_mine", UnreadableModelError, "package.module:function"),
        ("nowhere.at_all:f", UnreadableModelError, "no Python module 'nowhere'"),
        ("needs_more:f", ModelImportError, "'a_package_that_is_not_there', which is not installed"),
        ("zoo_of_mine:better", UnreadableModelError, "no function 'better'; it has bare, by_name"),
        ("zoo_of_mine:bare", ModelImportError, "returned an object of type Linear; it must return"),
        ("zoo_of_mine:no_tensors", ModelImportError, "a tuple of int, int as inputs"),
        ("zoo_of_mine:failing", ModelImportError, "KeyError: 'weights.pt'"),
    ],
)
def test_what_cannot_be_loaded_is_explained(
    folder: Path, text: str, kind: type[ModelImportError], words: str
) -> None:
    assert folder.is_dir()
    with pytest.raises(kind, match=re.escape(words)):
        load_torch(text)
