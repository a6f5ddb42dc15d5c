"""Changes of bytes and of trees (what JSON and YAML hold), each drawn from a `random.Random`."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 16, (1 << 31) - 1, 1 << 31)
NUMBERS += ((1 << 32) - 4, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
FLOATS = (float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1e308, -1e308, 1e-40, 1e30, -1.0)
PIECES = (
    *(b"../", b"..\\", b"/", b"C:", b"\0", b"\xff", b"\xed\xa0\x80", b"[", b"{", b'"', b"\\", b"<", b"&"),
    *(b"<!DOCTYPE x", b"1e999", b"-", b"NaN", b"9" * 400, b"\n", b"[" * 3000, b'{"a":' * 3000, b"\x1b[2J"),
    *(b"!!python/name:os.system ", b"&a [*a]", b"<<: *a", b": ", b"- ", b"\t", b"#", b"\r", b"\xef\xbb\xbf"),
)
"""What is put into a file's bytes, or over them."""

NAMES = ("../secret.jpg", "/etc/hostname", "a/../../secret.jpg", "C:\\x.jpg", "a\0.jpg", ".", "..", "", " ")
NAMES += ("a" * 300, "a/" * 3000, "\ud800.jpg", "\u202egpj.a", "\x1b[2J", "e\u0301.jpg", "\ufeffa.jpg", "con")
TEXTS = (*NAMES, "null", "true", "1", "nan", "-", "[/b]", "x" * 100_000, "\U0001f600", "\n", "{}", "%s{0}")

SCALARS = (None, True, False, 0, 1, -1, 2, 3, 0.5, -0.5, 1e-9, 1e9, 255, 256, 65536, 1 << 31, -(1 << 31))
SCALARS += (1 << 53, 1 << 62, (1 << 63) - 1, 1 << 63, -(1 << 63) - 1, 1 << 64, 10**30, 1e30, 1e300, 1e-320)

RAW = "\ue000"
"""Stands around a piece of text that is written into JSON or YAML as it is."""

JSON_RAWS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e400",
    "1E-400",
    "9" * 5000,
    "-0",
    "-0.0",
    "01",
    "1.",
)
JSON_RAWS += (
    "[" * 900 + "]" * 900,
    "[" * 50_000,
    '{"a":' * 50_000,
    '"\\ud800"',
    '"\\u0000"',
    "'a'",
    "nul",
    "",
)
YAML_RAWS = ("1e400", "-1e400", ".nan", ".inf", "-.inf", "0o17", "0x1F", "1_000", "2001-01-01", "190:20:30")
YAML_RAWS += ("!!python/object/apply:os.system [touch run]", "!!python/name:os.system", "!!python/tuple [1]")
YAML_RAWS += (
    "!!binary aGk=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!int x",
    "!!float 1",
    "!!str 1",
    "!x y",
    "no",
)
YAML_RAWS += ("&a [*a]", "*a", "{<<: {a: 1}}", "{? [a] : b}", "{a: 1, a: 2}", "[" * 60 + "]" * 60, "yes", "~")
YAML_RAWS += (
    "[" * 5000,
    "{a: " * 5000,
    "|\n  x\n",
    '"\\U00110000"',
    '"\\ud800"',
    "9" * 5000,
    "=",
    "? a",
    "--- 1",
)
LAUGHS = "&a0 [x,x,x,x,x,x,x,x,x,x]"
for level in range(1, 10):
    LAUGHS = f"[{LAUGHS}, &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]]"
YAML_RAWS += (LAUGHS,)


