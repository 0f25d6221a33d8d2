"""ONNX Runtime on the machine that Latloop runs on, as a device."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from devices.board import Fingerprint
from devices.cores import choose_cores, occupied
from devices.errors import ExecutableRefusedError, MissingRuntimeError
from devices.fingerprint import read_fingerprint
from devices.local import start_runner
from devices.session import RunnerSession

RUNTIME_NAME: Final = "onnxruntime"
INSTALL_COMMAND: Final = "pip install 'latloop[ort]'"
#: One thread in what the runner imports: it forks, and a fork takes only one thread along.
#: Telemetry, which ONNX Runtime sends from a thread of its own, would also disturb the timing.
_ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True, slots=True)
class OrtDevice:
    """The machine that this program runs on, with ONNX Runtime.

    Its executables are lists of ONNX models, see `write_model_list`; each model is a kernel that
    is called on its inputs and outputs, in the model's order.

    Attributes:
        name: The name in the inventory.
        threads: Threads that a model may use, each on a core of its own.
        core: The core that measures; None takes the last one that this process may use.
        versions: (component, version) pairs for the runtime's fingerprint, beside ONNX Runtime's.
        root: Where `proc` and `sys` are found.
    """

    name: str = "local-ort"
    threads: int = 1
    core: int | None = None
    versions: tuple[tuple[str, str], ...] = ()
    root: Path = Path("/")

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")

    @property
    def cores(self) -> tuple[int, ...]:
        """See `devices.local.LocalDevice`."""
        return choose_cores(self.threads, self.core, self.root)

    @property
    def host_cores(self) -> tuple[int, ...]:
        """See `devices.device.Device`."""
        return occupied(self.cores, self.root)

    def fingerprint(self) -> Fingerprint:
        """See `devices.device.Device`.

        Raises:
            MissingRuntimeError: ONNX Runtime is not installed.
        """
        versions = (*self.versions, (RUNTIME_NAME, installed_version()))
        architecture = platform.machine()
        return read_fingerprint(self.root, architecture, self.threads, versions, RUNTIME_NAME)

    def start(self, executable: Path) -> RunnerSession:
        """Start a process that has ONNX Runtime loaded and visits the models of a list.

        It ends when this process does, however that comes about.

        Raises:
            MissingRuntimeError: ONNX Runtime is not installed.
            ExecutableRefusedError: not a list of models, or one of them is missing.
            TooFewCoresError: there are fewer cores than threads.
            RunnerLostError: it started and did not answer.
        """
        installed_version()
        for path in read_model_list(executable).values():
            if not path.is_file():
                raise ExecutableRefusedError(f"{executable} names {path}, which is no file")
        # -P: modules of the folder that the command is run in must not stand for ours.
        command = [sys.executable, "-P", "-m", "devices.ort_runner", str(executable)]
        if self.root != Path("/"):
            command += ["--root", str(self.root)]
        return start_runner(command, self.cores, os.environ | _ONE_THREAD, name=self.name)


def installed_version() -> str:
    """The version of ONNX Runtime.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        return version(RUNTIME_NAME)
    except PackageNotFoundError:
        raise MissingRuntimeError(
            f"ONNX Runtime is not installed, which this device runs; run `{INSTALL_COMMAND}`"
        ) from None


def write_model_list(path: Path, models: Mapping[str, Path]) -> None:
    """Write which models a runner shall hold: an ONNX file by name."""
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps({name: str(file.absolute()) for name, file in models.items()}))
    new.replace(path)


def read_model_list(path: Path) -> dict[str, Path]:
    """Read a list of models.

    Raises:
        ExecutableRefusedError: it cannot be read, or is no such list.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExecutableRefusedError(f"cannot read {path} as a list of models: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
        raise ExecutableRefusedError(f"{path} is no list of ONNX files by name")
    return {name: Path(file) for name, file in document.items()}
