"""TVM's import takes torch along where it can, which makes a process start seconds later."""

from __future__ import annotations

import sys
from typing import Any, cast


def leave_torch_out() -> None:
    """Let no later import of this process find torch; does nothing where it is there already."""
    cast("dict[str, Any]", sys.modules).setdefault("torch", None)
