"""Keep the aspect, pad the rest."""

from __future__ import annotations

from densedet.core.placement import Placement


class LetterboxResize:
    """Scale an image to the largest size that fits, aspect kept, at the top left of a canvas of zeros.

    Small images are enlarged. Sides are rounded to the nearest pixel, at least 1.

    Args:
        size_wh: (wired) [width, height] of the canvas.
        antialias: true resamples uint8 with antialiasing; false resamples float32 bilinearly without it, as
            torchvision's detection models do.
    """

    def __init__(self, *, size_wh: tuple[int, int], antialias: bool = True) -> None:
        self.size_wh = (size_wh[0], size_wh[1])
        self.antialias = antialias

    def __call__(self, width: int, height: int) -> Placement:
        """Place an image of width x height source pixels, both at least 1."""
        canvas_width, canvas_height = self.size_wh
        scale = min(canvas_width / width, canvas_height / height)
        scaled_width = min(canvas_width, max(1, round(width * scale)))
        scaled_height = min(canvas_height, max(1, round(height * scale)))
        return Placement(scaled_width, scaled_height, self.size_wh, self.antialias)
