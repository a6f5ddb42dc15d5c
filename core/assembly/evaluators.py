"""The recipe's evaluator, the number that the recipe goes by, and the lines to print. No torch here."""

from __future__ import annotations

from typing import Any

from densedet.core.assembly.parts import build_component
from densedet.core.contracts import Evaluator, Source
from densedet.core.mappings import at_path
from densedet.core.recipe.loading import Recipe


def build_evaluator(recipe: Recipe, source: Source, classes: tuple[str, ...]) -> Evaluator:
    """Build the recipe's evaluator for the truth of a source, with ``classes`` in label order."""
    wired = {"source": source, "classes": classes}
    evaluator: Evaluator = build_component(
        recipe, "evaluate.evaluator", "evaluator", recipe.evaluate.evaluator, wired
    )
    return evaluator


def metric_value(recipe: Recipe, metrics: dict[str, Any]) -> float:
    """Return the number that ``evaluate.metric`` names, e.g. "AP" or "classes.person.AP50".

    Raises:
        RecipeError: the evaluator gives no such number.
    """
    value = at_path(metrics, recipe.evaluate.metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [key for key, number in metrics.items() if isinstance(number, float)]
        name = next(iter(metrics.get("classes") or ()), None)
        inside = "" if name is None else f", or of one class, e.g. classes.{name}.AP"
        raise recipe.error(
            "evaluate.metric",
            f"the evaluator gives no number {recipe.evaluate.metric!r}: "
            f"write one of {', '.join(numbers)}{inside}",
        )
    return float(value)


def report_lines(evaluator: Evaluator, metrics: dict[str, Any]) -> list[str]:
    """The lines to print of an evaluation.

    Args:
        evaluator: its ``report(metrics)`` where it has one; else each number is printed by its name.
        metrics: what `evaluate_detector` returned; the validation losses come last.
    """
    if hasattr(evaluator, "report"):
        lines: list[str] = evaluator.report(metrics)
    else:
        lines = [f" {name} = {value:0.4f}" for name, value in metrics.items() if isinstance(value, float)]
    if metrics.get("losses"):
        losses = (f"{name} {value:.4f}" for name, value in metrics["losses"].items())
        lines = [*lines, "", f" losses: {', '.join(losses)}"]
    return lines
