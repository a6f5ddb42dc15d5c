"""Drawing for the digits source: glyphs, where they go, and what lies behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

PAD = 2
"""Empty cells around a glyph, so that its strokes fade out instead of being cut."""

INK = 0.3
"""A pixel belongs to a digit, for its box, from this share of ink on."""

CONTRAST = 85
"""The least difference in brightness (0..255) between a digit and what lies behind it."""

OVERLAP = 0.1
"""The largest share of a digit that another may cover."""


@dataclass
class Stamp:
    """A digit to draw."""

    alpha: np.ndarray  # float32 (h,w), share of ink 0..1, tight around the digit
    x: int  # its left pixel
    y: int  # its top pixel
    label: int  # 0..9

    @property
    def box(self) -> tuple[int, int, int, int]:
        """xyxy in pixels, tight around the ink."""
        return self.x, self.y, self.x + self.alpha.shape[1], self.y + self.alpha.shape[0]


def render_glyph(glyph: np.ndarray, side: float, random: np.random.Generator) -> np.ndarray:
    """Draw a glyph (uint8 (8,8) of 0..16) about ``side`` pixels long, turned, sheared and stretched a little.

    Returns float32 (h,w), the share of ink 0..1.
    """
    turn, shear, stretch = (
        math.radians(random.uniform(-12, 12)),
        random.uniform(-0.15, 0.15),
        math.exp(random.uniform(-0.15, 0.15)),
    )
    cosine, sine = math.cos(turn), math.sin(turn)
    # shape = rotation @ shear @ stretch, of determinant 1, so that its inverse is [[d, -b], [-c, a]]
    a, b = cosine * stretch, (cosine * shear - sine) / stretch
    c, d = sine * stretch, (sine * shear + cosine) / stretch
    rows, columns = np.nonzero(glyph >= 5)
    across, down = a * columns + b * rows, c * columns + d * rows
    left, right, top, bottom = float(across.min()), float(across.max()), float(down.min()), float(down.max())
    scale = side / (max(right - left, bottom - top) + 1)
    length = math.ceil(side) + 8
    middle_x = (left + right + a + b - length / scale) / 2
    middle_y = (top + bottom + c + d - length / scale) / 2
    data = (
        d / scale,
        -b / scale,
        d * middle_x - b * middle_y + PAD,
        -c / scale,
        a / scale,
        a * middle_y - c * middle_x + PAD,
    )
    padded = np.zeros((8 + 2 * PAD, 8 + 2 * PAD), dtype=np.float32)
    padded[PAD:-PAD, PAD:-PAD] = glyph
    drawn = Image.fromarray(padded).transform(
        (length, length), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC
    )
    share = np.minimum(np.maximum(np.asarray(drawn) * (1.7 / 16) - 0.5, 0), 1)
    share = share * share * (3 - 2 * share)
    inked = share > INK
    down, across = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return share[down[0] : down[-1] + 1, across[0] : across[-1] + 1]


def place_stamp(
    alpha: np.ndarray,
    label: int,
    others: list[Stamp],
    size: tuple[int, int],
    random: np.random.Generator,
    *,
    always: bool,
) -> Stamp | None:
    """Place a digit where it overlaps the others least, of up to 30 random places.

    Returns None where it would overlap too much, unless it must ``always`` be placed.
    """
    alpha = alpha[: size[1], : size[0]]
    best, least = None, math.inf
    for _ in range(30):
        x = int(random.integers(0, size[0] - alpha.shape[1] + 1))
        y = int(random.integers(0, size[1] - alpha.shape[0] + 1))
        stamp = Stamp(alpha, x, y, label)
        overlap = max((_overlap(stamp.box, other.box) for other in others), default=0.0)
        if overlap < least:
            best, least = stamp, overlap
        if least <= 0:
            break
    return best if always or least <= OVERLAP else None


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    """Return the intersection over the smaller box's area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / min(areas)


Ink = Literal["light", "dark", "both"]
PAPER: dict[Ink, tuple[float, float]] = {"light": (25, 115), "dark": (140, 230), "both": (35, 220)}
"""Brightness of the paper for digits lighter than it, darker than it, or either, by lot."""


def background(
    size: tuple[int, int], channels: int, ink: Ink, clutter: float, random: np.random.Generator
) -> np.ndarray:
    """Draw paper of an uneven tone, with marks whose number and strength grow with ``clutter`` (0..1).

    Returns float32 (H,W,channels), 0..255 and a little beyond.
    """
    width, height = size
    level = random.uniform(*PAPER[ink])
    tint = random.uniform(-25, 25, channels) if channels > 1 else np.zeros(1)
    cells = random.normal(0, 16, (3, 5)).astype(np.float32)
    tone = np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC))
    marks = Image.new("F", size, 0.0)
    pencil = ImageDraw.Draw(marks)
    for _ in range(int(random.poisson(clutter * 8 * width * height / (128 * 64)))):
        strength = random.uniform(-1, 1) * 70 * clutter
        x, y = random.uniform(0, width), random.uniform(0, height)
        reach = random.uniform(0.1, 0.6) * height
        if random.random() < 0.5:
            angle = random.uniform(0, 2 * math.pi)
            end = (x + reach * math.cos(angle), y + reach * math.sin(angle))
            pencil.line([(x, y), end], fill=strength, width=int(random.integers(1, 4)))
        else:
            pencil.ellipse(
                [x, y, x + reach * random.uniform(0.1, 0.6), y + reach * random.uniform(0.1, 0.6)],
                fill=strength,
            )
    grain = random.normal(0, random.uniform(1, 3 + 6 * clutter), (height, width)).astype(np.float32)
    return (level + tone + np.asarray(marks) + grain)[:, :, None] + tint.astype(np.float32)


def draw(stamp: Stamp, paper: np.ndarray, ink: Ink, random: np.random.Generator) -> None:
    """Draw a digit into float32 (H,W,channels), at least `CONTRAST` lighter or darker than the paper."""
    x1, y1, x2, y2 = stamp.box
    patch = paper[y1:y2, x1:x2]
    behind = float(patch.mean())
    contrast = random.uniform(CONTRAST, 150)
    lighter = ink == "light" or (
        ink == "both" and behind + contrast <= 255 and (behind - contrast < 0 or random.random() < 0.5)
    )
    tone = behind + contrast if lighter else behind - contrast
    channels = paper.shape[2]
    tint = random.uniform(-40, 40, channels) if channels > 1 else np.zeros(1)
    colour = (tone + tint - np.mean(tint)).astype(np.float32)
    patch += stamp.alpha[:, :, None] * (colour - patch)
