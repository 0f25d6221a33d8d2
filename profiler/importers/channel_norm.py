"""Local response normalisation: each channel by the strength of its neighbours."""

from __future__ import annotations

from typing import Any, Final

from tvm import te, tirx

#: The packed function that stands for it in Relax, its numbers behind colons.
LRN_SYMBOL: Final = "latloop.lrn"


def lrn_numbers(symbol: str) -> tuple[int, float, float, float]:
    """Size, alpha, beta and bias, read from a packed function's name."""
    _, size, alpha, beta, bias = symbol.split(":")
    return int(size), float(alpha), float(beta), float(bias)


def normalise_channels(x: Any, axis: int, numbers: tuple[Any, ...]) -> Any:
    """Krizhevsky et al. 2012, section 3.3, as https://onnx.ai/onnx/operators/onnx__LRN.html.

    Args:
        x: A tensor as it lies.
        axis: Where its channels are.
        numbers: Size, alpha, beta and bias.
    """
    size = int(numbers[0])
    alpha, beta, bias = (float(number) for number in numbers[1:])
    extent, before = int(x.shape[axis]), (size - 1) // 2
    shape = list(x.shape)

    def square(*place: Any) -> Any:
        channel = place[axis] - before
        value = x[(*place[:axis], channel, *place[axis + 1 :])]
        is_inside = tirx.all(channel >= 0, channel < extent)
        return tirx.if_then_else(is_inside, value * value, tirx.const(0, x.dtype))

    widened = [*shape[:axis], extent + size - 1, *shape[axis + 1 :]]
    squares = te.compute(widened, square, name="squares")
    step = te.reduce_axis((0, size), name="step")
    strength = te.compute(
        shape,
        lambda *place: te.sum(
            squares[(*place[:axis], place[axis] + step, *place[axis + 1 :])], axis=step
        ),
        name="strength",
    )

    def normal(*place: Any) -> Any:
        base = strength[place] * tirx.const(alpha / size, x.dtype) + tirx.const(bias, x.dtype)
        if beta == 0.75:  # the usual one: roots are much faster than powers
            root = tirx.sqrt(base)
            return x[place] / (root * tirx.sqrt(root))
        return x[place] / tirx.power(base, tirx.const(beta, x.dtype))

    return te.compute(shape, normal, name="normal")
