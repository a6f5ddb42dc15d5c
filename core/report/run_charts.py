"""The charts of one run as PNG files in its folder."""

from __future__ import annotations

import re
from pathlib import Path

from densedet.core.report.arms import Analysis, Arm
from densedet.core.report.breakdowns import class_section, error_section, missed_section
from densedet.core.report.curves import score_section, training_section
from densedet.core.report.records import RunRecord


def write_charts(run: RunRecord, analysis: Analysis, folder: Path) -> list[Path]:
    """Write curves, precision and recall, F1, calibration, AP per class, errors, confusion and reasons of
    misses of a run, one PNG each.

    Args:
        run: the run.
        analysis: of its judgement.
        folder: for the files; made if need be. Files of the same names are replaced.

    Returns:
        The files.

    Raises:
        OSError: a file cannot be written.
    """
    arms = [Arm(run.name, [run], analyses=[analysis])]
    sections = (
        training_section(arms, brief=True),
        score_section(arms),
        class_section(arms),
        error_section(arms),
        missed_section(arms),
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for chart in (chart for section in sections for chart in section.charts):
        title = chart.title.removesuffix(f" of {run.name}")
        files.append(folder / f"{re.sub('[^a-z0-9]+', '_', title.lower()).strip('_')}.png")
        files[-1].write_bytes(chart.png())
    return files
