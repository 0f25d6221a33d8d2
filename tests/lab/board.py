"""Boards to test against: real SSH servers and processes, apart from this machine.

A board is a root folder with busybox and one SSH server in it, running in a process, mount and
network namespace of its own. It dies, and its mounts with it, when the tests' process dies.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devices.ssh.address import SshAddress

Server = Literal["openssh", "dropbear"]
USER, UID, PASSWORD = "bench", 2001, "correct-horse-7391"
#: Folders of every board: in the account's home, on a small disk, and where nothing may run.
HOME, SMALL, NO_EXEC = "~/latloop", "/small/latloop", "/noexec/latloop"
SMALL_BYTES = 12 << 20
_INIT = """\
B=/lab/busybox
$B mount -t proc proc /proc
$B mount -t tmpfs -o size={small_bytes},mode=1777 tmpfs /small
$B mount -t tmpfs -o noexec,mode=1777 tmpfs /noexec
$B mount --bind /lab/boot_id /proc/sys/kernel/random/boot_id
exec {server}
"""
_SSHD_CONFIG = """\
{listen}
ListenAddress 127.0.0.1
HostKey /etc/ssh/host_key
PidFile none
AuthorizedKeysFile .ssh/authorized_keys
KbdInteractiveAuthentication no
UsePAM no
Subsystem sftp internal-sftp
LogLevel ERROR
MaxStartups 100
MaxSessions 40
"""
#: The control groups of this machine, which limit boards, are seen on them, too.
_GROUPS = Path("/sys/fs/cgroup/cpu")
_ENTER = f'mount --bind {_GROUPS} "$1{_GROUPS}" && exec chroot "$1" /lab/busybox sh /lab/init'
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}


def command(*words: str | Path, **options: str | Path) -> str:
    """What a command of this machine prints; its failure shows what it said."""
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
    return done.stdout


def make_key(path: Path, passphrase: str = "") -> Path:
    """A new pair of keys; the public one lies beside it."""
    command("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "lab", "-f", path)
    return path


def fingerprint_of(public_key: Path) -> str:
    """As `ssh-keygen` prints it, which knows nothing of the code under test."""
    return command("ssh-keygen", "-lf", public_key).split()[1]


@dataclass
class Board:
    """A board that can be started, stopped and cut off.

    Attributes:
        root: Its root folder.
        number: Tells its network from those of other boards.
        server: What listens there.
        key: The private key that the account takes.
        busybox: Its userland, perhaps of another processor.
        disk_bytes: Size of a disk at `/data` that outlives restarts; None for none.
        n_links: Networks that it is in; each takes a number, from the board's own on.
    """

    root: Path
    number: int
    server: Server
    key: Path
    busybox: Path
    disk_bytes: int | None = None
    n_links: int = 1
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def ip(self) -> str:
        """Where it listens, on port 22."""
        return self.ip_of(0)

    def ip_of(self, link: int) -> str:
        """Where it listens in one of its networks."""
        return _address(self.number + link, 2)

    @property
    def address(self) -> SshAddress:
        """For its account, with the key that it takes."""
        return SshAddress(self.ip, USER, key_file=self.key)

    @property
    def host_key(self) -> Path:
        """The public part of its host key."""
        return self.root / "etc/ssh/host_key.pub"

    @property
    def _namespace(self) -> str:
        return f"latloop-{os.getpid()}-{self.number}"

    @property
    def _group(self) -> Path:
        return _GROUPS / self._namespace

    def _link(self, link: int) -> str:
        return f"ll{self.number + link}h"

    def make(self) -> None:
        """Lay out its root folder and its network."""
        folders = ("bin", "dev", "etc/ssh", "proc", "tmp", "run/sshd", "lab", "small", "noexec")
        for name in (*folders, str(_GROUPS).lstrip("/")):
            (self.root / name).mkdir(parents=True)
        (self.root / "tmp").chmod(0o1777)
        self.root.chmod(0o755)
        for name, (major, minor) in _DEVICES.items():
            os.mknod(self.root / "dev" / name, 0o20666, os.makedev(major, minor))
            (self.root / "dev" / name).chmod(0o666)
        self._make_userland()
        self._make_account()
        self._make_server()
        if self.disk_bytes is not None:
            (self.root / "data").mkdir()
            options = f"size={self.disk_bytes},mode=1777"
            command("mount", "-t", "tmpfs", "-o", options, "tmpfs", self.root / "data")
        command("ip", "netns", "add", self._namespace)
        inside = ("ip", "-n", self._namespace)
        command(*inside, "link", "set", "lo", "up")
        for link in range(self.n_links):
            near, peer = self._link(link), f"ll{self.number + link}b"
            command("ip", "link", "add", near, "type", "veth", "peer", "name", peer)
            command("ip", "link", "set", peer, "netns", self._namespace)
            command("ip", "addr", "add", f"{_address(self.number + link, 1)}/30", "dev", near)
            command("ip", "link", "set", near, "up")
            command(*inside, "addr", "add", f"{self.ip_of(link)}/30", "dev", peer)
            command(*inside, "link", "set", peer, "up")

    def start(self) -> None:
        """Switch it on: another boot id, no process of before, the disk as it was."""
        boot_id = Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii")
        (self.root / "lab/boot_id").write_text(boot_id, encoding="ascii")
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *_inside(self._namespace)),
                *(*unshare, "sh", "-c", _ENTER, "sh", str(self.root)),
            ],
            stdin=subprocess.DEVNULL,
        )
        _wait_for_port(self._namespace, self.ip)

    def stop(self) -> None:
        """Switch it off, as if somebody had pulled the plug."""
        if self._process is not None:
            first: int | None = None
            with suppress(IndexError, ProcessLookupError):  # it may have failed to start
                first = os.pidfd_open(self._init())
                os.kill(self._init(), signal.SIGKILL)
            self._process.wait()
            if first is not None:
                select.select([first], [], [])  # it is gone when all others of its namespace are
                os.close(first)
            self._process = None
        if self._group.exists():
            self._group.rmdir()

    def remove(self) -> None:
        """Stop it and leave nothing of it behind."""
        self.stop()
        subprocess.run(["ip", "netns", "del", self._namespace], check=False)
        for link in map(self._link, range(self.n_links)):
            subprocess.run(["ip", "link", "del", link], stderr=subprocess.DEVNULL, check=False)
        if self.disk_bytes is not None:
            subprocess.run(["umount", "--lazy", self.root / "data"], check=False)
        shutil.rmtree(self.root)

    def cut(self, link: int = 0) -> None:
        """Pull a network cable."""
        command("ip", "link", "set", self._link(link), "down")

    def mend(self, link: int = 0) -> None:
        """Plug it in again."""
        command("ip", "link", "set", self._link(link), "up")

    def write(self, path: str, text: str) -> None:
        """Make a file, such as one below /sys."""
        where = self.root / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text, encoding="ascii")

    def throttle(self, share: float | None) -> None:
        """Let it have so much of one core until it is stopped, or as much as it wants again."""
        self._group.mkdir(exist_ok=True)
        period_us = 100_000
        quota_us = -1 if share is None else int(period_us * share)
        (self._group / "cpu.cfs_period_us").write_text(f"{period_us}", encoding="ascii")
        (self._group / "cpu.cfs_quota_us").write_text(f"{quota_us}", encoding="ascii")
        for pid in self._pids():
            (self._group / "cgroup.procs").write_text(f"{pid}", encoding="ascii")

    def files(self, folder: str = HOME) -> set[str]:
        """Names in `files` of one of the folders."""
        where = self.root_of(folder) / "files"
        return {path.name for path in where.iterdir()} if where.exists() else set()

    def root_of(self, folder: str) -> Path:
        """A folder of the board, as the machine under it sees it."""
        path = folder.replace("~", f"home/{USER}").lstrip("/")
        return Path(f"/proc/{self._init()}/root") / path

    def processes(self) -> list[str]:
        """Command lines of what runs there, servers aside."""
        return list(self.commands().values())

    def commands(self) -> dict[int, str]:
        """The same by process, as the machine under the board numbers them."""
        found = {}
        for pid in self._pids():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[pid] = words.strip()
        return {pid: words for pid, words in found.items() if words and not _is_server(words)}

    def wait_until_idle(self, timeout_s: float = 60.0) -> list[str]:
        """What still runs there in the end: nothing, if all is well."""
        deadline_s = time.monotonic() + timeout_s
        while (left := self.processes()) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return left

    def _pids(self) -> list[int]:
        """All its processes, as this machine numbers them."""
        space = Path(f"/proc/{self._init()}/ns/pid").stat().st_ino
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (path / "ns/pid").stat().st_ino == space:
                    found.append(int(path.name))
        return found

    def _init(self) -> int:
        """The board's first process, as this machine numbers it."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text(encoding="ascii").split()[0])

    def _make_userland(self) -> None:
        shutil.copy(shutil.which("busybox") or "", self.root / "lab/busybox")
        shutil.copy(self.busybox, self.root / "bin/busybox")
        for name in command(self.root / "lab/busybox", "--list").split():
            link = self.root / "bin" / name
            if not link.exists():
                link.symlink_to("busybox")

    def _make_account(self) -> None:
        hashed = command("openssl", "passwd", "-6", PASSWORD).strip()
        lines = {
            "passwd": "root:x:0:0::/:/bin/sh\nsshd:x:100:100::/run/sshd:/bin/false\n"
            f"{USER}:x:{UID}:{UID}::/home/{USER}:/bin/sh\n",
            "group": f"root:x:0:\nsshd:x:100:\n{USER}:x:{UID}:\n",
            "shadow": f"root:*:1::::::\nsshd:*:1::::::\n{USER}:{hashed}:1::::::\n",
            "os-release": 'PRETTY_NAME="Lab Linux 1"\n',
        }
        for name, text in lines.items():
            (self.root / "etc" / name).write_text(text, encoding="ascii")
        home = self.root / "home" / USER
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        shutil.copy(f"{self.key}.pub", home / ".ssh/authorized_keys")
        for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
            os.chown(path, UID, UID)

    def _make_server(self) -> None:
        private = self.root / "etc/ssh/host_key"
        if self.server == "openssh":
            make_key(private)
            places = [f"ListenAddress {self.ip_of(link)}" for link in range(self.n_links)]
            config = _SSHD_CONFIG.format(listen="\n".join(places))
            (self.root / "etc/ssh/sshd_config").write_text(config, encoding="ascii")
            words = ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"]
        else:
            said = command("dropbearkey", "-t", "ed25519", "-f", private)
            public = next(line for line in said.splitlines() if line.startswith("ssh-"))
            self.host_key.write_text(f"{public}\n", encoding="ascii")
            words = ["/usr/sbin/dropbear", "-F", "-E", "-r", "/etc/ssh/host_key"]
            words += ["-p", f"{self.ip}:22", "-P", "/run/dropbear.pid"]
        _copy_program(Path(words[0]), self.root)
        init = _INIT.format(server=" ".join(words), small_bytes=SMALL_BYTES)
        (self.root / "lab/init").write_text(init, encoding="ascii")


