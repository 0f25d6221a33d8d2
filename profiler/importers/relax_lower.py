"""What stands between Latloop's operators, lowered and fused by TVM, and the calls in order."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.s_tir.analysis import estimate_tir_flops

from profiler.generic import GenericBody, TensorType
from profiler.importers.errors import UnsupportedOperatorError
from profiler.importers.graph import Graph, Node
from profiler.importers.imported import ImportedModel
from profiler.importers.in_place import find_in_place
from profiler.importers.loop_traits import read_traits
from profiler.importers.relax_emit import PACKED
from profiler.network import Call, Network
from profiler.operator import generic_operator

Array = NDArray[Any]


def lower_graph(
    name: str, graph: Graph, module: tvm.IRModule, operators: list[Node]
) -> ImportedModel:
    """Lower an emitted module to calls.

    Args:
        name: What the network is called.
        graph: The model, for the names of inputs and outputs.
        module: What `Emitter.emit` made of it.
        operators: Latloop's nodes by the numbers of their packed functions.

    Raises:
        UnsupportedOperatorError: an operation that TVM does not lower to loops.
    """
    fused = _passes()(module)
    return _Reader(graph, fused, operators).read(name)


def _passes() -> tvm.ir.transform.Pass:
    return tvm.transform.Sequential([
        relax.transform.CanonicalizeBindings(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.LegalizeOps(skip_ops=["relax.reshape"]),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.DeadCodeElimination(),
        relax.transform.FuseOps(fuse_opt_level=2),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ])  # fmt: skip


class _Reader:
    """The bindings of a fused `main` as calls; views are other names of the same tensor."""

    def __init__(self, graph: Graph, module: tvm.IRModule, operators: list[Node]) -> None:
        self._graph = graph
        self._module = module
        self._operators = operators
        self._names: dict[Any, Any] = {}
        self._calls: list[Call] = []
        self._weights: dict[str, Array] = {}
        self._by_content: dict[tuple[str, str, bytes], str] = {}
        self._loops: dict[str, str] = {}
        self._bodies: dict[Any, GenericBody] = {}

    def read(self, name: str) -> ImportedModel:
        function = self._module["main"]
        inputs = []
        for variable, value in zip(function.params, self._graph.inputs, strict=True):
            self._names[variable] = value.name
            inputs.append((value.name, value.shape))
        result = None
        for block in function.body.blocks:
            for binding in block.bindings:
                result = self._bind(binding.var, binding.value)
        if not isinstance(function.body.body, relax.Var):
            result = self._expression(function.body.body)
        else:
            result = self._names[function.body.body]
        made = result if isinstance(result, tuple) else (result,)
        calls, outputs = self._named_outputs(made)
        network = Network(name, tuple(inputs), calls, outputs)
        shapes = {value.name: value.shape for value in self._graph.outputs}
        return ImportedModel(network, self._weights, self._loops, shapes)

    def _bind(self, variable: Any, value: Any) -> Any:
        if not isinstance(value, relax.Call):
            self._names[variable] = self._expression(value)
            return self._names[variable]
        name = value.op.name if isinstance(value.op, tvm.ir.Op) else str(value.op)
        if name == "relax.reshape":
            self._names[variable] = self._expression(value.args[0])
        elif name == "relax.call_dps_packed":
            self._names[variable] = self._ours(value)
        elif name == "relax.call_tir":
            self._names[variable] = self._generic(value, variable.ty)
        else:
            raise UnsupportedOperatorError(f"{name} cannot be lowered to loops")
        return self._names[variable]

    def _expression(self, value: Any) -> Any:
        if isinstance(value, relax.Var):
            return self._names[value]
        if isinstance(value, relax.TupleGetItem):
            return self._expression(value.tuple_value)[value.index]
        if isinstance(value, relax.Tuple):
            return tuple(self._expression(each) for each in value.fields)
        if isinstance(value, tvm.ir.GenericConst):
            return self._constant(value.value.numpy())
        if isinstance(value, relax.Call) and getattr(value.op, "name", "") == "relax.reshape":
            return self._expression(value.args[0])
        raise UnsupportedOperatorError(f"{type(value).__name__} cannot be lowered to loops")

    def _constant(self, array: Array) -> str:
        """The name of a constant; equal ones are kept once."""
        content = hashlib.sha256(array.tobytes()).digest()
        key = str(array.dtype), str(array.shape), content
        if key not in self._by_content:
            name = f"w{len(self._weights)}"
            self._by_content[key] = name
            self._weights[name] = array
        return self._by_content[key]

    def _ours(self, call: Any) -> str:
        node = self._operators[int(call.args[0].global_symbol.removeprefix(PACKED))]
        inputs = tuple(self._expression(each) for each in call.args[1].fields)
        weights = []
        for array, kind in zip(
            node.attributes["weights"], node.attributes["operator"].weight_types, strict=True
        ):
            # Names are the calls' own: two calls may pack the same weight differently.
            weights.append(f"w{len(self._weights)}")
            self._weights[weights[-1]] = np.asarray(array, kind.dtype).reshape(kind.shape)
        output = f"t{len(self._calls)}"
        call_inputs = tuple(map(str, inputs))
        self._calls.append(Call(node.attributes["operator"], call_inputs, output, tuple(weights)))
        return output

    def _generic(self, call: Any, kind: Any) -> Any:
        function = self._module[call.args[0].name_hint]
        arguments = call.args[1].fields if isinstance(call.args[1], relax.Tuple) else [call.args[1]]
        if len(call.args) > 2:
            raise UnsupportedOperatorError(
                f"{call.args[0].name_hint} has a shape that is not fixed"
            )
        names = [self._expression(each) for each in arguments]
        body, order = self._body(function, call.args[0].name_hint, names)
        moving = tuple(names[i] for i in order if names[i] not in self._weights)
        constants = tuple(names[i] for i in order if names[i] in self._weights)
        outputs = [f"t{len(self._calls)}.{i}" for i in range(len(body.outputs))]
        outputs[0] = f"t{len(self._calls)}"
        self._calls.append(
            Call(generic_operator(body), moving, outputs[0], constants, tuple(outputs[1:]))
        )
        return tuple(outputs) if isinstance(kind, relax.TupleType) else outputs[0]

    def _body(self, function: Any, name: str, names: list[str]) -> tuple[GenericBody, list[int]]:
        """What a function computes, its parameters put in order: inputs, constants, outputs."""
        is_constant = [each in self._weights for each in names]
        order = sorted(range(len(names)), key=lambda i: is_constant[i])
        n = len(names)
        parameters = [function.params[i] for i in (*order, *range(n, len(function.params)))]
        plain = tvm.tirx.PrimFunc(parameters, function.body, function.ret_type).with_attr(
            {"global_symbol": "main", "tirx.noalias": True, "s_tir": True}
        )
        text = loops_text(plain)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._loops[digest] = text
        types = [_parameter_type(p) for p in parameters]
        n_moving = is_constant.count(False)
        # Numbers tell apart functions of one module alone; equal loops have equal names.
        short = re.sub(r"\d+(?=_|$)|\W", "", name)[:60].strip("_")
        body = GenericBody(
            short or "loops", tuple(types[:n_moving]), tuple(types[n_moving:n]), tuple(types[n:]),
            _flops(plain), digest, read_traits(plain),
            find_in_place(plain, n_moving, len(types) - n),
        )  # fmt: skip
        return body, order

    def _named_outputs(self, made: tuple[str, ...]) -> tuple[tuple[Call, ...], tuple[str, ...]]:
        """Calls whose results bear the names that the model gives its outputs."""
        names = [value.name for value in self._graph.outputs]
        rename = dict(zip(made, names, strict=True))
        if (
            len(rename) != len(names)
            or any(n in self._weights for n in made)
            or ({value.name for value in self._graph.inputs} & set(made))
        ):
            raise UnsupportedOperatorError("an output that is an input, a constant or another one")

        def renamed(group: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(rename.get(each, each) for each in group)

        calls = tuple(
            Call(c.operator, renamed(c.inputs), rename.get(c.output, c.output), c.weights,
                 renamed(c.more_outputs))
            for c in self._calls
        )  # fmt: skip
        return calls, tuple(names)


def loops_text(function: Any) -> str:
    """A function's loops as text that `tvm.script` reads back.

    Its parameters are named by their positions, so that equal loops of two models are equal texts.
    """
    text = str(function.script(show_meta=True))
    for position, parameter in enumerate(function.params):
        text = re.sub(rf"(?<![\w.\"]){re.escape(parameter.name)}(?![\w\"])", f"p{position}", text)
    return text


def _parameter_type(parameter: Any) -> TensorType:
    return TensorType(tuple(int(e) for e in parameter.shape), str(parameter.dtype))


def _flops(function: Any) -> int:
    try:
        return int(estimate_tir_flops(tvm.IRModule({"main": function})))
    except (RuntimeError, ValueError, TypeError):
        return 0
