"""densedet from Python, for notebooks: the names that `import densedet` offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from densedet.core import assembly
from densedet.core.assembly import make_dataset, make_eval_loader
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.training import session
from densedet.core.training.evaluation import build_evaluator, evaluate_on, report_lines
from densedet.core.training.prediction import Predictor, load
from densedet.core.training.run import Run

__all__ = ["Predictor", "Run", "build", "evaluate", "load", "load_recipe", "train"]


def build(recipe: Recipe, *, num_classes: int | None = None) -> nn.Module:
    """The recipe's detector, untrained but for ``model.weights``. num_classes: without it the training source
    is opened to count its classes."""
    if num_classes is None:
        num_classes = len(assembly.class_table(recipe, assembly.build_source(recipe, "train")))
    return assembly.build_with_weights(recipe, num_classes)[0]


def train(recipe: Recipe | str, *overrides: str) -> Run:
    """Train a recipe (or the file or shipped recipe of that name, with overrides such as
    "train.budget.minutes=5")."""
    return session.train(recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides))


class Evaluation:
    """A trained detector (a checkpoint, a run folder, or a recipe with ``model.weights``) and the images to
    judge it on.

    predictor, recipe, source (the truth), dataset. predictor.category_ids are those of the source.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        overrides: Sequence[str] = (),
        *,
        split: str = "val",
        device: str = "auto",
        plugins: Sequence[str] = (),
    ) -> None:
        self.predictor = load(checkpoint, device=device, plugins=plugins, overrides=overrides)
        self.recipe = self.predictor.recipe
        source = assembly.build_split(self.recipe, split)
        if source is None:
            raise self.recipe.error(
                "data", f"the recipe has no {split} source to evaluate on: give data.{split}"
            )
        known = [name for name in self.predictor.classes if name in source.classes]
        if not known:
            raise self.recipe.error(
                f"data.{split}",
                f"none of the detector's classes ({', '.join(filter(None, self.predictor.classes))}) "
                f"is in this data ({', '.join(source.classes)})",
            )
        self.predictor.category_ids = assembly.category_ids(self.recipe, self.predictor.classes, source)
        self.source = source
        self.dataset = make_dataset(self.recipe, source, self.predictor.classes)

    def run(self, **callbacks: Any) -> dict[str, Any]:
        """The metrics. callbacks: `densedet.core.training.evaluation.evaluate_detector`'s on_batch and
        on_detections."""
        return evaluate_on(
            self.recipe,
            self.predictor.detector,
            self.dataset,
            self.predictor.classes,
            make_eval_loader(self.recipe, self.dataset),
            device=self.predictor.device,
            **callbacks,
        )

    def report(self, metrics: dict[str, Any]) -> list[str]:
        """The lines that `densedet evaluate` prints of these metrics, by the recipe's evaluator."""
        evaluator = build_evaluator(self.recipe, self.dataset, self.predictor.classes)
        return report_lines(evaluator, metrics)


def evaluate(checkpoint: str | Path, overrides: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """Metrics of a run folder's or checkpoint's detector on its recipe's validation images.

    overrides: e.g. ``data.val.annotations=other.json``; options: split, device, plugins (see `Evaluation`).
    """
    return Evaluation(checkpoint, overrides, **options).run()
