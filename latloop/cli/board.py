"""`latloop device enroll`, `steal` and `calibrate`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latloop.cli import options, output
from latloop.cli.errors import ANSWER_IS_NO, ENVIRONMENT_MOVED

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices.host_key import HostKey
    from latloop.journeys.calibrate import Calibration
    from latloop.journeys.enroll import Enrolled


def enroll(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the board.")],
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="user@host[:port], or a host of ~/.ssh/config; an IPv6 address with a port in "
            "brackets.",
        ),
    ],
    jump: Annotated[
        str | None,
        typer.Option("--jump", metavar="HOSTS", help="Hosts to go through, as for ssh -J."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="A private key, tried before any other.")
    ] = None,
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(
            "--fingerprint",
            metavar="SHA256:...",
            help="Of the host key, compared instead of asking; once more for each jump host that "
            "is new.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Instead of what would be found, such as folder=/data/latloop, threads=2 or "
            "board.architecture=aarch64; repeatable.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace a device of this name, and another host key."),
    ] = False,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a board a device: look at it over SSH, run a program on it, and write it down.

    Nothing is written down unless all of it went well.

    Example: latloop device enroll rpi4 pi@192.168.1.20
    """
    from devices.open import Access  # noqa: PLC0415  # keeps `--help` fast
    from devices.ssh.address import parse_address  # noqa: PLC0415
    from latloop.journeys.enroll import EnrollRequest  # noqa: PLC0415
    from latloop.journeys.enroll import enroll as journey  # noqa: PLC0415
    from latloop.journeys.host_keys import Agreement  # noqa: PLC0415

    home = options.find_home()
    request = EnrollRequest(
        name=name,
        address=parse_address(address, jump, key_file),
        settings=settings or (),
        is_replacing=replace,
        inventory=devices or home.inventory,
    )
    agreement = Agreement(ask_about(name, address), fingerprint or (), replace)
    access = Access(home.known_hosts, options.find_ask())
    enrolled = journey(home, request, access, agreement, output.progress_lines())
    if as_json:
        output.print_json(_enrolled_json(enrolled, request.inventory))
    else:
        _print_enrolled(enrolled, request.inventory)


def ask_about(name: str, address: str) -> Callable[[HostKey], bool]:
    """Ask on the terminal whether a host key is the right one."""
    from latloop.journeys.host_keys import NobodyToAskError  # noqa: PLC0415

    def agree(key: HostKey) -> bool:
        if not sys.stdin.isatty():
            raise NobodyToAskError(
                f"{name}: the host key of {key.name} is {key.kind} {key.fingerprint}, and there is "
                "no terminal to ask on; compare it on the board (ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub), then run: latloop device enroll "
                f"{name} {address} --fingerprint {key.fingerprint}"
            )
        typer.echo(
            f"The host key of {key.name} is {key.kind}\n    {key.fingerprint}\nCompare it with "
            "what this prints on the board itself:\n    for key in /etc/ssh/ssh_host_*_key.pub; do "
            "ssh-keygen -lf $key; done",
            err=True,
        )
        return typer.confirm("Is it the same?", err=True)

    return agree


def _enrolled_json(enrolled: Enrolled, inventory: Path) -> dict[str, Any]:
    entry = enrolled.entry
    return {
        "device": entry.name,
        "inventory": str(inventory),
        "folder": entry.folder,
        "free_bytes": enrolled.folder.free_bytes,
        "host_keys": [asdict(key) for key in enrolled.keys],
        "architecture": entry.board.architecture,
        "governor": enrolled.probe.governor,
        "sensors": [asdict(sensor) for sensor in enrolled.probe.sensors],
        "os_image": enrolled.probe.os_image,
        "tick_ns": enrolled.tick_ns,
        "board": asdict(entry.board),
        "target": asdict(enrolled.target),
    }


def _print_enrolled(enrolled: Enrolled, inventory: Path) -> None:
    entry, probe, target = enrolled.entry, enrolled.probe, enrolled.target
    board = entry.board.overlay(probe.board)
    sensors = ", ".join(map(str, probe.sensors))
    cores = entry.board.measuring_cores[: entry.threads]
    rows = [
        ("processor", f"{board.cpu_model}, {board.architecture}"),
        *(("cores", str(cluster)) for cluster in probe.clusters),
        ("measured on", f"core {', '.join(map(str, cores))}" if cores else "any core"),
        ("memory", f"{board.memory_bytes / 2**30:.1f} GiB"),
        ("governor", probe.governor or "none shown"),
        ("temperature", sensors or "no sensor shown"),
        ("clock resolution", f"{enrolled.tick_ns} ns"),
        ("folder", str(enrolled.folder)),
        ("target", f"{target.triple}, {target.cpu}, vectors of {target.vector_bytes} bytes"),
        ("written to", str(inventory)),
    ]
    output.print_table(f"{entry.name} is a device now", ("", "found"), rows)
    output.say(f"next: latloop device check {entry.name}")


