"""Text files of lists: their lines, whichever program wrote them."""

import codecs
import os

from pcsa.datasets.files import existing
from pcsa.datasets.limits import read_whole


def text_lines(path: str | os.PathLike[str], *, tabs: bool = False) -> list[tuple[int, str]]:
    """Read the lines of a text file that are not blank, each with its number from 1 and without blanks around it.

    The text is UTF-8, UTF-16 if it begins with a mark that says so, and Latin-1 where it can be neither; a byte-order
    mark and the line ends of every system are taken away.

    Args:
        path: The file.
        tabs: Whether to keep the tabs around a line: where they lie between columns, the first may be empty.

    Raises:
        FileNotFoundError: If there is no such file.

    """
    content = read_whole(existing(path))
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    around = " \v\f" if tabs else None
    return [(number, line.strip(around)) for number, line in enumerate(lines, 1) if line.strip()]
