"""Boxes on images, with Pillow alone, made to be read: small images are enlarged, labels keep out of each
other's way.

Colours start with Okabe and Ito's palette, which people with any of the common kinds of colour blindness can
tell apart; dashes, not a colour, mark ground truth.
"""

from __future__ import annotations

import bisect
import colorsys
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw

from densedet.core.report.fonts import font_for, has_font, readable
from densedet.core.text import visible
from densedet.core.types import to_array

if TYPE_CHECKING:
    from torch import Tensor

Color = tuple[int, int, int]

# Okabe & Ito (2008), "Color Universal Design", without black; the order keeps neighbours apart.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
IGNORED: Color = (170, 170, 170)
INK: Color = (34, 34, 34)
PAPER: Color = (255, 255, 255)
SMALL, LARGE = 512, 1024
"""Pixels of a picture's long side. Auto scale enlarges one below SMALL by a whole factor, to about SMALL, and
shrinks one above LARGE to LARGE."""


def class_color(label: int) -> Color:
    """Return the colour of a class, 0..C-1, the same in every picture; -1 (ignored) is grey. From the eighth
    class on, hues go round by the golden angle, lighter and darker by turns."""
    if label < 0:
        return IGNORED
    if label < len(PALETTE):
        return PALETTE[label]
    turn = label - len(PALETTE)
    red, green, blue = colorsys.hls_to_rgb((0.11 + turn * 0.618034) % 1, (0.68, 0.42, 0.55)[turn % 3], 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(background: Color) -> Color:
    """Return black or white, whichever is easier to read on ``background`` (by relative luminance)."""
    linear = [(c / 255) ** 2.2 for c in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


def drawn_name(label: int, class_names: Sequence[str]) -> str:
    """Return the name of a class as pictures show it: its number where no font has the name's letters."""
    if label < 0:
        return "ignored"
    name = visible(class_names[label]) if label < len(class_names) else ""
    return name if name.strip() and has_font(name) else f"class {label}"


@functools.lru_cache(maxsize=4096)
def text_size(text: str, size: int) -> tuple[int, int]:
    """Return (width, height) in pixels of one line; the height is the font's, so that lines align."""
    text = readable(text)
    if not text:
        return 0, size
    left, _, right, _ = font_for(text, size).getbbox(text)
    return int(right - left + 0.5), size


def draw_text(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    *,
    color: Color = INK,
    anchor: str = "lm",
) -> None:
    """Write one line.

    Args:
        pen: draws on the picture.
        place: x, y of the anchor in pixels.
        text: see `readable` for letters that cannot be drawn.
        size: of the font, in pixels.
        color: of the letters.
        anchor: the point of the text that is at ``place``, as Pillow names it; "lm": left, middle.
    """
    text = readable(text)
    pen.text(place, text, fill=color, font=font_for(text, size), anchor=anchor)


def fit_text(text: str, width: int, size: int) -> str:
    """Cut ``text`` with an ellipsis where it is wider than ``width`` pixels; it is empty where not even one
    letter fits."""
    text = visible(text[: max(0, width)])  # a letter takes a pixel or more
    if text_size(text, size)[0] <= width:
        return text
    count = bisect.bisect(
        range(1, len(text) + 1), width, key=lambda letters: text_size(f"{text[:letters]}…", size)[0]
    )
    return f"{text[:count].rstrip()}…" if count else ""


def to_image(image: Tensor | Image.Image) -> Image.Image:
    """Turn an image into an RGB picture.

    Args:
        image: uint8 or float 0..255 (ch,H,W) with ch 1 or 3 and H, W at least 1; or a picture of any mode.

    Raises:
        ValueError: a tensor of another shape.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image to draw is (1 or 3, height, width), not {tuple(image.shape)}")
    pixels = to_array(image if str(image.dtype) == "torch.uint8" else image.float())
    if pixels.dtype != np.uint8:
        pixels = np.nan_to_num(pixels).round().clip(0, 255).astype(np.uint8)
    array = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(array))


def auto_scale(width: int, height: int, *, small: int = SMALL, large: int = LARGE) -> float:
    """Return the factor by which a picture of this size is scaled so that boxes and text are readable."""
    side = max(width, height, 1)
    if side > large:
        return large / side
    return max(1, round(small / side))


def enlarge(picture: Image.Image, factor: float) -> Image.Image:
    """Scale a picture. Whole factors repeat pixels, so that it shows exactly what the network gets."""
    if factor == 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    whole = factor > 1 and float(factor).is_integer()
    return picture.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)


def draw_boxes(
    image: Tensor | Image.Image,
    boxes: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    scores: Tensor | np.ndarray | None,
    class_names: Sequence[str],
    *,
    scale: float | Literal["auto"] = "auto",
    style: Literal["solid", "dashed"] = "solid",
    min_score: float = 0.0,
    limit: int = 100,
    names: bool = True,
    extra: Mapping[str, Tensor | np.ndarray] | None = None,
    keypoints: Sequence[str] = (),
) -> Image.Image:
    """Draw boxes with names, and scores in per cent, on an image.

    A name that finds no free place is left out; its box keeps the colour of its class.

    Args:
        image: (ch,H,W) 0..255, or a picture.
        boxes: (D,4) xyxy in pixels of the image; D may be 0.
        labels: (D,), 0..C-1; -1 is drawn as "ignored".
        scores: (D,) in 0..1, or None.
        class_names: C names.
        scale: factor on the image's size; "auto" makes boxes and text readable.
        style: "solid", or "dashed" for ground truth.
        min_score: boxes with a lower score are left out.
        limit: largest number of boxes, of which the best are drawn.
        names: False draws boxes alone.
        extra: (D,*shape) by name. Up to four numbers a box stand beside its name; NaN is left out.
        keypoints: names in ``extra`` drawn as dots, (D,K,3) each; those of visibility 0 are left out.
    """
    picture = to_image(image)
    factor = auto_scale(*picture.size) if scale == "auto" else float(scale)
    picture = enlarge(picture, factor)
    pen = ImageDraw.Draw(picture)
    thickness = max(2, round(max(picture.size) / 250))

    order = np.arange(len(boxes))
    if scores is not None:
        order = np.argsort(-to_array(scores).astype(np.float32), kind="stable")
    keep = [i for i in order.tolist() if scores is None or float(scores[i]) >= min_score][:limit]
    # An edge far outside the picture is as invisible just outside it, and costs fewer dashes there.
    outside = 64 + max(picture.size)
    corners = np.nan_to_num(to_array(boxes).astype(np.float32) * factor).clip(-64, outside).tolist()
    kinds = [int(label) for label in labels.tolist()]

    # The best box is drawn last, on top; its label is placed first, in the best spot.
    for i in reversed(keep):
        _rectangle(pen, corners[i], class_color(kinds[i]), thickness, dashed=style == "dashed")
        for points in keypoints:
            _dots(pen, (extra or {})[points][i], factor, class_color(kinds[i]), thickness)
    if not names:
        return picture
    taken: list[tuple[int, int, int, int]] = []
    for i in keep:
        name = drawn_name(kinds[i], class_names)
        text = name if scores is None else f"{name} {float(scores[i]) * 100:.0f}"
        notes = [_note(n, values[i]) for n, values in (extra or {}).items() if n not in keypoints]
        text = ", ".join(filter(None, [text, *notes]))
        _label(pen, text, corners[i], class_color(kinds[i]), taken, picture.size)
    return picture


def _rectangle(
    pen: ImageDraw.ImageDraw, box: Sequence[float], color: Color, thickness: int, *, dashed: bool
) -> None:
    left, top, right, bottom = round(box[0]), round(box[1]), round(box[2]) - 1, round(box[3]) - 1
    right, bottom = max(left, right), max(top, bottom)
    # Black beside the colour (between the dashes) keeps a line visible on any image.
    if not dashed:
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=thickness + 2)
        pen.rectangle((left, top, right, bottom), outline=color, width=thickness)
        return
    pen.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=thickness)
    dash = thickness * 4
    for start in range(left, right + 1, dash * 2):
        end = min(start + dash, right)
        pen.rectangle((start, top, end, min(top + thickness - 1, bottom)), fill=color)
        pen.rectangle((start, max(bottom - thickness + 1, top), end, bottom), fill=color)
    for start in range(top, bottom + 1, dash * 2):
        end = min(start + dash, bottom)
        pen.rectangle((left, start, min(left + thickness - 1, right), end), fill=color)
        pen.rectangle((max(right - thickness + 1, left), start, right, end), fill=color)


def _dots(
    pen: ImageDraw.ImageDraw, points: Tensor | np.ndarray, factor: float, color: Color, thickness: int
) -> None:
    radius = thickness + 1
    for x, y, visibility in points.tolist():
        if visibility > 0:
            at = (x * factor - radius, y * factor - radius, x * factor + radius, y * factor + radius)
            pen.ellipse(at, fill=color, outline=(0, 0, 0))


def _note(name: str, value: Tensor | np.ndarray) -> str:
    """A value for a label, "age 30"; empty where it has more than four numbers or one of them is NaN."""
    numbers = value.reshape(-1).tolist()
    if len(numbers) > 4 or any(number != number for number in numbers):
        return ""
    return f"{name} {' '.join(f'{number:.3g}' for number in numbers)}"


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: Sequence[float],
    color: Color,
    taken: list[tuple[int, int, int, int]],
    canvas: tuple[int, int],
) -> None:
    size = max(11, min(18, round(max(canvas) / 38)))
    text = fit_text(text, canvas[0] - 6, size)
    width, height = text_size(text, size)[0] + 6, size + 4
    left, top, right, bottom = (round(v) for v in box)
    spots = [
        (left - 1, top - height),
        (left - 1, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (left, top),
        (left, bottom - height),
    ]
    for x, y in spots:
        x = max(0, min(x, canvas[0] - width))
        if y < 0 or y + height > canvas[1]:
            continue
        spot = (x, y, x + width, y + height)
        if any(spot[0] < t[2] and t[0] < spot[2] and spot[1] < t[3] and t[1] < spot[3] for t in taken):
            continue
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
        draw_text(pen, (x + 3, y + height // 2), text, size, color=text_color(color))
        taken.append(spot)
        return


def captioned(
    picture: Image.Image, lines: Sequence[str], *, size: int = 14, above: bool = True
) -> Image.Image:
    """Add lines of text on white above (or below) the picture; lines too long for its width are cut."""
    band = len(lines) * (size + 4) + 4
    sheet = Image.new("RGB", (picture.width, picture.height + band), PAPER)
    sheet.paste(picture.convert("RGB"), (0, band if above else 0))
    pen = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        y = (0 if above else picture.height) + 4 + row * (size + 4) + size // 2
        draw_text(pen, (1, y), fit_text(line, picture.width - 2, size), size)
    return sheet


def side_by_side(
    images: Sequence[Image.Image], titles: Sequence[str] | None = None, *, gap: int = 8
) -> Image.Image:
    """Put pictures in a row, tops aligned, each under its title. There is at least one picture, and a title
    for each or none at all."""
    pictures = (
        [captioned(image, [title]) for image, title in zip(images, titles)]
        if titles is not None
        else list(images)
    )
    return grid(pictures, columns=len(pictures), gap=gap)


def grid(images: Sequence[Image.Image], *, columns: int, gap: int = 8) -> Image.Image:
    """Put pictures in rows of ``columns`` on white; a column is as wide as its widest picture, a row as high
    as its highest.

    Raises:
        ValueError: there is no picture.
    """
    if not images:
        raise ValueError("a grid needs at least one picture")
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(len(rows[0]))]
    heights = [max(image.height for image in row) for row in rows]
    sheet = Image.new(
        "RGB", (sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(heights) - 1)), PAPER
    )
    y = 0
    for row, height in zip(rows, heights):
        x = 0
        for image, width in zip(row, widths):
            sheet.paste(image.convert("RGB"), (x, y))
            x += width + gap
        y += height + gap
    return sheet