def steal(
    device: options.DeviceName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """End whoever measures on a board, and free its lease.

    The board keeps a line of it in lease.log.

    Example: latloop device steal rpi4
    """
    from latloop.journeys.steal import find_holder  # noqa: PLC0415  # keeps `--help` fast
    from latloop.journeys.steal import steal as journey  # noqa: PLC0415

    with options.workbench(device, store, devices) as bench:
        holder = find_holder(bench)
        if holder is not None and not yes and not _may_steal(device, str(holder)):
            raise typer.Exit(ANSWER_IS_NO)
        stolen = None if holder is None else journey(bench, holder)
    if as_json:
        generation = None if stolen is None else stolen.generation
        ended = None if holder is None else asdict(holder)
        output.print_json({"device": device, "ended": ended, "generation": generation})
    elif holder is None:
        output.say(f"nobody measures on {device}: there was nothing to steal")
    else:
        output.say(f"ended {holder} on {device}; its lease is free")


def _may_steal(device: str, holder: str) -> bool:
    typer.echo(f"{holder} measures on {device}; what is under way there will be lost", err=True)
    if not sys.stdin.isatty():
        typer.echo(f"say so with: latloop device steal {device} --yes", err=True)
        return False
    return typer.confirm("End that session?", err=True)


def calibrate(
    device: options.DeviceName,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long to measure.", min=1.0)
    ] = 60.0,
    seed: options.Seed = 0,
    store: options.StoreUrl = None,
    devices: options.DevicesFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure the same against the same, to learn how small a change a device can show.

    Ctrl-C ends it early and keeps what was measured. Exit code 23: the canary moved meanwhile.

    Example: latloop device calibrate local --seconds 60
    """
    import numpy as np  # noqa: PLC0415  # keeps `--help` fast

    from latloop.journeys.calibrate import calibrate as journey  # noqa: PLC0415

    with options.workbench(device, store, devices) as bench, output.progress_bars() as progress:
        calibration = journey(bench, seconds, np.random.default_rng(seed), progress)
    if as_json:
        output.print_json(_calibration_json(device, calibration))
    else:
        _print_calibration(device, calibration)
    if calibration.has_moved:
        raise typer.Exit(ENVIRONMENT_MOVED)


_CHANGES_PERCENT = (1, 3, 5)


def _calibration_json(device: str, calibration: Calibration) -> dict[str, Any]:
    found = calibration.detection
    return {
        "device": device,
        "smallest_change_percent": found.smallest_percent,
        "low_percent": found.low_percent,
        "high_percent": found.high_percent,
        "confidence": 0.95,
        "power": 0.8,
        "pairs": found.n_pairs,
        "shift_percent": found.shift_percent,
        "seconds": calibration.seconds,
        "seconds_per_session": calibration.seconds_per_session,
        "sessions_for_percent": {str(p): found.sessions_for(p) for p in _CHANGES_PERCENT},
        "canary_moved": calibration.has_moved,
        "canary_moved_share": calibration.moved_share,
        "canary_drift_percent": calibration.drift_percent,
        "interrupted": calibration.is_interrupted,
    }


def _print_calibration(device: str, calibration: Calibration) -> None:
    found, session_s = calibration.detection, calibration.seconds_per_session
    change = output.interval(found.smallest_percent, found.low_percent, found.high_percent, "%")
    output.say(
        f"the smallest change that {device} shows in {2 * found.n_pairs} sessions of "
        f"{session_s:.2f} s: {change}\n"
        "(at 95 % confidence, found four times of five; the two series, of the same kernels, "
        f"differed by {found.shift_percent:+.2f} %)"
    )
    for percent in _CHANGES_PERCENT:
        n_sessions = found.sessions_for(percent)
        output.say(f"{percent} % takes {n_sessions} sessions, {n_sessions * session_s:.0f} s")
    if calibration.has_moved:
        output.say(
            f"the canary moved: by {calibration.drift_percent:+.1f} % from the first to the last "
            f"third, and beside {100 * calibration.moved_share:.0f} % of the pairs; see `latloop "
            f"device check {device}`, and calibrate again"
        )
