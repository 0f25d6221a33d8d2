"""Kernels and the C runner as one static executable, or one shared library, for a target."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import devices.runner
from devices.device import Device
from devices.rpc import RpcDevice
from profiler.target import Target

#: What zig calls the targets that LLVM calls so; musl because it links statically everywhere.
ZIG_TARGETS: Final = {
    "x86_64-linux-gnu": "x86_64-linux-musl",
    "aarch64-linux-gnu": "aarch64-linux-musl",
    "armv7l-linux-gnueabihf": "arm-linux-musleabihf",
    "riscv64-linux-gnu": "riscv64-linux-musl",
}
#: The same for shared libraries: the oldest glibc that zig has for all of what the runner calls.
_GNU_TARGETS: Final = {
    "x86_64-linux-gnu": "x86_64-linux-gnu.2.17",
    "aarch64-linux-gnu": "aarch64-linux-gnu.2.17",
    "armv7l-linux-gnueabihf": "arm-linux-gnueabihf.2.17",
    "riscv64-linux-gnu": "riscv64-linux-gnu.2.27",
}
_COMPILE_FLAGS: Final = ("-std=c11", "-O2", "-g0", "-ffp-contract=off", "-Wall", "-Wextra")
_LINK_FLAGS: Final = ("-static", "-O2", "-g0", "-s")


@dataclass(frozen=True, slots=True)
class _Form:
    """What kernels and the runner become.

    Attributes:
        zig_targets: What zig calls the targets that LLVM calls so.
        folders: Of the runner's sources, below its own.
        compile_flags, link_flags, libraries: For zig's C compiler.
        exports: A version script: what is seen from the outside; "" where nobody looks.
    """

    zig_targets: Mapping[str, str]
    folders: tuple[str, ...] = (".",)
    compile_flags: tuple[str, ...] = _COMPILE_FLAGS
    link_flags: tuple[str, ...] = _LINK_FLAGS
    libraries: tuple[str, ...] = ()
    exports: str = ""


_EXECUTABLE: Final = _Form(ZIG_TARGETS)
#: Kernels' calls of a runtime must reach the runner's functions, whatever the process that loads
#: the library has loaded before: so nothing but the entries is exported.
_LIBRARY: Final = _Form(
    _GNU_TARGETS,
    (".", "shared"),
    (*_COMPILE_FLAGS, "-fPIC", "-D_GNU_SOURCE=", "-Dmain=runner_main"),
    ("-shared", "-fPIC", "-O2", "-g0", "-s", "-Wl,--version-script=exports"),
    ("-lm", "-lpthread", "-ldl"),
    "{ global: __tvm_ffi_latloop_*; latloop_runner; local: *; };\n",
)
_KERNEL_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_N_LAST_LINES: Final = 15
_TIMEOUT_S: Final = 900


class LinkError(Exception):
    """The compiler or linker refused: a bad object or a broken tool chain; record and go on."""


class NoDiskSpaceError(OSError):
    """The cache folder's disk is full: free some, or choose another LATLOOP_HOME, and repeat."""


def link_executable(kernels: Mapping[str, Path], target: Target, cache_folder: Path) -> Path:
    """Link the runner with kernels; does nothing when the cache has the same executable.

    Args:
        kernels: Object file of each kernel by its name; its function is `__tvm_ffi_NAME`.
        target: What the objects were compiled for.
        cache_folder: Made when missing; safe to share between processes.

    Returns:
        A static executable in the cache, named by the hash of all that went into it.

    Raises:
        ValueError: a name is no C identifier, or zig does not know the target.
        LinkError: a kernel's function is missing, or an object is for another target.
        NoDiskSpaceError: the disk of the cache is full.
    """
    return _link_once(_EXECUTABLE, kernels, target, cache_folder)


def link_library(kernels: Mapping[str, Path], target: Target, cache_folder: Path) -> Path:
    """Link the runner with kernels to what a TVM RPC server on a board with glibc can load.

    The same runner, with entries for TVM (`devices/runner/shared/library.c`). Arguments, errors and
    cache as for `link_executable`.
    """
    return _link_once(_LIBRARY, kernels, target, cache_folder)


def link_for(
    device: Device, kernels: Mapping[str, Path], target: Target, cache_folder: Path
) -> Path:
    """Link the runner with kernels to what the device's `start` takes; see `link_executable`."""
    link = link_library if isinstance(device, RpcDevice) else link_executable
    return link(kernels, target, cache_folder)


def _link_once(
    form: _Form, kernels: Mapping[str, Path], target: Target, cache_folder: Path
) -> Path:
    for name in kernels:
        if not _KERNEL_NAME.fullmatch(name):
            raise ValueError(f"a kernel's name must be letters, digits and _, got {name!r}")
    zig_target = _zig_target(form, target)
    with reported_disk(cache_folder):
        runner = _compile_runner(form, zig_target, cache_folder)
        objects = {name: kernels[name].read_bytes() for name in sorted(kernels)}
        digest = _digest(runner.name.encode(), *(part for item in objects.items() for part in item))
        linked = cache_folder / "executables" / digest
        if not linked.exists():
            linked.parent.mkdir(parents=True, exist_ok=True)
            _link(form, kernels, runner, zig_target, linked)
        return linked


