"""`latloop quickstart`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latloop.cli import options, output
from latloop.cli.errors import ANSWER_IS_NO

if TYPE_CHECKING:
    from latloop.journeys.quickstart import QuickstartResult


def quickstart(
    device: Annotated[
        str, typer.Option("--device", help="Where to do it; 'local' is this machine.")
    ] = "local",
    seed: options.Seed = 0,
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Profile a device, learn it, search within a limit, deploy and prove the result.

    Takes some minutes the first time, and uses what is stored the next.

    Example: latloop quickstart
    """
    from latloop.journeys.quickstart import quickstart as journey  # noqa: PLC0415
    from latloop.journeys.search_and_deploy import describe  # noqa: PLC0415

    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        result = journey(bench, seed, progress)
    answer = describe(result.outcome, result.accuracy)
    if as_json:
        extra = {"report": str(result.report), "total_seconds": result.seconds, "device": device}
        output.print_json(answer | extra)
    else:
        _print(result, device)
    if not (answer["meets_limit"] and answer["outputs_agree"]):
        raise typer.Exit(ANSWER_IS_NO)


def _print(result: QuickstartResult, device: str) -> None:
    summary, verdict = result.summary, result.verdict
    (_, errors), *_ = result.judgement.evaluation.families
    answer, measured = result.outcome.found.answer, verdict.measurement
    candidate = answer.candidate
    bound = result.accuracy.error_bound_percent
    spread = "" if bound is None else f" +- {bound:.2f}"
    predicted = (candidate.mean_us / 1e3, answer.low_us / 1e3, answer.high_us / 1e3)
    timed = (measured.latency_us / 1e3, measured.low_us / 1e3, measured.high_us / 1e3)
    agree = "agree" if verdict.outputs.passes else "DO NOT AGREE"
    rows = [
        ("profiled", f"{summary.n_operators} operators, {summary.n_networks} networks"),
        (
            "model error",
            f"{errors.median_ape_percent:.1f} % median on {errors.n_networks} fresh networks",
        ),
        ("limit", f"{result.limit.limit_us / 1e3:.2f} ms"),
        ("searched", f"{result.outcome.found.result.n_evaluations} subnets"),
        ("chosen", f"{result.outcome.found.result.space}:{candidate.text}"),
        ("accuracy", f"{candidate.accuracy_percent:.2f}{spread} % on CIFAR-10"),
        ("predicted", output.interval(*predicted, "ms")),
        ("measured", output.interval(*timed, "ms")),
        ("limit holds", "yes" if verdict.meets_limit else "NO"),
        ("outputs", f"program, ONNX and torch {agree}"),
        ("took", f"{result.seconds:.0f} s"),
    ]
    output.print_table(f"latloop on {device}", ("", "95 % intervals in brackets"), rows)
    output.say(f"deployed in {verdict.deployment.folder}")
    output.say(f"report: {result.report}")
