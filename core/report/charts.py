"""Line and bar charts as inline SVG: no script, no font, no file beside them. Readable in grey print: lines
differ in dashes too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, SOFT, RULE = "#222222", "#555555", "#dddddd"
# Okabe & Ito's palette, darkest first since the paper is white.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f")
DASHES = ("", "7 3", "2 3", "10 3 2 3")
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44


@dataclass
class Series:
    """One line: its name in the legend, points (x, y) of which those not finite are left out, and its place
    in the palette."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0


def line_color(style: int) -> str:
    """Colour of the ``style``-th line or run."""
    return LINES[style % len(LINES)]


def line_dash(style: int) -> str:
    """SVG dash pattern of the ``style``-th line; empty is solid."""
    return DASHES[style % len(DASHES)]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside low..high, about ``count`` of them; high >
    low."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks: list[float] = []
    while (first + len(ticks)) * step <= high + step * 1e-9:
        ticks.append((first + len(ticks)) * step)
    return ticks


def tick_text(value: float) -> str:
    """A short number: 0.25, 1,500, 20k, 1.5M."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.4g}M"
    if size >= 1e4:
        return f"{value / 1e3:.4g}k"
    if size >= 1e3:
        return f"{value:,.0f}"
    return f"{round(value, 10):.4g}"


def thin(points: Sequence[tuple[float, float]], count: int = 240) -> list[tuple[float, float]]:
    """At most ``count`` points, each the mean of a run of neighbours: a smooth line and a small file."""
    if len(points) <= count:
        return list(points)
    edges = [round(i * len(points) / count) for i in range(count + 1)]
    groups = [points[a:b] for a, b in itertools.pairwise(edges)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    from_zero: bool = True,
    marks: bool = False,
) -> str:
    """An SVG of lines with axes, ticks and a legend; "" where no series has a point.

    from_zero: the y axis begins at 0 where no value is below. marks: a dot at every point, for few points.
    """
    finite = [
        Series(s.name, [(x, y) for x, y in s.points if math.isfinite(x) and math.isfinite(y)], s.style)
        for s in series
    ]
    finite = [Series(s.name, thin(s.points), s.style) for s in finite if s.points]
    if not finite:
        return ""
    xs, ys = [x for s in finite for x, _ in s.points], [y for s in finite for _, y in s.points]
    x_low, x_high = _span(min(0.0, *xs) if from_zero else min(xs), max(xs))
    y_low, y_high = _span(min(0.0, *ys) if from_zero else min(ys), _cap(finite) if not marks else max(ys))
    y_high += (y_high - y_low) * 0.05
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - x_low) / (x_high - x_low) * wide, TOP + (1 - (y - y_low) / (y_high - y_low)) * high

    out = [_open(WIDTH, HEIGHT + _legend_height(finite), f"{title}: {y_label} against {x_label}")]
    for tick in nice_ticks(y_low, y_high):
        y = place(x_low, tick)[1]
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{RULE}"/>')
        out.append(_text(LEFT - 6, y + 4, tick_text(tick), anchor="end"))
    for tick in nice_ticks(x_low, x_high, 6):
        x = place(tick, y_low)[0]
        out.append(f'<path d="M{x:.1f} {TOP + high}v5" stroke="{INK}"/>')
        out.append(_text(x, TOP + high + 18, tick_text(tick), anchor="middle"))
    out.append(f'<path d="M{LEFT} {TOP}V{TOP + high}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>')
    out.append(_text(LEFT + wide / 2, HEIGHT - 6, x_label, anchor="middle"))
    out.append(_text(0, 0, y_label, anchor="middle", turn=f"translate(13 {TOP + high / 2:.0f}) rotate(-90)"))
    for line in finite:
        color, dash = line_color(line.style), line_dash(line.style)
        places = [place(x, min(y, y_high)) for x, y in line.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        out.append(
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-linejoin="round" '
            f'stroke-dasharray="{dash}"/>'
        )
        for (x, y), (raw_x, raw_y) in zip(places, line.points):
            if marks or len(places) == 1:
                tip = f"{escape(line.name)}: {raw_y:.4g} at {tick_text(raw_x)}"
                out.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"><title>{tip}</title></circle>'
                )
    out.extend(_legend(finite, HEIGHT))
    return "".join(out) + "</svg>"


def bar_chart(
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None], int]],
    *,
    title: str,
    maximum: float = 1.0,
) -> str:
    """Horizontal bars: per group (a class) one bar per series (name, value per group or None, place in the
    palette); "" without groups.

    Values run from 0 to ``maximum``; None is written as "–".
    """
    if not groups or not series:
        return ""
    bar, gap, name_width = 15, 12, 130
    legend = [Series(name, [], style) for name, _, style in series]
    high = len(groups) * (len(series) * bar + gap) + 26
    wide = WIDTH - name_width - 50
    out = [_open(WIDTH, high + _legend_height(legend), title)]
    for tick in nice_ticks(0, maximum):
        x = name_width + tick / maximum * wide
        out.append(f'<path d="M{x:.1f} 4V{high - 20}" stroke="{RULE}"/>')
        out.append(_text(x, high - 6, tick_text(tick), anchor="middle"))
    for row, group in enumerate(groups):
        y = 8 + row * (len(series) * bar + gap)
        short = group if len(group) <= 18 else group[:17] + "…"
        out.append(
            f"<g><title>{escape(group)}</title>"
            f"{_text(name_width - 8, y + len(series) * bar / 2 + 4, short, anchor='end')}</g>"
        )
        for place, (_, values, style) in enumerate(series):
            value, top = values[row], y + place * bar
            length = (
                0.0 if value is None or not math.isfinite(value) else min(max(value / maximum, 0), 1) * wide
            )
            out.append(
                f'<rect x="{name_width}" y="{top}" width="{length:.1f}" height="{bar - 2}" '
                f'fill="{line_color(style)}"/>'
            )
            written = "–" if value is None or not math.isfinite(value) else f"{value:.3f}"
            out.append(_text(name_width + length + 4, top + bar - 4, written))
    out.append(f'<path d="M{name_width} 4V{high - 20}" stroke="{INK}"/>')
    out.extend(_legend(legend, high, blocks=True))
    return "".join(out) + "</svg>"


def _cap(series: Sequence[Series]) -> float:
    """The top of the axis: the highest value, unless the first few points tower over all that follows (a loss
    at its start)."""
    ys = sorted(y for s in series for _, y in s.points)
    high, most = ys[-1], ys[min(len(ys) - 1, int(len(ys) * 0.97))]
    return most * 2 if len(ys) >= 40 and most > 0 and high > most * 3 else high


def _span(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + (abs(low) * 0.1 or 1.0))


def _open(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="sans-serif" font-size="12">'
        f"<title>{escape(title)}</title>"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", turn: str = "") -> str:
    place = f'transform="{turn}"' if turn else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} text-anchor="{anchor}" fill="{SOFT}">{escape(text)}</text>'


def _legend_rows(series: Sequence[Series]) -> list[list[tuple[int, Series]]]:
    rows: list[list[tuple[int, Series]]] = [[]]
    x = 8
    for line in series:
        width = 40 + round(7.2 * len(line.name))
        if rows[-1] and x + width > WIDTH:
            rows.append([])
            x = 8
        rows[-1].append((x, line))
        x += width
    return rows


def _legend_height(series: Sequence[Series]) -> int:
    return 20 * len(_legend_rows(series)) + 4


def _legend(series: Sequence[Series], top: int, *, blocks: bool = False) -> list[str]:
    out = []
    for row, entries in enumerate(_legend_rows(series)):
        y = top + 14 + row * 20
        for x, line in entries:
            color = line_color(line.style)
            if blocks:
                out.append(f'<rect x="{x}" y="{y - 10}" width="22" height="11" fill="{color}"/>')
            else:
                dash = line_dash(line.style)
                out.append(
                    f'<path d="M{x} {y - 4}h22" stroke="{color}" stroke-width="2.5" '
                    f'stroke-dasharray="{dash}"/>'
                )
            out.append(_text(x + 27, y, line.name))
    return out
