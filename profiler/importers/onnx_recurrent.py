"""ONNX's recurrent layers in Relax, one step after the other.

All inputs are multiplied at once; each step is a product of the state, which becomes one of
Latloop's operators, and element-wise loops, which are equal in all steps and compiled once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from profiler.importers.onnx_tensors import Converter, const, known, known_or_refuse, shape_of

Array = NDArray[Any]
_ACTIVATIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "sigmoid": relax.op.sigmoid, "tanh": relax.op.tanh, "relu": relax.op.nn.relu,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Layer:
    """One direction of a recurrent layer.

    Attributes:
        bb: Where expressions are emitted.
        steps: Each step's product of inputs and weights with its terms, shape (batch, gates).
        recurrent: Shape (hidden, gates): what the state is multiplied by.
        recurrent_bias: Shape (gates,): terms of that product that must stay apart.
        peephole: Shape (3, hidden) for the gates i, o, f, or None.
        activations: Of the gates, then of what they let in, then of what comes out.
        is_reset_after: GRU alone: whether the reset gate comes after the product.
    """

    bb: Any
    steps: list[Any]
    recurrent: Array
    recurrent_bias: Array
    peephole: Array | None
    activations: tuple[Callable[[Any], Any], ...]
    is_reset_after: bool

    def product(self, state: Any, gates: slice = slice(None)) -> Any:
        """The state times its weights for some gates."""
        weight = const(self.recurrent[:, gates], "float32")
        return self.bb.normalize(relax.op.matmul(state, weight))

    def gate(self, gates: Any, position: int, hidden: int) -> Any:
        """One gate's columns."""
        begin = position * hidden
        return self.bb.normalize(relax.op.strided_slice(gates, [1], [begin], [begin + hidden]))


# Equations: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html


def _lstm_step(layer: _Layer, position: int, state: tuple[Any, ...]) -> tuple[Any, ...]:
    bb = layer.bb
    h, c = state
    hidden = layer.recurrent.shape[0]
    gates = bb.normalize(relax.op.add(layer.product(h), layer.steps[position]))
    i, o, f, new = (layer.gate(gates, place, hidden) for place in range(4))
    inner, candidate, outer = layer.activations
    if layer.peephole is not None:
        i = _peep(bb, i, c, layer.peephole[0])
        f = _peep(bb, f, c, layer.peephole[2])
    let_in = relax.op.multiply(bb.normalize(inner(i)), bb.normalize(candidate(new)))
    kept = relax.op.multiply(bb.normalize(inner(f)), c)
    c = bb.emit(relax.op.add(bb.normalize(kept), bb.normalize(let_in)))
    if layer.peephole is not None:
        o = _peep(bb, o, c, layer.peephole[1])
    h = bb.emit(relax.op.multiply(bb.normalize(inner(o)), bb.normalize(outer(c))))
    return h, c


def _peep(bb: Any, gate: Any, c: Any, weight: Array) -> Any:
    seen = bb.normalize(relax.op.multiply(c, const(weight, "float32")))
    return bb.normalize(relax.op.add(gate, seen))


def _gru_step(layer: _Layer, position: int, state: tuple[Any, ...]) -> tuple[Any, ...]:
    bb = layer.bb
    (h,) = state
    hidden = layer.recurrent.shape[0]
    inner, candidate = layer.activations[:2]
    x = layer.steps[position]
    both = slice(0, 2 * hidden)
    x_both = bb.normalize(relax.op.strided_slice(x, [1], [0], [2 * hidden]))
    gates = bb.normalize(inner(bb.normalize(relax.op.add(layer.product(h, both), x_both))))
    z, r = (layer.gate(gates, place, hidden) for place in (0, 1))
    bias = const(layer.recurrent_bias[2 * hidden :], "float32")
    if layer.is_reset_after:
        product = bb.normalize(relax.op.add(layer.product(h, slice(2 * hidden, None)), bias))
        inside = bb.normalize(relax.op.multiply(r, product))
    else:
        reset = bb.emit(relax.op.multiply(r, h))
        product = layer.product(reset, slice(2 * hidden, None))
        inside = bb.normalize(relax.op.add(product, bias))
    new = bb.normalize(candidate(bb.normalize(relax.op.add(inside, layer.gate(x, 2, hidden)))))
    # (1 - z) new + z h
    change = bb.normalize(relax.op.multiply(z, bb.normalize(relax.op.subtract(h, new))))
    return (bb.emit(relax.op.add(new, change)),)


def _rnn_step(layer: _Layer, position: int, state: tuple[Any, ...]) -> tuple[Any, ...]:
    bb = layer.bb
    total = relax.op.add(layer.product(state[0]), layer.steps[position])
    return (bb.emit(layer.activations[0](bb.normalize(total))),)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What tells the three layers apart.

    Attributes:
        name: ONNX's.
        n_states: Tensors that go from step to step.
        activations: Defaults, in lower case.
        step: One step.
    """

    name: str
    n_states: int
    activations: tuple[str, ...]
    step: Callable[[_Layer, int, tuple[Any, ...]], tuple[Any, ...]]


_LSTM: Final = _Kind("LSTM", 2, ("sigmoid", "tanh", "tanh"), _lstm_step)
_GRU: Final = _Kind("GRU", 1, ("sigmoid", "tanh"), _gru_step)
_RNN: Final = _Kind("RNN", 1, ("tanh",), _rnn_step)


class LSTM(Converter):
    """Long short-term memory, with or without peepholes."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        return _unroll(bb, inputs, attr, _LSTM)


class GRU(Converter):
    """Gated recurrent units, reset before or after the product."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        return _unroll(bb, inputs, attr, _GRU)


class RNN(Converter):
    """The plain recurrent layer."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        return _unroll(bb, inputs, attr, _RNN)


