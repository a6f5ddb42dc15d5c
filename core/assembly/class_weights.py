"""What ``class_weights`` of a class loss come to: a number for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from densedet.core.mappings import at_path
from densedet.core.recipe.loading import Recipe
from densedet.core.text import counted
from densedet.registry import suggest

PATH = "model.class_loss.class_weights"


def with_class_weights(
    recipe: Recipe, classes: Sequence[str], boxes: Mapping[str, int]
) -> tuple[Recipe, str | None]:
    """Replace the class weights of a recipe by a list in label order.

    Args:
        recipe: a recipe; one that has none, or a list, stays as it is.
        classes: names in label order.
        boxes: training boxes that count, by the class's name.

    Returns:
        The recipe with numbers, and a sentence about them; None where nothing was computed from the data.

    Raises:
        RecipeError: the weights are not those of these classes.
    """
    given = at_path(recipe.values, PATH)
    if given is None or isinstance(given, list):
        return recipe, None
    if isinstance(given, Mapping):
        for name in given:
            if name not in classes:
                raise recipe.error(
                    f"{PATH}.{name}",
                    f"the detector has no class {name!r}.{suggest(name, list(classes))} "
                    f"Classes: {', '.join(classes)}",
                )
        return recipe.with_overrides({PATH: [float(given.get(name, 1.0)) for name in classes]}), None
    beta = at_path(recipe.values, f"{PATH}_beta")
    weights = computed([boxes.get(name, 0) for name in classes], None if given.startswith("inv") else beta)
    listed = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, weights))
    return recipe.with_overrides({PATH: weights}), f"{PATH}: {given} is {listed}"


def computed(boxes: Sequence[int], beta: float | None) -> list[float]:
    """Return weights whose mean over the classes with boxes is 1; classes without a box have 1.

    The effective number of n boxes is E = (1 - beta^n) / (1 - beta), and the weight goes with 1 / E (Cui et
    al. 2019, equations 2 and 4). With beta 0.9, 1 box has E = 1 and 10 boxes have (1 - 0.9^10) / 0.1 =
    6.513: the weights 1 and 0.1535 are scaled to 1.7338 and 0.2662.

    Args:
        boxes: number of each class's boxes.
        beta: of the effective number; None: the weight goes with 1 / n.
    """
    raw = [0.0 if n == 0 else 1 / n if beta is None else (1 - beta) / (1 - beta**n) for n in boxes]
    total, present = sum(raw), sum(n > 0 for n in boxes)
    return [value * present / total if value else 1.0 for value in raw]


def listed_weights(recipe: Recipe, model: Mapping[str, Any], num_classes: int) -> tuple[float, ...] | None:
    """Return the class weights in label order; None where there are none, or only a name of them.

    Raises:
        RecipeError: their number is not that of the classes.
    """
    given = at_path(dict(model), "class_loss.class_weights")
    if not isinstance(given, list):
        return None
    if len(given) != num_classes:
        raise recipe.error(
            PATH,
            f"has {counted(len(given), 'weight')} for {counted(num_classes, 'class')}: write one for each in "
            f"label order, or a mapping from names",
        )
    return tuple(float(weight) for weight in given)
