"""Einstein sums as transposes, reshapes and matrix products, for which Latloop has operators."""

from __future__ import annotations

import math
from typing import Any

from tvm import relax

from profiler.importers.onnx_tensors import Converter, shape_of


class Einsum(Converter):
    """Any number of operands, taken in pairs from the left."""

    @classmethod
    def _impl_v12(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        terms, result = parse_equation(
            attr["equation"].decode(), [len(shape_of(tensor)) for tensor in inputs]
        )
        tensor, letters = inputs[0], terms[0]
        tensor, letters = _summed(bb, tensor, letters, {*result, *"".join(terms[1:])})
        for place, other in enumerate(inputs[1:], start=1):
            wanted = {*result, *"".join(terms[place + 1 :])}
            second, second_letters = _summed(bb, other, terms[place], {*letters, *wanted})
            tensor, letters = _product(bb, tensor, letters, second, second_letters, wanted)
        tensor, letters = _summed(bb, tensor, letters, set(result))
        return _arranged(bb, tensor, letters, result)


def parse_equation(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Letters of each operand's axes and of the result's; an ellipsis becomes capital ones.

    Raises:
        ValueError: a letter stands twice in one term, or capitals meet an ellipsis.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "..." in equation and any(letter.isupper() for letter in equation):
        raise ValueError(f"Einsum {equation!r} with capitals and an ellipsis cannot be imported")
    names = [chr(ord("A") + place) for place in range(max(ranks, default=0))]
    n_most = max(
        (rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if "..." in term),
        default=0,
    )
    full = [
        term.replace("...", "".join(names[n_most - (rank - len(term) + 3) : n_most]))
        for term, rank in zip(terms, ranks, strict=True)
    ]
    if arrow:
        result = right.replace("...", "".join(names[:n_most]))
    else:  # letters that stand once, in order of the alphabet, behind the ellipsis
        joined = "".join(full)
        once = sorted(letter for letter in set(joined) if joined.count(letter) == 1)
        result = "".join(names[:n_most] + [n for n in once if n not in names[:n_most]])
    for term in (*full, result):
        if len(set(term)) < len(term):
            raise ValueError(
                f"Einsum {equation!r} with a letter twice in one term cannot be imported"
            )
    return full, result


def _summed(bb: Any, tensor: Any, letters: str, wanted: set[str]) -> tuple[Any, str]:
    """A tensor without the axes that nobody wants."""
    axes = [axis for axis, letter in enumerate(letters) if letter not in wanted]
    if not axes:
        return tensor, letters
    kept = "".join(letter for letter in letters if letter in wanted)
    return bb.normalize(relax.op.sum(tensor, axes)), kept


def _product(
    bb: Any, a: Any, a_letters: str, b: Any, b_letters: str, wanted: set[str]
) -> tuple[Any, str]:
    """Two tensors multiplied and summed over shared letters that nobody wants."""
    sizes: dict[str, int] = {}
    for tensor, term in ((a, a_letters), (b, b_letters)):
        for letter, extent in zip(term, shape_of(tensor), strict=True):
            sizes[letter] = max(sizes.get(letter, 1), extent)
    shared = [letter for letter in a_letters if letter in b_letters]
    batch = "".join(letter for letter in shared if letter in wanted)
    inner = "".join(letter for letter in shared if letter not in wanted)
    rows = "".join(letter for letter in a_letters if letter not in shared)
    columns = "".join(letter for letter in b_letters if letter not in shared)
    left = _grouped(bb, a, a_letters, (batch, rows, inner), sizes)
    right = _grouped(bb, b, b_letters, (batch, inner, columns), sizes)
    product = bb.normalize(relax.op.matmul(left, right))
    letters = batch + rows + columns
    return bb.normalize(relax.op.reshape(product, [sizes[each] for each in letters])), letters


def _grouped(
    bb: Any, tensor: Any, letters: str, groups: tuple[str, str, str], sizes: dict[str, int]
) -> Any:
    """A tensor as (batch, rows, columns), each of several letters; no batch axis without any."""
    tensor = _arranged(bb, tensor, letters, "".join(groups))
    full = [sizes[letter] for group in groups for letter in group]
    if list(shape_of(tensor)) != full:  # extents of 1 that stand for others' under an ellipsis
        tensor = bb.normalize(relax.op.broadcast_to(tensor, full))
    extents = [math.prod(sizes[letter] for letter in group) for group in groups]
    return bb.normalize(relax.op.reshape(tensor, extents if groups[0] else extents[1:]))


def _arranged(bb: Any, tensor: Any, letters: str, wanted: str) -> Any:
    if letters == wanted:
        return tensor
    axes = [letters.index(letter) for letter in wanted]
    return bb.normalize(relax.op.permute_dims(tensor, axes))
