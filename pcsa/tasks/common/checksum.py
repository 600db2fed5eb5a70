"""The checksum at the end of a checkpoint: where one bit has changed on a disk, or on the way, the file is refused.

A checkpoint is a zip file, as torch writes it. The checksum is the comment of that file, which every reader of zip
files skips: SHA-256 of all bytes before the comment, as 64 hexadecimal digits after a mark.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

_END, _END_SIZE = b"PK\5\6", 22  # what a zip file ends with, if it has no comment
_MARK = b"pcsa-sha256:"
_COMMENT = re.compile(re.escape(_MARK) + rb"([0-9a-f]{64})")
_LENGTH = len(_MARK) + 64


def sign(path: Path) -> None:
    """Add the checksum to a checkpoint that torch has just written."""
    with path.open("r+b") as file:
        if not _is_end(file, 0):
            raise ValueError(f"`{path}` must be a zip file without a comment, as torch.save writes it")
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", _LENGTH))
        size = file.tell()
        file.write(_MARK + _digest(file, size))


def is_signed(path: Path) -> bool:
    """Whether a checkpoint has a checksum, which is then right; those of earlier versions have none.

    Raises:
        ValueError: If the file is damaged: neither has it a checksum that is right, nor does it end as one without.
    """
    with path.open("rb") as file:
        if _is_end(file, 0):
            return False
        size = max(0, file.seek(0, os.SEEK_END) - _LENGTH)
        file.seek(size)
        found = _COMMENT.fullmatch(file.read())
        if found is None or not _is_end(file, _LENGTH):
            raise ValueError("is no checkpoint, cut off, or damaged where its checksum stands")
        if found[1] != _digest(file, size):
            raise ValueError("is damaged: its checksum is another")
    return True


def _is_end(file: BinaryIO, length: int) -> bool:
    """Whether a zip file has a comment of so many bytes at its end."""
    size = file.seek(0, os.SEEK_END)
    if size < _END_SIZE + length:
        return False
    file.seek(size - _END_SIZE - length)
    end = file.read(_END_SIZE)
    return end.startswith(_END) and end.endswith(struct.pack("<H", length))


def _digest(file: BinaryIO, size: int) -> bytes:
    """Hash the first bytes of a file, and leave its place behind them."""
    digest = hashlib.sha256()
    file.seek(0)
    while size and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
