"""The pieces that latency tables are made of: a space's blocks with their operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from profiler.operator import Operator
from searchspace.space import SearchSpace
from searchspace.spaces.layered import LayeredSpace, Slot
from searchspace.spaces.layers import BlockLayer, ConvLayer, Layer, Layers
from searchspace.spaces.lowering import Shape4, layer_operators


@dataclass(frozen=True, slots=True)
class Block:
    """A layer in its place.

    Attributes:
        name: The place, such as `stage1.block2`.
        layer: What stands there.
        input_shape, output_shape: NHWC.
        operators: What the layer lowers to, in order of execution.
    """

    name: str
    layer: Layer
    input_shape: Shape4
    output_shape: Shape4
    operators: tuple[Operator, ...]


def place_layers(layers: Layers, input_shape: Shape4) -> tuple[Block, ...]:
    """Follow the shape through a run of layers."""
    blocks = []
    shape = input_shape
    for name, layer in layers:
        operators = layer_operators(((name, layer),), shape)
        blocks.append(Block(name, layer, shape, operators[-1].output_shape, operators))
        shape = operators[-1].output_shape
    return tuple(blocks)


def searched_slots(space: LayeredSpace) -> tuple[Slot, ...]:
    """The slots that offer a choice, in order of execution."""
    return tuple(slot for slot in space.slots if len(slot.layers) > 1)


def fixed_blocks(space: LayeredSpace) -> tuple[Block, ...]:
    """What every subnet holds: the layers of the slots without a choice."""
    fixed = (slot for slot in space.slots if len(slot.layers) == 1)
    return tuple(b for slot in fixed for b in place_layers(slot.layers[0], slot.input_shape))


def tail_blocks(space: LayeredSpace) -> tuple[Block, ...]:
    """The layers of the last slot; empty where that slot offers a choice."""
    last = space.slots[-1]
    return place_layers(last.layers[0], last.input_shape) if len(last.layers) == 1 else ()


def slot_choices(slot: Slot) -> Iterator[tuple[str, tuple[Block, ...]]]:
    """FBNet's name of each choice in a slot, with its blocks; no blocks cost nothing.

    An inactive slot or an identity is `skip`. Where the shape changes a skip is what FBNet makes
    of it: a 1x1 convolution with the slot's stride.

    Raises:
        ValueError: a choice is no inverted bottleneck and no skip.
    """
    for layers in slot.layers:
        run = layers or _reshape(slot)
        yield _primitive(run), place_layers(run, slot.input_shape)


def slot_name(slot: Slot) -> str:
    """The name of the first layer that any choice puts there."""
    return next(layers[0][0] for layers in slot.layers if layers)


def as_layered(space: SearchSpace) -> LayeredSpace | None:
    """The space, if it is made of layers in slots; else it has operators but no blocks."""
    return space if isinstance(space, LayeredSpace) else None


def _primitive(layers: Layers) -> str:
    match [layer for _, layer in layers]:
        case []:
            return "skip"
        case [ConvLayer(kernel=1)]:
            return "skip"
        case [BlockLayer() as block] if block.hidden % block.in_channels == 0:
            return f"ir_k{block.kernel}_e{block.hidden // block.in_channels}"
        case other:
            raise ValueError(f"a choice must be one inverted bottleneck or a skip, got {other}")


def _reshape(slot: Slot) -> Layers:
    """The 1x1 convolution of a skip that changes the shape; nothing where it is kept."""
    for name, layer in (placed for layers in slot.layers for placed in layers):
        if isinstance(layer, BlockLayer) and not layer.has_shortcut:
            width, out_width = layer.in_channels, layer.out_channels
            return ((name, ConvLayer(width, out_width, 1, layer.stride, activation="relu")),)
    return ()
