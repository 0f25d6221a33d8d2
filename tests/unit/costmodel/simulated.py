"""A simulated device with a known formula, and MobileNet-like networks to run on it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from profiler.generic import GenericBody, LoopTraits, TensorType
from profiler.measurement import NetworkLatency, OperatorLatency
from profiler.operator import Operator, generic_operator
from profiler.schedules.schedule import Schedule
from profiler.target import Target

TARGET = Target("x86_64-linux-gnu", "x86-64-v3", vector_bytes=32)
FIXED_US = 6.0


def choose_schedule(op: Operator) -> Schedule:
    """Tiles that divide, as a profiler would choose them."""
    channels = next((c for c in (16, 8) if op.out_channels % c == 0), 4)
    lanes = min(channels, TARGET.lanes)
    blocks = (("vectors", channels // lanes), ("lanes", lanes))
    if op.kind in ("conv2d", "dense") and op.kernel == (1, 1) and op.stride == (1, 1):
        rows = math.prod(op.output_shape[:3])
        tile = max(t for t in range(1, 7) if rows % t == 0)
        return Schedule("gemm", (("rows", tile), *blocks, ("panels_outer", 1)))
    if op.kind in ("conv2d", "depthwise_conv2d"):
        tile = max(t for t in range(1, 7) if op.output_shape[2] % t == 0)
        rule, order = ("conv", "panels") if op.kind == "conv2d" else ("window", "channels")
        return Schedule(rule, (("pixels", tile), *blocks, (f"{order}_outer", 1)))
    return Schedule("mean" if op.kind == "global_avg_pool2d" else "once", blocks)


def true_alone_us(op: Operator) -> float:
    """Overhead plus the larger of compute and memory time, with efficiency of the tile."""
    options = dict(choose_schedule(op).parameters)
    rows = options.get("rows", options.get("pixels", 1))
    vectors = options["vectors"]
    tile = 1.0 / (0.8 + 0.4 * (rows + vectors) / (rows * vectors))
    channels = op.input_shape[3]
    if op.kind in ("conv2d", "dense"):
        depth = channels * op.kernel[0] * op.kernel[1]
        gflops = 110.0 * depth / (depth + 12.0) * tile
    elif op.kind == "depthwise_conv2d":
        gflops = 70.0 * (op.kernel[0] ** 2 / (op.kernel[0] ** 2 + 9.0)) / op.stride[0] ** 0.3 * tile
    else:
        gflops = 12.0
    n_bytes = op.input_bytes + op.output_bytes + op.weight_bytes
    gbps = 14.0 + 46.0 / (1 + (n_bytes / 2**20) ** 1.5)
    compute = op.n_flops / gflops / 1e3
    memory = n_bytes / gbps / 1e3
    soft = (compute**4 + memory**4) ** 0.25
    cost = {"relu": 0.2, "relu6": 0.25, "hard_swish": 0.7, "swish": 3.0, "sigmoid": 3.0}
    epilogue = math.prod(op.output_shape) * cost.get(op.activation or "", 0.0) / 8e3
    return 0.35 + soft + epilogue


def true_in_place_us(op: Operator) -> float:
    """Colder caches: large activations and small depthwise kernels lose most."""
    n_bytes = op.input_bytes + op.output_bytes + op.weight_bytes
    cold = 1.02 + 0.12 / (1 + math.exp(-(math.log2(n_bytes / 2**19))))
    return true_alone_us(op) * (cold + (0.06 if op.kind == "depthwise_conv2d" else 0.0))


def true_network_us(operators: Sequence[Operator]) -> float:
    """Sum of operators in place, a fixed cost and pressure of the weights on the cache."""
    weights = sum(op.weight_bytes for op in operators)
    pressure = 1.0 + 0.03 * weights / (weights + 8 * 2**20)
    return FIXED_US + pressure * sum(true_in_place_us(op) for op in operators)


def measure_operators(
    operators: Sequence[Operator], rng: np.random.Generator, noise: float = 0.015
) -> list[OperatorLatency]:
    """Time each operator alone and, four of five, in place."""
    found = []
    for op in dict.fromkeys(operators):
        alone = true_alone_us(op) * math.exp(noise * rng.normal())
        in_place = true_in_place_us(op) * math.exp(noise * rng.normal())
        found.append(
            OperatorLatency(
                op, choose_schedule(op), alone, in_place if rng.random() < 0.8 else None, noise
            )
        )
    return found


def measure_networks(
    family: str,
    networks: Sequence[Sequence[Operator]],
    rng: np.random.Generator,
    noise: float = 0.01,
) -> list[NetworkLatency]:
    """Time whole networks in three sessions."""
    rows = []
    for index, operators in enumerate(networks):
        sessions = true_network_us(operators) * np.exp(noise * rng.normal(size=3))
        rows.append(
            NetworkLatency(
                f"{family}:{index}",
                tuple(operators),
                float(np.median(sessions)),
                tuple(sessions.tolist()),
            )
        )
    return rows


def conv(
    size: int, cin: int, cout: int, kernel: int = 1, stride: int = 1, act: str = ""
) -> Operator:
    pad = (kernel - 1) // 2
    epilogue = ("bias", act) if act else ("bias",)
    return Operator(
        "conv2d",
        (1, size, size, cin),
        cout,
        (kernel, kernel),
        (stride, stride),
        (pad,) * 4,
        epilogue=epilogue,
    )


def depthwise(size: int, channels: int, kernel: int, stride: int, act: str) -> Operator:
    pad = kernel // 2
    return Operator(
        "depthwise_conv2d",
        (1, size, size, channels),
        channels,
        (kernel, kernel),
        (stride, stride),
        (pad,) * 4,
        epilogue=("bias", act),
    )


def generic(n: int, flops: int | None = None, costly: int = 0) -> Operator:
    """An element-wise function of `n` numbers that no kind of ours computes."""
    kind = TensorType((n,))
    traits = LoopTraits(n, costly, 1, n, 1)
    n_flops = 2 * n if flops is None else flops
    digest = hashlib.sha256(f"{n} {n_flops} {costly}".encode()).hexdigest()
    return generic_operator(
        GenericBody("twice_plus_one", (kind,), (), (kind,), n_flops, digest, traits)
    )


def mbconv(
    size: int, cin: int, cout: int, kernel: int, expand: int, stride: int, act: str, *, excite: bool
) -> list[Operator]:
    """An inverted bottleneck with optional squeeze-excite; `size` is the input's."""
    hidden = max(8, round(cin * expand / 8) * 8)
    out = -(-size // stride)
    ops = [conv(size, cin, hidden, act=act)] if expand > 1 else []
    ops.append(depthwise(size, hidden, kernel, stride, act))
    if excite:
        squeezed = max(8, round(hidden / 4 / 8) * 8)
        ops += [
            Operator("global_avg_pool2d", (1, out, out, hidden), hidden),
            conv(1, hidden, squeezed, act="relu"),
            conv(1, squeezed, hidden, act="hard_sigmoid"),
            Operator("scale", (1, out, out, hidden), hidden),
        ]
    last = conv(out, hidden, cout)
    if stride == 1 and cin == cout:
        last = Operator("conv2d", last.input_shape, cout, epilogue=("bias", "add"))
    return [*ops, last]


def macro_network(genome: Sequence[int]) -> list[Operator]:
    """A CIFAR network of eight blocks, each identity, expand 3 kernel 3 or expand 6 kernel 5."""
    ops = [conv(32, 3, 32, 3, 1, "relu")]
    size, cin = 32, 32
    for block, choice in enumerate(genome):
        stride = 2 if block in (0, 2, 5) else 1
        cout = cin * 2 if stride == 2 else cin
        if choice:
            ops += mbconv(size, cin, cout, 1 + 2 * choice, 3 * choice, stride, "relu", excite=False)
        elif stride == 2:
            ops.append(
                Operator("conv2d", (1, size, size, cin), cout, stride=(2, 2), epilogue=("bias",))
            )
        size, cin = size // stride, cout
    return [
        *ops,
        conv(4, 256, 1280, act="relu"),
        Operator("global_avg_pool2d", (1, 4, 4, 1280), 1280),
        Operator("dense", (1, 1, 1, 1280), 10, epilogue=("bias",)),
    ]


def mobile_network(
    rng: np.random.Generator, kernels: Sequence[int] = (3, 5, 7), expands: Sequence[int] = (3, 4, 6)
) -> list[Operator]:
    """A MobileNetV3-like network at resolution 224 with choices drawn from those given."""
    ops = [conv(224, 3, 16, 3, 2, "hard_swish")]
    ops += mbconv(112, 16, 16, 3, 1, 1, "relu", excite=False)
    size, cin = 112, 16
    stages = ((24, 2, "relu", False), (40, 2, "relu", True), (80, 2, "hard_swish", False),
              (112, 1, "hard_swish", True), (160, 2, "hard_swish", True))  # fmt: skip
    for cout, first_stride, act, excite in stages:
        for block in range(int(rng.integers(2, 5))):
            stride = first_stride if block == 0 else 1
            kernel, expand = int(rng.choice(kernels)), int(rng.choice(expands))
            ops += mbconv(size, cin, cout, kernel, expand, stride, act, excite=excite)
            size, cin = size // stride, cout
    return [
        *ops,
        conv(7, 160, 960, act="hard_swish"),
        Operator("global_avg_pool2d", (1, 7, 7, 960), 960),
        conv(1, 960, 1280, act="hard_swish"),
        Operator("dense", (1, 1, 1, 1280), 1000, epilogue=("bias",)),
    ]
