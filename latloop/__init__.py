"""Hardware-in-the-loop latency profiling, cost modelling and search for neural networks.

`open_device` and `load_space` are what a library user needs; see `latloop.library`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latloop.library import ModelledDevice, open_device
    from searchspace.space import load_space

__all__ = ["ModelledDevice", "load_space", "open_device"]


def __getattr__(name: str) -> object:
    """Import on first use: the command line must not wait for it."""
    if name == "load_space":
        from searchspace.space import load_space  # noqa: PLC0415

        return load_space
    if name in {"ModelledDevice", "open_device"}:
        from latloop import library  # noqa: PLC0415

        return getattr(library, name)
    raise AttributeError(f"module 'latloop' has no attribute {name!r}")
