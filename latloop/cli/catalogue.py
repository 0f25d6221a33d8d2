"""`latloop catalogue`."""

from __future__ import annotations

from latloop.cli import output


def catalogue() -> None:
    """Print, as Markdown, how every operator kind and every ONNX operator is handled.

    ONNX operators are tried out, which takes a minute.

    Example: latloop catalogue
    """
    from latloop.journeys.catalogue import write_catalogue  # noqa: PLC0415  # keeps `--help` fast

    output.say(write_catalogue().rstrip("\n"))
