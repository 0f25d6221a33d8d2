"""From a model in Relax, whichever front end wrote it, to Latloop's operators."""

from __future__ import annotations

from collections.abc import Sequence

import tvm

from profiler.importers.decompose import decompose_average_pool, decompose_batch_norm
from profiler.importers.imported import ImportedModel
from profiler.importers.known import fold_constants
from profiler.importers.match import match_operators
from profiler.importers.moments import decompose_moments
from profiler.importers.neighbours import hoist_factors, release_additions, sink_transposes
from profiler.importers.parts import split_products
from profiler.importers.relax_emit import Emitter
from profiler.importers.relax_lower import lower_graph
from profiler.importers.relax_read import read_relax
from profiler.importers.simplify import (
    absorb_channels_before,
    absorb_padding,
    name_activations,
    simplify_powers,
)
from profiler.importers.transposed import decompose_transposed


def lower_relax(
    name: str, module: tvm.IRModule, input_names: Sequence[str], output_names: Sequence[str]
) -> ImportedModel:
    """Turn a module's `main` into calls of operators.

    Args:
        name: What the network is called.
        module: In normal form, weights bound as constants, all shapes fixed.
        input_names: What the model calls its inputs, in the order of `main`'s parameters.
        output_names: The same of its outputs.

    Raises:
        UnsupportedOperatorError: something in it is no tensor of a fixed shape, or TVM does not
            lower it to loops.
    """
    graph = read_relax(module, list(input_names), list(output_names))
    fold_constants(graph)
    decompose_batch_norm(graph)
    decompose_average_pool(graph)
    decompose_moments(graph)
    # A factor and a term may have met constants.
    fold_constants(graph)
    simplify_powers(graph)
    absorb_padding(graph)
    split_products(graph)
    name_activations(graph)
    absorb_channels_before(graph)
    decompose_transposed(graph)
    hoist_factors(graph)
    sink_transposes(graph)
    match_operators(graph)
    release_additions(graph)
    graph.drop_unread()
    emitter = Emitter(graph, module)
    emitted = emitter.emit()
    return lower_graph(name, graph, emitted, emitter.operators)
