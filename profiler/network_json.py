"""A network as JSON and back: what an import or a deployment keeps of it."""

from __future__ import annotations

from typing import Any

from profiler.network import Call, Network
from profiler.operator import parse_key


def network_to_json(network: Network) -> dict[str, Any]:
    """Describe a network; each distinct operator is written once, as its key."""
    keys: dict[str, int] = {}
    calls = [
        [
            keys.setdefault(call.operator.key, len(keys)),
            list(call.inputs),
            list(call.outputs),
            list(call.weights),
        ]
        for call in network.calls
    ]
    return {
        "name": network.name,
        "inputs": [[name, list(shape)] for name, shape in network.inputs],
        "operators": list(keys),
        "calls": calls,
        "outputs": list(network.outputs),
    }


def network_from_json(document: dict[str, Any]) -> Network:
    """Read back what `network_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no such description.
    """
    operators = [parse_key(key) for key in document["operators"]]
    calls = tuple(
        Call(
            operators[index],
            tuple(map(str, inputs)),
            str(outputs[0]),
            tuple(map(str, weights)),
            tuple(map(str, outputs[1:])),
        )
        for index, inputs, outputs, weights in document["calls"]
    )
    inputs = tuple((str(name), tuple(map(int, shape))) for name, shape in document["inputs"])
    return Network(str(document["name"]), inputs, calls, tuple(map(str, document["outputs"])))
