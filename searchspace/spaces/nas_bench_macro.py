"""NAS-Bench-Macro: 6,561 MobileNetV2-like genomes for CIFAR-10, every one of them trained.

Source: Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021.
Input 3x32x32; eight slots in stages of 2, 3 and 3, each holding 0 (identity, or a strided 1x1
convolution where the shape changes), 1 (inverted bottleneck, kernel 3, expansion 3) or 2
(kernel 5, expansion 6). An identity does nothing wherever it stands among blocks that keep the
shape, so the genomes name 3,969 distinct networks.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchspace.genes import Genome, Genomes
from searchspace.spaces.layered import LayeredSpace, Slot
from searchspace.spaces.layers import BlockLayer, ConvLayer, DenseLayer, Layers, PoolLayer

_STEM_WIDTH: Final = 32
_HEAD_WIDTH: Final = 1280
_N_CLASSES: Final = 10
_RESOLUTION: Final = 32
#: (width, number of blocks) of each stage; the first block has stride 2.
_STAGES: Final = ((64, 2), (128, 3), (256, 3))
#: Kernel and expansion of block types 1 and 2.
_BLOCKS: Final = ((3, 3), (5, 6))
_N_SLOTS: Final = 8
#: Genes whose blocks keep the shape and follow one another, in the stages of three.
_SWAPPABLE: Final = ((3, 4), (6, 7))
_CHOICES: Final = ((0, 1, 2),) * _N_SLOTS


def _block_slot(name: str, width: int, out_width: int, stride: int, size: int) -> Slot:
    identity: Layers = ()
    if stride != 1 or width != out_width:
        identity = ((name, ConvLayer(width, out_width, kernel=1, stride=stride)),)
    blocks: list[Layers] = [
        ((name, BlockLayer(width, out_width, width * expand, kernel, stride, "relu")),)
        for kernel, expand in _BLOCKS
    ]
    return Slot((1, size, size, width), (identity, *blocks))


def _slots() -> tuple[Slot, ...]:
    size = _RESOLUTION
    stem = ConvLayer(3, _STEM_WIDTH, kernel=3, activation="relu")
    slots = [Slot((1, size, size, 3), ((("stem", stem),),))]
    width = _STEM_WIDTH
    for out_width, n_blocks in _STAGES:
        for position in range(n_blocks):
            stride = 2 if position == 0 else 1
            slots.append(_block_slot(f"block{len(slots)}", width, out_width, stride, size))
            width, size = out_width, size // stride
    tail: Layers = (
        ("head", ConvLayer(width, _HEAD_WIDTH, activation="relu")),
        ("pool", PoolLayer(_HEAD_WIDTH)),
        ("classifier", DenseLayer(_HEAD_WIDTH, _N_CLASSES)),
    )
    return (*slots, Slot((1, size, size, width), (tail,)))


def _codes_of(genomes: Genomes) -> NDArray[np.int64]:
    return np.pad(_canonicalise(genomes), ((0, 0), (1, 1)))


def _canonicalise(genomes: Genomes) -> Genomes:
    """Identities last among the blocks that keep the shape: 01 and 10 there are one network.

    The published table agrees: it gives both the same three accuracies.
    """
    canonical = genomes.astype(np.int64)
    for first, second in _SWAPPABLE:
        swap = (canonical[:, first] == 0) & (canonical[:, second] != 0)
        canonical[swap, first] = canonical[swap, second]
        canonical[swap, second] = 0
    return canonical


def _parse(text: str) -> Genome:
    if re.fullmatch(r"[012]{8}", text, re.ASCII) is None:
        raise ValueError(f"a genome of nas_bench_macro is eight digits of 0, 1 or 2, got {text!r}")
    return tuple(int(digit) for digit in text)


def _format(genome: Genome) -> str:
    return "".join(map(str, genome))


NAS_BENCH_MACRO: Final = LayeredSpace(
    name="nas_bench_macro",
    choices=_CHOICES,
    n_subnets=9 * 21 * 21,  # a stage of three: 3 first blocks, 7 unordered-identity pairs
    input_shape=(1, _RESOLUTION, _RESOLUTION, 3),
    slots=_slots(),
    codes_of=_codes_of,
    canonicalise=_canonicalise,
    parse_text=_parse,
    format_genome=_format,
    extremes=((0,) * _N_SLOTS, (2,) * _N_SLOTS),
)
