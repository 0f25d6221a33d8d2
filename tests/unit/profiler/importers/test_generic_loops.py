from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from tvm import te

from profiler.generic import GenericBody, TensorType
from profiler.importers.imported import ImportedModel
from profiler.importers.loop_traits import read_traits
from profiler.importers.relax_lower import loops_text
from profiler.network import Call, Network
from profiler.operator import generic_operator

from .programs import programs


def _tiles(shape: tuple[int, ...], counts: tuple[int, ...]) -> ImportedModel:
    """A tensor repeated along each axis, by remainders."""
    whole = tuple(count * size for count, size in zip(counts, shape, strict=True))
    x = te.placeholder(shape, "float32", name="x")
    made = te.compute(
        whole, lambda *i: x[tuple(at % size for at, size in zip(i, shape, strict=True))], name="y"
    )
    function = te.create_prim_func([x, made]).with_attr({"global_symbol": "main", "s_tir": True})
    text = loops_text(function)
    digest = hashlib.sha256(text.encode()).hexdigest()
    body = GenericBody(
        "tile", (TensorType(shape),), (), (TensorType(whole),), 0, digest, read_traits(function)
    )
    network = Network("tile", (("x", shape),), (Call(generic_operator(body), ("x",), "y"),), ("y",))
    return ImportedModel(network, {}, {digest: text}, {"y": whole})


def test_remainders_come_out_right_on_every_processor(build_cache: Path) -> None:
    # With AVX-512, LLVM 22 makes vectors of these that read outside of the tensor.
    cases = [((3, 4, 5), (6, 4, 2)), ((3, 7, 16), (1, 4, 4)), ((2, 3), (3, 5))]
    models = [_tiles(*case) for case in cases]
    with programs(models, build_cache) as made:
        for model, (shape, counts) in zip(models, cases, strict=True):
            x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            np.testing.assert_array_equal(made.run(model, {"x": x})["y"], np.tile(x, counts))
