"""What none of our operators computes: a function of tensors, known by its loops alone.

Its loops (TIR) lie in the artefact store under their digest; here is what a model of its cost and
a plan of its memory need, so that neither has to read them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from devices.device import DTYPE_BYTES

_TYPE: Final = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<shape>[\dx]*)\]")
_KEY: Final = re.compile(
    r"generic:(?P<name>\w+):(?P<inputs>[^:]*):(?P<constants>[^:]*):(?P<outputs>[^:]+)"
    r":f(?P<flops>\d+)"
    r"(?::i(?P<iterations>\d+):t(?P<transcendentals>\d+):r(?P<terms>\d+):v(?P<along>\d+)"
    r":b(?P<blocks>\d+))?(?::(?P<form>matmul|rowwise)(?P<rows>\d+)x(?P<columns>\d+))?"
    r"(?::p(?P<in_place>\d+(?:\.\d+)*))?:(?P<digest>[0-9a-f]{64})"
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
class LoopTraits:
    """What decides, beside arithmetic and bytes, how long loops take.

    Attributes:
        n_iterations: Passes through innermost bodies, over all blocks of loops.
        n_transcendentals: Exponentials, roots and the like, over all passes.
        n_terms: Terms of the longest sum.
        n_along_memory: Passes in blocks whose innermost loop can run along memory.
        n_blocks: Blocks of loops, each of which reads and writes memory.
    """

    n_iterations: int
    n_transcendentals: int
    n_terms: int
    n_along_memory: int
    n_blocks: int

    def __post_init__(self) -> None:
        if self.n_transcendentals < 0 or not 0 <= self.n_along_memory <= self.n_iterations:
            raise ValueError(f"counts of loops contradict each other: {self}")
        if min(self.n_iterations, self.n_terms, self.n_blocks) < 1:
            raise ValueError(f"loops run at least once, got {self}")

    @property
    def text(self) -> str:
        """Part of an operator's key."""
        return (
            f"i{self.n_iterations}:t{self.n_transcendentals}:r{self.n_terms}"
            f":v{self.n_along_memory}:b{self.n_blocks}"
        )


@dataclass(frozen=True, slots=True)
class LoopForm:
    """What loops compute, where a kernel of ours computes it, too.

    Attributes:
        rule: `matmul`, products of two matrices, or `rowwise`, sums and functions along rows.
        n_rows: Of one product, or of all rows.
        n_columns: Neighbours in memory that are computed alike.
    """

    rule: Literal["matmul", "rowwise"]
    n_rows: int
    n_columns: int

    def __post_init__(self) -> None:
        if min(self.n_rows, self.n_columns) < 1:
            raise ValueError(f"rows and columns must be >= 1, got {self}")

    @property
    def text(self) -> str:
        """Part of an operator's key."""
        return f"{self.rule}{self.n_rows}x{self.n_columns}"


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
        traits: What its loops are like; None where they cannot be read.
        in_place: Positions of the inputs whose place in memory the only output may take: its loops
            read each of their numbers just before they write the same place, and never again.
        form: What kernels of ours there are for it; None where the loops alone say what to do.
    """

    name: str
    inputs: tuple[TensorType, ...]
    constants: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    n_flops: int
    digest: str
    traits: LoopTraits | None = None
    in_place: tuple[int, ...] = ()
    form: LoopForm | None = None

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
        traits = "".join(f":{each.text}" for each in (self.traits, self.form) if each is not None)
        places = f":p{'.'.join(map(str, self.in_place))}" if self.in_place else ""
        return (
            f"generic:{self.name}:{':'.join(types)}:f{self.n_flops}{traits}{places}:{self.digest}"
        )


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
        None if match["iterations"] is None else _parse_traits(match),
        tuple(int(part) for part in (match["in_place"] or "").split(".") if part),
        None if match["form"] is None else _parse_form(match),
    )


def _parse_form(match: re.Match[str]) -> LoopForm:
    rule: Literal["matmul", "rowwise"] = "matmul" if match["form"] == "matmul" else "rowwise"
    return LoopForm(rule, int(match["rows"]), int(match["columns"]))


def _parse_traits(match: re.Match[str]) -> LoopTraits:
    names = ("iterations", "transcendentals", "terms", "along", "blocks")
    return LoopTraits(*(int(match[name]) for name in names))


def _parse_types(text: str) -> tuple[TensorType, ...]:
    types = []
    for part in text.split(",") if text else ():
        match = _TYPE.fullmatch(part)
        if match is None:
            raise ValueError(f"not a tensor's type: {part!r}")
        shape = tuple(int(extent) for extent in match["shape"].split("x") if extent)
        types.append(TensorType(shape, match["dtype"]))
    return tuple(types)
