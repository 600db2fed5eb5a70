"""Changes of files: of bytes, of the numbers and words in them, and of what is packed in them."""

import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

import fuzz_seeds as seeds

# What begins a count, ends a range, or is no number.
NUMBERS = (
    b"0", b"-1", b"1", b"2", b"255", b"256", b"65536", b"2147483647", b"2147483648", b"4294967295", b"1099511627776",
    b"9223372036854775807", b"9223372036854775808", b"1e400", b"-1e400", b"1e308", b"nan", b"NaN", b"inf", b"-Infinity",
    b"1e-320", b"0x10", b"1_000", b"9" * 5000, b"1" * 30, b"1.5", b"00", b"+3",
)  # fmt: skip
WORDS = (
    b"null", b"true", b"[]", b"{}", b'""', b"[[]]", b'"..\\/..\\/x"', b'"/etc/passwd"', b"[" * 3000, b'{"a":' * 2000,
    b"\xff\xfe", b"\xef\xbb\xbf", b"\0", b"\r", b"\n", b"\x85", b"\xe2\x80\xa8", b"'", b'"', b"\\", b"#", b"//",
    b";", b"`", b"%s%n", b"<script>", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa9", b"  " * 50, b"../", b"=", b"{", b"}",
    b"]", b"(", b"lambda:0",
)  # fmt: skip
_NUMBER = re.compile(rb"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
_WORD = re.compile(rb"\"[^\"]*\"|[A-Za-z_]+|\[[^\[\]]*\]|\{[^{}]*\}")


def _some(rng: random.Random, content: bytes) -> int:
    # Headers come first: half of all changes are there.
    return int(len(content) * rng.random() ** rng.choice((1, 4)))


def _flip(rng: random.Random, content: bytes) -> bytes:
    at = _some(rng, content)
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def _byte(rng: random.Random, content: bytes) -> bytes:
    at = _some(rng, content)
    return content[:at] + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))]) + content[at + 1 :]


def _whole(rng: random.Random, content: bytes) -> bytes:
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    value = rng.choice(
        (0, 1, 2**8, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1, rng.getrandbits(64))
    )
    at = _some(rng, content)
    return content[:at] + struct.pack(form, value % 2 ** (8 * size)) + content[at + size :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _remove(rng: random.Random, content: bytes) -> bytes:
    at = _some(rng, content)
    return content[:at] + content[at + rng.choice((1, 2, 4, 8, rng.randrange(1, 100))) :]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    at = _some(rng, content)
    part = content[at : at + rng.randrange(1, 100)]
    return content[:at] + part * rng.choice((2, 2, 3, 20)) + content[at + len(part) :]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = _some(rng, content)
    return (
        content[:at]
        + rng.choice((rng.choice(WORDS), rng.choice(NUMBERS), rng.randbytes(rng.randrange(1, 9))))
        + content[at:]
    )


def _move(rng: random.Random, content: bytes) -> bytes:
    a, b = sorted((_some(rng, content), _some(rng, content)))
    part = content[b : b + rng.randrange(1, 60)]
    return content[:a] + part + content[a + len(part) * rng.randrange(2) :]


def _number(rng: random.Random, content: bytes) -> bytes:
    return _replace(rng, content, _NUMBER, (*NUMBERS, *WORDS[:8]))


def _word(rng: random.Random, content: bytes) -> bytes:
    return _replace(rng, content, _WORD, (*WORDS, *NUMBERS))


def _replace(rng: random.Random, content: bytes, what: re.Pattern[bytes], by: Sequence[bytes]) -> bytes:
    found = [match.span() for match in what.finditer(content[:20000])]
    if not found:
        return _byte(rng, content)
    start, end = rng.choice(found)
    new = rng.choice(by) if rng.random() < 0.7 else content[slice(*rng.choice(found))]
    return content[:start] + new + content[end:]


_OF_BYTES = (_flip, _flip, _byte, _byte, _whole, _whole, _whole, _cut, _remove, _repeat, _insert, _move)
_OF_TEXT = (_number, _number, _number, _word, _word, _word, _flip, _byte, _cut, _remove, _repeat, _insert, _move)


def _is_text(content: bytes) -> bool:
    start = content[:400]
    return sum(32 <= b < 127 or b in b"\t\r\n" for b in start) > 0.9 * len(start)


def mutated(rng: random.Random, content: bytes, inside: str = "") -> bytes:
    """Return a content with some changes, most often one or two."""
    if inside and content and rng.random() < 0.8:
        try:
            changed = _INSIDE[inside](rng, content)
        except Exception:  # it has been changed before, and cannot be unpacked
            changed = None
        if changed is not None:
            return changed
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 8))):
        if not content:
            return rng.randbytes(rng.randrange(20))
        content = rng.choice(_OF_TEXT if _is_text(content) else _OF_BYTES)(rng, content)
    return content[: 1 << 16]


