"""`latloop predict`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latloop.cli import options, output

if TYPE_CHECKING:
    from costmodel.latency import LatencyModel
    from latloop.workbench import Workbench
    from profiler.operator import Operator
    from profiler.plan import PlanMode

_N_NAMED = 5  # unseen operators that a person is told by name


def predict(
    device: options.DeviceName,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="As for `latloop measure`; - reads one MODEL a line from stdin and answers one "
            "JSON a line.",
        ),
    ],
    shape: options.ModelShapes = None,
    plan: options.PlanName = "greedy",
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Predict a network's latency on a device, without running it.

    Example: latloop predict local nas_bench_macro:22212220
    """
    with options.workbench(device, store, devices) as bench, output.progress_bars() as progress:
        latency_model = bench.load_model()
        asked = _Asked(bench, shape or [], plan, latency_model, progress)
        if model == "-":
            _serve(asked)
            return
        answer = asked.predict(model)
    if as_json:
        output.print_json(answer)
        return
    low, high = answer["low_ms"], answer["high_ms"]
    output.say(f"{model} on {device}: {output.interval(answer['latency_ms'], low, high, 'ms')}")
    arena_bytes, is_optimal = answer["peak_activation_bytes"], answer["plan_is_optimal"]
    output.say(
        f"{answer['n_operators']} operators, {answer['weight_bytes'] / 1e6:.2f} MB of weights, "
        f"{output.describe_memory(arena_bytes, is_optimal=is_optimal)}"
    )
    if answer["unseen_operators"]:
        output.say(_describe_unseen(asked, answer))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What all models of one command are asked with."""

    bench: Workbench
    shapes: list[str]
    plan: PlanMode
    model: LatencyModel
    progress: output.StageProgress

    def predict(self, text: str) -> dict[str, Any]:
        """The answer for one MODEL, as JSON."""
        from latloop.journeys.memory import plan_memory  # noqa: PLC0415  # keeps `--help` fast
        from profiler.network import count_operators  # noqa: PLC0415  # keeps `--help` fast

        network = options.resolve(text, self.shapes, self.progress).network
        plan = plan_memory(self.bench, network, self.plan)
        prediction = self.model.predict_networks_us(count_operators([network.operators]))
        unseen, share = self._find_unseen(network.operators)
        return {
            "device": self.bench.device.name,
            "model": text,
            "latency_ms": float(prediction.mean_us[0]) / 1e3,
            "low_ms": float(prediction.low_us[0]) / 1e3,
            "high_ms": float(prediction.high_us[0]) / 1e3,
            "confidence": prediction.confidence,
            **output.plan_json(plan),
            "weight_bytes": network.weight_bytes,
            "n_operators": len(network.calls),
            "unseen_operators": [op.key for op in unseen],
            "unseen_share_percent": 100 * share,
        }

    def _find_unseen(self, operators: tuple[Operator, ...]) -> tuple[list[Operator], float]:
        """Operators never measured, the costliest first, and their share of the operators' time."""
        import numpy as np  # noqa: PLC0415  # keeps `--help` fast

        unseen = set(self.model.unseen(operators))
        us = self.model.predict_operators_us(operators).mean_us
        cost_us: dict[Operator, float] = {}
        for op, each_us in zip(operators, us.tolist(), strict=True):
            if op in unseen:
                cost_us[op] = cost_us.get(op, 0.0) + each_us
        ordered = sorted(cost_us, key=lambda op: -cost_us[op])
        return ordered, sum(cost_us.values()) / float(np.sum(us)) if cost_us else 0.0


def _describe_unseen(asked: _Asked, answer: dict[str, Any]) -> str:
    from profiler.operator import parse_key  # noqa: PLC0415  # keeps `--help` fast

    keys = answer["unseen_operators"]
    names = list(dict.fromkeys(_short_name(parse_key(key)) for key in keys))
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    options_text = "".join(f" --shape {shlex.quote(text)}" for text in asked.shapes)
    command = (
        f"latloop measure {asked.bench.device.name} {shlex.quote(answer['model'])}{options_text}"
    )
    return (
        f"{len(keys)} of these operators, {answer['unseen_share_percent']:.0f} % of the predicted "
        f"time, were never measured on {asked.bench.device.name}, so the interval is wider: "
        f"{', '.join(names[:_N_NAMED])}{more}. `{command}` measures them, `latloop fit "
        f"{asked.bench.device.name}` learns from that"
    )


def _short_name(operator: Operator) -> str:
    """Such as `fused_softmax 1x197x197` or `conv2d 1x56x56x64`: what it does, and what it makes."""
    name = operator.kind if operator.body is None else operator.body.name
    return f"{name} {'x'.join(map(str, operator.output_types[0].shape))}"


def _serve(asked: _Asked) -> None:
    """Answer line by line; a line that cannot be answered gets an error and the rest go on."""
    for line in sys.stdin:
        text = line.strip()
        if not text:
            continue
        try:
            output.print_json(asked.predict(text))
        except (ValueError, RuntimeError) as error:
            output.print_json(
                {"device": asked.bench.device.name, "model": text, "error": str(error)}
            )
