"""The upright boxes around the shapes that people draw in labelling tools."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Corners = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax in pixels."""

IGNORED = ("difficult", "ignore", "ignored")
CROWDED = ("crowd", "iscrowd")
"""Flags and attributes by which a labelling tool's user marks objects that neither count nor hurt."""


def around(points: Sequence[tuple[float, float]]) -> Corners:
    """Return the box around points, of which there is at least one. One that is not a number makes it NaN."""
    xs, ys = zip(*points)
    if any(math.isnan(value) for value in (*xs, *ys)):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)


def around_circle(center: tuple[float, float], edge: tuple[float, float]) -> Corners:
    """Return the box around a circle, given its centre and a point on it."""
    radius = math.dist(center, edge)
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius


def around_ellipse(x: float, y: float, rx: float, ry: float, degrees: float) -> Corners:
    """Return the box around an ellipse of radii rx and ry that is turned about its centre (x, y)."""
    cosine, sine = _turn(degrees)
    width, height = math.hypot(rx * cosine, ry * sine), math.hypot(rx * sine, ry * cosine)
    return x - width, y - height, x + width, y + height


def around_turned(corners: Corners, degrees: float) -> Corners:
    """Return the box around a box that is turned about its centre."""
    if degrees == 0:
        return corners
    xmin, ymin, xmax, ymax = corners
    x, y, w, h = (xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin
    cosine, sine = (abs(value) for value in _turn(degrees))
    width, height = w * cosine + h * sine, w * sine + h * cosine
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _turn(degrees: float) -> tuple[float, float]:
    """Return cosine and sine, exact at right angles; NaN of an angle that is no number."""
    if not math.isfinite(degrees):
        return math.nan, math.nan
    quarters, rest = divmod(degrees, 90)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def marked(values: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Return whether one of the flags or attributes of these names is set."""
    return any(
        key.lower() in names and (value is True or str(value).lower() in ("1", "true", "yes"))
        for key, value in values.items()
    )
