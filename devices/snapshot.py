"""A board's small files under /proc, /sys and /etc, fetched in one round trip.

They are written below a folder of the host, at the paths that they have on the board, so that
every reader that takes a root reads boards as it reads this machine. What the board says but keeps
in no file lies below `board/`: `machine` (`uname -m`), `shell` (the first bytes of /bin/sh, whose
ELF header tells what executables are made for), `users` (`who`), `pid` (of the script that read).

The script is quick on a slow board: files of one line are read by the shell itself, for which
dash and busybox start no process. One process for each of a few long files remains.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from devices.errors import DeviceUnreachableError
from devices.shell import Shell

_CPU: Final = "sys/devices/system/cpu"
#: Files of which the first line says all.
LINES: Final = (
    "proc/loadavg",
    "proc/uptime",
    "proc/cmdline",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/random/boot_id",
    "proc/device-tree/model",
    "proc/device-tree/serial-number",
    *(f"{_CPU}/{name}" for name in ("present", "online", "isolated")),
    f"{_CPU}/intel_pstate/no_turbo",
    f"{_CPU}/cpufreq/boost",
    f"{_CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq",
    f"{_CPU}/cpu[0-9]*/cpufreq/scaling_max_freq",
    f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor",
    f"{_CPU}/cpu[0-9]*/cpufreq/scaling_available_governors",
    f"{_CPU}/cpu[0-9]*/cpu_capacity",
    f"{_CPU}/cpu[0-9]*/topology/cluster_id",
    f"{_CPU}/cpu[0-9]*/topology/thread_siblings_list",
    f"{_CPU}/cpu[0-9]*/cache/index[0-9]*/type",
    f"{_CPU}/cpu[0-9]*/cache/index[0-9]*/level",
    f"{_CPU}/cpu[0-9]*/cache/index[0-9]*/size",
    f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count",
    "sys/class/thermal/thermal_zone[0-9]*/type",
    "sys/class/thermal/thermal_zone[0-9]*/temp",
    "sys/devices/platform/soc*/soc*:firmware/get_throttled",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "proc/[0-9]*/stat",
)
#: Longer files.
TEXTS: Final = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/stat",
    "proc/self/status",
    "proc/self/cgroup",
    "etc/os-release",
)
#: Of the control group that the script is in, or the next above it, if that has a quota.
_QUOTA: Final = re.compile(r"sys/fs/cgroup/(.+/)?cpu\.(max|cfs_quota_us|stat)")
#: Below the folder, from commands.
SAID: Final = ("board/machine", "board/shell", "board/users", "board/pid")
_MOST_FILES: Final = 8192
_MOST_BYTES: Final = 256 * 1024  # of one file
_FETCH_TIMEOUT_S: Final = 60.0
#: `read` without -r would take backslashes away; what follows a NUL is kept by dash and busybox.
_SCRIPT: Final = """\
export LC_ALL=C
t={token} r={root} n=0
head_of() {{ printf '\\n%s %s\\n' "$t" "$2"; head -c {most_bytes} "$1" 2>/dev/null; }}
said() {{ printf '\\n%s %s\\n' "$t" "$1"; }}
for f in {lines}; do
  if [ -r "$f" ] && [ $n -lt {most_files} ]; then
    line=
    IFS= read -r line <"$f" || [ "$line" ] || continue
    n=$((n + 1))
    printf '\\n%s %s\\n%s' "$t" "${{f#"$r"}}" "$line"
  fi
done 2>/dev/null
for f in {texts}; do
  if [ -r "$f" ]; then head_of "$f" "${{f#"$r"}}"; fi
done
while IFS=: read -r _ names group; do
  case ",$names," in
    ,,) at=sys/fs/cgroup ;;
    *,cpu,*) at=sys/fs/cgroup/cpu ;;
    *) continue ;;
  esac
  group=${{group%/}}
  while :; do
    for f in cpu.max cpu.cfs_quota_us; do
      quota=
      [ -r "$r$at$group/$f" ] && IFS= read -r quota <"$r$at$group/$f"
      case $quota in
        [1-9]*)
          said "$at$group/$f"; printf %s "$quota"
          head_of "$r$at$group/cpu.stat" "$at$group/cpu.stat"
          break 2 ;;
      esac
    done
    [ "$group" ] || break
    group=${{group%/*}}
  done
done <"${{r}}proc/self/cgroup" 2>/dev/null
said board/machine; uname -m
printf '\\n%s board/shell\\n' "$t"; head -c 20 /bin/sh
said board/users; who 2>/dev/null
said board/pid; printf %s $$
printf '\\n%s end\\n' "$t"
"""


def fetch(shell: Shell, into: Path, root: str = "/", name: str = "the board") -> None:
    """Bring a board's small files below a folder, in place of what an earlier call left there.

    Missing and unreadable files are absent. Of a long file the first 256 KiB are kept.

    Args:
        shell: Of the board.
        into: Made when missing; `proc`, `sys`, `etc` and `board` in it are replaced.
        root: Where the board has `proc`, `sys` and `etc`.
        name: What messages call the board.

    Raises:
        DeviceUnreachableError: the board does not answer, or says something else.
    """
    token = secrets.token_hex(16)  # in none of the files: they were written before it was drawn
    answer = shell.run(snapshot_script(token, root), timeout_s=_FETCH_TIMEOUT_S)
    files = dict(_split(answer.stdout, token))
    if files.pop("end", None) is None:
        said = answer.stderr.strip()[-200:] or answer.stdout.decode(errors="replace")[-200:]
        raise DeviceUnreachableError(
            f"{name} did not list its system files, its shell ended with status "
            f"{answer.status}: {said!r}; does /bin/sh run there?"
        )
    for folder in ("proc", "sys", "etc", "board"):
        shutil.rmtree(into / folder, ignore_errors=True)
    for path, content in files.items():
        if not _is_wanted(path):
            raise DeviceUnreachableError(f"{name} sent a file that was not asked for: {path!r}")
        place = into / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def snapshot_script(token: str, root: str = "/") -> str:
    """The script that prints each file below `root` behind a line of the token and its path."""
    folder = root.rstrip("/") + "/"
    quoted = shlex.quote(folder)
    return _SCRIPT.format(
        token=shlex.quote(token),
        root=quoted,
        lines=" ".join(f"{quoted}{pattern}" for pattern in LINES),
        texts=" ".join(f"{quoted}{pattern}" for pattern in TEXTS),
        most_bytes=_MOST_BYTES,
        most_files=_MOST_FILES,
    )


def _split(stream: bytes, token: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each file in what the script printed."""
    for part in stream.split(f"\n{token} ".encode())[1:]:
        name, _, content = part.partition(b"\n")
        yield name.decode(errors="replace"), content


def _is_wanted(name: str) -> bool:
    """Whether a path is one that was asked for: a board decides nothing else on the host."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name:
        return False
    if _QUOTA.fullmatch(name):
        return True
    patterns = (*LINES, *TEXTS, *SAID)
    n_parts = len(path.parts)
    return any(p.count("/") + 1 == n_parts and fnmatchcase(name, p) for p in patterns)
