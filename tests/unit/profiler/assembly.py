"""The innermost loops of a kernel, read from its assembly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LABEL: Final = re.compile(r"(\.L\w+):")
#: Of x86 (j), Arm (b, cb, tb) and RISC-V (b, j): the place to go to stands last.
_BRANCH: Final = re.compile(r"(?:j|b|cb|tb)[\w.]*\s.*?(\.L\w+)$")
#: What is neither a label of a branch nor an instruction.
_OTHER: Final = re.compile(r"\.(?!L)|\.Ltmp|[#@/]|\w+:$|$")
_STACK: Final = r"(?:sp|rsp)"
#: Registers that hold the place of a function's frame where a function keeps one.
_FRAME: Final = r"(?:x29|r11|s0|rbp)"
#: `mov x29, sp`, `add x29, sp, #16`, `addi s0, sp, 64`; `movq %rsp, %rbp` has them the other way.
_KEEPS_FRAME: Final = re.compile(
    rf"(?:mov|addi?)\s+({_FRAME}), {_STACK}\b|movq?\s+%{_STACK}, %({_FRAME})"
)


@dataclass(frozen=True)
class Loop:
    """Instructions from a label to the branch back to it.

    Attributes:
        lines: The instructions.
        stack: Registers of the function that point into the stack.
    """

    lines: tuple[str, ...]
    stack: frozenset[str]

    def those(self, operation: str) -> list[str]:
        """Instructions that begin as a pattern says."""
        return [line for line in self.lines if re.match(operation, line)]

    def sums(self, operation: str) -> set[str]:
        """Registers that instructions of some kind add to: named last by x86, first by others."""
        operands = [line.split(None, 1)[1].split(", ") for line in self.those(operation)]
        return {names[-1] if names[-1].startswith("%") else names[0] for names in operands}

    def on_stack(self) -> list[str]:
        """Instructions that name a register which points into the stack: spills and reloads."""
        return [line for line in self.lines if self.stack & set(re.findall(r"\w+", line))]


def innermost_loops(text: str, ending: str) -> list[Loop]:
    """Loops without a loop inside of the one function whose name ends so, in order."""
    (body,) = re.findall(
        rf"^(?:\.L)?\w*{ending}:\n(.*?)^\.Lfunc_end", text, re.MULTILINE | re.DOTALL
    )
    lines = [line for line in map(str.strip, body.splitlines()) if not _OTHER.match(line)]
    stack = {"sp", "rsp"} | {name for found in _KEEPS_FRAME.findall(body) for name in found if name}
    labels: dict[str, int] = {}
    ends: dict[int, int] = {}
    for position, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = position
        elif (branch := _BRANCH.match(line)) and branch[1] in labels:
            ends[labels[branch[1]]] = position
    return [
        Loop(tuple(line for line in lines[start:end] if not _LABEL.match(line)), frozenset(stack))
        for start, end in sorted(ends.items())
        if not any(start < other < end for other in ends)
    ]
