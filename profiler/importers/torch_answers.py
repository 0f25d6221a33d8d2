"""What a torch module itself makes of inputs like its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from profiler.importers.imported import ImportedModel
from profiler.importers.kept import Answer

N_ANSWERS = 3


def answer_by_torch(
    module: torch.nn.Module,
    example_inputs: Sequence[Any] | Mapping[str, Any],
    model: ImportedModel,
    seed: int,
) -> tuple[Answer, ...]:
    """Run a module on inputs drawn like its examples.

    Images are the example moved, turned and weighted: a network can be chaotic on pictures that are
    unlike those of its statistics; no two ways to compute it agree there. Other numbers have the
    mean and spread of the example; integers lie in its range, so that indices stay indices, and one
    that never changes stays as it is.

    Args:
        module: Put into evaluation mode.
        example_inputs: As `import_torch` takes them.
        model: What was imported, for the names of inputs and outputs.
        seed: Draws the inputs.
    """
    module.eval()
    generator = torch.Generator().manual_seed(seed)
    leaves, form = pytree.tree_flatten(example_inputs)
    input_names = [name for name, _ in model.network.inputs]
    answers = []
    for _ in range(N_ANSWERS):
        drawn = [_draw(leaf, generator) for leaf in leaves]
        arguments = pytree.tree_unflatten(drawn, form)
        with torch.no_grad():
            made = module(**arguments) if isinstance(arguments, Mapping) else module(*arguments)
        tensors = [leaf for leaf in drawn if isinstance(leaf, torch.Tensor)]
        results = [leaf for leaf in pytree.tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        answers.append(
            Answer(
                {n: t.numpy() for n, t in zip(input_names, tensors, strict=True)},
                {n: t.numpy() for n, t in zip(model.network.outputs, results, strict=True)},
            )
        )
    return tuple(answers)


def _draw(leaf: Any, generator: torch.Generator) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if leaf.is_floating_point() and leaf.dim() == 4:
        return _moved(leaf, generator)
    if leaf.is_floating_point():
        spread = float(leaf.std()) if leaf.numel() > 1 else 0.0
        noise = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        return float(leaf.mean()) + noise * (spread or 1.0)
    if leaf.dtype == torch.bool:
        return torch.rand(leaf.shape, generator=generator) < 0.5
    low, high = int(leaf.min()), int(leaf.max())
    return torch.randint(low, high + 1, leaf.shape, generator=generator, dtype=leaf.dtype)


def _moved(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same image around other edges, half of the time from the other side, 0.5 to 1.5 times."""
    height, width = (
        int(torch.randint(extent, (1,), generator=generator)) for extent in image.shape[2:]
    )
    side, weight = torch.rand(2, generator=generator, dtype=image.dtype)
    moved = torch.roll(image, (height, width), (2, 3))
    return (moved.flip(3) if side < 0.5 else moved) * (0.5 + weight)
