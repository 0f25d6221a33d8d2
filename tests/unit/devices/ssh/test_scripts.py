"""The scripts do their work in this machine's own shell, too."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from devices.shell import LocalShell
from devices.ssh import scripts

CONTENTS = (b"", b"first", bytes(range(256)) * 40)


def named(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "a folder"
    assert LocalShell().run(scripts.survey(str(where), (), None)).status == 0
    return where


def receive(folder: Path, files: dict[str, bytes], sent: bytes, n_bytes: int) -> int:
    script = scripts.receive(str(folder), files, n_bytes, has_tar=True)
    return LocalShell().run(script, sent).status


def receive_one(folder: Path, name: str, sent: bytes, n_bytes: int) -> int:
    script = scripts.receive(str(folder), [name], n_bytes, has_tar=False)
    return LocalShell().run(script, sent).status


def test_what_arrives_whole_is_put_in_place(folder: Path) -> None:
    files = {named(content): content for content in CONTENTS}
    sent = archive(files)
    assert receive(folder, files, sent, len(sent)) == 0
    assert {path.name: path.read_bytes() for path in (folder / "files").iterdir()} == files
    single = named(b"first")
    (folder / "files" / single).unlink()
    assert receive_one(folder, single, b"first", 5) == 0
    assert (folder / "files" / single).stat().st_mode & 0o777 == 0o700
    assert (folder / "files" / single).read_bytes() == b"first"


def test_what_arrives_damaged_is_thrown_away(folder: Path) -> None:
    files = {named(content): content for content in CONTENTS}
    sent = archive(files)
    n_bytes = len(sent)
    assert receive(folder, files, sent[: n_bytes // 2], n_bytes) != 0
    assert receive(folder, {**files, named(b"more"): b"more"}, sent, n_bytes) == scripts.DAMAGED
    other = archive({**files, named(b"first"): b"other"})
    assert receive(folder, files, other, n_bytes) == scripts.DAMAGED
    assert receive(folder, files, b"", n_bytes) != 0
    for part in (b"firsT", b"fir", b""):
        assert receive_one(folder, named(b"first"), part, 5) == scripts.DAMAGED
    assert list((folder / "files").iterdir()) == []


def test_a_shell_runs_one_script_after_the_other(folder: Path) -> None:
    """What a script reads of its input, and what stands behind it, are told apart."""
    name = named(CONTENTS[2])
    receives = scripts.receive(str(folder), [name], len(CONTENTS[2]), has_tar=False)
    sent = (
        scripts.encode(scripts.survey(str(folder), (), None)),
        scripts.encode(receives),
        CONTENTS[2],
        scripts.encode(scripts.start(str(folder), name, ["/bin/cat"])),
        b"the rest",
    )
    answer = subprocess.run(
        ["sh", "-c", scripts.COMMAND], input=b"".join(sent), capture_output=True, check=True
    )
    facts, _, rest = answer.stdout.partition(scripts.DONE)
    assert f"folder {folder}".encode() in facts
    assert rest == scripts.DONE + b"the rest"
    assert [path.name for path in (folder / "files").iterdir()] == [name]
    (pid,) = re.findall(rb"latloop (\d+)\n", answer.stderr)
    assert (folder / "use" / f"{pid.decode()}.{name}").exists()


def test_a_part_of_a_script_is_not_run(tmp_path: Path) -> None:
    line = scripts.encode(f"touch '{tmp_path}/a'\ntouch '{tmp_path}/b'")
    subprocess.run(["sh", "-c", scripts.COMMAND], input=line[:-1], check=True)
    assert not list(tmp_path.iterdir())


def test_a_survey_tells_what_is_there(folder: Path) -> None:
    (folder / "files" / "here").write_bytes(b"x")
    os.utime(folder / "files" / "here", (1, 1))
    (folder / "use" / "999999999.here").touch()
    answer = LocalShell().run(scripts.survey(str(folder), ["here", "gone"], os.getpid()))
    assert answer.status == 0
    lines = answer.stdout.decode().splitlines()
    assert f"machine {os.uname().machine}" in lines
    assert f"folder {folder}" in lines
    assert "present here" in lines
    assert "present gone" not in lines
    assert "tool tar" in lines
    assert time.time() - (folder / "files" / "here").stat().st_mtime < 600
    assert {path.name for path in (folder / "use").iterdir()} == {".probe", f"{os.getpid()}.here"}


def test_the_oldest_files_go_until_the_rest_fits(folder: Path) -> None:
    for age in range(6):
        path = folder / "files" / f"f{age}"
        path.write_bytes(bytes(1000))
        os.utime(path, (10_000 - age * 1000,) * 2)
    (folder / "use" / f"{os.getpid()}.f4").touch()
    answer = LocalShell().run(scripts.prune(str(folder), 2500, ["f5"]))
    assert answer.status == 0
    assert {path.name for path in (folder / "files").iterdir()} == {"f0", "f1", "f4", "f5"}


def test_a_command_starts_in_the_folder_with_its_words(folder: Path) -> None:
    (folder / "files" / "abc").touch()
    os.utime(folder / "files" / "abc", (1, 1))
    words = ["/bin/sh", "-c", 'printf "%s|" "$0" "$@"; pwd', "it's", "$HOME", "a b"]
    answer = LocalShell().run(scripts.start(str(folder), "abc", words))
    assert answer.stdout.decode() == f"it's|$HOME|a b|{folder}\n"
    assert time.time() - (folder / "files" / "abc").stat().st_mtime < 600
    (marker,) = (path.name for path in (folder / "use").iterdir() if path.name != ".probe")
    assert marker.endswith(".abc")
    assert LocalShell().run(scripts.start(str(folder), "gone", words)).status == scripts.NO_FOLDER


def test_a_tilde_stands_for_the_home_of_the_account() -> None:
    shell = LocalShell()
    for folder, expected in (("~", "$HOME"), ("~/a b/$x", "$HOME/a b/$x"), ("/~/x", "/~/x")):
        text = shell.run(f"printf %s {scripts.quote_folder(folder)}").stdout.decode()
        assert text == expected.replace("$HOME", str(Path.home()))


SHELLS = [name for name in ("sh", "bash", "zsh", "mksh", "tcsh", "fish") if shutil.which(name)]


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_of_an_account_may_be_any(name: str) -> None:
    text = "".join(map(chr, range(0xC0, 0x100)))  # has all of the bytes that shells use inside
    script = f"printf '%s|' \"a 'b\" '\\x\\n\\\\' '$HOME' '{text}\n%b'\ncat; exit 5"
    sent = scripts.encode(script) + b"rest of it"
    answer = subprocess.run(
        [name, "-c", scripts.COMMAND], input=sent, capture_output=True, check=False
    )
    assert answer.returncode == 5
    assert answer.stdout.decode() == f"a 'b|\\x\\n\\\\|$HOME|{text}\n%b|rest of it"
    assert re.fullmatch(rb"latloop \d+\n", answer.stderr)


def test_a_process_is_ended_with_all_that_it_started() -> None:
    process = subprocess.Popen(["sh", "-c", "(sleep 3401; true) & sleep 3402; true"])
    while len(family := children(process.pid)) < 3:
        time.sleep(0.01)
    assert LocalShell().run(scripts.kill_tree(process.pid)).status == 0
    assert process.wait() == -signal.SIGKILL
    while any(map(is_alive, family)):
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not stat.rpartition(") ")[2].startswith("Z")


def children(pid: int) -> list[int]:
    """Processes below one, in any depth."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [below for child in map(int, text.split()) for below in (child, *children(child))]
