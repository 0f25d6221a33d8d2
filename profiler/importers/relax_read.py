"""Relax functions as graphs: every front end of TVM ends in one."""

from __future__ import annotations

from typing import Any, Final

import tvm
from tvm import relax

from devices.device import DTYPE_BYTES
from profiler.generic import TensorType
from profiler.importers.errors import UnsupportedOperatorError
from profiler.importers.graph import Graph, Node, Value, constant

#: Attributes that are shapes or numbers, by name, as Python values.
Attributes = dict[str, Any]


def read_relax(module: tvm.IRModule, input_names: list[str], output_names: list[str]) -> Graph:
    """Read a module's `main`, whose shapes are all fixed.

    Args:
        module: In normal form; parameters of `main` are the model's inputs.
        input_names: What the model calls its inputs, in order.
        output_names: The same of its outputs.

    Raises:
        UnsupportedOperatorError: a value's shape depends on the data, or is no tensor.
    """
    function = module["main"]
    values: dict[Any, Value | tuple[Value, ...]] = {}
    inputs = []
    for variable, name in zip(function.params, input_names, strict=True):
        value = Value(_type(variable.ty, name), name=name)
        values[variable] = value
        inputs.append(value)
    nodes: list[Node] = []
    for block in function.body.blocks:
        for binding in block.bindings:
            values[binding.var] = _read(binding.value, binding.var, values, nodes)
    result = _value(function.body.body, values)
    outputs = list(result) if isinstance(result, tuple) else [result]
    graph = Graph(nodes, inputs, outputs)
    _name_outputs(graph, output_names)
    graph.drop_unread()
    return graph


def _name_outputs(graph: Graph, names: list[str]) -> None:
    """Give each output a value and a name of its own."""
    for position, name in enumerate(names):
        value = graph.outputs[position]
        if value.name or value.array is not None:
            copied = Value(value.type, name=name)
            graph.nodes.append(Node("identity", [value], [copied]))
            graph.outputs[position] = copied
        else:
            value.name = name


def _read(
    expression: Any, variable: Any, values: dict[Any, Any], nodes: list[Node]
) -> Value | tuple[Value, ...]:
    if not isinstance(expression, relax.Call):
        known: Value | tuple[Value, ...] = _value(expression, values)
        return known
    op = expression.op
    arguments = list(expression.args)
    attributes = _attributes(expression)
    if isinstance(op, tvm.ir.Op) and op.name == "relax.call_tir":
        name = "call_tir"
        attributes["loops"] = arguments[0]
        arguments = list(arguments[1].fields if isinstance(arguments[1], relax.Tuple)
                         else [arguments[1]])  # fmt: skip
    elif isinstance(op, tvm.ir.Op) and op.name == "relax.call_dps_packed":
        # An operation that Relax does not know, its numbers behind its name.
        attributes["symbol"] = str(arguments[0].global_symbol)
        name = attributes["symbol"].partition(":")[0]
        arguments = list(arguments[1].fields)
    elif isinstance(op, tvm.ir.Op):
        name = op.name.removeprefix("relax.")
    else:
        raise UnsupportedOperatorError(f"a call of {op} cannot be imported")
    tensors: list[Value] = []
    for position, argument in enumerate(arguments):
        if _is_tensor(argument):
            found = _value(argument, values)
            tensors.extend(found if isinstance(found, tuple) else (found,))
        else:
            attributes[f"argument{position}"] = _numbers(argument)
    types = _types(variable.ty, name)
    outputs = [Value(kind) for kind in types]
    nodes.append(Node(name, tensors, outputs, attributes, expression))
    return tuple(outputs) if isinstance(variable.ty, relax.TupleType) else outputs[0]


def _is_tensor(expression: Any) -> bool:
    kind = getattr(expression, "ty", None)
    if isinstance(kind, relax.TupleType):
        return bool(len(kind.fields)) and all(isinstance(f, relax.TensorType) for f in kind.fields)
    return isinstance(kind, relax.TensorType)


def _value(expression: Any, values: dict[Any, Any]) -> Any:
    if isinstance(expression, relax.Var):
        return values[expression]
    if isinstance(expression, tvm.ir.GenericConst):
        return constant(expression.value.numpy())
    if isinstance(expression, relax.TupleGetItem):
        return _value(expression.tuple_value, values)[expression.index]
    if isinstance(expression, relax.Tuple):
        return tuple(_value(each, values) for each in expression.fields)
    raise UnsupportedOperatorError(f"{type(expression).__name__} {expression} cannot be imported")


def _types(kind: Any, name: str) -> list[TensorType]:
    fields = kind.fields if isinstance(kind, relax.TupleType) else [kind]
    return [_type(each, name) for each in fields]


def _type(kind: Any, name: str) -> TensorType:
    shape = getattr(kind, "shape", None)
    if not isinstance(kind, relax.TensorType):
        raise UnsupportedOperatorError(
            f"{name} makes {kind}, which is no tensor: the model computes shapes from its inputs"
        )
    extents = [] if shape is None else [_number(extent) for extent in shape.values]
    if shape is None or any(not isinstance(extent, int) for extent in extents):
        raise UnsupportedOperatorError(f"{name} has a shape that depends on the data: {kind}")
    if any(extent < 1 for extent in extents):
        raise UnsupportedOperatorError(f"{name} has a tensor without elements: {kind}")
    if str(kind.dtype) not in DTYPE_BYTES:
        raise UnsupportedOperatorError(
            f"{name} has elements of type {kind.dtype}; those that can be imported are "
            f"{', '.join(DTYPE_BYTES)}"
        )
    return TensorType(tuple(extents), str(kind.dtype))


def _attributes(call: Any) -> Attributes:
    attributes: Attributes = {}
    if call.attrs is not None:
        for key in _ATTRIBUTES:
            found = getattr(call.attrs, key, None)
            if found is not None:
                attributes[key] = _numbers(found)
    return attributes


def _numbers(value: Any) -> Any:
    if isinstance(value, relax.ShapeExpr):
        return [_number(extent) for extent in value.values]
    if isinstance(value, relax.Tuple):
        return [_numbers(each) for each in value.fields]
    if isinstance(value, str):
        return str(value)
    try:
        return [_number(each) for each in value]
    except TypeError:
        return _number(value)


def _number(value: Any) -> Any:
    for name in ("value", "data"):
        inner = getattr(value, name, None)
        if isinstance(inner, int | float):
            return inner
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return _number(value.value) if hasattr(value, "value") else value


_ATTRIBUTES: Final = (
    "strides", "padding", "dilation", "groups", "output_padding", "pool_size", "ceil_mode",
    "count_include_pad", "axis", "axes", "keepdims", "begin", "end", "indices_or_sections",
    "epsilon", "center", "scale", "output_size", "data_layout", "kernel_layout", "out_dtype",
    "dtype", "min", "max", "approximate", "pad_width", "pad_mode", "pad_value", "num_groups",
    "channel_axis",
)  # fmt: skip
