from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from devices.errors import InventoryError
from devices.ssh.address import SshAddress, find_hops, parse_address


@pytest.mark.parametrize(
    ("text", "host", "user", "port"),
    [
        ("pi", "pi", None, None),
        ("me@pi", "pi", "me", None),
        ("me@pi.local:2222", "pi.local", "me", 2222),
        ("192.168.7.9:22", "192.168.7.9", None, 22),
        ("me@fd00::7", "fd00::7", "me", None),
        ("me@[fd00::7]:2222", "fd00::7", "me", 2222),
        ("[fd00::7]", "fd00::7", None, None),
        ("fe80::1%eth0", "fe80::1%eth0", None, None),
    ],
)
def test_an_address_is_read(text: str, host: str, user: str | None, port: int | None) -> None:
    assert parse_address(text) == SshAddress(host, user, port)


@pytest.mark.parametrize(
    "text",
    ["", "@pi", "me@", "pi:", "pi:x", "pi:0", "pi:65536", "a b", "-oProxyCommand=x", "a@b@c"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_address(text)


def test_without_a_configuration_the_defaults_fill_the_rest(tmp_path: Path) -> None:
    (hop,) = find_hops(SshAddress("pi"), tmp_path / "missing")
    assert (hop.host, hop.port, hop.user, hop.via) == ("pi", 22, getpass.getuser(), "")
    assert [path.name for path in hop.key_files] == ["id_ed25519", "id_ecdsa", "id_rsa"]
    assert hop.is_agent_wanted
    assert hop.key_name == "pi"


CONFIG = """
Host board
  HostName 10.0.0.7
  User worker
  Port 2200
  ProxyJump gate
  IdentityFile ~/keys/board
Host gate
  HostName gate.example
  User {user}
  ProxyJump first:2201,second
  IdentitiesOnly yes
Host commanded
  ProxyCommand nc %h %p
Host circle
  ProxyJump circle2
Host circle2
  ProxyJump circle
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config").write_text(CONFIG.format(user="porter"), encoding="utf-8")
    return tmp_path


def test_the_configuration_leads_through_chains_of_jumps(folder: Path) -> None:
    first, second, gate, board = find_hops(SshAddress("board"), folder)
    assert (first.host, first.port) == ("first", 2201)
    assert (second.host, second.via) == ("second", "[first]:2201")
    assert (gate.host, gate.user, gate.is_agent_wanted) == ("gate.example", "porter", False)
    assert str(board).startswith("worker@[10.0.0.7]:2200 through gate.example/via/second/via/")
    assert board.key_files == (Path.home() / "keys/board",)


def test_what_a_person_says_goes_before_the_configuration(folder: Path) -> None:
    address = SshAddress("board", "me", 22, "none", Path("/k"))
    (hop,) = find_hops(address, folder)
    assert (hop.host, hop.user, hop.port) == ("10.0.0.7", "me", 22)
    assert hop.key_files == (Path("/k"), Path.home() / "keys/board")
    *_, before, board = find_hops(SshAddress("board", jump="x@other"), folder)
    assert (before.host, before.user, board.via) == ("other", "x", "other")
    (commanded,) = find_hops(SshAddress("commanded", jump="none"), folder)
    assert commanded.host == "commanded"


@pytest.mark.parametrize(
    ("host", "why"), [("commanded", "ProxyCommand is not run"), ("circle", "in a circle")]
)
def test_what_is_not_supported_is_told(folder: Path, host: str, why: str) -> None:
    with pytest.raises(InventoryError, match=f"host {host}: .*{why}"):
        find_hops(SshAddress(host), folder)


def test_a_rule_for_all_hosts_does_not_send_the_gate_through_itself(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host *\n  ProxyJump gate\n", encoding="utf-8")
    assert [hop.host for hop in find_hops(SshAddress("pi"), tmp_path)] == ["gate", "pi"]
