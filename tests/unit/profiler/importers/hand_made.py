"""An imported model written by hand: two inputs, generic loops, an own operator, two outputs."""

from __future__ import annotations

import hashlib

import numpy as np

from profiler.generic import GenericBody, LoopTraits, TensorType
from profiler.importers.imported import ImportedModel
from profiler.network import Call, Network
from profiler.operator import Operator, generic_operator

LOOPS = "loops of a product with a table, and its transpose"


def hand_made_model() -> ImportedModel:
    """`y` is the transpose of `x` times a table, `z` a dense layer of the indices' rows."""
    table, x = TensorType((3, 3)), TensorType((2, 3))
    ids, y, rows = TensorType((2,), "int64"), TensorType((3, 2)), TensorType((2, 3))
    body = GenericBody(
        "product_and_rows",
        (x, ids),
        (table,),
        (y, rows),
        36,
        hashlib.sha256(LOOPS.encode()).hexdigest(),
        LoopTraits(24, 0, 3, 24, 2),
    )
    dense = Operator("dense", (2, 1, 1, 3), 4, epilogue=("bias", "relu"))
    network = Network(
        "net.onnx:0123abcd",
        (("x", (2, 3)), ("ids", (2,))),
        (
            Call(generic_operator(body), ("x", "ids"), "y", ("w0",), ("t0.1",)),
            Call(dense, ("t0.1",), "z", ("w1", "w2")),
        ),
        ("y", "z"),
    )
    rng = np.random.default_rng(0)
    shapes = {"w0": (3, 3), "w1": (3, 4), "w2": (4,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    loops = {body.digest: LOOPS}
    return ImportedModel(network, weights, loops, {"y": (3, 2), "z": (2, 4)})
