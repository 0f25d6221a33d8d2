"""Two small edits of ELF object files, so that a kernel's code and place depend on it alone.

Layout of headers: System V ABI, "Object Files".
"""

from __future__ import annotations

import struct

#: Every kernel is compiled under this name, so that its hash depends on its code alone.
CANONICAL_NAME = "k_0000000000000000"

_MIN_HEADER_BYTES = 52
_SHT_PROGBITS = 1
_SHF_EXECINSTR = 4


def align_code(data: bytes, alignment: int) -> bytes:
    """Raise the alignment of every code section, so that linking never shifts a loop's address.

    Raises:
        ValueError: not a little-endian ELF object file.
    """
    if data[:4] != b"\x7fELF" or len(data) < _MIN_HEADER_BYTES or data[5] != 1:
        raise ValueError(f"not a little-endian ELF object file: begins with {data[:6].hex()}")
    wide = data[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
    entry_size, n_entries = struct.unpack_from("<HH", data, 58 if wide else 46)
    edited = bytearray(data)
    for index in range(n_entries):
        at = table + index * entry_size
        (kind,) = struct.unpack_from("<I", data, at + 4)
        (flags,) = struct.unpack_from("<Q" if wide else "<I", data, at + 8)
        place, form = (at + 48, "<Q") if wide else (at + 32, "<I")
        (current,) = struct.unpack_from(form, data, place)
        if kind == _SHT_PROGBITS and flags & _SHF_EXECINSTR and current < alignment:
            struct.pack_into(form, edited, place, alignment)
    return bytes(edited)


def rename(data: bytes, old: str, new: str) -> bytes:
    """Replace a symbol's name by one of the same length wherever it stands.

    Raises:
        ValueError: the lengths differ, or the old name is not there.
    """
    if len(old) != len(new):
        raise ValueError(f"names must have equal length, got {old!r} and {new!r}")
    if old.encode() not in data:
        raise ValueError(f"no symbol {old!r} in the object file")
    return data.replace(old.encode(), new.encode())
