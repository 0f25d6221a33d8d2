"""Any loops at all: what is cheap is drawn into its reader, and vectors run along memory.

For each block the innermost loop becomes one along which every tensor is read and written either
number by number or not at all; sums that must run along that loop are left to the compiler, which
may reorder their terms. Of several threads each takes a part of the loop that can be outermost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.schedules.tiles import best_shared, divisors, vector_split
from profiler.target import Target

if TYPE_CHECKING:
    from tvm import s_tir

RULE = "generic"
#: Vectors of sums that are kept in registers at once, along memory and across.
_VECTORS, _ROWS = 4, 6
#: Shorter vectors are left to the compiler, which may find others.
_LEAST_LANES = 4
#: TVM's number of plain loops.
_SERIAL = 0


def candidates(operator: Operator, target: Target) -> tuple[Schedule, ...]:
    """Whole vectors along memory with several rows of sums in registers, fewer of them, or none.

    Behind kernels of ours the first alone is left: what it is best at, they are hardly slower.
    """
    del target  # vectors fit whatever it has
    whole = Schedule(RULE, (("rows", _ROWS), ("vectors", _VECTORS)))
    if operator.body is not None and operator.body.form is not None:
        return (whole,)
    plain = Schedule(RULE, (("rows", 0), ("vectors", 0)))
    traits = None if operator.body is None else operator.body.traits
    if traits is not None and traits.n_terms == 1:  # without sums the registers stay empty
        return (whole, plain)
    return (whole, Schedule(RULE, (("rows", 1), ("vectors", 2))), plain)


def apply(schedule: Schedule, sch: s_tir.Schedule, target: Target) -> None:
    """Lay out every block of a function; one without blocks stays as the front end wrote it."""
    if not has_blocks(sch):
        return
    inline(sch)
    for block in blocks_of(sch):
        if schedule.n_tasks > 1:
            _bring_out(sch, block, schedule.n_tasks)
        if schedule["vectors"]:
            _lay_out(sch, block, schedule, target.lanes)
        _share(sch, block, schedule)


def has_blocks(sch: s_tir.Schedule) -> bool:
    """Whether a function is made of blocks with loops; scatters are one block that holds all."""
    realize = sch.mod["main"].body
    return getattr(getattr(realize, "block", None), "name_hint", "") == "root"


def blocks_of(sch: s_tir.Schedule) -> list[Any]:
    """The blocks of a function, in order."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def inline(sch: s_tir.Schedule) -> None:
    """Draw blocks without sums into readers that use each of their numbers about once."""
    for block in blocks_of(sch):
        consumers = sch.get_consumers(block)
        if not consumers or _has_sums(sch, block):
            continue
        n_made = n_iterations(sch, block)
        if all(n_iterations(sch, reader) <= n_made for reader in consumers):
            _try(sch.compute_inline, block)


def _bring_out(sch: s_tir.Schedule, block: Any, n_tasks: int) -> None:
    """Put outside the loop over places that tasks divide best, other than the innermost one."""
    loops = sch.get_loops(block)
    kinds = [int(v.iter_type) for v in sch.get(block).iter_vars]
    if len(kinds) != len(loops):
        return
    inner = find_innermost(sch, block, loops)
    outer = [
        loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0 and loop is not inner
    ]
    if outer:
        best = outer[best_shared([_extent(sch, loop) for loop in outer], n_tasks)]
        rest = [loop for loop in loops if loop is not best]
        _try(lambda loop: sch.reorder(loop, *rest), best)


def _share(sch: s_tir.Schedule, block: Any, schedule: Schedule) -> None:
    """Let tasks share the outermost loop of a block, if TVM finds that its passes are independent.

    It does not see so once the start of sums stands apart. Loops that run once are passed over.
    """
    loop = next((each for each in sch.get_loops(block) if _extent(sch, each) > 1), None)
    if schedule.n_tasks > 1 and loop is not None and int(sch.get(loop).kind) == _SERIAL:
        _try(sch.parallel, loop)


def _lay_out(sch: s_tir.Schedule, block: Any, schedule: Schedule, lanes: int) -> None:
    loops = sch.get_loops(block)
    if not loops:
        return
    kinds = [int(v.iter_type) for v in sch.get(block).iter_vars]
    if len(kinds) != len(loops):  # loops that the front end laid out itself
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
    sums = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != 0]
    inner = find_innermost(sch, block, loops)
    if inner is None or inner not in spatial:
        return
    extent = _extent(sch, inner)
    if not sums:
        _vectorize(sch, [loop for loop in loops if loop is not inner], inner, extent, lanes)
        return
    outer = [loop for loop in spatial if loop is not inner]
    _sum_in_registers(sch, block, outer, sums, inner, schedule, lanes)