def _address(number: int, place: int) -> str:
    """One of the two ends of a network."""
    return f"10.213.{number // 64}.{number % 64 * 4 + place}"


def remove_leftovers() -> None:
    """Networks of test runs that were killed; their processes and mounts died with them."""
    for line in command("ip", "netns", "list").splitlines():
        match = re.match(r"latloop-(\d+)-", line)
        if match and not Path(f"/proc/{match[1]}").exists():
            command("ip", "netns", "del", line.split()[0])


def _inside(namespace: str) -> tuple[str, ...]:
    # Not `ip netns exec`, which lays a new /sys without control groups.
    return ("nsenter", f"--net=/run/netns/{namespace}")


def _is_server(words: str) -> bool:
    return words.startswith(("/usr/sbin/sshd", "sshd:", "/usr/sbin/dropbear"))


def _copy_program(program: Path, root: Path) -> None:
    """A program with the libraries that it is linked with, at their places under a root."""
    found = shutil.which(program.name, path="/usr/sbin:/usr/bin")
    assert found, f"{program.name} is missing; run tests/lab/install.sh"
    words = command("ldd", found).split()
    for path in (Path(word) for word in [*words, found] if word.startswith("/")):
        copied = program if str(path) == found else path
        where = root / copied.relative_to("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, where)


def _wait_for_port(namespace: str, ip: str, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    listening = (*_inside(namespace), "cat", "/proc/net/tcp")
    wanted = "".join(f"{int(part):02X}" for part in reversed(ip.split(".")))
    wanted += ":0016 00000000:0000 0A"  # port 22, listening
    while wanted not in command(*listening):
        assert time.monotonic() < deadline_s, f"no SSH server at {ip}"
        time.sleep(0.02)
