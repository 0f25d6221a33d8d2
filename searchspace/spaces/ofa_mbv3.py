"""Once-for-All MobileNetV3, width 1.0, resolution 224, for ImageNet: about 2e19 networks.

Source: Cai et al., "Once-for-All", ICLR 2020. Five stages of 2, 3 or 4 inverted bottlenecks, each
with its own kernel size (3, 5, 7) and expansion (3, 4, 6). A genome is ks[20], e[20], d[5]; slot
4 s + j is block j of stage s and counts only if j < d[s]. Its text lists the active blocks alone:
`3346-7656-...`, five stages, each block a digit for the kernel and a digit for the expansion.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchspace.genes import Genome, Genomes
from searchspace.spaces.layered import LayeredSpace, Slot
from searchspace.spaces.layers import (
    BlockLayer,
    ConvLayer,
    DenseLayer,
    Layers,
    PoolLayer,
    make_divisible,
)

KERNELS: Final = (3, 5, 7)
EXPANSIONS: Final = (3, 4, 6)
DEPTHS: Final = (2, 3, 4)
N_STAGES: Final = 5
MAX_DEPTH: Final = 4
N_SLOTS: Final = N_STAGES * MAX_DEPTH

_RESOLUTION: Final = 224
_FIRST_WIDTH: Final = 16
#: (width, stride of the first block, activation, squeeze-excite) of each stage.
_STAGES: Final = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hard_swish", False),
    (112, 1, "hard_swish", True),
    (160, 2, "hard_swish", True),
)
_STAGE_TEXT: Final = r"(?:[357][346]){2,4}"
_TEXT: Final = re.compile("-".join([_STAGE_TEXT] * N_STAGES))
#: Code of an inactive slot; the active ones are 1 + 3 * kernel index + expansion index.
_INACTIVE: Final = 0
#: What a kernel size and an expansion add to the code; indexed by their values.
_KERNEL_CODE: Final = np.array([0, 0, 0, 1, 0, 4, 0, 7])
_EXPANSION_CODE: Final = np.array([0, 0, 0, 0, 1, 0, 2])


def split_genomes(
    genomes: Genomes,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Split genomes into kernels and expansions (n, 20), depths (n, 5) and active slots (n, 20)."""
    kernels, expansions = genomes[:, :N_SLOTS], genomes[:, N_SLOTS : 2 * N_SLOTS]
    depths = genomes[:, 2 * N_SLOTS :]
    position = np.tile(np.arange(MAX_DEPTH), N_STAGES)
    return kernels, expansions, depths, position < np.repeat(depths, MAX_DEPTH, axis=1)


def _block(width: int, stage: int, position: int, kernel: int, expand: int) -> BlockLayer:
    out_width, stride, activation, has_squeeze = _STAGES[stage]
    hidden = make_divisible(width * expand)
    return BlockLayer(
        in_channels=width,
        out_channels=out_width,
        hidden=hidden,
        kernel=kernel,
        stride=stride if position == 0 else 1,
        activation=activation,
        squeeze=make_divisible(hidden / 4) if has_squeeze else 0,
    )


def _stage_slots(stage: int, width: int, size: int) -> list[Slot]:
    slots = []
    for position in range(MAX_DEPTH):
        name = f"stage{stage + 1}.block{position + 1}"
        runs: list[Layers] = [()]
        runs += [
            ((name, _block(width, stage, position, kernel, expand)),)
            for kernel in KERNELS
            for expand in EXPANSIONS
        ]
        slots.append(Slot((1, size, size, width), tuple(runs)))
        width, stride = _STAGES[stage][:2]
        size //= stride if position == 0 else 1
    return slots


def _slots() -> tuple[Slot, ...]:
    stem: Layers = (
        ("stem", ConvLayer(3, _FIRST_WIDTH, kernel=3, stride=2, activation="hard_swish")),
        ("first", BlockLayer(_FIRST_WIDTH, _FIRST_WIDTH, _FIRST_WIDTH, 3, 1, "relu")),
    )
    slots = [Slot((1, _RESOLUTION, _RESOLUTION, 3), (stem,))]
    width, size = _FIRST_WIDTH, _RESOLUTION // 2
    for stage, (out_width, stride, _, _) in enumerate(_STAGES):
        slots += _stage_slots(stage, width, size)
        width, size = out_width, size // stride
    tail: Layers = (
        ("head", ConvLayer(width, 960, activation="hard_swish")),
        ("pool", PoolLayer(960)),
        ("mix", DenseLayer(960, 1280, has_bias=False, activation="hard_swish", is_conv=True)),
        ("classifier", DenseLayer(1280, 1000)),
    )
    return (*slots, Slot((1, size, size, width), (tail,)))


def _codes_of(genomes: Genomes) -> NDArray[np.int64]:
    kernels, expansions, _, active = split_genomes(genomes)
    code = _KERNEL_CODE[kernels] + _EXPANSION_CODE[expansions]
    return np.pad(np.where(active, code, _INACTIVE), ((0, 0), (1, 1)))


def _canonicalise(genomes: Genomes) -> Genomes:
    """Give inactive slots the first kernel and the first expansion."""
    kernels, expansions, depths, active = split_genomes(genomes)
    kernels = np.where(active, kernels, KERNELS[0])
    return np.hstack([kernels, np.where(active, expansions, EXPANSIONS[0]), depths])


def _parse(text: str) -> Genome:
    if _TEXT.fullmatch(text) is None:
        raise ValueError(
            "a genome of ofa_mbv3 is five stages joined by '-', each of 2 to 4 blocks of two "
            f"digits, kernel 3, 5 or 7 and expansion 3, 4 or 6 (3346-3346-...), got {text!r}"
        )
    kernels, expansions = [KERNELS[0]] * N_SLOTS, [EXPANSIONS[0]] * N_SLOTS
    stages = text.split("-")
    for stage, blocks in enumerate(stages):
        for position in range(len(blocks) // 2):
            kernels[MAX_DEPTH * stage + position] = int(blocks[2 * position])
            expansions[MAX_DEPTH * stage + position] = int(blocks[2 * position + 1])
    return (*kernels, *expansions, *(len(blocks) // 2 for blocks in stages))


def _format(genome: Genome) -> str:
    blocks = [f"{genome[slot]}{genome[N_SLOTS + slot]}" for slot in range(N_SLOTS)]
    depths = genome[2 * N_SLOTS :]
    return "-".join("".join(blocks[MAX_DEPTH * s :][: depths[s]]) for s in range(N_STAGES))


def _uniform(kernel: int, expand: int, depth: int) -> Genome:
    blocks = (kernel if slot % MAX_DEPTH < depth else KERNELS[0] for slot in range(N_SLOTS))
    widths = (expand if slot % MAX_DEPTH < depth else EXPANSIONS[0] for slot in range(N_SLOTS))
    return (*blocks, *widths, *(depth,) * N_STAGES)


OFA_MBV3: Final = LayeredSpace(
    name="ofa_mbv3",
    choices=(KERNELS,) * N_SLOTS + (EXPANSIONS,) * N_SLOTS + (DEPTHS,) * N_STAGES,
    n_subnets=sum((len(KERNELS) * len(EXPANSIONS)) ** depth for depth in DEPTHS) ** N_STAGES,
    input_shape=(1, _RESOLUTION, _RESOLUTION, 3),
    slots=_slots(),
    codes_of=_codes_of,
    canonicalise=_canonicalise,
    parse_text=_parse,
    format_genome=_format,
    extremes=(_uniform(3, 3, 2), _uniform(7, 6, 4)),
)
