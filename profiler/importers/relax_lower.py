"""What stands between Latloop's operators, lowered and fused by TVM, and the calls in order."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te
from tvm.s_tir.analysis import estimate_tir_flops

from profiler.generic import GenericBody, TensorType
from profiler.importers.errors import ModelImportError, UnsupportedOperatorError
from profiler.importers.graph import Graph, Node
from profiler.importers.imported import ImportedModel
from profiler.importers.in_place import find_in_place
from profiler.importers.loop_traits import read_traits
from profiler.importers.relax_writers import PACKED
from profiler.kernels.form import find_form
from profiler.network import Call, Network
from profiler.operator import generic_operator
from profiler.pairs import join_pairs

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
    try:
        fused = _passes()(module)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1:] or [repr(error)]
        raise UnsupportedOperatorError(f"{name} cannot be lowered to loops: {reason[0]}") from error
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
        self._bodies: dict[tuple[str, tuple[bool, ...]], tuple[GenericBody, list[int]]] = {}
        taken = {value.name for value in (*graph.inputs, *graph.outputs)}
        self._tensor, self._weight = (_free_prefix(letter, taken) for letter in "tw")

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
        network = join_pairs(Network(name, tuple(inputs), calls, outputs))
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
            name = f"{self._weight}{len(self._weights)}"
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
            weights.append(f"{self._weight}{len(self._weights)}")
            self._weights[weights[-1]] = np.asarray(array, kind.dtype).reshape(kind.shape)
        output = f"{self._tensor}{len(self._calls)}"
        call_inputs = tuple(map(str, inputs))
        self._calls.append(Call(node.attributes["operator"], call_inputs, output, tuple(weights)))
        return output

    def _generic(self, call: Any, kind: Any) -> Any:
        name = call.args[0].name_hint
        arguments = call.args[1].fields if isinstance(call.args[1], relax.Tuple) else [call.args[1]]
        if len(call.args) > 2:
            raise UnsupportedOperatorError(f"{name} has a shape that is not fixed")
        names = [self._expression(each) for each in arguments]
        key = name, tuple(each in self._weights for each in names)
        if key not in self._bodies:
            self._bodies[key] = self._body(self._module[name], *key)
        outputs = self._call(names, *self._bodies[key])
        return outputs if isinstance(kind, relax.TupleType) else outputs[0]

    def _call(self, names: list[str], body: GenericBody, order: list[int]) -> tuple[str, ...]:
        """Call a generic operator on tensors in its parameters' order; returns what it makes."""
        moving = tuple(names[i] for i in order if names[i] not in self._weights)
        constants = tuple(names[i] for i in order if names[i] in self._weights)
        first = f"{self._tensor}{len(self._calls)}"
        more = tuple(f"{first}.{i}" for i in range(1, len(body.outputs)))
        self._calls.append(Call(generic_operator(body), moving, first, constants, more))
        return (first, *more)

    def _body(
        self, function: Any, name: str, is_constant: tuple[bool, ...]
    ) -> tuple[GenericBody, list[int]]:
        """What a function computes, and its parameters' order: inputs, then constants."""
        n = len(is_constant)
        order = sorted(range(n), key=lambda i: is_constant[i])
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
            find_in_place(plain, n_moving, len(types) - n), find_form(plain),
        )  # fmt: skip
        return body, order

    def _named_outputs(self, made: tuple[str, ...]) -> tuple[tuple[Call, ...], tuple[str, ...]]:
        """Calls whose results bear the names that the model gives its outputs."""
        names = [value.name for value in self._graph.outputs]
        inputs = {value.name for value in self._graph.inputs}
        both = inputs.intersection(names)
        if both:
            raise ModelImportError(
                f"{', '.join(sorted(both))} is an input and an output of the model at once; give "
                "the output a name of its own"
            )
        rename: dict[str, str] = {}
        for found, value in zip(made, self._graph.outputs, strict=True):
            is_own = found not in rename and found not in inputs and found not in self._weights
            rename[found if is_own else self._copied(found, value.type)] = value.name

        def renamed(group: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(rename.get(each, each) for each in group)

        calls = tuple(
            Call(c.operator, renamed(c.inputs), rename.get(c.output, c.output), c.weights,
                 renamed(c.more_outputs))
            for c in self._calls
        )  # fmt: skip
        return calls, tuple(names)

    def _copied(self, name: str, kind: TensorType) -> str:
        """A copy of an input, a constant, or what is an output already."""
        source = te.placeholder(kind.shape, kind.dtype, name="source")
        copy = te.compute(kind.shape, lambda *place: source[place], name="copy")
        function = te.create_prim_func([source, copy])
        body = self._body(function, "copy", (name in self._weights,))
        return self._call([name], *body)[0]


def _free_prefix(letter: str, taken: set[str]) -> str:
    """A prefix whose numbered names no tensor of the model has."""
    prefix = letter
    while any(re.fullmatch(rf"{prefix}\d+(\.\d+)?", name) for name in taken):
        prefix += "_"
    return prefix


def loops_text(function: Any) -> str:
    """A function's loops as text that `tvm.script` reads back.

    Its parameters are named by their positions, so that equal loops of two models are equal texts.
    """
    text = str(function.script(show_meta=True))
    # The parser takes no number that large; what begins a maximum may as well be infinite.
    text = re.sub(r"T\.float64\((-?)17976931348623157\d{292}\.0\)", r'T.float64("\1inf")', text)
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
