"""Tiny ONNX models, most of one node, whose results ONNX Runtime tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
          "bool": TensorProto.BOOL}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model, with the range of its inputs.

    Attributes:
        model: What is imported and run.
        low, high: Inputs are drawn between them, whole numbers for integer types.
    """

    model: onnx.ModelProto
    low: float = -2.0
    high: float = 2.0

    def inputs(self) -> dict[str, Array]:
        rng = np.random.default_rng(7)
        made = {}
        for value in self.model.graph.input:
            kind = value.type.tensor_type
            shape = [d.dim_value for d in kind.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            if dtype == np.float32:
                made[value.name] = rng.uniform(self.low, self.high, shape).astype(dtype)
            elif dtype == np.bool_:
                made[value.name] = rng.integers(0, 2, shape).astype(dtype)
            else:
                made[value.name] = rng.integers(int(self.low), int(self.high), shape).astype(dtype)
        return made


@dataclass
class Graph:
    """A model while it is written.

    Attributes:
        opset: Of ONNX's own operators.
    """

    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def input(self, *shape: int, dtype: str = "float32") -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def known(self, array: Any, dtype: str = "float32") -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        rng = np.random.default_rng(len(self.tensors))
        return self.known(rng.uniform(low, high, shape))

    def node(self, op: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if n_outputs == 1 else names

    def model(self, *outputs: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, 0, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, values, self.tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(model)
        for value in inferred.graph.output:  # what functions make is not inferred
            value.type.tensor_type.elem_type = value.type.tensor_type.elem_type or TensorProto.FLOAT
        return inferred


def node_case(
    op: str,
    *shapes: Sequence[int],
    known: Sequence[Any] = (),
    opset: int = 17,
    n_outputs: int = 1,
    dtype: str = "float32",
    low: float = -2.0,
    high: float = 2.0,
    **attributes: Any,
) -> Case:
    """One node on inputs of shapes, and on known arrays (None leaves one out) behind them."""
    graph = Graph(opset)
    names = [graph.input(*shape, dtype=dtype) for shape in shapes]
    for array in known:
        kind = getattr(array, "dtype", None)
        names.append("" if array is None else graph.known(array, str(kind or "float32")))
    made = graph.node(op, *names, n_outputs=n_outputs, **attributes)
    return Case(graph.model(*([made] if n_outputs == 1 else made)), low, high)


def _ints(*numbers: int) -> Array:
    return np.asarray(numbers, np.int64)


def _random(*shape: int, seed: int = 3, low: float = -1.0, high: float = 1.0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def _elementwise() -> Mapping[str, Case]:
    names = (
        "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "LeakyRelu",
        "Mish", "Neg", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
        "Tanh", "ThresholdedRelu", "Atan", "Celu",
    )  # fmt: skip
    cases = {name: node_case(name, (2, 9), opset=18) for name in names}
    cases |= {name: node_case(name, (2, 9), low=0.1) for name in ("Log", "Reciprocal", "Sqrt")}
    cases |= {name: node_case(name, (2, 5), (5,)) for name in ("Add", "Div", "Mul", "Sub")}
    cases |= {name: node_case(name, (2, 5), (2, 5), (5,)) for name in ("Max", "Mean", "Min", "Sum")}
    cases["Pow"] = node_case("Pow", (2, 5), known=[np.float32(2.5)], low=0.1)
    cases["Pow_square"] = node_case("Pow", (2, 5), known=[np.float32(2)])
    cases["Mod"] = node_case("Mod", (7,), (7,), dtype="int64", low=1, high=30)
    cases["PRelu"] = node_case("PRelu", (1, 3, 4, 4), known=[_random(3, 1, 1)])
    cases["Gelu"] = node_case("Gelu", (2, 9), opset=20)
    cases["Gelu_tanh"] = node_case("Gelu", (2, 9), opset=20, approximate="tanh")
    cases["Clip"] = node_case("Clip", (2, 9), known=[np.float32(-1), np.float32(0.5)])
    cases["Clip_6"] = node_case("Clip", (2, 9), opset=9, max=1.0)
    cases["Clip_of_integers"] = node_case(
        "Clip", (9,), known=[None, np.int64(5)], dtype="int64", low=0, high=20
    )
    cases["Div_of_integers"] = node_case("Div", (9,), (9,), dtype="int64", low=1, high=20)
    cases["Cast"] = node_case("Cast", (9,), to=TensorProto.INT64, low=-9, high=9)
    cases["Cast_to_bool"] = node_case("Cast", (9,), to=TensorProto.BOOL, dtype="int64")
    cases["IsInf"] = _divided_by_zero()
    cases["Pow_of_integers"] = node_case("Pow", (5,), known=[np.int64(3)], dtype="int64")
    cases["Not_Less"] = _chain(("Less", 2), ("Not", 1))
    cases["Where"] = _where()
    return cases


def _divided_by_zero() -> Case:
    graph = Graph()
    quotient = graph.node("Div", graph.input(6), graph.known([0, 1, 0, 1, 0, 0]))
    tests = [graph.node("IsInf", quotient, detect_negative=n, detect_positive=p)
             for n, p in ((1, 1), (0, 1), (1, 0))]  # fmt: skip
    return Case(graph.model(*tests))


def _chain(*steps: tuple[str, int]) -> Case:
    graph = Graph()
    value = graph.input(2, 7)
    for op, n_inputs in steps:
        value = graph.node(op, value, *(graph.input(2, 7) for _ in range(n_inputs - 1)))
    return Case(graph.model(value))


def _where() -> Case:
    graph = Graph()
    condition = graph.input(2, 5, dtype="bool")
    return Case(graph.model(graph.node("Where", condition, graph.input(5), graph.input(2, 1))))


def _windows() -> Mapping[str, Case]:
    image = (1, 4, 9, 8)
    conv, two = [_random(6, 4, 3, 3), _random(6)], [2, 2]
    cases = {
        "Conv": node_case("Conv", image, known=conv, pads=[1, 0, 1, 2], strides=[2, 1]),
        "Conv_same_upper": node_case("Conv", image, known=conv, auto_pad="SAME_UPPER", strides=two),
        "Conv_same_lower": node_case("Conv", image, known=conv, auto_pad="SAME_LOWER", strides=two),
        "Conv_dilated": node_case("Conv", image, known=conv, dilations=two, pads=[2, 2, 2, 2]),
        "Conv_depthwise": node_case("Conv", image, known=[_random(4, 1, 3, 3)], group=4),
        "Conv_groups": node_case("Conv", image, known=[_random(6, 2, 3, 3)], group=2),
        "Conv_multiplier": node_case("Conv", image, known=[_random(8, 1, 3, 3)], group=4),
        "Conv_of_signal": node_case("Conv", (2, 4, 9), known=[_random(6, 4, 3)], pads=[2, 1]),
        "Conv_of_volume": node_case("Conv", (1, 2, 4, 5, 4), known=[_random(3, 2, 2, 2, 2)]),
        "ConvTranspose": node_case(
            "ConvTranspose", image, known=[_random(4, 3, 3, 3), _random(3)], strides=two,
            pads=[1, 1, 1, 1], output_padding=[1, 1],
        ),
        "ConvTranspose_dilated": node_case(
            "ConvTranspose", image, known=[_random(4, 3, 2, 2)], strides=two, dilations=[2, 1]
        ),
        "ConvTranspose_output_shape": node_case(
            "ConvTranspose", image, known=[_random(4, 3, 3, 3)], strides=two,
            output_shape=[18, 17],
        ),
        "ConvTranspose_same": node_case(
            "ConvTranspose", image, known=[_random(4, 3, 3, 3)], strides=two, auto_pad="SAME_UPPER"
        ),
        "ConvTranspose_groups": node_case(
            "ConvTranspose", image, known=[_random(4, 3, 3, 3)], strides=two, group=2
        ),
        "ConvTranspose_of_signal": node_case(
            "ConvTranspose", (1, 4, 9), known=[_random(4, 3, 4)], strides=[2], pads=[1, 1]
        ),
        "MaxPool": node_case("MaxPool", image, kernel_shape=[3, 3], strides=two, pads=[1, 1, 1, 1]),
        "MaxPool_ceil": node_case("MaxPool", image, kernel_shape=[2, 3], strides=two, ceil_mode=1),
        "MaxPool_dilated": node_case("MaxPool", image, kernel_shape=[2, 2], dilations=[2, 3]),
        "MaxPool_same": node_case("MaxPool", image, kernel_shape=[3, 2], auto_pad="SAME_UPPER"),
        "MaxPool_of_signal": node_case("MaxPool", (1, 4, 9), kernel_shape=[3], strides=[2]),
        "AveragePool": node_case("AveragePool", image, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "AveragePool_counts": node_case(
            "AveragePool", image, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
        ),
        "AveragePool_ceil": node_case(
            "AveragePool", image, kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1, opset=19
        ),
        "AveragePool_ceil_counts": node_case(
            "AveragePool", image, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1,
            pads=[1, 0, 0, 1], count_include_pad=1, opset=19,
        ),
        "AveragePool_of_signal": node_case("AveragePool", (1, 4, 9), kernel_shape=[2]),
        "GlobalAveragePool": node_case("GlobalAveragePool", image),
        "GlobalMaxPool": node_case("GlobalMaxPool", image),
        "Pad": node_case("Pad", image, known=[_ints(0, 0, 1, 2, 0, 1, 0, 1), np.float32(0.5)]),
        "Pad_2": node_case("Pad", (2, 5), opset=9, pads=[0, 1, 1, 0], value=1.5),
        "Pad_crops": node_case("Pad", (4, 6), known=[_ints(-1, 2, 0, -3)]),
        "Pad_reflect": node_case("Pad", (4, 6), known=[_ints(1, 2, 0, 3)], mode="reflect"),
        "Pad_edge": node_case("Pad", (4, 6), known=[_ints(1, 2, 0, 3)], mode="edge"),
        "Pad_axes": node_case(
            "Pad", (4, 6), known=[_ints(1, 2), None, _ints(-1)], opset=18
        ),
    }  # fmt: skip
    for name, pads in (("Pad_then_Conv", [0, 0, 1, 1, 0, 0, 1, 1]),):
        graph = Graph()
        padded = graph.node("Pad", graph.input(*image), graph.known(pads, "int64"))
        cases[name] = Case(graph.model(graph.node("Conv", padded, graph.known(conv[0]))))
    return cases


def _normalisations() -> Mapping[str, Case]:
    image = (1, 4, 5, 6)
    vectors = [_random(4, seed=s, low=0.5, high=1.5) for s in range(4)]
    cases = {
        "BatchNormalization": node_case("BatchNormalization", image, known=vectors),
        "InstanceNormalization": node_case("InstanceNormalization", image, known=vectors[:2]),
        "LayerNormalization": node_case(
            "LayerNormalization", (2, 3, 8), known=[_random(8), _random(8)]
        ),
        "LayerNormalization_statistics": node_case(
            "LayerNormalization", (2, 3, 8), known=[_random(8)], n_outputs=3
        ),
        "LayerNormalization_axis": node_case(
            "LayerNormalization", (2, 3, 8), known=[_random(3, 8)], axis=1
        ),
        "GroupNormalization": node_case(
            "GroupNormalization", image, known=vectors[:2], num_groups=2, opset=21
        ),
        "LRN": node_case("LRN", (1, 7, 4, 5), size=5, alpha=0.3, beta=0.75, bias=2.0),
        "LRN_power": node_case("LRN", (1, 7, 4, 5), size=3, alpha=0.3, beta=0.6),
        "Softmax": node_case("Softmax", (2, 3, 5), axis=1),
        "Softmax_11": node_case("Softmax", (2, 3, 5), opset=11, axis=1),
        "LogSoftmax": node_case("LogSoftmax", (2, 3, 5)),
        "Hardmax": node_case("Hardmax", (2, 3, 5), axis=1),
        "LpNormalization": node_case("LpNormalization", (2, 3, 5), axis=1),
        "LpNormalization_of_zeros": node_case("LpNormalization", (2, 3), low=0, high=0),
        "MeanVarianceNormalization": node_case("MeanVarianceNormalization", image),
        "Attention": node_case("Attention", (1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), opset=23),
        "RMSNormalization": node_case("RMSNormalization", (2, 3, 8), known=[_random(8)], opset=23),
    }
    graph = Graph()
    value = graph.node("BatchNormalization", graph.input(*image), *map(graph.known, vectors))
    cases["BatchNormalization_then_Mul"] = Case(
        graph.model(graph.node("Mul", value, graph.node("Sigmoid", value)))
    )
    graph = Graph()
    value = graph.node("BatchNormalization", graph.input(*image), *map(graph.known, vectors))
    cases["BatchNormalization_before_Conv"] = Case(
        graph.model(graph.node("Conv", value, graph.random(3, 4, 3, 3)))
    )
    return cases


def _products() -> Mapping[str, Case]:
    equations = {
        "matrix": ("ij,jk->ik", (3, 4), (4, 5)),
        "batched": ("bhqd,bhkd->bhqk", (1, 2, 3, 4), (1, 2, 5, 4)),
        "outer": ("i,j", (3,), (4,)),
        "summed": ("bij,bjk->k", (2, 3, 4), (2, 4, 5)),
        "ellipsis": ("...ij,...jk->...ik", (2, 3, 4), (1, 4, 5)),
        "transposed": ("ijk->kij", (2, 3, 4)),
    }
    cases = {
        f"Einsum_{name}": node_case("Einsum", *shapes, equation=equation, opset=12)
        for name, (equation, *shapes) in equations.items()
    }
    return cases | {
        "MatMul": node_case("MatMul", (2, 3, 4), known=[_random(4, 5)]),
        "MatMul_batched": node_case("MatMul", (2, 3, 4), (2, 4, 5)),
        "MatMul_of_vector": node_case("MatMul", (4,), known=[_random(4, 5)]),
        "Gemm": node_case("Gemm", (3, 4), known=[_random(5, 4), _random(5)], transB=1),
        "Gemm_scaled": node_case(
            "Gemm", (4, 3), known=[_random(4, 5), _random(3, 1)], transA=1, alpha=0.5, beta=2.0
        ),
    }


def _layouts() -> Mapping[str, Case]:
    image = (1, 8, 4, 6)
    return {
        "Transpose": node_case("Transpose", (2, 3, 4), perm=[2, 0, 1]),
        "Reshape": node_case("Reshape", (2, 3, 4), known=[_ints(0, -1)]),
        "Flatten": node_case("Flatten", (2, 3, 4), axis=2),
        "Squeeze": node_case("Squeeze", (2, 1, 4), known=[_ints(1)]),
        "Squeeze_11": node_case("Squeeze", (2, 1, 4), opset=11, axes=[1]),
        "Unsqueeze": node_case("Unsqueeze", (2, 4), known=[_ints(0, 3)]),
        "Unsqueeze_11": node_case("Unsqueeze", (2, 4), opset=11, axes=[0, 3]),
        "Concat": node_case("Concat", (2, 3), (2, 4), axis=1),
        "Split": node_case("Split", (2, 6), known=[_ints(2, 4)], axis=1, n_outputs=2),
        "Split_11": node_case("Split", (2, 6), opset=11, axis=1, n_outputs=3),
        "Expand": node_case("Expand", (3, 1), known=[_ints(2, 1, 4)]),
        "Tile": node_case("Tile", (2, 3, 1, 4), known=[_ints(2, 1, 3, 2)]),
        "DepthToSpace": node_case("DepthToSpace", image, blocksize=2),
        "DepthToSpace_crd": node_case("DepthToSpace", image, blocksize=2, mode="CRD"),
        "SpaceToDepth": node_case("SpaceToDepth", image, blocksize=2),
        "Trilu": node_case("Trilu", (4, 5), known=[np.int64(1)], upper=0),
        "Identity": node_case("Identity", (2, 3)),
        "Dropout": node_case("Dropout", (2, 3)),
        "ReverseSequence": node_case("ReverseSequence", (4, 3), known=[_ints(4, 2, 3)]),
    }


def _choices() -> Mapping[str, Case]:
    table = (5, 3)
    return {
        "Slice": node_case("Slice", (6, 7), known=[_ints(1, -1), _ints(5, 0), _ints(0, 1),
                                                    _ints(2, -2)]),
        "Slice_1": node_case("Slice", (6, 7), opset=9, starts=[1], ends=[4], axes=[1]),
        "Gather": node_case("Gather", table, known=[_ints(4, 0, -2)]),
        "Gather_one": node_case("Gather", table, known=[np.int64(1)], axis=1),
        "Gather_range": node_case("Gather", table, known=[_ints(1, 2, 3)]),
        "Gather_matrix": node_case("Gather", table, known=[np.asarray([[0, 2], [1, 1]])], axis=1),
        "Gather_computed": _looked_up("Gather", (4,), 5),
        "GatherElements": _looked_up("GatherElements", (2, 3), 5),
        "GatherND": _looked_up("GatherND", (4, 2), 3),
        "ArgMax": node_case("ArgMax", (3, 7), axis=1, keepdims=0),
        "ArgMin": node_case("ArgMin", (3, 7), axis=0),
        "ArgMax_last": node_case("ArgMax", (3, 7), axis=-1, select_last_index=1),
        "TopK": node_case("TopK", (3, 7), known=[_ints(3)], n_outputs=2),
        "OneHot": node_case("OneHot", (4,), known=[np.int64(5), np.asarray([0.5, 2.0], "float32")],
                            dtype="int64", low=0, high=5),
        "TopK_10": node_case("TopK", (3, 7), known=[_ints(2)], n_outputs=2, opset=10, axis=0),
        "TopK_smallest": node_case("TopK", (9,), known=[_ints(9)], n_outputs=2, largest=0,
                                   dtype="int64", low=0, high=4),
        "CumSum_reverse": node_case("CumSum", (5, 2), known=[np.int64(0)], exclusive=1, reverse=1),
        "CumSum": node_case("CumSum", (3, 5), known=[np.int64(1)]),
        "ScatterND": _scattered(),
        "ScatterElements": node_case("ScatterElements", (3, 4),
                                      known=[np.asarray([[1, 0, 2, 2]]), _random(1, 4)], axis=0),
    }  # fmt: skip


def _looked_up(op: str, shape: Sequence[int], extent: int) -> Case:
    graph = Graph()
    indices = graph.input(*shape, dtype="int64")
    return Case(graph.model(graph.node(op, graph.random(5, 3), indices)), 0, min(extent, 3))


def _scattered() -> Case:
    graph = Graph()
    places, rows = graph.known([[1], [3]], "int64"), graph.input(2, 4)
    return Case(graph.model(graph.node("ScatterND", graph.input(5, 4), places, rows)))


def _reductions() -> Mapping[str, Case]:
    names = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    cases = {
        f"Reduce{name}": node_case(f"Reduce{name}", (2, 3, 4), axes=[1], keepdims=0, low=0.1)
        if name != "Sum"
        else node_case("ReduceSum", (2, 3, 4), known=[_ints(0, 2)])
        for name in names
    }
    cases["ReduceMean_18"] = node_case("ReduceMean", (2, 3, 4), known=[_ints(-1)], opset=18)
    cases["ReduceMax_all"] = node_case("ReduceMax", (2, 3, 4))
    return cases


def _resizes() -> Mapping[str, Case]:
    image = (1, 3, 4, 5)
    nothing = np.zeros(0, np.float32)

    def scaled(mode: str, scales: Sequence[float], **attributes: Any) -> Case:
        known = [nothing, np.asarray([1, 1, *scales], np.float32)]
        return node_case("Resize", image, known=known, mode=mode, **attributes)

    transformation = "coordinate_transformation_mode"
    return {
        "Resize_nearest": scaled("nearest", (2, 2), **{transformation: "asymmetric"},
                                 nearest_mode="floor"),
        "Resize_nearest_half": scaled("nearest", (1.7, 0.6)),
        "Resize_nearest_ceil": scaled("nearest", (1.7, 0.6), nearest_mode="ceil"),
        "Resize_linear": scaled("linear", (2, 1.5)),
        "Resize_linear_down": scaled("linear", (0.5, 0.7)),
        "Resize_aligned": scaled("linear", (2, 2), **{transformation: "align_corners"}),
        "Resize_pytorch": scaled("linear", (2, 3), **{transformation: "pytorch_half_pixel"}),
        "Resize_cubic": scaled("cubic", (2, 1.5)),
        "Resize_cubic_excludes": scaled("cubic", (2, 1.5), exclude_outside=1, cubic_coeff_a=-0.5),
        "Resize_sizes": node_case("Resize", image, known=[nothing, nothing, _ints(1, 3, 7, 3)],
                                  mode="linear"),
        "Resize_10": node_case("Resize", image, opset=10, known=[
            np.asarray([1, 1, 2, 0.5], np.float32)]),
        "Upsample_9": node_case("Upsample", image, opset=9, mode="nearest", known=[
            np.asarray([1, 1, 2, 2], np.float32)]),
    }  # fmt: skip


def _recurrent() -> Mapping[str, Case]:
    steps, batch, depth, hidden = 3, 2, 4, 5

    def layer(op: str, n_gates: int, n_directions: int = 1, **attributes: Any) -> Case:
        graph = Graph(14)
        x = graph.input(steps, batch, depth)
        w, r = (
            graph.random(n_directions, n_gates * hidden, columns, low=-0.5, high=0.5)
            for columns in (depth, hidden)
        )
        bias = graph.random(n_directions, 2 * n_gates * hidden)
        first = graph.input(n_directions, batch, hidden)
        n_outputs = 3 if op == "LSTM" else 2
        outputs = graph.node(
            op, x, w, r, bias, "", first, n_outputs=n_outputs, hidden_size=hidden, **attributes
        )
        return Case(graph.model(*outputs))

    return {
        "LSTM": layer("LSTM", 4),
        "LSTM_bidirectional": layer("LSTM", 4, 2, direction="bidirectional"),
        "GRU": layer("GRU", 3, direction="reverse"),
        "GRU_reset_after": layer("GRU", 3, linear_before_reset=1),
        "RNN": layer("RNN", 1, activations=["Relu"]),
    }


def _memory_orders() -> Mapping[str, Case]:
    """Operations between two convolutions, which keep their tensors as NHWC."""

    def between(write: Callable[[Graph, str], str], n_channels: int = 4) -> Case:
        graph = Graph(18)
        value = graph.node("Conv", graph.input(1, 3, 6, 6), graph.random(4, 3, 1, 1))
        value = write(graph, value)
        return Case(graph.model(graph.node("Conv", value, graph.random(2, n_channels, 1, 1))))

    def shuffle(graph: Graph, value: str) -> str:
        split = graph.node("Reshape", value, graph.known([1, 2, 2, 6, 6], "int64"))
        mixed = graph.node("Transpose", split, perm=[0, 2, 1, 3, 4])
        return str(graph.node("Reshape", mixed, graph.known([1, 4, 6, 6], "int64")))

    def squeeze_excite(graph: Graph, value: str) -> str:
        mean = graph.node("GlobalAveragePool", value)
        gate = graph.node("Conv", mean, graph.random(4, 4, 1, 1))
        return str(graph.node("Mul", value, graph.node("HardSigmoid", gate)))

    def halves(graph: Graph, value: str) -> str:
        left, right = graph.node("Split", value, n_outputs=2, axis=1, num_outputs=2)
        return str(graph.node("Concat", right, graph.node("Relu", left), axis=1))

    def shifted(graph: Graph, value: str) -> str:
        low = graph.node("Slice", value, *(graph.known([n], "int64") for n in (0, 3, 3)))
        high = graph.node("Slice", value, *(graph.known([n], "int64") for n in (3, 6, 3)))
        return str(graph.node("Concat", high, low, axis=3))

    def tokens(graph: Graph, value: str) -> str:
        flat = graph.node("Reshape", value, graph.known([1, 4, 36], "int64"))
        rows = graph.node("Transpose", flat, perm=[0, 2, 1])
        rows = graph.node("Add", rows, graph.node("MatMul", rows, graph.random(4, 4)))
        back = graph.node("Transpose", rows, perm=[0, 2, 1])
        return str(graph.node("Reshape", back, graph.known([1, 4, 6, 6], "int64")))

    return {
        "between_shuffle": between(shuffle),
        "between_squeeze_excite": between(squeeze_excite),
        "between_halves": between(halves),
        "between_shifted": between(shifted),
        "between_tokens": between(tokens),
        "between_argmax": between(lambda g, v: g.node(
            "Cast", g.node("ArgMax", v, axis=1), to=TensorProto.FLOAT), 1),
        "between_lrn": between(lambda g, v: g.node("LRN", v, size=3, alpha=0.5)),
        "between_softmax": between(lambda g, v: g.node("Softmax", v, axis=1)),
        "between_resize": between(lambda g, v: g.node(
            "Resize", v, "", g.known([1, 1, 2, 2]), mode="linear")),
        "between_pad": between(lambda g, v: g.node(
            "Pad", v, g.known([0, 0, 1, 0, 0, 0, 0, 1], "int64"), mode="reflect")),
        "between_mean": between(lambda g, v: g.node(
            "Sub", v, g.node("ReduceMean", v, g.known([1], "int64")))),
    }  # fmt: skip


def _odd_outputs() -> Mapping[str, Case]:
    """Outputs that are made by no call of their own, and names that calls would like to have."""
    graph = Graph()
    x = graph.input(2, 3)
    twice = graph.node("Relu", x)
    same, constant = graph.node("Identity", twice), graph.node("Identity", graph.random(2))
    number = graph.node("Identity", graph.known(2.5))
    every = Case(graph.model(graph.node("Identity", x), twice, same, constant, number))
    renamed = onnx.ModelProto()
    renamed.CopyFrom(node_case("Add", (2, 3), known=[_random(3)]).model)
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "w0"
    renamed.graph.initializer[0].name = renamed.graph.node[0].input[1] = "t0"
    return {"outputs_that_nothing_makes": every, "names_of_ours": Case(renamed)}


CASES: dict[str, Case] = {
    **_elementwise(), **_windows(), **_normalisations(), **_products(), **_layouts(), **_choices(),
    **_reductions(), **_resizes(), **_recurrent(), **_memory_orders(),
    **_odd_outputs(),
}  # fmt: skip