def _vectorize(sch: s_tir.Schedule, outer: list[Any], inner: Any, extent: int, lanes: int) -> None:
    if outer:
        sch.reorder(*outer, inner)
    _, lanes = vector_split(extent, lanes)
    if lanes >= _LEAST_LANES:
        _, lane = sch.split(inner, [None, lanes])
        sch.vectorize(lane)


def _sum_in_registers(
    sch: s_tir.Schedule,
    block: Any,
    outer: list[Any],
    sums: list[Any],
    inner: Any,
    schedule: Schedule,
    lanes: int,
) -> None:
    """Sums of a tile of outputs run together, the tile in registers."""
    extent = _extent(sch, inner)
    whole, fitting = vector_split(extent, lanes)
    if fitting < _LEAST_LANES:
        sch.reorder(*outer, *sums, inner)
        _share(sch, block, schedule)
        if extent >= lanes:
            sch.decompose_reduction(block, sums[0])
        return
    n_vectors, lanes = divisors(whole, schedule["vectors"])[-1], fitting
    row = max(outer, key=lambda loop: _extent(sch, loop), default=None)
    tail, vector, lane = sch.split(inner, [None, n_vectors, lanes])
    rows = []
    if row is not None and schedule["rows"] > 1:
        n_rows = divisors(_extent(sch, row), schedule["rows"])[-1]
        position = outer.index(row)
        outer[position], inner_row = sch.split(row, [None, n_rows])
        rows = [inner_row]
    sch.reorder(*outer, tail, *sums, *rows, vector, lane)
    written = sch.cache_write(block, 0, "local")
    sch.reverse_compute_at(written, tail, preserve_unit_loops=True)
    for loop in (*rows, vector):
        sch.unroll(loop)
    sch.vectorize(lane)
    _share(sch, block, schedule)
    init = sch.decompose_reduction(block, sums[0])
    _vectorize_tile(sch, init, n_vectors * lanes, lanes, is_written=False)
    _vectorize_tile(sch, written, n_vectors * lanes, lanes, is_written=True)


def _vectorize_tile(
    sch: s_tir.Schedule, block: Any, width: int, lanes: int, *, is_written: bool
) -> None:
    last = sch.get_loops(block)[-1]
    if is_written and _extent(sch, last) == width:
        vector, last = sch.split(last, [None, lanes])
        sch.unroll(vector)
    if _extent(sch, last) == lanes and is_written:
        sch.vectorize(last)


def find_innermost(sch: s_tir.Schedule, block: Any, loops: list[Any]) -> Any | None:
    """The last loop of those along which all tensors lie number by number or stand still."""
    from tvm import tirx  # noqa: PLC0415  # seconds of import, in the compiler's process alone

    statement = sch.get(block)
    accesses = [node for node in nodes_of(statement.body) if hasattr(node, "indices")]
    for variable, loop in reversed(list(zip(statement.iter_vars, loops, strict=True))):
        if _extent(sch, loop) < 4:
            continue
        if all(_is_along(access.indices, variable.var, tirx) for access in accesses):
            return loop
    return None


def nodes_of(root: Any) -> list[Any]:
    """Everything in a statement or expression."""
    from tvm_ffi import structural_walk  # noqa: PLC0415

    found: list[Any] = []
    structural_walk(root, found.append)
    return found


def _is_along(indices: Any, variable: Any, tirx: Any) -> bool:
    """Whether a variable appears as the last index alone, by itself or as a term, or not at all."""
    if not len(indices):
        return True
    *first, last = indices

    def reads(expression: Any) -> bool:
        return any(
            variable.same_as(node) for node in nodes_of(expression) if isinstance(node, tirx.Var)
        )

    if any(reads(index) for index in first):
        return False
    if not reads(last) or last.same_as(variable):
        return True
    terms = [last]
    while terms:
        term = terms.pop()
        if isinstance(term, tirx.Add):
            terms += [term.a, term.b]
        elif reads(term) and not term.same_as(variable):
            return False
    return True


def _has_sums(sch: s_tir.Schedule, block: Any) -> bool:
    return any(int(v.iter_type) != 0 for v in sch.get(block).iter_vars)


def n_iterations(sch: s_tir.Schedule, block: Any) -> int:
    """How often a block's body runs."""
    count = 1
    for loop in sch.get_loops(block):
        count *= _extent(sch, loop)
    return count


def _extent(sch: s_tir.Schedule, loop: Any) -> int:
    return int(sch.get(loop).extent)


def _try(action: Any, place: Any) -> None:
    """Do what TVM may refuse: a block or loop that must stay as it is stays."""
    from tvm.s_tir.schedule import ScheduleError  # noqa: PLC0415

    try:
        action(place)
    except ScheduleError:
        return
