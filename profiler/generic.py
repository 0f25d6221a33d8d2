"""What none of our operators computes: a function of tensors, known by its loops alone.

Its loops (TIR) lie in the artefact store under their digest; here is what a model of its cost and
a plan of its memory need, so that neither has to read them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from devices.device import DTYPE_BYTES

_TYPE: Final = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<shape>[\dx]*)\]")
_KEY: Final = re.compile(
    r"generic:(?P<name>\w+):(?P<inputs>[^:]*):(?P<constants>[^:]*):(?P<outputs>[^:]+)"
    r":f(?P<flops>\d+):(?P<digest>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape and element type of a tensor.

    Attributes:
        shape: Its extents; () is a single number.
        dtype: One of `DTYPE_BYTES`.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPE_BYTES)}, got {self.dtype!r}")
        if any(extent < 1 for extent in self.shape):
            raise ValueError(f"shape must be >= 1 everywhere, got {self.shape}")

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes."""
        return self.n_elements * DTYPE_BYTES[self.dtype]

    @property
    def text(self) -> str:
        """Such as `float32[1x3x224x224]`."""
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class GenericBody:
    """A function of tensors.

    Attributes:
        name: What it does, such as `softmax` or `fused_multiply_add`.
        inputs: Tensors that the network computes.
        constants: Tensors of the model, after the inputs.
        outputs: Tensors that it makes, after the constants.
        n_flops: Arithmetic operations, an exponential or the like counted as one.
        digest: SHA-256 of the text of its loops, under which the artefact store keeps it.
    """

    name: str
    inputs: tuple[TensorType, ...]
    constants: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    n_flops: int
    digest: str

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ValueError(f"{self.name} must make at least one tensor")
        if not re.fullmatch(r"\w+", self.name) or not re.fullmatch(r"[0-9a-f]{64}", self.digest):
            raise ValueError(f"not a name and a SHA-256: {self.name!r}, {self.digest!r}")

    @property
    def key(self) -> str:
        """The canonical text; `parse_generic` reads it back."""
        types = (
            ",".join(t.text for t in group) for group in (self.inputs, self.constants, self.outputs)
        )
        return f"generic:{self.name}:{':'.join(types)}:f{self.n_flops}:{self.digest}"


def parse_generic(key: str) -> GenericBody | None:
    """Read a body back from its canonical text; None if the text is no such key."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    return GenericBody(
        match["name"],
        _parse_types(match["inputs"]),
        _parse_types(match["constants"]),
        _parse_types(match["outputs"]),
        int(match["flops"]),
        match["digest"],
    )


def _parse_types(text: str) -> tuple[TensorType, ...]:
    types = []
    for part in text.split(",") if text else ():
        match = _TYPE.fullmatch(part)
        if match is None:
            raise ValueError(f"not a tensor's type: {part!r}")
        shape = tuple(int(extent) for extent in match["shape"].split("x") if extent)
        types.append(TensorType(shape, match["dtype"]))
    return tuple(types)
