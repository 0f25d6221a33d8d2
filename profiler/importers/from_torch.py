"""Torch modules as networks of Latloop's operators."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

from profiler.importers.errors import ModelImportError, UnreadableModelError
from profiler.importers.imported import ImportedModel

if TYPE_CHECKING:
    import torch

    ExampleInputs = tuple[torch.Tensor, ...] | Mapping[str, torch.Tensor]

_RETURNS = "it must return a torch.nn.Module and a tuple or dict of example input tensors"


def import_torch(
    module: torch.nn.Module, example_inputs: ExampleInputs, name: str
) -> ImportedModel:
    """Import a module as it computes in evaluation mode, without gradients.

    Inputs bear the names of `forward`'s parameters. An only output is called `output`; several are
    `output0`, `output1`, or what the dict that holds them calls them.

    Args:
        module: Left as it was.
        example_inputs: Tensors for `forward`, by position or by name; their shapes become fixed.
        name: What the network is called.

    Raises:
        ModelImportError: the module cannot be taken as it is; the message names the thing and what
            to do.
    """
    # Seconds of import, which a name that leads nowhere does not wait for.
    from profiler.importers.lowering import lower_relax  # noqa: PLC0415
    from profiler.importers.torch_export import export, input_names, output_names  # noqa: PLC0415
    from profiler.importers.torch_relax import to_relax  # noqa: PLC0415

    program = export(module, example_inputs, name)
    inputs = input_names(program)
    outputs = output_names(program, inputs)
    return lower_relax(name, to_relax(program, name), inputs, outputs)


def load_torch(text: str) -> tuple[torch.nn.Module, ExampleInputs]:
    """Call the function that `package.module:function` names; the current folder can be imported.

    Returns:
        A module, and example inputs as `import_torch` takes them.

    Raises:
        UnreadableModelError: no such module or function.
        ModelImportError: the function fails, or returns something else.
    """
    import torch  # noqa: PLC0415  # seconds of import

    function = _find(text)
    try:
        made = function()
    except Exception as error:  # a person's code may raise anything
        raise ModelImportError(
            f"{text} failed with {type(error).__name__}: {error}; it is called without arguments"
        ) from error
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], torch.nn.Module):
        raise ModelImportError(f"{text} returned {_described(made)}; {_RETURNS}")
    module, inputs = made
    tensors = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    if not isinstance(tensors, tuple | list) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors
    ):
        raise ModelImportError(f"{text} returned {_described(inputs)} as inputs; {_RETURNS}")
    return module, inputs if isinstance(inputs, Mapping) else tuple(inputs)


def _find(text: str) -> Callable[[], object]:
    module_name, colon, attribute = text.partition(":")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise UnreadableModelError(f"a torch model is named package.module:function, got {text!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if f"{module_name}.".startswith(f"{missing}."):
            raise UnreadableModelError(
                f"{text}: there is no Python module {missing!r} in {folder} or among the installed "
                "packages; run from the folder that holds it"
            ) from error
        raise ModelImportError(
            f"{text}: {module_name} needs the Python module {missing!r}, which is not installed"
        ) from error
    except Exception as error:  # a person's code may raise anything
        raise ModelImportError(
            f"{text}: importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    function: Callable[[], object] | None = getattr(module, attribute, None)
    if not callable(function):
        own = [f for f in vars(module).values() if getattr(f, "__module__", "") == module_name]
        functions = [f.__name__ for f in own if isinstance(f, FunctionType)]
        raise UnreadableModelError(
            f"{text}: {module_name} has no function {attribute!r}; it has "
            f"{', '.join(sorted(functions)) or 'none'}"
        )
    return function


def _described(made: object) -> str:
    if isinstance(made, tuple | list):
        return (
            f"a {type(made).__name__} of {', '.join(type(m).__name__ for m in made) or 'nothing'}"
        )
    return f"an object of type {type(made).__name__}"
