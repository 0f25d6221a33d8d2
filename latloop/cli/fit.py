"""`latloop fit`."""

from __future__ import annotations

from latloop.cli import options, output


def fit(
    device: options.DeviceName,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Learn a device's latency model from all that was measured there.

    Example: latloop fit local
    """
    from latloop.journeys.fit import fit as journey  # noqa: PLC0415  # keeps `--help` fast

    with options.workbench(device, store, devices) as bench:
        model = journey(bench)
        folder = bench.home.model(bench.device_id)
    if as_json:
        output.print_json(
            {
                "device": device,
                "device_id": model.device_id,
                "n_operators": len(model.measured),
                "n_networks": model.n_networks,
                "folder": str(folder),
            }
        )
        return
    output.say(
        f"{device}: a model of {len(model.measured)} operators and {model.n_networks} networks "
        f"is in {folder}. Next: latloop evaluate {device}, or latloop search {device}"
    )
