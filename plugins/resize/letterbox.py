"""Keep the aspect, pad the rest."""

from __future__ import annotations

from densedet.core.placement import Placement


class LetterboxResize:
    """The image as large as ``size_wh`` holds it with its aspect kept, at the top left; zeros right of it or
    below. Small images are enlarged. Sides are rounded to the nearest pixel, at least 1.

    size_wh: (width, height) of the canvas_wh, wired from data.input_size_wh. antialias: see
    `densedet.core.placement.Placement`.
    """

    def __init__(self, *, size_wh: tuple[int, int], antialias: bool = True) -> None:
        self.size_wh = (size_wh[0], size_wh[1])
        self.antialias = antialias

    def __call__(self, width: int, height: int) -> Placement:
        canvas_width, canvas_height = self.size_wh
        scale = min(canvas_width / width, canvas_height / height)
        scaled_width = min(canvas_width, max(1, round(width * scale)))
        scaled_height = min(canvas_height, max(1, round(height * scale)))
        return Placement(scaled_width, scaled_height, self.size_wh, self.antialias)