def _unroll(bb: Any, inputs: Any, attr: Any, kind: _Kind) -> Any:
    """All steps of all directions; returns the outputs that ONNX lists, states after sequence."""
    is_batch_first = bool(attr.get("layout", 0))
    _refuse(inputs, attr, kind, shape_of(inputs[0])[int(is_batch_first)])
    x = _moved(bb, inputs[0], is_batch_first)
    n_directions = shape_of(inputs[1])[0]
    direction = attr.get("direction", b"forward").decode()
    sequences, finals = [], []
    for place in range(n_directions):
        is_reverse = direction == "reverse" or place == 1
        layer = _layer(bb, x, inputs, attr, kind, place)
        state = _first_state(bb, x, inputs, kind, place, is_batch_first)
        steps = range(shape_of(x)[0])
        rows = []
        for position in reversed(steps) if is_reverse else steps:
            state = kind.step(layer, position, state)
            rows.append(bb.normalize(relax.op.expand_dims(state[0], [0, 1])))
        sequences.append(bb.normalize(relax.op.concat(rows[::-1] if is_reverse else rows, 0)))
        finals.append([bb.normalize(relax.op.expand_dims(each, 0)) for each in state])
    results = [_joined(bb, sequences, 1)]
    results += [_joined(bb, list(group), 0) for group in zip(*finals, strict=True)]
    if is_batch_first:
        results[0] = bb.normalize(relax.op.permute_dims(results[0], [2, 0, 1, 3]))
        results[1:] = [_moved(bb, each, True) for each in results[1:]]
    return relax.Tuple(results)


def _refuse(inputs: Any, attr: Any, kind: _Kind, n_steps: int) -> None:
    lengths = inputs[4]
    if lengths is not None:
        array = known(lengths)
        if array is None or np.any(array != n_steps):
            raise ValueError(f"{kind.name} with sequence_lens cannot be imported")
    if attr.get("clip") or attr.get("input_forget"):
        raise ValueError(f"{kind.name} with clip or input_forget cannot be imported")


def _moved(bb: Any, tensor: Any, is_batch_first: bool) -> Any:
    """Batch and first axis exchanged, where a layer has them the other way round."""
    return bb.normalize(relax.op.permute_dims(tensor, [1, 0, 2])) if is_batch_first else tensor


def _joined(bb: Any, parts: list[Any], axis: int) -> Any:
    return parts[0] if len(parts) == 1 else bb.normalize(relax.op.concat(parts, axis))


def _layer(bb: Any, x: Any, inputs: Any, attr: Any, kind: _Kind, place: int) -> _Layer:
    """One direction's layer, its inputs multiplied for all steps at once."""
    what = f"{kind.name}'s weight"
    weight, recurrent = (known_or_refuse(inputs[i], what)[place] for i in (1, 2))
    n_gates, hidden = recurrent.shape
    biases = np.zeros((2, n_gates), np.float32)
    if inputs[3] is not None:
        biases = known_or_refuse(inputs[3], what)[place].reshape(2, n_gates)
    added = biases.sum(0)
    if kind is _GRU:  # the reset gate multiplies the last part of the recurrent terms
        added = np.concatenate([added[: 2 * hidden], biases[0, 2 * hidden :]])
    steps, batch, depth = shape_of(x)
    rows = bb.normalize(relax.op.reshape(x, [steps * batch, depth]))
    product = bb.normalize(relax.op.matmul(rows, const(weight.T, "float32")))
    product = bb.normalize(relax.op.add(product, const(added, "float32")))
    peephole = None
    if inputs[7] is not None:
        peephole = known_or_refuse(inputs[7], what)[place].reshape(3, hidden)
    return _Layer(
        bb,
        _cut(bb, bb.emit(relax.op.reshape(product, [steps, batch, n_gates]))),
        recurrent.T,
        biases[1],
        peephole,
        _activations(attr, kind, place),
        bool(attr.get("linear_before_reset", 0)),
    )


def _cut(bb: Any, x: Any) -> list[Any]:
    """A tensor's rows, all made by one operation: slices would be as many different ones."""
    n_steps = shape_of(x)[0]
    parts = [x]
    if n_steps > 1:
        made = bb.emit(relax.op.split(x, n_steps, 0))
        parts = [bb.emit(relax.TupleGetItem(made, place)) for place in range(n_steps)]
    return [bb.normalize(relax.op.squeeze(part, [0])) for part in parts]


def _activations(attr: Any, kind: _Kind, place: int) -> tuple[Callable[[Any], Any], ...]:
    names = [name.decode().lower() for name in attr.get("activations", [])]
    n = len(kind.activations)
    names = names[place * n : (place + 1) * n] or list(kind.activations)
    unknown = [name for name in names if name not in _ACTIVATIONS]
    if unknown:
        raise ValueError(f"{kind.name} with activation {unknown[0]} cannot be imported")
    return tuple(_ACTIVATIONS[name] for name in names)


def _first_state(
    bb: Any, x: Any, inputs: Any, kind: _Kind, place: int, is_batch_first: bool
) -> tuple[Any, ...]:
    """The states before the first step, shape (batch, hidden) each; zeros where none are given."""
    hidden = shape_of(inputs[2])[2]
    states = []
    for given in (inputs[5], inputs[6])[: kind.n_states]:
        if given is None:
            states.append(const(np.zeros((shape_of(x)[1], hidden)), "float32"))
            continue
        part = relax.op.strided_slice(_moved(bb, given, is_batch_first), [0], [place], [place + 1])
        states.append(bb.normalize(relax.op.squeeze(bb.normalize(part), [0])))
    return tuple(states)
