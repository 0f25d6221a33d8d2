"""Small networks written by hand, like those that search spaces are made of."""

from __future__ import annotations

from profiler.network import Call, Network
from profiler.operator import Operator
from profiler.pairs import join_pairs


def call(output: str, operator: Operator, *inputs: str) -> Call:
    """A call with weights of its own."""
    weights = (f"{output}.weight", f"{output}.bias")[: len(operator.weight_shapes)]
    return Call(operator, inputs, output, weights)


STEM = Operator(
    "conv2d",
    (1, 16, 16, 3),
    16,
    kernel=(3, 3),
    stride=(2, 2),
    padding=(1, 1, 1, 1),
    epilogue=("bias", "relu6"),
)
DEPTHWISE = Operator(
    "depthwise_conv2d",
    (1, 8, 8, 48),
    48,
    kernel=(3, 3),
    padding=(1, 1, 1, 1),
    epilogue=("bias", "relu6"),
)
#: An inverted bottleneck with a shortcut, as in nas_bench_macro.
RESIDUAL = Network(
    "test:residual",
    (("input", (1, 16, 16, 3)),),
    (
        call("stem", STEM, "input"),
        call("expand", Operator("conv2d", (1, 8, 8, 16), 48, epilogue=("bias", "relu6")), "stem"),
        call("depthwise", DEPTHWISE, "expand"),
        call(
            "project",
            Operator("conv2d", (1, 8, 8, 48), 16, epilogue=("bias", "add")),
            "depthwise",
            "stem",
        ),
        call("head", Operator("conv2d", (1, 8, 8, 16), 32, epilogue=("bias", "relu6")), "project"),
        call("pool", Operator("global_avg_pool2d", (1, 8, 8, 32), 32), "head"),
        call("logits", Operator("dense", (1, 1, 1, 32), 10, epilogue=("bias",)), "pool"),
    ),
    ("logits",),
)

LARGE_DEPTHWISE = Operator(
    "depthwise_conv2d",
    (1, 7, 7, 40),
    40,
    kernel=(5, 5),
    padding=(2, 2, 2, 2),
    epilogue=("bias", "hard_swish"),
)
#: A bottleneck with squeeze-excite, as in ofa_mbv3; a matrix product reads its input.
SQUEEZE_EXCITE = Network(
    "test:squeeze_excite",
    (("input", (1, 7, 7, 16)),),
    (
        call(
            "expand",
            Operator("conv2d", (1, 7, 7, 16), 40, epilogue=("bias", "hard_swish")),
            "input",
        ),
        call("depthwise", LARGE_DEPTHWISE, "expand"),
        call("squeeze", Operator("global_avg_pool2d", (1, 7, 7, 40), 40), "depthwise"),
        call("reduce", Operator("dense", (1, 1, 1, 40), 8, epilogue=("bias", "relu")), "squeeze"),
        call(
            "excite",
            Operator("dense", (1, 1, 1, 8), 40, epilogue=("bias", "hard_sigmoid")),
            "reduce",
        ),
        call("scaled", Operator("scale", (1, 7, 7, 40), 40), "depthwise", "excite"),
        call(
            "output",
            Operator("conv2d", (1, 7, 7, 40), 16, epilogue=("bias", "add")),
            "scaled",
            "input",
        ),
    ),
    ("output",),
)

ONE_SIDED = Operator(
    "conv2d", (2, 9, 11, 6), 8, kernel=(3, 3), padding=(0, 1, 1, 0), epilogue=("bias", "relu")
)
DILATED = Operator(
    "depthwise_conv2d",
    (2, 8, 10, 8),
    8,
    kernel=(3, 3),
    padding=(2, 2, 2, 2),
    dilation=(2, 2),
    epilogue=("bias", "hard_swish"),
)
MAXIMUM = Operator(
    "max_pool2d", (2, 8, 10, 8), 8, kernel=(3, 3), stride=(2, 2), padding=(1, 0, 1, 1)
)
AVERAGE = Operator(
    "avg_pool2d", (2, 8, 10, 8), 8, kernel=(3, 3), stride=(2, 2), padding=(1, 0, 1, 1)
)
LARGE = Operator(
    "conv2d",
    (2, 4, 5, 8),
    12,
    kernel=(5, 5),
    stride=(2, 2),
    padding=(2, 2, 2, 2),
    epilogue=("swish",),
)
#: Every kind of operator and every step of an epilogue, two inputs, two outputs, a batch of two;
#: plain depthwise convolutions are in the networks above.
EVERY_KIND = join_pairs(
    Network(
        "test:every_kind",
        (("image", (2, 9, 11, 6)), ("extra", (2, 4, 5, 8))),
        (
            call("conv", ONE_SIDED, "image"),
            call("depthwise", DILATED, "conv"),
            call(
                "pointwise",
                Operator("conv2d", (2, 8, 10, 8), 8, epilogue=("bias", "add", "relu6")),
                "depthwise",
                "conv",
            ),
            call("maximum", MAXIMUM, "pointwise"),
            call("average", AVERAGE, "pointwise"),
            call(
                "both", Operator("add", (2, 4, 5, 8), 8, epilogue=("swish",)), "maximum", "average"
            ),
            call("sum", Operator("add", (2, 4, 5, 8), 8), "both", "extra"),
            call(
                "pool",
                Operator("global_avg_pool2d", (2, 4, 5, 8), 8, epilogue=("hard_sigmoid",)),
                "sum",
            ),
            call("gate", Operator("dense", (2, 1, 1, 8), 8, epilogue=("bias", "sigmoid")), "pool"),
            call(
                "scaled",
                Operator("scale", (2, 4, 5, 8), 8, epilogue=("add", "relu")),
                "sum",
                "gate",
                "extra",
            ),
            call("features", LARGE, "scaled"),
            call("pooled", Operator("global_avg_pool2d", (2, 2, 3, 12), 12), "features"),
            call(
                "logits", Operator("dense", (2, 1, 1, 12), 5, epilogue=("bias", "gelu")), "pooled"
            ),
        ),
        ("logits", "features"),
    )
)

NETWORKS = (RESIDUAL, SQUEEZE_EXCITE, EVERY_KIND)
