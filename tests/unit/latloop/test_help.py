"""`--help` shows an example that works, and does not make anybody wait."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from latloop.cli.main import app

#: Packages that take from a tenth of a second to several to import.
HEAVY = {"numpy", "torch", "tvm", "tvm_ffi", "lightgbm", "scipy", "sqlalchemy", "onnx", "plotly"}
COMMANDS = {
    "quickstart", "device list", "device check", "profile", "fit", "predict", "measure", "run",
    "search", "deploy", "verify", "evaluate", "table", "report",
}  # fmt: skip


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by what a person types after `latloop`."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from leaves(child, f"{path} {name}".strip())


LEAVES = dict(leaves(typer.main.get_command(app)))
every_command = pytest.mark.parametrize("name", LEAVES)


def modules_after(*arguments: str) -> set[str]:
    """Top-level modules that a process has imported after a command."""
    code = (
        "import json, sys\n"
        "from latloop.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print()\n"
        "print(json.dumps([name.partition('.')[0] for name in sys.modules]))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_commands_are_those_of_the_contract() -> None:
    assert set(LEAVES) >= COMMANDS


@pytest.mark.parametrize("command", ["", "search", "device check"])
def test_help_imports_nothing_heavy(command: str) -> None:
    modules = modules_after(*command.split(), "--help")
    assert "latloop" in modules
    assert not modules & HEAVY


def test_help_of_the_program_shows_an_example() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "Example: latloop quickstart" in result.output


@every_command
def test_help_of_every_command_shows_an_example_of_it(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: latloop {name}" in " ".join(result.output.split())


@every_command
def test_every_example_can_be_typed_as_it_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.npz").touch()  # the one file that must be there when the line is read
    command = LEAVES[name]
    example = command.help.partition("Example: ")[2].strip()
    program, *words = shlex.split(example)
    assert program == "latloop"
    n_words = len(name.split())
    assert words[:n_words] == name.split()
    context = command.make_context(name, words[n_words:])  # refuses what a shell would refuse
    assert not context.args
