"""Keys of the YAML tables that Once-for-All's and ProxylessNAS's loaders look up.

Read by `MBv3LatencyTable` and `tutorial/latency_table.py` of mit-han-lab/once-for-all and by
`LatencyEstimator` of mit-han-lab/proxylessnas: a key names a layer by its shapes, height x width
x channels; the value's `mean` is in milliseconds. Each pair here is a key with its operators.
"""

from __future__ import annotations

from latloop.table_blocks import Block, place_layers, searched_slots, tail_blocks
from profiler.operator import Operator
from searchspace.spaces.layered import LayeredSpace
from searchspace.spaces.layers import BlockLayer, ConvLayer, DenseLayer, PoolLayer
from searchspace.spaces.lowering import Shape4

Entries = dict[str, tuple[Operator, ...]]
#: The layer that every subnet runs exactly once.
FIRST = "Conv"


def ofa_entries(space: LayeredSpace) -> Entries:
    """Entries as Once-for-All's MobileNetV3 tables have them.

    Raises:
        ValueError: the space lacks a layer that the loader asks for.
    """
    tail = tail_blocks(space)
    kinds = tuple(type(block.layer) for block in tail)
    if kinds != (ConvLayer, PoolLayer, DenseLayer, DenseLayer):
        raise ValueError("its loader asks for Conv_1, AvgPool2D, Conv_2 and Logits at the end")
    entries: Entries = {}
    for block in _body(space):
        if isinstance(block.layer, ConvLayer) and block.name != _first_name(space):
            raise ValueError(f"its loader knows inverted bottlenecks alone, got {block.layer}")
        _add(entries, _ofa_key(block), block.operators)
    for name, block in zip(("Conv_1", "AvgPool2D", "Conv_2", "Logits"), tail, strict=True):
        output = str(block.output_shape[3]) if name == "Logits" else _hwc(block.output_shape)
        key = f"{name}-input:{_hwc(block.input_shape)}-output:{output}"
        _add(entries, key, block.operators)
    return entries


def proxyless_entries(space: LayeredSpace) -> Entries:
    """Entries as ProxylessNAS's `mobile_trim.yaml` has them; `Logits` is all after `Conv_1`.

    Raises:
        ValueError: the space does not end in a convolution and a classifier, or the keys
            cannot tell two of its blocks apart.
    """
    tail = tail_blocks(space)
    kinds = tuple(type(block.layer) for block in tail)
    if kinds[:2] != (ConvLayer, PoolLayer) or kinds[-1] is not DenseLayer:
        raise ValueError("its loader asks for Conv_1 and Logits at the end")
    entries: Entries = {}
    for block in _body(space):
        _add(entries, _proxyless_key(block), block.operators)
    mix, last = tail[0], tail[-1]
    key = f"Conv_1-input:{_hwc(mix.input_shape)}-output:{_hwc(mix.output_shape)}"
    _add(entries, key, mix.operators)
    key = f"Logits-input:{_hwc(mix.output_shape)}-output:{last.output_shape[3]}"
    _add(entries, key, tuple(op for block in tail[1:] for op in block.operators))
    return entries


def _body(space: LayeredSpace) -> tuple[Block, ...]:
    """Every block that stands before the tail in any subnet; equal ones may repeat."""
    first = space.slots[0]
    runs = [(first.layers[0], first.input_shape)] if len(first.layers) == 1 else []
    runs += [(run, slot.input_shape) for slot in searched_slots(space) for run in slot.layers]
    return tuple(block for run, shape in runs for block in place_layers(run, shape))


def _first_name(space: LayeredSpace) -> str:
    return _body(space)[0].name


def _ofa_key(block: Block) -> str:
    layer = block.layer
    if not isinstance(layer, BlockLayer):
        return _conv_key(block)
    has_hard_swish = layer.activation == "hard_swish"
    return (
        f"{_block_key(block, layer, layer.hidden)}"
        f"-se:{int(layer.squeeze > 0)}-hs:{int(has_hard_swish)}"
    )


def _proxyless_key(block: Block) -> str:
    layer = block.layer
    if not isinstance(layer, BlockLayer):
        return _conv_key(block)
    if layer.hidden % layer.in_channels:
        raise ValueError(f"its keys need a whole expansion ratio, got {layer}")
    return _block_key(block, layer, layer.hidden // layer.in_channels)


def _conv_key(block: Block) -> str:
    return f"{FIRST}-input:{_hwc(block.input_shape)}-output:{_hwc(block.output_shape)}"


def _block_key(block: Block, layer: BlockLayer, expand: int) -> str:
    return (
        f"expanded_conv-input:{_hwc(block.input_shape)}-output:{_hwc(block.output_shape)}"
        f"-expand:{expand}-kernel:{layer.kernel}-stride:{layer.stride}"
        f"-idskip:{int(layer.has_shortcut)}"
    )


def _hwc(shape: Shape4) -> str:
    return "x".join(map(str, shape[1:]))


def _add(entries: Entries, key: str, operators: tuple[Operator, ...]) -> None:
    if entries.setdefault(key, operators) != operators:
        raise ValueError(f"its key {key} stands for two different blocks")
