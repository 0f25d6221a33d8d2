"""Bad input ends with a sentence on stderr and the right exit code, never with a traceback."""

from __future__ import annotations

import ast
import builtins
import errno
import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from latloop.cli.errors import exit_code_of
from profiler.build import Kernel
from profiler.operator import Operator
from profiler.schedules.schedule import Schedule
from profiler.store import Store
from profiler.store_schema import SCHEMA_VERSION
from tests.command import Done, RunHere

ROOT = Path(__file__).parents[3]
MACRO = ("--space", "nas_bench_macro")
NET = "nas_bench_macro:00000000"


def assert_refused(ended: Done, code: int, *parts: str) -> None:
    said = " ".join(ended.err.replace("│", " ").split())  # usage errors stand in a box
    assert ended.code == code, ended
    assert ended.out == ""
    for part in parts:
        assert part in said
    assert "Traceback" not in said


LIMIT_RULE = "a latency is a positive number with a unit (900us, 8ms, 1.2s)"
MODEL_RULE = "MODEL is an ONNX file, module:function that returns a torch module"
GENOME_RULE = "a genome of nas_bench_macro is eight digits of 0, 1 or 2"
USAGE_ERRORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unknown command": (("fly",), ("No such command", "fly")),
    "unknown option": (("fit", "local", "--quickly"), ("No such option", "--quickly")),
    "missing option": (("search", "local", *MACRO), ("Missing option", "--latency")),
    "missing argument": (("fit",), ("Missing argument", "DEVICE")),
    "too few networks": (("profile", "local", *MACRO, "--networks", "0"), ("--networks",)),
    "negative seed": (("profile", "local", *MACRO, "--seed", "-1"), ("--seed",)),
    "unknown device": (
        ("predict", "toaster", NET),
        ("no device 'toaster'", "known devices: local"),
    ),
    "unknown device to check": (("device", "check", "toaster"), ("no device 'toaster'",)),
    "unknown space": (
        ("profile", "local", "--space", "cheese"),
        ("no search space is named 'cheese'", "known are nas_bench_macro, ofa_mbv3"),
    ),
    "space of a missing module": (
        ("profile", "local", "--space", "no.such:THING"),
        ("'no.such:THING' cannot be loaded", "known are nas_bench_macro"),
    ),
    "space that is none": (
        ("search", "local", "--space", "json:loads", "--latency", "8ms"),
        ("'json:loads' is not a search space",),
    ),
    "share of nothing": (
        ("profile", "local", *MACRO, "--share", "0"),
        ("share must lie in (0, 1]",),
    ),
    "share of too much": (("profile", "local", *MACRO, "--share", "1.5"), ("got 1.5",)),
    "genome too short": (("measure", "local", "nas_bench_macro:000"), (GENOME_RULE, "got '000'")),
    "genome of wrong digits": (("deploy", "local", "nas_bench_macro:00000009"), (GENOME_RULE,)),
    "genome of words": (("measure", "local", "ofa_mbv3:large"), ("ofa_mbv3", "got 'large'")),
    "no genome": (("measure", "local", "nas_bench_macro"), (MODEL_RULE, "'nas_bench_macro'")),
    "overlong model": (("measure", "local", "x" * 5000), (MODEL_RULE,)),
    "shape without a name": (
        ("measure", "local", "net.onnx", "--shape", "1x3"),
        ("a shape is written NAME=1x3x224x224, got '1x3'",),
    ),
    "shape of a subnet": (
        ("measure", "local", NET, "--shape", "input=1x3x32x32"),
        ("--shape is for ONNX files", NET),
    ),
    "limit without a unit": (("search", "local", *MACRO, "--latency", "8"), (LIMIT_RULE, "'8'")),
    "negative limit": (("search", "local", *MACRO, "--latency", "-8ms"), (LIMIT_RULE, "'-8ms'")),
    "limit of zero": (("search", "local", *MACRO, "--latency", "0ms"), (LIMIT_RULE, "'0ms'")),
    "limit that is no number": (("search", "local", *MACRO, "--latency", "nanms"), (LIMIT_RULE,)),
    "limit without end": (("search", "local", *MACRO, "--latency", "infs"), (LIMIT_RULE,)),
    "limit in other units": (("search", "local", *MACRO, "--latency", "8 weeks"), (LIMIT_RULE,)),
    "no confidence": (
        ("search", "local", *MACRO, "--latency", "8ms", "--confidence", "nan"),
        ("confidence must lie in [0.5, 1)",),
    ),
    "limit of a deployment": (("deploy", "local", NET, "--latency", "8"), (LIMIT_RULE,)),
    "limit of a proof": (("verify", "nowhere", "--latency", "8"), (LIMIT_RULE,)),
    "missing deployment": (
        ("verify", "nowhere"),
        ("nowhere is not a deployment: it has no program.json",),
    ),
    "missing inputs": (
        ("run", "local", NET, "--inputs", "none.npz", "--outputs", "out.npz"),
        ("none.npz", "does not exist"),
    ),
    "nothing measured to fit": (("fit", "local"), ("latloop profile local",)),
    "nothing profiled to evaluate": (
        ("evaluate", "local"),
        ("device local has no profile yet", "latloop profile local", "latloop fit local"),
    ),
    "no model to predict": (
        ("predict", "local", NET),
        ("no latency model yet", "latloop profile local", "latloop fit local"),
    ),
    "no model to predict line by line": (("predict", "local", "-"), ("no latency model yet",)),
    "no model to search": (
        ("search", "local", *MACRO, "--latency", "8ms"),
        ("no latency model yet", "latloop profile local"),
    ),
    "no model to tabulate": (("table", "local", *MACRO), ("no latency model yet",)),
    "unknown accuracy": (
        ("search", "local", *MACRO, "--latency", "8ms", "--accuracy", "guesses"),
        ("an accuracy source is a CSV file or module:function, got 'guesses'",),
    ),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_wrong_usage_is_explained_and_ends_with_2(latloop: RunHere, case: str) -> None:
    arguments, parts = USAGE_ERRORS[case]
    assert_refused(latloop(*arguments), 2, *parts)