def _in_zip(rng: random.Random, content: bytes) -> bytes | None:
    """Change a member of a zip file, or its name, and keep the checksums right."""
    members = _members(content)
    if not members:
        return None
    name = rng.choice(sorted(members))
    if rng.random() < 0.1:
        members[rng.choice(("../a.npy", "/a.npy", "a", "pos.npy", "", "joints.npy", "x/y.npy"))] = members.pop(name)
    elif rng.random() < 0.1:
        del members[name]
    else:
        members[name] = _array(rng, members[name]) if rng.random() < 0.5 else mutated(rng, members[name])
    return seeds.pack_zip(members, packed=rng.random() < 0.2)


def _array(rng: random.Random, content: bytes) -> bytes:
    """Change the header of an array: its type, its order or its shape."""
    head, end = content[:10], content.find(b"\n", 10)
    if end < 0:
        return content
    text = content[10:end].rstrip()
    if rng.random() < 0.5:
        types = (
            b"'|O'",
            b"'<f8'",
            b"'>i8'",
            b"'|V3'",
            b"'<U7'",
            b"'<M8[s]'",
            b"'<c16'",
            b"'|b1'",
            b"'<f2'",
            b"'|S0'",
            b"[('x', '<f4')]",
            b"[('x', '|O')]",
            b"'<u1'",
            b"''",
        )
        text = re.sub(rb"'descr': [^,\]]*\]?", b"'descr': " + rng.choice(types), text)
    else:
        shapes = (
            b"()",
            b"(0,)",
            b"(-1,)",
            b"(1099511627776,)",
            b"(3, 14, 3)",
            b"(0, 3)",
            b"(1, 2, 3, 4)",
            b"(%d,)" % (1 << 62),
            b"(3,)",
            b"(40, 3)",
            b"3",
            b"(True,)",
            b"(1,) * 9",
        )
        text = re.sub(rb"'shape': \([^)]*\)", b"'shape': " + rng.choice(shapes), text)
    if rng.random() < 0.2:
        text = mutated(rng, text)
    text = text[:60000] + b" " * (-(len(text) + 11) % 64) + b"\n"
    return head[:8] + struct.pack("<H", len(text)) + text + content[end + 1 :]


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _in_mat(rng: random.Random, content: bytes) -> bytes | None:
    """Change what is compressed in MATLAB's file."""
    if len(content) < 136 or struct.unpack_from("<I", content, 128)[0] != 15:
        return None
    at, parts = 128, []
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, at)
        if kind != 15:
            return None
        parts.append(zlib.decompress(content[at + 8 : at + 8 + size]))
        at += 8 + size
    place = rng.randrange(len(parts))
    parts[place] = mutated(rng, parts[place])
    packed = [zlib.compress(part) for part in parts]
    return content[:128] + b"".join(struct.pack("<II", 15, len(part)) + part for part in packed)


def _in_checkpoint(rng: random.Random, content: bytes) -> bytes | None:
    """Change a checkpoint behind its checksums, as somebody does who means it."""
    import torch

    if rng.random() < 0.5:
        loaded = torch.load(io.BytesIO(content), weights_only=True)
        _change(rng, loaded)
        stream = io.BytesIO()
        torch.save(loaded, stream)
        return stream.getvalue()
    members = _members(content)
    (name,) = (name for name in members if name.endswith("data.pkl"))
    if rng.random() < 0.2:
        name = rng.choice(sorted(members))
    members[name] = mutated(rng, members[name])
    return seeds.pack_zip(members, packed=rng.random() < 0.1)


def _change(rng: random.Random, value: object) -> None:
    """Put something else somewhere into nested dictionaries and lists."""
    import torch

    odd = (
        None, 0, -1, 10**9, 2**80, float("nan"), float("inf"), "", "x", "../../../x", "/x", [], {}, [[]] * 3, True, (),
        "<script>", b"x", torch.zeros(()), torch.full((2,), float("nan")), torch.zeros(3, dtype=torch.int64),
        torch.zeros(1).expand(10**6),
    )  # fmt: skip
    while isinstance(value, (dict, list)) and value:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]  # type: ignore[index]
        if not (isinstance(inner, (dict, list)) and inner) or rng.random() < 0.15:
            if isinstance(value, dict) and rng.random() < 0.2:
                value.pop(key)
                value[rng.choice((key, "x", 3, "network.x"))] = inner if rng.random() < 0.5 else rng.choice(odd)
            else:
                value[key] = rng.choice(odd)  # type: ignore[index]
            return
        value = inner


_INSIDE: dict[str, Callable[[random.Random, bytes], bytes | None]] = {
    "zip": _in_zip,
    "mat": _in_mat,
    "checkpoint": _in_checkpoint,
}
