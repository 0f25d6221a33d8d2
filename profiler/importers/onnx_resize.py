"""ONNX's Resize and Upsample in Relax."""

from __future__ import annotations

from typing import Any

from profiler.importers.onnx_tensors import Converter, known_or_refuse, shape_of, text
from profiler.importers.resize import ResizeRule, resize


class Resize(Converter):
    """Any rank, any mode but antialiasing and crops."""

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        rule = ResizeRule(_mode(attr), "asymmetric", "simple")
        scales = known_or_refuse(inputs[1], "Resize's scales")
        return resize(bb, inputs[0], rule, dict(enumerate(map(float, scales))), {})

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        policy = text(attr, "keep_aspect_ratio_policy", "stretch")
        if attr.get("antialias", 0) or policy != "stretch":
            raise ValueError("Resize with antialias or keep_aspect_ratio_policy cannot be imported")
        rule = ResizeRule(
            _mode(attr),
            text(attr, "coordinate_transformation_mode", "half_pixel"),
            text(attr, "nearest_mode", "round_prefer_floor"),
            float(attr.get("cubic_coeff_a", -0.75)),
            bool(attr.get("exclude_outside", 0)),
        )
        shape = shape_of(inputs[0])
        axes = [axis % len(shape) for axis in attr.get("axes", range(len(shape)))]
        if inputs[3] is not None and shape_of(inputs[3]) != (0,):
            wanted = [int(n) for n in known_or_refuse(inputs[3], "Resize's sizes")]
            sizes = dict(zip(axes, wanted, strict=True))
            scales = {axis: size / shape[axis] for axis, size in sizes.items()}
            return resize(bb, inputs[0], rule, scales, sizes)
        factors = [float(n) for n in known_or_refuse(inputs[2], "Resize's scales")]
        return resize(bb, inputs[0], rule, dict(zip(axes, factors, strict=True)), {})


class Upsample(Converter):
    """What Resize was called before."""

    @classmethod
    def _impl_v7(cls, bb: Any, inputs: Any, attr: Any, _params: Any) -> Any:
        rule = ResizeRule(_mode(attr), "asymmetric", "simple")
        return resize(bb, inputs[0], rule, dict(enumerate(attr["scales"])), {})

    @classmethod
    def _impl_v9(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        return Resize._impl_v10(bb, inputs, attr, params)


def _mode(attr: Any) -> str:
    mode = text(attr, "mode", "nearest")
    return {"bilinear": "linear"}.get(mode, mode)
