"""Exit codes: what each error means for a program that called `latloop`."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
ANSWER_IS_NO: Final = 1
WRONG_USAGE: Final = 2
INCONCLUSIVE: Final = 20
DEVICE_TROUBLE: Final = 21
ENVIRONMENT_MOVED: Final = 23
INTERRUPTED: Final = 130  # as a shell reports SIGINT

#: Classes by name, because importing them all would make `latloop --help` slow. The first name
#: found among an error's classes, most derived first, decides.
_CODES: Final = {
    "InfeasibleLimitError": ANSWER_IS_NO,
    "InfeasibleMemoryError": ANSWER_IS_NO,
    "OverMemoryLimitError": ANSWER_IS_NO,
    "NotAgreedError": ANSWER_IS_NO,
    "TooFewPairsError": INCONCLUSIVE,
    "TooLargeForBoardError": WRONG_USAGE,
    "UnknownDeviceError": WRONG_USAGE,
    "InventoryError": WRONG_USAGE,
    "MissingRuntimeError": WRONG_USAGE,
    "DeviceError": DEVICE_TROUBLE,
    "NetworkFailedError": DEVICE_TROUBLE,
    "NoKernelError": DEVICE_TROUBLE,
    "CompilerLostError": DEVICE_TROUBLE,
    "BuildCacheError": DEVICE_TROUBLE,
    "LinkError": DEVICE_TROUBLE,
    "NoDiskSpaceError": DEVICE_TROUBLE,
    "ArtifactError": DEVICE_TROUBLE,
    "StoreFullError": DEVICE_TROUBLE,
    "StaleGenerationError": DEVICE_TROUBLE,
    "StoreError": WRONG_USAGE,
    "NoModelError": WRONG_USAGE,
    "ModelFolderError": WRONG_USAGE,
    "TooFewMeasurementsError": WRONG_USAGE,
    "DeploymentError": WRONG_USAGE,
    "MissingPlotlyError": WRONG_USAGE,
    "ValueError": WRONG_USAGE,
    # Of the operating system, about a path that a person gave: these name it.
    "FileExistsError": WRONG_USAGE,
    "FileNotFoundError": WRONG_USAGE,
    "IsADirectoryError": WRONG_USAGE,
    "NotADirectoryError": WRONG_USAGE,
    "PermissionError": WRONG_USAGE,
    "OSError": DEVICE_TROUBLE,
}


def exit_code_of(error: BaseException) -> int | None:
    """The exit code for an error that a user can act on; None for a bug."""
    for kind in type(error).__mro__:
        if kind.__name__ in _CODES:
            return _CODES[kind.__name__]
    return None
