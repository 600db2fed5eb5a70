"""What a file may be, and what it may unpack to: it is checked before any memory is taken.

A file that is packed may say anything about its size in memory. It may take :data:`MOST_UNPACKED` bytes, or
:data:`MOST_TIMES` times as many as it has on the disk if that is more, as the large files of honest people do.
"""

import os
import re
import stat
from pathlib import Path

#: Bytes that a file may be unpacked to, however small it is: 1 GiB.
MOST_UNPACKED = 2**30
#: Times its own size that a file may be unpacked to, if that is more.
MOST_TIMES = 64
#: Bytes of a file that is read as a whole: 8 GiB. A file with holes may have any size and take no room.
MOST_READ = 2**33
#: Pixels that a picture may have, however small its file is: 16.8 million.
FEW_PIXELS = 2**24
#: Pixels for each byte of its file that a picture may have, if that is more.
PIXELS_PER_BYTE = 1024

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a path leads to a pipe, a socket or a device, which may be read without end.

    A path that leads nowhere passes, and so does a folder: whatever opens it says so.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise ValueError(f"`{os.fspath(path)}`: must be a regular file, is {kind}")


def check_unpacked(what: str, size: int, path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a part of a file takes more memory than the file may be unpacked to.

    Args:
        what: The part, for the message.
        size: Bytes that it takes.
        path: The file.

    """
    there = os.stat(path).st_size
    if size > max(MOST_UNPACKED, MOST_TIMES * there):
        raise ValueError(
            f"{what} takes {size} bytes unpacked, which must be at most {MOST_UNPACKED}, or {MOST_TIMES} times the "
            f"{there} bytes of the file"
        )


def check_pixels(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Raise a ValueError if a picture has more pixels than it may.

    These are Pillow's ``Image.MAX_IMAGE_PIXELS``, 89 million, and above :data:`FEW_PIXELS` no more than
    :data:`PIXELS_PER_BYTE`: a PNG of one color may have thousands, an empty page of a scanner has some hundreds.
    """
    from PIL import Image

    most, size = Image.MAX_IMAGE_PIXELS, os.stat(path).st_size
    if most is not None and width * height > most:
        raise ValueError(f"{width} x {height} pixels, must be at most {most} in all")
    if width * height > max(FEW_PIXELS, PIXELS_PER_BYTE * size):
        raise ValueError(f"{width} x {height} pixels are too many for a file of {size} bytes")


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file of at most :data:`MOST_READ`.

    Raises:
        ValueError: If it is none, or larger.

    """
    check_regular(path)
    if (size := os.stat(path).st_size) > MOST_READ:
        raise ValueError(f"`{os.fspath(path)}`: {size} bytes, must be at most {MOST_READ}")
    return Path(path).read_bytes()


def leads_out(name: str) -> bool:
    r"""Whether a name out of a file leads out of the folder that it belongs to: it is absolute, or has ``..``.

    Args:
        name: The name, with the separators of any system.

    Example:
        >>> [leads_out(name) for name in ("a/b.png", "a/../../b.png", "/etc/passwd", "C:\\x.png")]
        [False, True, True, True]

    """
    parts = name.replace("\\", "/").split("/")
    return not parts[0] or bool(re.fullmatch("[A-Za-z]:", parts[0])) or ".." in parts or "\0" in name


def check_inside(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a path in a folder, through its links, lies outside of it: nothing is to be written there.

    Args:
        path: The path, which need not exist.
        root: The folder; it may be a link itself.

    """
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise ValueError(f"`{os.fspath(path)}`: must lie in `{os.fspath(root)}`, leads to `{os.path.realpath(path)}`")