def changed_bytes(content: bytes, draw: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Change bytes in one to four places.

    Args:
        content: a file.
        draw: decides.
        others: files from which pieces are taken.
    """
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(max(len(data), 1))
        BYTE_CHANGES[draw.randrange(len(BYTE_CHANGES))](data, at, draw, others)
    return bytes(data)


def _flip(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[at] ^= 1 << draw.randrange(8)


def _integer(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    form, value = draw.choice("<>") + draw.choice("HIQ"), draw.choice(NUMBERS)
    at -= at % 4 if draw.random() < 0.5 else 0
    piece = struct.pack(form, value & ((1 << 8 * struct.calcsize(form)) - 1))
    data[at : at + len(piece)] = piece


def _double(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    data[at - at % 8 : at - at % 8 + 8] = struct.pack("<d", draw.choice(FLOATS))


def _piece(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    piece = draw.choice(PIECES)
    data[at : at + (len(piece) if draw.random() < 0.5 else 0)] = piece


def _cut(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    del data[at:]


def _swap(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    other, length = draw.randrange(max(len(data), 1)), draw.choice((1, 4, 8, 32))
    data[at : at + length], data[other : other + length] = (
        data[other : other + length],
        data[at : at + length],
    )


def _remove(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    del data[at : at + draw.choice((1, 2, 4, 8, 64))]


def _double_up(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    data[at:at] = data[at : at + draw.choice((1, 4, 64))]


def _zeros(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    length = draw.choice((1, 8, 512, 4096))
    data[at : at + (length if draw.random() < 0.7 else 0)] = bytes(length)


def _splice(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    other = draw.choice(others) if others else bytes(data)
    start, length = draw.randrange(max(len(other), 1)), draw.choice((4, 16, 64, 1024, 1 << 20))
    piece = other[start : start + length]
    data[at : at + (len(piece) if draw.random() < 0.5 else 0)] = piece


def _number(data: bytearray, at: int, draw: random.Random, others: Sequence[bytes]) -> None:
    """Put another number where the text has one."""
    digits = [i for i in range(at, min(at + 200, len(data))) if 48 <= data[i] <= 57]
    if digits:
        start = end = digits[0]
        while end < len(data) and data[end] in b"0123456789.eE+-":
            end += 1
        data[start:end] = draw.choice((*JSON_RAWS[:9], "0", "-1", "0.5", str(draw.choice(NUMBERS)))).encode()


BYTE_CHANGES: tuple[Callable[[bytearray, int, random.Random, Sequence[bytes]], None], ...] = (
    *(_flip, _integer, _double, _piece, _cut, _swap, _remove, _double_up, _zeros, _splice, _number),
)


def changed_tree(tree: Any, draw: random.Random, raws: Sequence[str] = ()) -> Any:
    """Return a tree of dicts, lists and scalars that is changed in one to three places.

    Args:
        tree: stays as it is.
        draw: decides.
        raws: texts that are put in as they are when the tree is written (see `as_json`).
    """
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        path = draw.choice(places)
        tree = _changed_at(tree, path, draw, raws)
    return tree


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*path, key))
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from _places(value, (*path, index))


def _changed_at(tree: Any, path: tuple[Any, ...], draw: random.Random, raws: Sequence[str]) -> Any:
    if not path:
        return other_value(tree, draw, raws)
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    key = path[0]
    if len(path) == 1 and draw.random() < 0.25:
        _change_children(copy, key, draw, raws)
    else:
        copy[key] = _changed_at(copy[key], path[1:], draw, raws)
    return type(tree)(copy) if type(tree) is tuple else copy


def _change_children(copy: Any, key: Any, draw: random.Random, raws: Sequence[str]) -> None:
    """Remove, double, rename or exchange a child."""
    kind = draw.randrange(4)
    if kind == 0:
        del copy[key]
    elif isinstance(copy, list):
        other = draw.randrange(len(copy))
        if kind == 1:
            copy.insert(other, copy[key])
        elif kind == 2:
            copy[key], copy[other] = copy[other], copy[key]
        else:
            copy.extend([copy[key]] * draw.choice((1, 10, 1000)))
    elif kind == 1 and raws and isinstance(key, str):
        copy[f"{key}{RAW}{draw.randrange(9)}"] = copy[key]  # a key that stands twice
    elif kind == 2:
        copy[draw.choice((*TEXTS[:18], str(key)[:-1], str(key).upper(), f"{key} "))] = copy.pop(key)
    else:
        other = draw.choice(list(copy))
        copy[key], copy[other] = copy[other], copy[key]


def other_value(value: Any, draw: random.Random, raws: Sequence[str]) -> Any:
    """Return a value near ``value``, or one of another type."""
    kind = draw.randrange(8)
    if kind == 0 and isinstance(value, (int, float)) and not isinstance(value, bool):
        return draw.choice((-value, value + 1, value - 1, value * 1000, float(value), str(value), value / 7))
    if kind == 1 and isinstance(value, str):
        return draw.choice((value + "x", value[:-1], value.upper(), [value], {value: value}, value * 50))
    if kind == 2 and raws:
        return f"{RAW}{draw.choice(raws)}{RAW}"
    if kind == 3:
        return draw.choice(TEXTS)
    if kind == 4:
        return draw.choice(([], {}, [value], {"name": value}, [value, value], [[]], [None], {"": None}))
    if kind == 5:
        for _ in range(draw.choice((5, 45, 200))):
            value = [value] if draw.random() < 0.5 else {"a": value}
        return value
    return draw.choice(SCALARS)


def as_json(tree: Any) -> bytes:
    """Write a tree as JSON, with its raw texts as they are and doubled keys."""
    text = re.sub(r"\\ue000\d(?=\")", "", json.dumps(tree))
    text = re.sub(r'"\\ue000(.*?)\\ue000"', lambda found: json.loads(f'"{found[1]}"'), text)
    return text.encode("utf-8", "surrogatepass")
