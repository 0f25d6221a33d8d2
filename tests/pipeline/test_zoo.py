"""Twelve small torch architectures: imported, built, run, and compared with torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from profiler.importers.from_torch import import_torch
from profiler.importers.imported import ImportedModel
from tests.unit.profiler.importers.programs import Array, Programs, programs
from tests.zoo import convolutions, mixers
from tests.zoo.alive import like, outputs_of

FUNCTIONS = {
    function.__name__: function
    for function in (
        convolutions.squeeze_excite,
        convolutions.channel_shuffle,
        convolutions.dense_connections,
        convolutions.branches,
        convolutions.dilation,
        convolutions.transposed_convolution,
        convolutions.large_kernels,
        convolutions.bilinear_resize,
        mixers.layer_norm_gelu,
        mixers.windowed_attention,
        mixers.linear_attention,
        mixers.gated_linear_units,
    )
}


@dataclass(frozen=True)
class Zoo:
    """All modules, and their programs in one executable."""

    modules: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor]]]
    models: dict[str, ImportedModel]
    programs: Programs

    def run(self, name: str, image: torch.Tensor) -> list[Array]:
        """The program's outputs."""
        model = self.models[name]
        ((input_name, _),) = model.network.inputs
        return list(self.programs.run(model, {input_name: image.numpy()}).values())


@pytest.fixture(scope="module")
def zoo(build_cache: Path) -> Iterator[Zoo]:
    modules = {name: function() for name, function in FUNCTIONS.items()}
    models = {name: import_torch(*made, name) for name, made in modules.items()}
    with programs(list(models.values()), build_cache) as started:
        yield Zoo(modules, models, started)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_program_computes_what_torch_does(zoo: Zoo, name: str) -> None:
    module, (example,) = zoo.modules[name]
    previous: list[Array] | None = None
    for inputs in (example, like(example, 11)):
        expected = outputs_of(module, [inputs])
        outputs = zoo.run(name, inputs)
        assert [each.shape for each in outputs] == [each.shape for each in expected]
        assert max(map(_difference, outputs, expected)) < 1e-3
        # Outputs that hardly depend on the input would agree whatever the program did.
        assert previous is None or min(map(_difference, expected, previous)) > 0.05
        previous = expected


def _difference(array: Array, wanted: Array) -> float:
    return float(np.max(np.abs(array - wanted)) / np.max(np.abs(wanted)))
