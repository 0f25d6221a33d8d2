"""Loops that somebody else wrote, read as steps: what each stores, and of what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import tvm
import tvm_ffi
from tvm import s_tir, sym, tirx

from profiler.kernels.tir import Buffer, Expression
from profiler.schedules.generic import blocks_of, has_blocks, nodes_of

Combine = Literal["", "add", "max"]
_COMBINED: Final[Mapping[type, Combine]] = {tirx.Add: "add", tirx.Max: "max"}


class OtherFormError(ValueError):
    """A function is not of the form that a kernel of ours computes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One block of loops; axes of extent 1 are written as 0.

    Attributes:
        places: Variables of the loops that run over what is stored, and their extents.
        terms: The same of the loops that run over the terms of a sum or maximum.
        target: What is stored to.
        indices: Where, in `places`.
        value: What is stored, or a term.
        combine: How terms are put together; "" where there are none.
        start: What terms are added to, or None.
    """

    places: Mapping[Any, int]
    terms: Mapping[Any, int]
    target: Buffer
    indices: tuple[Expression, ...]
    value: Expression
    combine: Combine
    start: Expression | None

    @property
    def n_passes(self) -> int:
        """How often its body runs."""
        return math.prod((*self.places.values(), *self.terms.values()))

    def loads_of(self, buffer: Buffer) -> list[Any]:
        """All that it reads of a tensor."""
        return [load for load in loads_in(self.value) if load.source.same_as(buffer)]

    def renamed(self, names: Mapping[Any, Expression]) -> Step:
        """The same loops with other names for some variables."""

        def new(variables: Mapping[Any, int]) -> dict[Any, int]:
            return {names.get(variable, variable): extent for variable, extent in variables.items()}

        return replace(
            self,
            places=new(self.places),
            terms=new(self.terms),
            indices=tuple(substitute(index, names) for index in self.indices),
            value=substitute(self.value, names),
        )


def read_steps(function: tvm.tirx.PrimFunc) -> tuple[Step, ...]:
    """The blocks of a function of float32 tensors in order, cheap ones drawn into their readers.

    Raises:
        OtherFormError: its loops are not blocks that each store one number.
    """
    try:
        sch = s_tir.Schedule(function)
        if not has_blocks(sch):
            raise OtherFormError("no blocks")
        steps = [step for block in blocks_of(sch) for step in _read(sch, block)]
    except (RuntimeError, TypeError, AttributeError) as error:
        raise OtherFormError(str(error)) from error
    if not steps:
        raise OtherFormError("nothing is stored")
    return tuple(_drawn_in(steps, list(function.params)))


def aligned(steps: Sequence[Step], column: Any | None = None) -> tuple[Step, ...]:
    """The same steps with the last one's names for loops that run over the same numbers.

    Args:
        steps: Each but the last is read by a later one, always at the same place.
        column: What the loop over terms is called in all of them; None lets each keep its own.

    Raises:
        OtherFormError: they do not run over the same places.
    """
    done: list[Step] = []
    extents: dict[Any, int] = {}
    for step in reversed(steps):
        names = _names(step, done) if done else {}
        if column is not None and step.terms:
            names = {**names, _only(step.terms): column}
        named = step.renamed(names)
        for variable, extent in (*named.places.items(), *named.terms.items()):
            if extents.setdefault(variable, extent) != extent:
                raise OtherFormError("loops of one name and different lengths")
        done.insert(0, named)
    return tuple(done)


def _names(step: Step, later: Sequence[Step]) -> dict[Any, Any]:
    """What a later step calls the places of a step that it reads."""
    reads = [load for each in later for load in each.loads_of(step.target)]
    if not reads:
        raise OtherFormError("several outputs")
    first, *others = reads
    if any(not _equal(first.indices, other.indices) for other in others):
        raise OtherFormError("a tensor that is read at several places")
    names = {}
    for place, index in zip(step.indices, first.indices, strict=True):
        if place in step.places and isinstance(index, tvm.ir.Var):
            names[place] = index
        elif not _equal([place], [index]):
            raise OtherFormError("a tensor that is not read where it is made")
    return names


def _only(terms: Mapping[Any, int]) -> Any:
    if len(terms) != 1:
        raise OtherFormError("terms along several axes")
    return next(iter(terms))


def _drawn_in(steps: Sequence[Step], parameters: Sequence[Any]) -> list[Step]:
    """Steps without those whose readers may as well compute them."""
    kept: list[Step] = []
    inside: dict[Any, Step] = {}
    for position, step in enumerate(steps):
        whole = _with_loads(step, inside)
        if _may_be_drawn(whole, steps[position + 1 :], parameters):
            inside[step.target] = whole
        else:
            kept.append(whole)
    return kept


def _may_be_drawn(step: Step, later: Sequence[Step], parameters: Sequence[Any]) -> bool:
    if step.combine or any(step.target.same_as(each) for each in parameters):
        return False
    if not all(index in step.places or isinstance(index, tirx.IntImm) for index in step.indices):
        return False
    readers = [each for each in later for _ in each.loads_of(step.target)]
    if any(reader.n_passes > step.n_passes for reader in readers):
        return False
    return len(readers) == 1 or not n_calls(step.value)


def _with_loads(step: Step, inside: Mapping[Any, Step]) -> Step:
    """A step that computes what some of its loads read."""
    if not any(load.source in inside for load in loads_in(step.value)):
        return step
    analyzer = sym.Analyzer()
    for variable, extent in (*step.places.items(), *step.terms.items()):
        analyzer.bind(variable, tvm.ir.Range(tirx.const(0, str(variable.ty.dtype)), extent))

    def drawn(load: Any) -> Any:
        source = inside.get(load.source)
        if source is None:
            return load
        found = zip(source.indices, load.indices, strict=True)
        return substitute(source.value, {v: index for v, index in found if v in source.places})

    def simple(load: Any) -> Any:
        return load.source[tuple(analyzer.simplify(index) for index in load.indices)]

    value = tvm_ffi.structural_map(step.value, (tvm.ir.TensorLoad, drawn))
    return replace(step, value=tvm_ffi.structural_map(value, (tvm.ir.TensorLoad, simple)))


def _read(sch: s_tir.Schedule, block: Any) -> list[Step]:
    """The steps of a block: one for each tensor that it stores to."""
    statement, loops = sch.get(block), sch.get_loops(block)
    extents = [int(sch.get(loop).extent) for loop in loops]
    domains = [int(variable.dom.extent) for variable in statement.iter_vars]
    if sorted(extents) != sorted(domains) or statement.match_buffers or statement.alloc_buffers:
        raise OtherFormError("a block that is no grid of places")
    ones = {
        v.var: tirx.const(0, str(v.var.ty.dtype))
        for v in statement.iter_vars
        if int(v.dom.extent) == 1
    }
    rest = [v for v in statement.iter_vars if v.var not in ones]
    has_terms = statement.init is not None
    if not {int(v.iter_type) for v in rest} <= ({0, 2} if has_terms else {0}):
        raise OtherFormError("loops that are neither places nor terms")
    places, terms = (
        {v.var: int(v.dom.extent) for v in rest if int(v.iter_type) == kind} for kind in (0, 2)
    )
    starts = _stores(statement.init) if has_terms else []
    found = []
    for store in _stores(statement.body):
        combine: Combine = ""
        value, start = store.value, None
        if has_terms:
            combine, value = _term(store)
            start = next((s.value for s in starts if s.buffer.same_as(store.buffer)), None)
        target, indices = store.buffer, tuple(store.indices)
        step = Step(places, terms, target, indices, value, combine, start)
        found.append(step.renamed(ones))
    if any(step.loads_of(other.target) for step in found for other in found):
        raise OtherFormError("sums that read each other")
    return found


def _stores(body: Any) -> list[Any]:
    """The stores of a statement, each of a value that is written out."""
    bound: dict[Any, Any] = {}
    found = []
    for each in body.seq if isinstance(body, tirx.SeqStmt) else [body]:
        if isinstance(each, tirx.Bind):
            bound[each.var] = substitute(each.value, bound)
        elif isinstance(each, tirx.BufferStore):
            value = substitute(each.value, bound)
            found.append(tirx.BufferStore(each.buffer, value, each.indices))
            _check_types(found[-1])
        else:
            raise OtherFormError("a block that does more than store numbers")
    return found


def _term(store: Any) -> tuple[Combine, Expression]:
    """How a store puts another term to what it stores, and the term."""
    combine = _COMBINED.get(type(store.value))
    total = store.value.a if combine else None
    is_itself = (
        isinstance(total, tvm.ir.TensorLoad)
        and total.source.same_as(store.buffer)
        and _equal(total.indices, store.indices)
    )
    if combine is None or not is_itself:
        raise OtherFormError("neither a sum nor a maximum")
    return combine, store.value.b


def _check_types(store: Any) -> None:
    values = [store.value, *(n for n in nodes_of(store) if isinstance(n, tvm.ir.TensorLoad))]
    if any(str(value.ty.dtype) != "float32" for value in values):
        raise OtherFormError("not float32 alone")


def _equal(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(map(tvm_ffi.structural_equal, some, others))


def loads_in(expression: Expression) -> list[Any]:
    """All that an expression reads."""
    return [node for node in nodes_of(expression) if isinstance(node, tvm.ir.TensorLoad)]


def n_calls(expression: Expression) -> int:
    """How many exponentials or the like an expression holds."""
    return sum(isinstance(node, tvm.ir.Call) for node in nodes_of(expression))


def substitute(expression: Expression, values: Mapping[Any, Expression]) -> Expression:
    """An expression with values in the place of variables."""
    if not values:
        return expression
    return tvm_ffi.structural_map(
        expression, (tvm.ir.Var, lambda variable: values.get(variable, variable))
    )
