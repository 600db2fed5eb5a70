"""JSON of anyone, whose texts are texts: they can be printed, written, and given to the system as names."""

import json
from typing import Any

# Halves are escaped, are bytes that begin with ED, or stand in UTF-16 or UTF-32, which are full of zeros.
_SIGNS = (b"\\u", b"\xed", b"\0")


def parse_json(raw: str | bytes, **options: Any) -> Any:
    r"""Parse JSON as :func:`json.loads` does, and refuse half characters, of which no file can be written.

    Not for what holds paths of this machine: those may have some, in place of bytes that are no UTF-8.

    Args:
        raw: JSON, as text or in UTF-8, UTF-16 or UTF-32.
        options: Those of :func:`json.loads`.

    Raises:
        ValueError: If it is no JSON, or a text in it has a surrogate that is not one of a pair.
        RecursionError: If it is nested too deeply.

    Example:
        >>> parse_json(r'{"smile": "\ud83d\ude00"}')
        {'smile': '😀'}
        >>> parse_json(r'{"half": "\ud83d"}')
        Traceback (most recent call last):
        ...
        ValueError: a text has '\ud83d', which is half a character

    """
    value = json.loads(raw, **options)
    # Few files have any that could be one: all others are not looked through.
    if ("\\u" in raw or not raw.isascii()) if isinstance(raw, str) else any(sign in raw for sign in _SIGNS):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"a text has {half!r}, which is half a character") from None
    return value
