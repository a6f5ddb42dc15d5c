"""Letters that Pillow's own font lacks come from another font, or are replaced: no empty boxes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from densedet.core.report import fonts
from densedet.core.report.drawing import captioned, draw_boxes, drawn_name, fit_text, text_size, to_image
from densedet.core.report.heatmaps import score_map_panel

BOLT = "螺"
NAMES = ("bolt [m8]", BOLT, "x" * 220, "a\x1b[2J\nb", "")


def font_of(letters: str, file: Path) -> str:
    """Write a font in which each of the letters is a filled square and all others are empty."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    empty = TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in letters})
    builder.setupGlyf({".notdef": empty, "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (900, 0), "square": (900, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)
    return str(file)


def only(monkeypatch: pytest.MonkeyPatch, *files: str) -> None:
    """Let these be the fonts of the system."""
    monkeypatch.setattr(fonts, "_files", lambda: files)
    fonts._file_for.cache_clear()
    text_size.cache_clear()


@pytest.fixture(autouse=True)
def fresh() -> object:
    yield
    fonts._file_for.cache_clear()
    text_size.cache_clear()


def test_a_font_that_has_the_letters_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(
        monkeypatch,
        str(tmp_path / "broken.ttf"),
        font_of("a", tmp_path / "a.ttf"),
        font_of(BOLT, tmp_path / "b.ttf"),
    )
    assert fonts.has_font(BOLT)
    assert fonts.font_for(BOLT, 20).path.endswith("b.ttf")
    assert drawn_name(1, NAMES) == BOLT
    assert text_size(BOLT, 20)[0] == 18  # 900 of 1000 units of 20 pixels
    assert not fonts.has_font(f"bolt {BOLT}")  # no single font has both


def test_without_such_a_font_the_number_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    assert [drawn_name(i, NAMES) for i in (-1, 0, 1, 4, 9)] == [
        "ignored",
        "bolt [m8]",
        "class 1",
        "class 4",
        "class 9",
    ]
    assert fonts.readable(f"file {BOLT}.jpg") == "file ?.jpg"
    sheets = [captioned(to_image(torch.zeros(1, 8, 90)), [text]) for text in (f"{BOLT}a", "?a")]
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_names_of_any_kind_are_drawn() -> None:
    image, boxes = torch.full((1, 60, 200), 90, dtype=torch.uint8), torch.tensor([[20.0, 20, 60, 50]] * 5)
    assert drawn_name(3, NAMES) == r"a\x1b[2J\nb"
    draw_boxes(image, boxes, torch.arange(5), torch.full((5,), 0.5), NAMES)
    score_map_panel(image, [torch.rand(4, 13)], NAMES[3], strides=[16])


@pytest.mark.parametrize("letters", [220, 10**6])
def test_a_long_name_is_cut_in_few_steps(letters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(
        "densedet.core.report.drawing.text_size",
        lambda text, size: measured.append(text) or text_size(text, size),
    )
    assert fit_text("w" * letters, 100, 14) == "wwwwwwww…"
    assert len(measured) < 12  # 220 letters took 212 measurements
