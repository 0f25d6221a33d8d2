"""Where a board is, as a person writes it, and the hops to it after ~/.ssh/config was read."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paramiko

from devices.errors import InventoryError
from devices.ssh.config import read_config

DEFAULT_PORT: Final = 22
_MAX_HOPS: Final = 8
_DEFAULT_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")
_TEXT: Final = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]\s]+\]|[^\s\[\]@:]+)(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class SshAddress:
    """What a person says of the way to a board; ~/.ssh/config and the defaults fill the rest.

    Attributes:
        host: A name of ~/.ssh/config, a host name or an IP address.
        user: The account on the board.
        port: Of the SSH server.
        jump: Hosts to go through, as ProxyJump has them: `user@host:port`, several with commas;
            `none` goes straight whatever ~/.ssh/config says.
        key_file: A private key, tried before any other.
    """

    host: str
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or re.search(r"[\s@]", self.host):
            raise ValueError(f"host must be a name or an address, got {self.host!r}")
        if self.port is not None and not 0 < self.port < 1 << 16:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")


@dataclass(frozen=True, slots=True)
class Hop:
    """One SSH server on the way, with nothing left open.

    Attributes:
        host, port, user: Where it is and who logs in.
        via: The hop before it, "" for the first.
        key_files: Private keys to try, in order; they need not exist.
        is_agent_wanted: Whether all of the agent's keys may be tried, not only those of the files.
    """

    host: str
    port: int
    user: str
    via: str
    key_files: tuple[Path, ...]
    is_agent_wanted: bool

    @property
    def place(self) -> str:
        """Host and port as a known-hosts file has them."""
        return self.host if self.port == DEFAULT_PORT else f"[{self.host}]:{self.port}"

    @property
    def key_name(self) -> str:
        """Names the host key: what a private address stands for depends on the host before it."""
        return f"{self.place}/via/{self.via}" if self.via else self.place

    def __str__(self) -> str:
        through = f" through {self.via}" if self.via else ""
        return f"{self.user}@{self.place}{through}"


def parse_address(text: str, jump: str | None = None, key_file: Path | None = None) -> SshAddress:
    """An address from `user@host:port`, where user and port may be missing.

    An IPv6 address with a port stands in brackets: `[fd00::7]:2222`.

    Raises:
        ValueError: the text is no address.
    """
    # More than one colon without brackets: an IPv6 address, which has no port then.
    user, _, place = text.rpartition("@")
    if place.count(":") > 1 and not place.startswith("["):
        return SshAddress(place, user or None, None, jump, key_file)
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"address must be user@host:port, user and port optional, got {text!r}")
    port = None if match["port"] is None else int(match["port"])
    return SshAddress(match["host"].strip("[]"), match["user"], port, jump, key_file)


def find_hops(address: SshAddress, ssh_folder: Path) -> tuple[Hop, ...]:
    """The servers to log in to, one after the other, the board last.

    Args:
        address: What a person said; it goes before what the configuration says.
        ssh_folder: Holds `config` and the default keys; `~/.ssh` for a person.

    Raises:
        InventoryError: the configuration cannot be read, asks for what is not supported, or its
            jumps go in a circle.
    """
    path = ssh_folder / "config"
    try:
        config = read_config(path)
        hops: list[Hop] = []
        for each in _chain(address, config):
            via = hops[-1].key_name if hops else ""
            hops.append(_hop(each, config, ssh_folder, via))
    except (ValueError, paramiko.SSHException) as error:
        raise InventoryError(f"{path}, host {address.host}: {error}") from error
    return tuple(hops)


def _chain(address: SshAddress, config: paramiko.SSHConfig, depth: int = 0) -> list[SshAddress]:
    """Jump hosts, the first to reach first, and the address.

    As with ssh, the first of several listed hosts may need jumps of its own, the others are
    reached from the one before, and a host is not reached through itself (`Host *`).
    """
    options = config.lookup(address.host)
    jump = address.jump or options.get("proxyjump", "none")
    if jump.lower() == "none":
        if options.get("proxycommand") and address.jump is None:
            raise ValueError("ProxyCommand is not run; use ProxyJump, or give the device a jump")
        return [address]
    first, *rest = (parse_address(part.strip()) for part in jump.split(","))
    if first.host == address.host:
        return [address]
    if depth >= _MAX_HOPS:
        raise ValueError(f"ProxyJump goes in a circle, or through more than {_MAX_HOPS} hosts")
    return [*_chain(first, config, depth + 1), *rest, address]


def _hop(address: SshAddress, config: paramiko.SSHConfig, ssh_folder: Path, via: str) -> Hop:
    options = config.lookup(address.host)
    named = [Path(name).expanduser() for name in options.get("identityfile", ())]
    if address.key_file is not None:
        named.insert(0, address.key_file.expanduser())
    default = [ssh_folder / name for name in _DEFAULT_KEYS]
    return Hop(
        host=options["hostname"],
        port=address.port or int(options.get("port", DEFAULT_PORT)),
        user=address.user or options.get("user") or getpass.getuser(),
        via=via,
        key_files=tuple(named or default),
        is_agent_wanted=options.get("identitiesonly", "no").lower() != "yes",
    )
