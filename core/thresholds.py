"""From which score on a detection of each class is shown. No torch here."""

from __future__ import annotations

from typing import Any

from densedet.core.types import DEFAULT_SCORE


def shown_from(
    thresholds: dict[str, Any] | None, classes: int, score: float | None, *, why: str = ""
) -> tuple[list[float], str]:
    """Return the score of each class from which on a detection is shown, and its origin in words.

    Args:
        thresholds: those that were saved with the weights ("scores", "wish", "images"), or None.
        classes: how many there are.
        score: one for all classes, before all others; None: the saved ones, else the default.
        why: follows where the default counts.
    """
    if score is not None:
        return [score] * classes, "given"
    if thresholds is None:
        return [DEFAULT_SCORE] * classes, f"default{why}"
    scores = [DEFAULT_SCORE if value is None else value for value in thresholds["scores"]]
    return scores, f"{thresholds['wish']} on {thresholds['images']}"
