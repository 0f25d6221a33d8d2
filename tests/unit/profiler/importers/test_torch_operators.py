"""Torch operators one by one: the program of a tiny module computes what torch does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from profiler.importers.from_torch import import_torch
from profiler.importers.imported import ImportedModel
from tests.zoo.alive import outputs_of

from .programs import Array, Programs, programs

RNG = torch.Generator().manual_seed(5)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RNG)


class Wrapped(nn.Module):
    """A function as a module; what it needs to keep is a constant of the export."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class SelfAttention(nn.Module):
    """Torch's own module, of which only the result is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Recurrent(nn.Module):
    """Two layers in both directions, of which only the outputs are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LSTM(8, 3, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[0]


attend = functional.scaled_dot_product_attention
HEADS = (numbers(1, 4, 6, 8), numbers(1, 4, 5, 8), numbers(1, 4, 5, 8))
SHARED = (numbers(1, 4, 6, 8), numbers(1, 2, 6, 8), numbers(1, 2, 6, 8))
MASK = torch.rand(6, 5, generator=RNG) > 0.3
MASK[:, 0] = True  # no row that may look at nothing
TERM = numbers(6, 5)
IMAGE = numbers(1, 8, 6, 5)

CASES: dict[str, tuple[nn.Module | Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "attention": (attend, HEADS),
    "attention_scaled": (lambda q, k, v: attend(q, k, v, scale=0.1), HEADS),
    "attention_masked": (lambda q, k, v: attend(q, k, v, MASK), HEADS),
    "attention_with_a_term": (lambda q, k, v: attend(q, k, v, TERM), HEADS),
    "attention_causal": (lambda q, k, v: attend(q, k, v, is_causal=True), HEADS),
    "attention_of_shared_heads": (lambda q, k, v: attend(q, k, v, enable_gqa=True), SHARED),
    "attention_masked_by_data": (lambda q, k, v, m: attend(q, k, v, m > 0), (*HEADS, TERM)),
    "multi_head_attention": (SelfAttention(), (numbers(1, 5, 8),)),
    "group_norm": (nn.GroupNorm(2, 8), (IMAGE,)),
    "group_norm_plain": (nn.GroupNorm(4, 8, affine=False), (IMAGE,)),
    "instance_norm": (nn.InstanceNorm2d(8, affine=True), (IMAGE,)),
    "group_norm_of_two": (nn.GroupNorm(2, 8), (numbers(2, 8, 6, 5),)),
    "instance_norm_of_two": (nn.InstanceNorm2d(8, affine=True), (numbers(2, 8, 6, 5),)),
    "layer_norm_plain": (nn.LayerNorm(5, elementwise_affine=False), (IMAGE,)),
    "layer_norm_over_two_axes": (nn.LayerNorm((6, 5)), (IMAGE,)),
    "rms_norm": (nn.RMSNorm(5), (IMAGE,)),
    "nearest": (nn.Upsample(scale_factor=3, mode="nearest"), (IMAGE,)),
    "nearest_to_a_size": (nn.Upsample(size=(4, 9), mode="nearest"), (IMAGE,)),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), (IMAGE,)),
    "bilinear_aligned": (nn.Upsample((11, 7), mode="bilinear", align_corners=True), (IMAGE,)),
    "floor_division": (lambda x: torch.div(x, 2, rounding_mode="floor"), (IMAGE,)),
    "truncated_division": (lambda x: torch.div(x, 0.7, rounding_mode="trunc"), (IMAGE,)),
    "powers": (lambda x: x**2 + x**3 + (x.abs() + 1) ** 0.5 + (x.abs() + 1) ** -0.5, (IMAGE,)),
    "select": (lambda x: x[:, -2] * x.select(3, 1)[:, 0, :, None], (IMAGE,)),
    "expand": (lambda x, y: x.expand(-1, 8, -1, -1) + y, (numbers(1, 1, 6, 5), IMAGE)),
    "roll": (lambda x: x.roll((2, -1), (1, 3)), (IMAGE,)),
    "glu": (nn.GLU(1), (IMAGE,)),
    "activations": (
        lambda x: functional.elu(x) + functional.mish(x) + functional.leaky_relu(x, 0.2)
        + functional.hardtanh(x) + functional.softplus(x) + functional.gelu(x, approximate="tanh"),
        (IMAGE,),
    ),
    "elu": (nn.ELU(0.7), (IMAGE,)),
    "selu": (nn.SELU(), (IMAGE,)),
    "indices_side_by_side": (lambda x, i: x[:, i, i - 3], (IMAGE, torch.tensor([[0, -1], [2, 1]]))),
    "indices_apart": (lambda x, i: x[:, i, :, i + 1], (IMAGE, torch.tensor([0, -2, 3]))),
    "unfold": (lambda x: functional.unfold(x, 3, padding=1), (IMAGE,)),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), (numbers(1, 2, 3, 4, 5),)),
    "bicubic_by_an_odd_factor": (nn.Upsample(scale_factor=1.3, mode="bicubic"), (IMAGE,)),
    "adaptive_maximum": (nn.AdaptiveMaxPool2d((3, 1)), (IMAGE,)),
    "maximum_1d": (nn.MaxPool1d(3, 2, padding=1), (numbers(1, 8, 9),)),
    "clamped_count": (lambda x: (x * (x > 0)).sum(1) / (x > 0).sum(1).clamp(min=1), (IMAGE,)),
    "power_of_two": (lambda x: 2**x + x.exp2(), (IMAGE,)),
    "encoder_layer": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (numbers(1, 5, 8),),
    ),
    "recurrent": (Recurrent(), (numbers(1, 4, 8),)),
    "embedding": (nn.Embedding(10, 4), (torch.tensor([[1, 9, 0]]),)),
    "largest": (lambda x: x.amax(1) + x.max(dim=2).values.mean(1, keepdim=True), (IMAGE,)),
    "convolution_1d": (nn.Conv1d(8, 6, 3, padding="same", dilation=2), (numbers(1, 8, 9),)),
    "convolution_transposed": (nn.ConvTranspose2d(8, 4, 3, 2, 1, 1, groups=2), (IMAGE,)),
    "pixel_shuffle": (nn.PixelShuffle(2), (IMAGE,)),
    "padding": (lambda x: functional.pad(x, (1, 2, 0, 1), value=0.5), (IMAGE,)),
    "adaptive_pool": (nn.AdaptiveAvgPool2d((3, 2)), (IMAGE,)),
    "einsum": (lambda x, y: torch.einsum("nchw,ncd->nhwd", x, y), (IMAGE, numbers(1, 8, 3))),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x).masked_fill(x > 1, 2.0), (IMAGE,)),
    "variance": (lambda x: x.var((2, 3), keepdim=True).sqrt() + x.std(1, keepdim=True), (IMAGE,)),
    "normalised": (lambda x: functional.normalize(x, dim=1), (IMAGE,)),
    "cumulative": (lambda x: x.cumsum(2), (IMAGE,)),
}  # fmt: skip


