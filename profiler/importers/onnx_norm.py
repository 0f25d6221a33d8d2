"""ONNX's normalisations in Relax."""

from __future__ import annotations

from typing import Any

from tvm import relax

from profiler.importers.channel_norm import LRN_SYMBOL
from profiler.importers.onnx_tensors import Converter, const, dtype_of, shape_of


class BatchNormalization(Converter):
    """With the statistics that the model holds."""

    @classmethod
    def _impl_v7(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        n_outputs = attr["tvm_custom"]["num_outputs"]
        if attr.get("training_mode", 0):
            raise ValueError("it computes the statistics of a training; export the model for use")
        if n_outputs > 1:
            raise ValueError("its running statistics cannot be imported")
        made = relax.op.nn.batch_norm(
            *inputs[:5], axis=1, epsilon=attr.get("epsilon", 1e-5), training=False
        )
        return bb.emit(relax.TupleGetItem(bb.normalize(made), 0))


class LayerNormalization(Converter):
    """With mean and deviation as further outputs where the model reads them."""

    @classmethod
    def _impl_v17(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, scale, bias = inputs[0], inputs[1], inputs[2]
        shape = shape_of(x)
        axes = list(range(attr.get("axis", -1) % len(shape), len(shape)))
        if bias is None:
            bias = const(0, dtype_of(x))
        epsilon = attr.get("epsilon", 1e-5)
        sizes = [shape[axis] for axis in axes]
        parameters = [bb.normalize(relax.op.broadcast_to(each, sizes)) for each in (scale, bias)]
        made = bb.normalize(relax.op.nn.layer_norm(x, *parameters, axes, epsilon))
        if attr["tvm_custom"]["num_outputs"] == 1:
            return made
        mean = bb.normalize(relax.op.mean(x, axes, keepdims=True))
        variance = bb.normalize(relax.op.variance(x, axes, keepdims=True))
        widened = bb.normalize(relax.op.add(variance, const(epsilon, dtype_of(x))))
        return relax.Tuple([made, mean, bb.normalize(relax.op.rsqrt(widened))])


class RMSNormalization(Converter):
    """Division by the root of the mean square over the last axes."""

    @classmethod
    def _impl_v23(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, rank = inputs[0], len(shape_of(inputs[0]))
        axes = list(range(attr.get("axis", -1) % rank, rank))
        square = bb.normalize(relax.op.multiply(x, x))
        mean = bb.normalize(relax.op.mean(square, axes, keepdims=True))
        epsilon = const(attr.get("epsilon", 1e-5), dtype_of(x))
        root = bb.normalize(relax.op.sqrt(bb.normalize(relax.op.add(mean, epsilon))))
        return relax.op.multiply(bb.normalize(relax.op.divide(x, root)), inputs[1])


class LpNormalization(Converter):
    """Division by the length along an axis, in Euclid's way or by absolute values."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x, axis = inputs[0], attr.get("axis", -1)
        if attr.get("p", 2) == 1:
            length = relax.op.sum(bb.normalize(relax.op.abs(x)), [axis], keepdims=True)
        else:
            squares = bb.normalize(relax.op.multiply(x, x))
            total = bb.normalize(relax.op.sum(squares, [axis], keepdims=True))
            length = relax.op.sqrt(total)
        length = bb.normalize(length)
        one, zero = (const(number, dtype_of(x)) for number in (1, 0))
        is_nothing = bb.normalize(relax.op.equal(length, zero))
        return relax.op.divide(x, bb.normalize(relax.op.where(is_nothing, one, length)))


class LRN(Converter):
    """An operation of its own, which the emitter writes for tensors as they lie."""

    @classmethod
    def _impl_v1(cls, _bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        x = inputs[0]
        numbers = [
            attr["size"],
            attr.get("alpha", 1e-4),
            attr.get("beta", 0.75),
            attr.get("bias", 1.0),
        ]
        symbol = ":".join([LRN_SYMBOL, *map(repr, numbers)])
        return relax.op.call_dps_packed(symbol, [x], relax.TensorType(shape_of(x), dtype_of(x)))
