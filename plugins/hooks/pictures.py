"""Pictures of the trained detector in the run folder, for reports."""

from __future__ import annotations

from typing import Any

from densedet.core.arguments import PositiveInt
from densedet.core.hookspecs import hookimpl
from densedet.core.report.pictures import write_run_pictures


class PicturesHook:
    """Draw truth, predictions and score maps of the first validation images at the end of a run.

    Args:
        images: number of images to draw.
    """

    in_folder = True

    def __init__(self, *, images: PositiveInt = 6) -> None:
        self.images = images

    @hookimpl
    def densedet_run_end(self, run: Any, summary: dict[str, Any]) -> None:
        """Write the pictures, unless the run failed, or a signal wants its end soon."""
        if summary["status"] == "failed" or run.exit_code:
            return
        batch, detector = run.sample_batch("val", self.images), run.eval_detector.eval()
        inside = detector.explain(batch) if hasattr(detector, "explain") else None
        write_run_pictures(run.folder, batch, detector.predict(batch), inside, run.classes)