def module_of(name: str) -> nn.Module:
    given = CASES[name][0]
    if not isinstance(given, nn.Module):
        return Wrapped(given)
    return given.eval()


@dataclass(frozen=True)
class Tried:
    """All modules as programs in one executable."""

    models: dict[str, ImportedModel]
    programs: Programs

    def run(self, name: str, inputs: tuple[Tensor, ...]) -> Array:
        """The only output."""
        model = self.models[name]
        names = [each for each, _ in model.network.inputs]
        arrays = {n: t.numpy() for n, t in zip(names, inputs, strict=True)}
        return self.programs.run(model, arrays)["output"]


@pytest.fixture(scope="module")
def tried(build_cache: Path) -> Iterator[Tried]:
    models = {
        name: import_torch(module_of(name), inputs, name) for name, (_, inputs) in CASES.items()
    }
    with programs(list(models.values()), build_cache) as started:
        yield Tried(models, started)


@pytest.mark.parametrize("name", CASES)
def test_the_program_computes_what_torch_does(tried: Tried, name: str) -> None:
    inputs = CASES[name][1]
    (expected,) = outputs_of(module_of(name), inputs)
    output = tried.run(name, inputs)
    assert output.shape == expected.shape
    assert np.max(np.abs(output - expected)) <= 1e-4 * np.max(np.abs(expected))
    assert np.ptp(expected) > 0
