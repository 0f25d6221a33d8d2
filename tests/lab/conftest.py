from __future__ import annotations

import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devices.host_key import HostKey
from devices.ssh.address import SshAddress
from devices.ssh.connection import SshConnection
from devices.ssh.device import SshDevice
from devices.ssh.host_keys import trust_host_key
from profiler.link import link_executable
from profiler.target import Target
from tests.pipeline.command_line import Done, latloop, make_home
from tests.unit.devices.kernels import compile_kernels

from .board import (
    HOME,
    USER,
    Board,
    Server,
    fingerprint_of,
    make_key,
    remove_leftovers,
)
from .naps import build_naps

#: Kernels that the lab's tests call.
KERNELS = ("add", "twice", "hang", "crash", "nap")
MakeDevice = Callable[..., SshDevice]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is for the lab."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)


@dataclass
class Lab:
    """What all boards of a test run share.

    Attributes:
        folder: Holds the roots of the boards.
        key: The private key that their accounts take.
    """

    folder: Path
    key: Path
    _numbers: Iterator[int] = field(
        default_factory=lambda: itertools.count(secrets.randbelow(16384))
    )

    def board(
        self,
        server: Server,
        busybox: Path | None = None,
        disk_bytes: int | None = None,
        n_links: int = 1,
    ) -> Board:
        """A new board, not yet made."""
        number, *_ = (next(self._numbers) % 16384 for _ in range(n_links))
        userland = busybox or Path(shutil.which("busybox") or "busybox")
        root = self.folder / f"board-{number}"
        return Board(root, number, server, self.key, userland, disk_bytes, n_links)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    if os.geteuid() != 0:
        pytest.exit("the lab needs root: it makes network namespaces and mounts", 1)
    remove_leftovers()
    folder = tmp_path_factory.mktemp("lab")
    return Lab(folder, make_key(folder / "key"))


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def running(board: Board) -> Iterator[Board]:
    """A board, switched on, removed whatever happens."""
    try:
        board.make()
        board.start()
        yield board
    finally:
        board.remove()


@pytest.fixture(scope="session")
def openssh(lab: Lab) -> Iterator[Board]:
    yield from running(lab.board("openssh"))


@pytest.fixture(scope="session")
def dropbear(lab: Lab) -> Iterator[Board]:
    """A board without sftp, tar and the like."""
    for board in running(lab.board("dropbear")):
        (board.root / "bin/tar").unlink()
        yield board


@pytest.fixture(params=["openssh", "dropbear"])
def board(request: pytest.FixtureRequest) -> Board:
    """A board with either server."""
    found: Board = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def own_board(lab: Lab) -> Iterator[Board]:
    """A board for one test, which may cut or stop it."""
    yield from running(lab.board("openssh"))


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "home" / "known_hosts"


def host_key_of(board: Board, name: str | None = None) -> HostKey:
    """A board's host key, read from its disk."""
    kind, base64 = board.host_key.read_text(encoding="ascii").split()[:2]
    return HostKey(name or board.ip, kind, base64, fingerprint_of(board.host_key))


@pytest.fixture
def connect(tmp_path: Path, known_hosts: Path) -> Iterator[Callable[..., SshConnection]]:
    """Connections to boards whose host keys are trusted, closed after the test."""
    with ExitStack() as stack:

        def make(board: Board, address: SshAddress | None = None) -> SshConnection:
            trust_host_key(known_hosts, host_key_of(board))
            where = address or board.address
            connection = SshConnection("lab", where, known_hosts, ssh_folder=tmp_path / "ssh")
            stack.callback(connection.close)
            return connection

        yield make


@pytest.fixture
def make_device(connect: Callable[..., SshConnection]) -> MakeDevice:
    """Devices on boards; each has a connection of its own."""

    def make(board: Board, folder: str = HOME, **options: object) -> SshDevice:
        named = {"holder": "tester", "host": "lab-host", **options}
        return SshDevice(connect(board), folder, **named)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def executable(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels for this machine's processor."""
    return build(Target("x86_64-linux-gnu", "generic"), build_cache, tmp_path_factory.mktemp("k"))


def build(target: Target, build_cache: Path, folder: Path) -> Path:
    """The lab's kernels with the runner."""
    objects = compile_kernels(folder, target, build_cache, KERNELS)
    return link_executable(objects, target, build_cache)


@pytest.fixture(scope="session")
def naps(build_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = Target("x86_64-linux-gnu", "generic")
    return build_naps(target, build_cache, tmp_path_factory.mktemp("naps"))


@pytest.fixture
def home(tmp_path: Path, build_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LATLOOP_HOME, of a person with an empty ~/.ssh."""
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    (tmp_path / "person").mkdir()
    return make_home(tmp_path / "home", build_cache)


def enroll(home: Path, board: Board, *more: str | Path, name: str = "desk") -> Done:
    return latloop(
        home,
        "device",
        "enroll",
        name,
        f"{USER}@{board.ip}",
        "--key-file",
        board.key,
        "--json",
        *more,
    )


def agreed(board: Board) -> tuple[str, str]:
    return ("--fingerprint", fingerprint_of(board.host_key))