def _zig_target(form: _Form, target: Target) -> str:
    if target.triple not in form.zig_targets:
        known = ", ".join(form.zig_targets)
        raise ValueError(f"triple must be one of {known}, got {target.triple!r}")
    return form.zig_targets[target.triple]


def _digest(*parts: str | bytes) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8, "little") + data)
    return hashed.hexdigest()[:24]


def _source_folder() -> Path:
    return Path(devices.runner.__path__[0])


def _compile_runner(form: _Form, zig_target: str, cache_folder: Path) -> Path:
    """The runner as one object file, compiled when the cache has none."""
    folders = [_source_folder() / name for name in form.folders]
    files = sorted(path for folder in folders for path in folder.glob("*.[ch]"))
    contents = (part for path in files for part in (path.name, path.read_bytes()))
    flags = (*form.compile_flags, *form.link_flags, *form.libraries)
    digest = _digest(zig_target, version("ziglang"), *flags, form.exports, *contents)
    runner = cache_folder / "runners" / f"{zig_target}-{digest}.o"
    if not runner.exists():
        runner.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=runner.parent, prefix=".new-") as made:
            output = Path(made, "runner.o")
            sources = [str(path.absolute()) for path in files if path.suffix == ".c"]
            flags = (*form.compile_flags, "-iquote", str(_source_folder().absolute()), "-r")
            arguments = [*flags, "-o", str(output.absolute()), *sources]
            _run_zig(arguments, zig_target, cache_folder, Path(made))
            output.rename(runner)
    return runner


def _link(
    form: _Form, kernels: Mapping[str, Path], runner: Path, zig_target: str, linked: Path
) -> None:
    cache_folder = linked.parent.parent
    with tempfile.TemporaryDirectory(dir=linked.parent, prefix=".new-") as made:
        table = Path(made, "kernels.c")
        table.write_text(_table(sorted(kernels)), encoding="utf-8")
        # Hundreds of objects make too long a command line, so they stand in a response file,
        # under plain names: zig does not read every path back from there as it was.
        objects = [runner, *(kernels[name] for name in sorted(kernels))]
        for position, path in enumerate(objects):
            Path(made, f"{position}.o").symlink_to(path.absolute())
        response = "\n".join(f"{position}.o" for position in range(len(objects)))
        Path(made, "objects").write_text(response, encoding="utf-8")
        Path(made, "exports").write_text(form.exports, encoding="utf-8")
        include = ("-iquote", str(_source_folder().absolute()))
        inputs = ("kernels.c", "@objects", *form.libraries)
        arguments = [*form.link_flags, *include, "-o", "linked", *inputs]
        _run_zig(arguments, zig_target, cache_folder, Path(made))
        Path(made, "linked").rename(linked)


def _table(names: list[str]) -> str:
    declarations = (
        f"int __tvm_ffi_{name}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);" for name in names
    )
    entries = (f'  {{"{name}", __tvm_ffi_{name}}},' for name in names)
    return "\n".join(
        (
            '#include "tvm_abi.h"',
            *declarations,
            "const Kernel latloop_kernels[] = {",
            *entries,
            "  {0, 0},",
            "};",
            f"const size_t latloop_n_kernels = {len(names)};",
            "",
        )
    )


def _run_zig(arguments: list[str], zig_target: str, cache_folder: Path, work_folder: Path) -> None:
    """Run zig's C compiler in a folder.

    Raises:
        LinkError: with its last lines.
        NoDiskSpaceError: it says so.
    """
    zig_cache = str((cache_folder / "zig").absolute())
    places = {"ZIG_GLOBAL_CACHE_DIR": zig_cache, "ZIG_LOCAL_CACHE_DIR": zig_cache}
    command = [sys.executable, "-m", "ziglang", "cc", "-target", zig_target, *arguments]
    try:
        done = subprocess.run(
            command,
            env=os.environ | places,
            cwd=work_folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LinkError(f"zig did not end in {_TIMEOUT_S} s for {zig_target}") from error
    if done.returncode == 0:
        return
    said = (done.stderr + done.stdout).decode(errors="replace").strip()
    if re.search(r"NoSpaceLeft|No space left on device|DiskQuota", said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    last = "\n".join(said.splitlines()[-_N_LAST_LINES:])
    raise LinkError(f"zig failed for {zig_target} with status {done.returncode}:\n{last}")


@contextmanager
def reported_disk(cache_folder: Path) -> Iterator[None]:
    """Turn the system's errors of a full disk into `NoDiskSpaceError`."""
    try:
        cache_folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        free_bytes = shutil.disk_usage(cache_folder).free if cache_folder.exists() else 0
        raise NoDiskSpaceError(
            error.errno,
            f"no disk space for the build cache, {free_bytes} bytes are free; free some and run "
            "again, or set LATLOOP_HOME to a larger disk",
            str(cache_folder),
        ) from error
