"""Scripts that keep the folder on a board: POSIX sh, and what busybox has.

The folder holds `files/` (by hash), `use/` (an empty file PID.HASH for each file that a process
needs), and what a session keeps there. What is being uploaded lies in `files/.part.PID`.

Most of what a short script takes is the start of its shell and of each tool. So those that look
after files are run by one shell, which reads the next when it is done, and start few tools.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

#: Exit statuses, above those that tools use.
NO_FOLDER: Final = 73
NOT_WRITTEN: Final = 75
DAMAGED: Final = 76
#: Reads a script from the input and runs it. `read` takes byte by byte what is one line, see
#: `encode`, and so leaves alone what follows; a part of a line is not run: the link broke.
_READ: Final = 'IFS= read -r s || exit 0; eval "$(printf %b "$s")"'
#: The account's shell may be any: it only replaces itself by /bin/sh, which reads the script. Its
#: process number comes first, on stderr.
COMMAND: Final = f"exec /bin/sh -c 'echo latloop $$ >&2; {_READ}'"
#: The last that a script prints, on stderr and stdout, when its shell goes on to read another.
DONE: Final = b"latloop done\n"
_SAY_DONE: Final = f"echo {DONE.decode().strip()} >&2; echo {DONE.decode().strip()}"
_MARK_OF_OURS: Final = "echo latloop"
#: Ends a process and all that it started: a server need not give commands a group of their own.
_KILL_TREE: Final = """\
tree=" $pid " more=1
while [ "$more" ]; do
  more=
  for stat in /proc/[0-9]*/stat; do
    IFS= read -r line <"$stat" || continue
    id=${line%% *}
    set -- ${line##*) }
    case "$tree" in *" $id "*) continue;; esac
    case "$tree" in *" $2 "*) tree="$tree$id " more=1;; esac
  done 2>/dev/null
