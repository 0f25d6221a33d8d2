"""`latloop measure`."""

from __future__ import annotations

from latloop.cli import options, output


def measure(
    device: options.DeviceName,
    model: options.ModelName,
    shape: options.ModelShapes = None,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a whole network on a device, in spaced sessions.

    Kernels that the device does not have yet are tuned first.

    Example: latloop measure local nas_bench_macro:22212220
    """
    from latloop.journeys.measure import measure as journey  # noqa: PLC0415  # keeps `--help` fast
    from latloop.models import as_model  # noqa: PLC0415

    with options.workbench(device, store, devices) as bench, output.progress_bars() as progress:
        subject = options.resolve(model, shape, progress)
        measurement = journey(bench, as_model(subject), progress)
    if as_json:
        output.print_json({"device": device, **output.measured_json(measurement)})
        return
    low, high = measurement.low_us / 1e3, measurement.high_us / 1e3
    output.say(
        f"{model} on {device}: {output.interval(measurement.latency_us / 1e3, low, high, 'ms')}, "
        f"{len(measurement.session_us)} sessions, {100 * measurement.confidence:.0f} % interval "
        "of their median"
    )
    if measurement.flags:
        output.say(f"flags: {', '.join(measurement.flags)}; see `latloop device check {device}`")
