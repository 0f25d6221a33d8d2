"""What a model asks for, without any knowledge of hardware."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from profiler.generic import GenericBody, TensorType, parse_generic

Kind = Literal[
    "conv2d",
    "depthwise_conv2d",
    "separable_conv2d",
    "dense",
    "avg_pool2d",
    "max_pool2d",
    "global_avg_pool2d",
    "add",
    "scale",
    "generic",
]
Activation = Literal["relu", "relu6", "hard_swish", "hard_sigmoid", "swish", "sigmoid", "gelu"]
Shape = tuple[int, ...]

#: Every kind; the last, `generic`, stands for whatever none of the others computes.
KINDS: Final[tuple[str, ...]] = get_args(Kind)
#: The kinds that Latloop has schedules of its own for.
OWN_KINDS: Final = KINDS[:-1]
ACTIVATIONS: Final[tuple[str, ...]] = get_args(Activation)
#: The order in which an epilogue is applied to the accumulator; each step at most once.
EPILOGUE_ORDER: Final[tuple[frozenset[str], ...]] = (
    frozenset({"bias"}),
    frozenset({"add"}),
    frozenset(ACTIVATIONS),
)
#: Element types that our own kernels compute with.
DTYPES: Final = frozenset({"float32"})

_WEIGHTED: Final = frozenset({"conv2d", "depthwise_conv2d", "separable_conv2d", "dense"})
_WINDOWED: Final = frozenset(
    {"conv2d", "depthwise_conv2d", "separable_conv2d", "avg_pool2d", "max_pool2d"}
)
#: Kinds whose outputs have channels of their own.
_MIXING: Final = frozenset({"conv2d", "separable_conv2d", "dense"})
#: Inputs that a kind's output may take the place of: see `Operator.in_place_inputs`.
_IN_PLACE: Final[dict[str, tuple[int, ...]]] = {"add": (0, 1), "scale": (0,)}
#: Kinds that read what their epilogue adds number by number, as the output is stored.
_ADDED_IN_PLACE: Final = _WEIGHTED | _WINDOWED | {"global_avg_pool2d", "scale"}
_KEY: Final = re.compile(
    r"(?P<kind>\w+):(?P<shape>\d+x\d+x\d+x\d+):o(?P<out>\d+):k(?P<kernel>\d+x\d+)"
    r":s(?P<stride>\d+x\d+):p(?P<pad>\d+\.\d+\.\d+\.\d+):d(?P<dilation>\d+x\d+)"
    r"(?::g(?P<groups>\d+))?(?::i(?P<inner>[\w,]*))?:(?P<epilogue>[\w,]*):(?P<dtype>\w+)"
)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a network with its fused epilogue, in NHWC.

    Attributes:
        kind: One of `KINDS`. `scale` multiplies a tensor by one number a channel
            (squeeze-excite); `dense` reads a tensor of shape (n, 1, 1, c). `separable_conv2d` is
            a depthwise convolution, which kernel, stride, padding and dilation belong to, and the
            pointwise one that reads it (`depthwise`, `pointwise`).
        input_shape: (batch, height, width, channels) of the first input.
        out_channels: Channels of the output; equals the input's where the kind keeps them.
        kernel, stride, dilation: (vertical, horizontal), in pixels.
        padding: (top, left, bottom, right), in pixels of zeros, which an average counts; a
            maximum ignores them.
        epilogue: What follows at once, in the order of `EPILOGUE_ORDER`; "add" adds a second
            input of the output's shape.
        dtype: Element type of inputs, weights and output.
        inner_epilogue: What follows the depthwise half of a `separable_conv2d`, without "add";
            `epilogue` follows the pointwise half.
        groups: Parts into which a `conv2d` cuts its channels; each part of the outputs reads one
            part of the inputs.
        body: What a `generic` operator computes, see `generic_operator`; None for other kinds.
    """

    kind: Kind
    input_shape: tuple[int, int, int, int]
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    epilogue: tuple[str, ...] = ()
    dtype: str = "float32"
    body: GenericBody | None = None
    groups: int = 1
    inner_epilogue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.kind == "generic") != (self.body is not None):
            raise ValueError(f"a body belongs to kind generic and to no other, got {self.kind}")
        if self.body is not None:
            return
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        for name, values, least in (
            ("input_shape", self.input_shape, 1),
            ("out_channels", (self.out_channels,), 1),
            ("kernel", self.kernel, 1),
            ("stride", self.stride, 1),
            ("padding", self.padding, 0),
            ("dilation", self.dilation, 1),
            ("groups", (self.groups,), 1),
        ):
            if any(value < least for value in values):
                raise ValueError(f"{name} must be >= {least} everywhere, got {values}")
        self._check_epilogue(self.epilogue)
        self._check_epilogue(self.inner_epilogue)
        if self.inner_epilogue and (
            self.kind != "separable_conv2d" or "add" in self.inner_epilogue
        ):
            raise ValueError(
                "inner_epilogue belongs to separable_conv2d and adds no tensor, got "
                f"{self.inner_epilogue} for {self.kind}"
            )
        self._check_geometry()

    def _check_epilogue(self, epilogue: tuple[str, ...]) -> None:
        position = -1
        for step in epilogue:
            found = next((i for i, names in enumerate(EPILOGUE_ORDER) if step in names), None)
            if found is None or found <= position:
                raise ValueError(
                    f"epilogue must be bias, add, activation in this order, got {epilogue}"
                )
            position = found
        if "bias" in self.epilogue and self.kind not in _WEIGHTED:
            raise ValueError(f"epilogue bias needs a kind with weights, got {self.kind}")
        if "add" in self.epilogue and self.kind == "add":
            raise ValueError("epilogue add needs a kind other than add")

    def _check_geometry(self) -> None:
        if self.kind not in _WINDOWED and (
            {self.kernel, self.stride, self.dilation} != {(1, 1)} or any(self.padding)
        ):
            raise ValueError(
                f"{self.kind} takes no kernel, stride, padding or dilation, got kernel "
                f"{self.kernel}, stride {self.stride}, padding {self.padding}, "
                f"dilation {self.dilation}"
            )
        if self.groups > 1 and (
            self.kind != "conv2d"
            or self.input_shape[3] % self.groups
            or self.out_channels % self.groups
        ):
            raise ValueError(
                f"groups must divide the channels of a conv2d, got {self.groups} for {self.kind} "
                f"of {self.input_shape[3]} to {self.out_channels} channels"
            )
        if self.kind == "avg_pool2d" and self.dilation != (1, 1):  # neither torch nor ONNX has it
            raise ValueError(f"avg_pool2d takes no dilation, got {self.dilation}")
        if self.kind not in _MIXING and self.out_channels != self.input_shape[3]:
            raise ValueError(
                f"out_channels of {self.kind} must equal the input's {self.input_shape[3]}, "
                f"got {self.out_channels}"
            )
        if self.kind == "dense" and self.input_shape[1:3] != (1, 1):
            raise ValueError(f"dense reads (n, 1, 1, c), got {self.input_shape}")
        if min(self.output_shape) < 1:
            raise ValueError(
                f"{self.kind} on {self.input_shape} has no output: kernel too large, "
                f"got {self.kernel} with dilation {self.dilation}, padding {self.padding}"
            )

    @property
    def key(self) -> str:
        """The canonical text of this operator; `parse_key` reads it back."""
        if self.body is not None:
            return self.body.key
        shape = "x".join(map(str, self.input_shape))
        pad = ".".join(map(str, self.padding))
        groups = f":g{self.groups}" if self.groups > 1 else ""
        if self.kind == "separable_conv2d":
            groups = f":i{','.join(self.inner_epilogue)}"
        return (
            f"{self.kind}:{shape}:o{self.out_channels}:k{self.kernel[0]}x{self.kernel[1]}"
            f":s{self.stride[0]}x{self.stride[1]}:p{pad}:d{self.dilation[0]}x{self.dilation[1]}"
            f"{groups}:{','.join(self.epilogue)}:{self.dtype}"
        )

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(batch, height, width, channels) of the output."""
        n, h, w, _ = self.input_shape
        if self.body is not None:
            return as_image(self.body.outputs[0].shape)
        if self.kind == "global_avg_pool2d":
            return (n, 1, 1, self.out_channels)
        if self.kind not in _WINDOWED:
            return (n, h, w, self.out_channels)
        top, left, bottom, right = self.padding
        reach_h = self.dilation[0] * (self.kernel[0] - 1) + 1
        reach_w = self.dilation[1] * (self.kernel[1] - 1) + 1
        return (
            n,
            (h + top + bottom - reach_h) // self.stride[0] + 1,
            (w + left + right - reach_w) // self.stride[1] + 1,
            self.out_channels,
        )

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the data inputs, in the order in which a call names them."""
        if self.body is not None:
            return tuple(t.shape for t in self.body.inputs)
        first: Shape = self.input_shape
        if self.kind == "add":
            return (first, first)
        if self.kind == "scale":
            first_two: tuple[Shape, ...] = (first, (first[0], 1, 1, first[3]))
        else:
            first_two = (first,)
        return (*first_two, self.output_shape) if "add" in self.epilogue else first_two

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        """Logical shapes of the weights: kernel (HWIO, HWC or IO), then bias (O).

        Those of a separable convolution: of its depthwise half, then of its pointwise half.
        """
        if self.body is not None:
            return tuple(t.shape for t in self.body.constants)
        if self.kind == "separable_conv2d":
            return (*self.depthwise.weight_shapes, *self.pointwise.weight_shapes)
        channels = self.input_shape[3]
        shapes: tuple[Shape, ...] = ()
        if self.kind == "conv2d":
            shapes = ((*self.kernel, channels // self.groups, self.out_channels),)
        elif self.kind == "depthwise_conv2d":
            shapes = ((*self.kernel, channels),)
        elif self.kind == "dense":
            shapes = ((channels, self.out_channels),)
        return (*shapes, (self.out_channels,)) if "bias" in self.epilogue else shapes

    @property
    def depthwise(self) -> Operator:
        """The first half of a separable convolution."""
        return replace(
            self,
            kind="depthwise_conv2d",
            out_channels=self.input_shape[3],
            epilogue=self.inner_epilogue,
            inner_epilogue=(),
        )

    @property
    def pointwise(self) -> Operator:
        """The second half of a separable convolution."""
        shape = self.depthwise.output_shape
        return Operator("conv2d", shape, self.out_channels, epilogue=self.epilogue)

    @property
    def n_macs(self) -> int:
        """Multiply-accumulates of convolutions and dense; 0 for the other kinds."""
        if self.kind == "separable_conv2d":
            return self.depthwise.n_macs + self.pointwise.n_macs
        n_outputs = math.prod(self.output_shape)
        if self.kind == "conv2d":
            depth = self.input_shape[3] // self.groups
            return n_outputs * self.kernel[0] * self.kernel[1] * depth
        if self.kind == "depthwise_conv2d":
            return n_outputs * self.kernel[0] * self.kernel[1]
        return n_outputs * self.input_shape[3] if self.kind == "dense" else 0

    @property
    def n_flops(self) -> int:
        """Floating-point operations, a multiply-accumulate counted as two."""
        if self.body is not None:
            return self.body.n_flops
        if self.n_macs:
            return 2 * self.n_macs
        if self.kind in {"avg_pool2d", "max_pool2d"}:
            return math.prod(self.output_shape) * self.kernel[0] * self.kernel[1]
        return math.prod(self.input_shape)

    @property
    def in_place_inputs(self) -> tuple[int, ...]:
        """Positions of the inputs whose place in memory the output may take.

        A kernel, whatever its schedule, reads each number of such an input just before it writes
        the output's number at the same place, and never again.
        """
        if self.body is not None:
            return self.body.in_place
        own = _IN_PLACE.get(self.kind, ())
        if "add" in self.epilogue and self.kind in _ADDED_IN_PLACE:
            return (*own, len(self.input_shapes) - 1)
        return own

    @property
    def input_bytes(self) -> int:
        """Bytes of all data inputs."""
        return sum(t.n_bytes for t in self.input_types)

    @property
    def output_bytes(self) -> int:
        """Bytes of the outputs."""
        return sum(t.n_bytes for t in self.output_types)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(t.n_bytes for t in self.weight_types)

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        """Types of the data inputs, in the order in which a call names them."""
        if self.body is not None:
            return self.body.inputs
        return tuple(TensorType(shape, self.dtype) for shape in self.input_shapes)

    @property
    def weight_types(self) -> tuple[TensorType, ...]:
        """Types of the logical weights, or of a generic operator's constants."""
        if self.body is not None:
            return self.body.constants
        return tuple(TensorType(shape, self.dtype) for shape in self.weight_shapes)

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        """Types of the outputs: one, but for a generic operator."""
        if self.body is not None:
            return self.body.outputs
        return (TensorType(self.output_shape, self.dtype),)

    @property
    def activation(self) -> str | None:
        """The activation that ends the epilogue, if there is one."""
        return next((step for step in self.epilogue if step in ACTIVATIONS), None)


def separable_operator(depthwise: Operator, pointwise: Operator) -> Operator:
    """The separable convolution of a depthwise one and the pointwise one that reads it."""
    return replace(
        depthwise,
        kind="separable_conv2d",
        out_channels=pointwise.out_channels,
        epilogue=pointwise.epilogue,
        inner_epilogue=depthwise.epilogue,
    )


def generic_operator(body: GenericBody) -> Operator:
    """An operator of kind `generic`; its shapes are those of its first tensors, as images."""
    first = (*body.inputs, *body.constants, *body.outputs)[0]
    out = as_image(body.outputs[0].shape)
    return Operator("generic", as_image(first.shape), out[3], body=body)


def as_image(shape: Shape) -> tuple[int, int, int, int]:
    """Any shape as (batch, height, width, channels): leading ones, or a joint first axis."""
    padded = (1,) * (4 - len(shape)) + tuple(shape)
    return (math.prod(padded[:-3]), *padded[-3:])  # type: ignore[return-value]  # it has four


def parse_key(key: str) -> Operator:
    """Read an operator back from its canonical text.

    Raises:
        ValueError: the text is not the key of a valid operator.
    """
    body = parse_generic(key)
    if body is not None:
        return generic_operator(body)
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"not an operator key: {key!r}")

    def numbers(name: str, separator: str = "x") -> tuple[int, ...]:
        return tuple(int(part) for part in match[name].split(separator))

    return Operator(
        kind=match["kind"],  # type: ignore[arg-type]  # checked in __post_init__
        input_shape=numbers("shape"),  # type: ignore[arg-type]
        out_channels=int(match["out"]),
        kernel=numbers("kernel"),  # type: ignore[arg-type]
        stride=numbers("stride"),  # type: ignore[arg-type]
        padding=numbers("pad", "."),  # type: ignore[arg-type]
        dilation=numbers("dilation"),  # type: ignore[arg-type]
        epilogue=tuple(match["epilogue"].split(",")) if match["epilogue"] else (),
        dtype=match["dtype"],
        groups=int(match["groups"] or 1),
        inner_epilogue=tuple(match["inner"].split(",")) if match["inner"] else (),
    )
