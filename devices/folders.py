"""Where on a board Latloop's files may live: found by trying, before anything is put there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from devices.errors import NoFolderError
from devices.shell import Shell

#: In the order of preference: the account's cache, then places that every account may use. What
#: lies in the last one takes the board's memory.
_CANDIDATES: Final = (
    '"${XDG_CACHE_HOME:-$HOME/.cache}/latloop"',
    '"/var/tmp/latloop-$user"',
    '"/tmp/latloop-$user"',
    '"/dev/shm/latloop-$user"',
)
#: Executables, weights and a margin.
WANTED_BYTES: Final = 256 << 20
#: Below this not even the canary's executable and its weights fit.
LEAST_BYTES: Final = 16 << 20
#: Prints for each folder: its path, KiB free, and whether a program in it ran. The folder itself is
#: not made: the nearest one above it that is there is tried.
_SCRIPT: Final = """\
export LC_ALL=C
user=$(id -un 2>/dev/null || id -u)
for folder in {folders}; do
  case $folder in /*) ;; *) continue ;; esac
  at=$folder
  while [ ! -d "$at" ]; do at=${{at%/*}}; at=${{at:-/}}; done
  free=$(df -Pk "$at" 2>/dev/null | {{ read -r _; read -r _ _ _ free _; printf %s "$free"; }})
  try=$at/.latloop-try-$$
  runs=unwritable
  if (umask 077; printf '#!/bin/sh\\nexit 0\\n' >"$try") 2>/dev/null; then
    runs=noexec
    chmod 700 "$try" && "$try" 2>/dev/null && runs=runs
  fi
  rm -f "$try" 2>/dev/null
  printf '%s %s %s\\n' "$runs" "${{free:-0}}" "$folder"
done
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """A place on a board.

    Attributes:
        path: Absolute.
        free_bytes: Free space there.
        is_writable: Whether this account may write there.
        runs_programs: Whether programs that lie there are executed (no `noexec`).
    """

    path: str
    free_bytes: int
    is_writable: bool
    runs_programs: bool

    def __str__(self) -> str:
        if not self.is_writable:
            return f"{self.path}: not writable"
        if not self.runs_programs:
            return f"{self.path}: programs do not run there (noexec)"
        return f"{self.path}: {self.free_bytes >> 20} MiB free"


def probe_folders(shell: Shell, wanted: str = "") -> tuple[Folder, ...]:
    """Try the places on a board where Latloop's files may lie, in the order of preference.

    Args:
        shell: Of the board.
        wanted: The only place to try, absolute; "" tries the usual ones.

    Raises:
        DeviceUnreachableError: the board does not answer.
    """
    folders = shlex.quote(wanted) if wanted else " ".join(_CANDIDATES)
    answer = shell.run(_SCRIPT.format(folders=folders))
    found = []
    for line in answer.stdout.decode(errors="replace").splitlines():
        runs, _, rest = line.partition(" ")
        free, _, path = rest.partition(" ")
        if free.isdigit() and path.startswith("/"):
            n_bytes = int(free) * 1024
            found.append(Folder(path, n_bytes, runs != "unwritable", runs == "runs"))
    return tuple(found)


def choose_folder(folders: Sequence[Folder], name: str) -> Folder:
    """The first folder with room enough for everything, else the one with the most.

    Args:
        folders: From `probe_folders`.
        name: The board's, for the message.

    Raises:
        NoFolderError: none can be used; the message says why of each.
    """
    usable = [f for f in folders if f.runs_programs and f.free_bytes >= LEAST_BYTES]
    if not usable:
        each = "; ".join(map(str, folders)) or "the board listed none"
        raise NoFolderError(
            f"{name} has no folder that programs run in with {LEAST_BYTES >> 20} MiB free "
            f"({each}); make one, and enroll with --set folder=/path/to/it"
        )
    roomy = [folder for folder in usable if folder.free_bytes >= WANTED_BYTES]
    return roomy[0] if roomy else max(usable, key=lambda folder: folder.free_bytes)