@pytest.mark.parametrize(
    "command", [("fit", "local"), ("predict", "local", NET), ("evaluate", "local")]
)
def test_with_json_an_error_leaves_stdout_empty(latloop: RunHere, command: tuple[str, ...]) -> None:
    assert_refused(latloop(*command, "--json"), 2)


def write_foreign_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (place TEXT)")
        connection.commit()


def write_newer_store(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.execute("UPDATE store_schema SET version = version + 1")
        connection.commit()


def write_random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(10_000))


BAD_STORES: dict[str, tuple[Callable[[Path], object], str]] = {
    "random bytes": (write_random_bytes, "is not a SQLite file"),
    "a text": (lambda path: path.write_text("milk, eggs\n" * 50), "is not a SQLite file"),
    "a foreign SQLite file": (write_foreign_sqlite, "is a SQLite file of another program"),
    "a newer schema": (write_newer_store, f"has schema version {SCHEMA_VERSION + 1}"),
}


@pytest.mark.parametrize("command", [("profile", "local", *MACRO), ("predict", "local", NET)])
@pytest.mark.parametrize("kind", BAD_STORES)
def test_a_file_that_is_no_store_of_ours_is_refused_and_left_as_it_is(
    latloop: RunHere, tmp_path: Path, kind: str, command: tuple[str, ...]
) -> None:
    write, said = BAD_STORES[kind]
    folder = tmp_path / "somewhere"
    folder.mkdir()
    write(folder / "file")
    before = hashlib.sha256((folder / "file").read_bytes()).hexdigest()
    ended = latloop(*command, "--store", folder / "file")
    assert_refused(ended, 2, str(folder / "file"), said, "name another", "--store")
    assert hashlib.sha256((folder / "file").read_bytes()).hexdigest() == before
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_the_store_of_the_home_is_looked_at_as_closely(latloop: RunHere, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    write_foreign_sqlite(tmp_path / "home" / "store.sqlite")
    assert_refused(latloop("fit", "local"), 2, "home/store.sqlite", "of another program")


def test_a_store_that_may_not_be_read_is_named(
    latloop: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    Store.open(path).close()
    opened = Path.open

    def refuse(self: Path, *arguments: object, **more: object) -> object:
        if self == path:  # permissions do not bind root, who may run this test
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refuse)
    ended = latloop("fit", "local", "--store", path)
    assert_refused(ended, 2, f"store {path} cannot be read: Permission denied", "--store")


def test_a_folder_is_no_store(latloop: RunHere, tmp_path: Path) -> None:
    assert_refused(latloop("fit", "local", "--store", tmp_path), 2, "Is a directory", "--store")


def test_a_store_url_that_cannot_be_read_is_named(latloop: RunHere) -> None:
    ended = latloop("fit", "local", "--store", "fridge://door")
    assert_refused(ended, 2, "no database of kind 'fridge' is known")


def test_a_home_that_is_a_file_is_named(
    latloop: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATLOOP_HOME", str(tmp_path / "file"))
    assert_refused(latloop("fit", "local"), 2, str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[device.bench", "cannot read"),
        ("[device.bench]\ntransport = 'pigeon'", "[device.bench] transport must be one of local"),
        ("[device.bench]\ntransport = 'local'\ncolour = 1", "unknown key 'colour'"),
        ("[device.bench]\ntransport = 'local'\nthreads = 'two'", "threads must be a whole number"),
        ("[machine.bench]\n", "only [device.NAME] tables are allowed"),
        ("\xff\xfe", "cannot read"),
    ],
)
def test_a_wrong_inventory_is_refused_with_its_place(
    latloop: RunHere, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "devices.toml"
    path.write_bytes(text.encode("latin-1"))
    assert_refused(latloop("device", "list", "--devices", path), 2, str(path), said)
    assert_refused(latloop("fit", "bench", "--devices", path), 2, str(path), said)


def test_more_threads_than_cores_are_refused_when_the_device_is_used(
    latloop: RunHere, tmp_path: Path
) -> None:
    path = tmp_path / "devices.toml"
    path.write_text("[device.bench]\ntransport = 'local'\nthreads = 4096\n")
    ended = latloop("fit", "bench", "--devices", path)
    assert_refused(ended, 2, "[device.bench] threads must be at most", "got 4096")


def test_a_file_that_is_not_onnx_is_refused(latloop: RunHere, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("I am no model")
    assert_refused(latloop("measure", "local", path), 2, "net.onnx is not an ONNX model")


def test_inputs_that_are_no_arrays_are_refused(latloop: RunHere, tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_text("not a zip")
    ended = latloop("run", "local", NET, "--inputs", "in.npz", "--outputs", "out.npz")
    assert_refused(ended, 2, "inputs must be an .npz file of arrays, got in.npz")


def test_a_page_that_cannot_be_written_is_named(latloop: RunHere) -> None:
    assert_refused(latloop("report", "local", "--output", "no/such/page.html"), 2, "no/such/")


def test_no_room_for_a_compiled_kernel_is_trouble_with_a_way_out(
    latloop: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=1 << 30, used=1 << 30, free=0)
    monkeypatch.setattr("profiler.artifacts.shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr("profiler.compilers.Compilers.compile", lambda *_: b"object code")
    ended = latloop("device", "check", "local")
    home = tmp_path / "home" / "artifacts"
    assert_refused(ended, 21, f"no space left in {home}", "0 bytes are free", "LATLOOP_HOME")
    assert not [path for path in home.rglob("*") if path.is_file()]


#: The last that zig 0.17.1 says when it links on a file system without space.
ZIG_WITHOUT_SPACE = (
    b"fatal error: error in backend: IO failure on output stream: No space left on device\n"
)


@pytest.mark.parametrize("where", ["objects", "linker"])
def test_no_room_for_an_executable_is_trouble_with_a_way_out(
    latloop: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def build(requests: Sequence[tuple[Operator, Schedule]], *_: object) -> tuple[Kernel, ...]:
        return tuple(Kernel(op, schedule, 64 * "0") for op, schedule in requests)

    def place(*_: object) -> dict[str, Path]:
        if where == "objects":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "k.o")
        return {}

    said = subprocess.CompletedProcess((), 1, b"", ZIG_WITHOUT_SPACE)
    monkeypatch.setattr("profiler.runtimes.own.build_kernels", build)
    monkeypatch.setattr("profiler.runtimes.own.object_files", place)
    monkeypatch.setattr("profiler.link.subprocess.run", lambda *_, **__: said)
    ended = latloop("device", "check", "local")
    folder = str(tmp_path / "home" / "cache" / "link")
    assert_refused(ended, 21, "no disk space for the build cache", "LATLOOP_HOME", folder)


def error_classes() -> dict[str, type[Exception]]:
    """Every error that our packages define, by name, made anew from its definition.

    Read from the sources, because importing them all takes as long as TVM and torch do.
    """
    bases: dict[str, str] = {}
    for package in ("devices", "profiler", "costmodel", "searchspace", "latloop"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    bases[node.name] = ast.unparse(node.bases[0])

    def define(name: str) -> type[Exception]:
        known = vars(builtins).get(name)
        return known or type(name, (define(bases[name]),), {})

    return {name: define(name) for name in bases}


def test_every_error_of_ours_has_an_exit_code() -> None:
    classes = error_classes()
    assert {"NoDiskSpaceError", "RunnerLostError", "NoModelError"} <= set(classes)
    assert {name for name, kind in classes.items() if exit_code_of(kind()) is None} == set()
