"""The lessons' names in the order of the course, and their texts. No torch here."""

from __future__ import annotations

from pathlib import Path

NAMES = ("iou", "anchors", "matcher", "focal", "coder", "nms")


def file_name(name: str) -> str:
    """Return the name of a lesson's file, by which the files of other lessons import it."""
    return f"my_{name}.py"


def text_of(name: str) -> str:
    """Return the text of a lesson's file, with its hole."""
    return (Path(__file__).parent / "templates" / f"{name}.txt").read_text(encoding="utf-8")
