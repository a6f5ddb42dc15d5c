"""Text from data is shown and never obeyed."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

import densedet
from densedet.core.text import counted, format_warning, json_text, say, short, visible

ROOT = Path(densedet.__file__).parent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bolt [m8], 螺母 é 👩\u200d🔧", "bolt [m8], 螺母 é 👩\u200d🔧"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x07\x7f\x00", r"\x9b2J\x07\x7f\x00"),
        ("gpj.\u202etxt\u2066", r"gpj.\u202etxt\u2066"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("two\nlines\r", r"two\nlines\r"),
    ],
)
def test_control_characters_are_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_name_in_a_table_is_short() -> None:
    assert short("x" * 40) == "x" * 40
    assert short("x" * 41) == "x" * 39 + "…"
    assert short("\x1b") == r"\x1b"


def test_say_keeps_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\n\tb\r\x1b")
    say("c\x1b", error=True)
    assert capsys.readouterr() == ("a\n\tb\\r\\x1b\n", "c\\x1b\n")


def test_a_warning_is_visible() -> None:
    shown = format_warning("class \x1b[2J\nand more", RuntimeWarning, "x\x1b.py", 3)
    assert shown.splitlines()[:2] == ["x\\x1b.py:3: RuntimeWarning: class \\x1b[2J", "and more"]


def test_a_number_of_things() -> None:
    for what, many in (("box", "boxes"), ("class", "classes"), ("entry", "entries"), ("image", "images")):
        assert [counted(n, what) for n in (0, 1, 1000)] == [f"0 {many}", f"1 {what}", f"1,000 {many}"]


def test_json_has_no_nan() -> None:
    value = {"a": [math.nan, (math.inf, 1.5)], "\udcff": "\udcff"}
    text = json_text(value)
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, [None, 1.5]], "\udcff": "\udcff"}
    text.encode()  # a lone surrogate is an escape


def test_everything_is_printed_by_the_two_printers() -> None:
    """A print, or a console of rich's own, would send names to the terminal as they are."""
    found = []
    files = [path for room in ("core", "plugins", "tools") for path in (ROOT / room).rglob("*.py")]
    for path in files:
        if path.name in ("text.py", "terminal.py") or path.name.startswith(("bootstrap", "benchmark")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printed = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            console = isinstance(node, ast.ImportFrom) and node.module in ("rich.console", "rich")
            if printed or console:
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
