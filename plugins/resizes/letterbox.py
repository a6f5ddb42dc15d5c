"""Keep the aspect, pad the rest."""

from __future__ import annotations

from densedet.core.images import Placement


class Letterbox:
    """The image as large as ``size`` holds it with its aspect kept, at the top left; zeros right of it or below. Small images are
    enlarged. Sides are rounded to the nearest pixel, at least 1.

    size: (width, height) of the canvas, wired from data.size. antialias: see `densedet.core.images.Placement`.
    """

    def __init__(self, *, size: tuple[int, int], antialias: bool = True) -> None:
        self.size = (size[0], size[1])
        self.antialias = antialias

    def __call__(self, width: int, height: int) -> Placement:
        canvas_width, canvas_height = self.size
        scale = min(canvas_width / width, canvas_height / height)
        scaled_width = min(canvas_width, max(1, round(width * scale)))
        scaled_height = min(canvas_height, max(1, round(height * scale)))
        return Placement(scaled_width, scaled_height, self.size, self.antialias)