done
kill -KILL $tree 2>/dev/null
"""
#: An upload that got no byte for so many minutes was left by its host.
_DEAD_MINUTES: Final = 3

_HEAD: Final = """\
export LC_ALL=C
cd {folder} || exit {no_folder}
"""
#: What nobody waits for comes after the facts. PWD needs no process, as `pwd -P` in `$()` would.
_SURVEY: Final = """\
export LC_ALL=C
[ -d {folder}/files ] && [ -d {folder}/use ] || (umask 077; mkdir -p {folder}/files {folder}/use)
cd -P {folder} && printf '' >use/.probe || exit {no_folder}
for each in files/.part.*; do
  [ -d "$each" ] || continue
  pid=${{each##*.}}
  if ! grep -q '{mark_of_ours}' "/proc/$pid/cmdline" 2>/dev/null; then rm -rf "$each"
  elif new=$(find "$each" -mmin -{dead_minutes} 2>/dev/null) && [ -z "$new" ]; then
    {kill_tree}
    rm -rf "$each"
  fi
done
echo "machine $(uname -m)"
echo "folder $PWD"
echo disk $(df -Pk .)
echo "used $(du -sk files)"
for each in tar sha256sum; do command -v $each >/dev/null 2>&1 && echo "tool $each"; done
set --
for each in {hashes}; do
  [ -f files/$each ] && set -- "$@" files/$each && echo "present $each" {mark}
done
{say_done}
[ $# -eq 0 ] || touch "$@"
is_used_now=1
set --
for each in use/[0-9]*.*; do
  pid=${{each#use/}}
  [ ! -e "$each" ] || [ -d "/proc/${{pid%%.*}}" ] || set -- "$@" "$each"
done
[ $# -eq 0 ] || rm -f "$@"
{read}
"""
#: The input has no end of its own, as more scripts follow, hence `head`.
_RECEIVE: Final = """\
part=files/.part.$$
trap 'rm -rf "$part"' EXIT
trap 'exit {not_written}' HUP INT TERM PIPE
mkdir -m 700 "$part" || exit {not_written}
{receive}
mv -f "$part"/* files/ || exit {not_written}
{say_done}
rm -rf "$part"
trap - EXIT HUP INT TERM PIPE
{read}
"""
#: One file is hashed while it arrives, and may be run before it is whole, which saves the time of
#: another tool in the end. Only the last status of a pipe is known, hence what tells of `tee`. That
#: of busybox does not tell of a full disk, hence another try with `cat`, which does.
_RECEIVE_ONE: Final = """\
: >"$part"/{hashes} && chmod 700 "$part"/{hashes} || exit {not_written}
said=$({{
  head -c {n_bytes} | {{ tee "$part"/{hashes} && echo whole >&3; }} | sha256sum
}} 3>&1)
case "$said" in whole*) ;; *) cat /bin/sh >"$part"/more; exit {not_written};; esac
case "$said" in whole*{hashes}*) ;; *) exit {damaged};; esac"""
#: `tar` may leave the end of its input unread.
_RECEIVE_MANY: Final = """\
head -c {n_bytes} | {{ tar -xf - -C "$part" && cat >/dev/null; }} || exit {not_written}
for each in {hashes}; do
  [ -f "$part/$each" ] || exit {damaged}
done
(cd "$part" && sha256sum *) | while read -r sum name; do
  [ "$sum" = "$name" ] || exit {damaged}
done || exit {damaged}
chmod 700 "$part"/* || exit {not_written}"""
_PRUNE: Final = """\
used=0
ls -ltn files | while read -r mode links user group size month day time name; do
  [ "$name" ] && [ -f "files/$name" ] || continue
  used=$((used + size))
  [ $used -gt {keep_bytes} ] || continue
  case " {hashes} " in *" $name "*) continue;; esac
  for each in use/*."$name"; do [ -e "$each" ] && continue 2; done
  rm -f "files/$name"
  used=$((used - size))
done
{say_done}
{read}
"""
#: After a survey by the same shell the file is as new as can be.
_START: Final = """\
export LC_ALL=C
cd {folder} 2>/dev/null && [ -f files/{sha256} ] || exit {no_folder}
printf '' >use/$$.{sha256}
[ "$is_used_now" ] || touch files/{sha256}
exec {command}
"""


def encode(script: str) -> bytes:
    """A script as the one line that `COMMAND` reads, and a script that said `DONE`."""
    escaped = script.strip().replace("\\", "\\\\").replace("\n", "\\n")
    return f"{escaped}\n".encode()


def quote_folder(folder: str) -> str:
    """A folder for a script; `~/` at its start stands for the account's home."""
    if folder == "~" or folder.startswith("~/"):
        return f'"$HOME"/{shlex.quote(folder[2:])}' if folder[2:] else '"$HOME"'
    return shlex.quote(folder)


def kill_tree(pid: int | str) -> str:
    """End a process, or the one that a variable of the shell names, and all that it started."""
    return f"pid={pid}\n{_KILL_TREE}"


def survey(folder: str, hashes: Iterable[str], pid: int | None) -> str:
    """Make the folder, clear what ended processes left, tell what is there.

    Args:
        folder: On the board.
        hashes: Files to look for; those found count as used now.
        pid: Of a process that needs them from now on, or None.
    """
    mark = "" if pid is None else f"&& printf '' >use/{pid}.$each"
    return _SURVEY.format(
        folder=quote_folder(folder),
        no_folder=NO_FOLDER,
        dead_minutes=_DEAD_MINUTES,
        hashes=_words(hashes),
        mark=mark,
        mark_of_ours=_MARK_OF_OURS,
        kill_tree=_KILL_TREE,
        say_done=_SAY_DONE,
        read=_READ,
    )


def receive(folder: str, hashes: Iterable[str], n_bytes: int, *, has_tar: bool) -> str:
    """Read a tar archive of files named by their hash, or one file; check, then put in place.

    Args:
        folder: On the board.
        hashes: The files.
        n_bytes: So long is the input.
        has_tar: Whether it is an archive.
    """
    values = {"n_bytes": n_bytes, "not_written": NOT_WRITTEN, "damaged": DAMAGED}
    reader = _RECEIVE_MANY if has_tar else _RECEIVE_ONE
    text = _HEAD + _RECEIVE
    return text.format(
        folder=quote_folder(folder),
        no_folder=NO_FOLDER,
        receive=reader.format(hashes=_words(hashes), **values),
        say_done=_SAY_DONE,
        read=_READ,
        **values,
    )


def prune(folder: str, keep_bytes: int, hashes: Iterable[str]) -> str:
    """Delete the files used longest ago, but those named and those that a process needs.

    Args:
        folder: On the board.
        keep_bytes: As much may stay.
        hashes: Files that stay whatever their age.
    """
    text = _HEAD + _PRUNE
    return text.format(
        folder=quote_folder(folder),
        no_folder=NO_FOLDER,
        keep_bytes=keep_bytes,
        hashes=_words(hashes),
        say_done=_SAY_DONE,
        read=_READ,
    )


def start(folder: str, sha256: str, command: Iterable[str]) -> str:
    """Become a command, which runs in the folder; `NO_FOLDER` when the file is gone.

    Args:
        folder: On the board.
        sha256: The executable, in `files/`.
        command: Words of the command.
    """
    return _START.format(
        folder=quote_folder(folder),
        sha256=shlex.quote(sha256),
        no_folder=NO_FOLDER,
        command=shlex.join(command),
    )


def _words(texts: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, texts))
