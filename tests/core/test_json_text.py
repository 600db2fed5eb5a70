import json

import pytest

from pcsa._core.json_text import parse_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("ascii", [True, False])
def test_every_character_comes_through(encoding, ascii):
    value = {"na\0me": ["é", "😀", "\N{MUSICAL SYMBOL G CLEF}", "\\ud83d"], "x": [1.5, None, True]}
    raw = json.dumps(value, ensure_ascii=ascii)
    assert parse_json(raw) == parse_json(raw.encode(encoding)) == value


@pytest.mark.parametrize(
    "raw",
    [
        r'{"a": ["\ud800"]}',
        r'{"\uDFFF": 1}',
        r'["\udc00\ud800"]',
        '["\ud800"]',
        rb'[[["x\uD8ff"]]]',
        b'["\xed\xa0\x80"]',
        '["x\ud83d"]'.encode("utf-16", "surrogatepass"),
    ],
)
def test_half_a_character_is_refused(raw):
    with pytest.raises(ValueError, match=r"a text has '.ud[0-9a-f]*', which is half a character"):
        parse_json(raw)


def test_options_are_those_of_json():
    assert parse_json('{"a": 1, "a": 2}', parse_int=str) == {"a": "2"}
    with pytest.raises(json.JSONDecodeError):
        parse_json(b"{")
