"""`latloop measure`."""

from __future__ import annotations

from dataclasses import replace

from latloop.cli import options, output


def measure(
    device: options.DeviceName,
    model: options.ModelName,
    shape: options.ModelShapes = None,
    plan: options.PlanName = "greedy",
    exhaustive: options.Exhaustive = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a whole network on a device, in spaced sessions.

    Kernels that the device does not have yet are tuned first.

    Example: latloop measure local nas_bench_macro:22212220
    """
    from latloop.journeys.measure import measure as journey  # noqa: PLC0415  # keeps `--help` fast
    from latloop.journeys.memory import plan_memory  # noqa: PLC0415
    from latloop.models import as_model  # noqa: PLC0415

    opened = options.workbench(device, store, devices, exhaustive=exhaustive)
    with opened as bench, output.progress_bars() as progress:
        subject = options.resolve(model, shape, progress)
        arena = plan_memory(bench, subject.network, plan)
        measurement = journey(bench, replace(as_model(subject), plan=arena), progress)
    if as_json:
        answer = {"device": device, **output.measured_json(measurement), **output.plan_json(arena)}
        output.print_json(answer)
        return
    low, high = measurement.low_us / 1e3, measurement.high_us / 1e3
    output.say(
        f"{model} on {device}: {output.interval(measurement.latency_us / 1e3, low, high, 'ms')}, "
        f"{len(measurement.session_us)} sessions, {100 * measurement.confidence:.0f} % interval "
        f"of their median; {output.describe_memory(arena.arena_bytes, is_optimal=arena.is_optimal)}"
    )
    if measurement.flags:
        output.say(f"flags: {', '.join(measurement.flags)}; see `latloop device check {device}`")
