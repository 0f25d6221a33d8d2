"""A search space of 81 networks that a machine profiles in seconds, and its accuracies.

Four slots hold an inverted bottleneck of kernel 3 (0), of kernel 5 (1), or one with 24 times
the hidden channels (2). A network with a single 2 takes several times as long as one without, while
kernel 5 adds little: under a limit of three times the fastest network the best one is 1111 on any
machine, however noisy. In a process of its own this module is `tiny_space`, without a package.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchspace.genes import Genome, Genomes
from searchspace.spaces.layered import LayeredSpace, Slot
from searchspace.spaces.layers import BlockLayer, ConvLayer, DenseLayer, Layers, PoolLayer

NAME: Final = "tiny_space:TINY"
WIDTH: Final = 16
HEAD_WIDTH: Final = 48
N_CLASSES: Final = 10
N_SLOTS: Final = 4
#: (kernel, hidden channels) of each choice.
BLOCKS: Final = ((3, 32), (5, 32), (3, 768))
#: Percent that each choice adds.
GAINS: Final = (0.0, 1.0, 5.0)
_SIZE: Final = 8


def _slots() -> tuple[Slot, ...]:
    stem: Layers = (("stem", ConvLayer(3, WIDTH, kernel=3, stride=2, activation="relu")),)
    tail: Layers = (
        ("head", ConvLayer(WIDTH, HEAD_WIDTH, activation="relu")),
        ("pool", PoolLayer(HEAD_WIDTH)),
        ("classifier", DenseLayer(HEAD_WIDTH, N_CLASSES)),
    )
    inside = (1, _SIZE, _SIZE, WIDTH)
    blocks = [
        Slot(
            inside,
            tuple(
                ((f"block{slot}", BlockLayer(WIDTH, WIDTH, hidden, kernel, 1, "relu")),)
                for kernel, hidden in BLOCKS
            ),
        )
        for slot in range(N_SLOTS)
    ]
    return (Slot((1, 2 * _SIZE, 2 * _SIZE, 3), (stem,)), *blocks, Slot(inside, (tail,)))


def _codes_of(genomes: Genomes) -> NDArray[np.int64]:
    return np.pad(genomes.astype(np.int64), ((0, 0), (1, 1)))


def _parse(text: str) -> Genome:
    if re.fullmatch(r"[012]{4}", text, re.ASCII) is None:
        raise ValueError(f"a genome of {NAME} is four digits of 0, 1 or 2, got {text!r}")
    return tuple(int(digit) for digit in text)


def accuracy_percent(genomes: Genomes) -> NDArray[np.float64]:
    """60 % and what each choice adds."""
    return 60.0 + np.array(GAINS)[genomes].sum(axis=1)


TINY: Final = LayeredSpace(
    name=NAME,
    choices=((0, 1, 2),) * N_SLOTS,
    n_subnets=3**N_SLOTS,
    input_shape=(1, 2 * _SIZE, 2 * _SIZE, 3),
    slots=_slots(),
    codes_of=_codes_of,
    canonicalise=lambda genomes: genomes.astype(np.int64),
    parse_text=_parse,
    format_genome=lambda genome: "".join(map(str, genome)),
    extremes=((0,) * N_SLOTS, (2,) * N_SLOTS),
)
