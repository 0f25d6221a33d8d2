"""The wheel, installed outside the checkout, has everything that a journey needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.command import Done

from .command_line import environment, latloop
from .tiny_space import NAME, TINY

ROOT = Path(__file__).parents[2]
#: What a wheel is made of; building in the checkout would leave files there.
SOURCES = (
    "costmodel", "data", "devices", "latloop", "profiler", "searchspace",
    "LICENSE", "README.md", "pyproject.toml",
)  # fmt: skip
PACKAGES = ("costmodel", "devices", "latloop", "latloop_data", "profiler", "searchspace")
WHERE = f"""
import importlib, json
print(json.dumps([importlib.import_module(name).__file__ for name in {PACKAGES}]))
"""
ACCURACIES = """
from searchspace.accuracy import load_accuracy
from searchspace.space import load_space
source = load_accuracy(load_space("nas_bench_macro"))
print(len(source.values), source.values.max())
"""


def build_wheel(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    # Without isolation nothing is downloaded; torch requires a setuptools that is new enough.
    isolation = [] if int(version("setuptools").split(".")[0]) < 77 else ["--no-build-isolation"]
    pip("wheel", "--no-deps", *isolation, "--wheel-dir", folder, source)
    (wheel,) = folder.glob("latloop-*.whl")
    return wheel


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """The programs of an environment with the wheel and with what it depends on, but no more."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip("--python", venv / "bin" / "python", "install", "--no-deps", build_wheel(tmp_path))
    (installed,) = (venv / "lib").glob("python*/site-packages")
    # Folders named in a .pth file are searched, but their own .pth files, through which an
    # editable install leads to the checkout, are not read.
    lines = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (installed / "third_party.pth").write_text("\n".join(lines) + "\n")
    return venv / "bin"


@pytest.mark.usefixtures("board")
def test_a_journey_from_the_wheel_uses_nothing_of_the_checkout(
    bin_folder: Path, empty_home: Path
) -> None:
    def python(code: str) -> str:
        command = [bin_folder / "python", "-c", code]
        done = subprocess.run(
            command,
            env=environment(empty_home),
            cwd=empty_home,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def run(*arguments: str) -> Done:
        return latloop(empty_home, *arguments, command=bin_folder / "latloop")

    for file in json.loads(python(WHERE)):
        assert Path(file).is_relative_to(bin_folder.parent), file
    # All 3,969 distinct networks; the best of the benchmark has 93.13 % (Su et al., CVPR 2021).
    n_networks, best = python(ACCURACIES).split()
    assert (int(n_networks), round(float(best), 2)) == (3969, 93.13)
    helped = run("--help")
    assert helped.code == 0
    assert "latloop quickstart" in helped.out
    assert run("device", "check", "local", "--json").answer["device"] == "local"
    profiled = run("profile", "local", "--space", NAME, "--networks", "4", "--json")
    assert profiled.code == 0, profiled.err
    assert profiled.answer["n_operators"] == len(TINY.operators())
    assert run("fit", "local", "--json").answer["n_networks"] == 4
    predicted = run("predict", "local", f"{NAME}:2222", "--json")
    assert predicted.code == 0
    assert predicted.answer["latency_ms"] > 0
    page = empty_home / "report.html"
    assert run("report", "local", "--output", str(page)).code == 0
    assert "<html" in page.read_text()
