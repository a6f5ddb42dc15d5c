"""Evaluation of an exported file on its recipe's images, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from densedet.core.annotations.views import truth_of
from densedet.core.assembly.evaluators import build_evaluator, metric_value, report_lines
from densedet.core.assembly.sources import build_split, category_ids
from densedet.core.contracts import Evaluator
from densedet.core.data.facts import data_facts, notes_on
from densedet.core.errors import DataError
from densedet.core.evaluation_result import EvaluationResult
from densedet.core.inference.pixels import Picture
from densedet.core.inference.predictor import ExportedPredictor
from densedet.core.recipe.merging import Overrides
from densedet.core.types import Annotation, Detections


class ArrayTruth:
    """A source whose annotations hold arrays; all else is the source's.

    Args:
        source: any source.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def annotation(self, index: int) -> Annotation:
        """Return the truth of an image, of arrays."""
        return truth_of(self.source, index)


class ExportedEvaluation:
    """An exported file and the images to evaluate it on.

    Args:
        file: as for `ExportedPredictor`, like the next four.
        overrides: changes to the recipe's data and evaluator.
        split: "val" or "train", which of the recipe's sources.
        device: "auto", "cpu" or "cuda".
        threads: that onnxruntime uses, or None.
        plugins: plug-in files that the recipe's source and evaluator need.
        limit: most images, the first ones; None: all.

    Attributes:
        predictor: the detector; ``category_ids`` are those of the source.
        source: the images.
        truth: the same with annotations of arrays.
        facts: numbers about the data.
        notes: sentences about what in the data the user must know.
    """

    def __init__(
        self,
        file: str | Path,
        overrides: Overrides = (),
        *,
        split: str = "val",
        device: str = "auto",
        threads: int | None = None,
        plugins: Sequence[str] = (),
        limit: int | None = None,
    ) -> None:
        self.predictor = ExportedPredictor(file, overrides, device=device, threads=threads, plugins=plugins)
        self.recipe, self.split, self.limit = self.predictor.recipe, split, limit
        source = build_split(self.recipe, split)
        if source is None:
            raise self.recipe.error("data", f"the recipe has no {split} source: give data.{split}")
        if not any(name in source.classes for name in self.predictor.classes):
            raise self.recipe.error(
                f"data.{split}",
                f"none of the file's classes ({', '.join(filter(None, self.predictor.classes))}) "
                f"is in this data ({', '.join(source.classes)})",
            )
        self.source, self.truth = source, ArrayTruth(source)
        self.predictor.category_ids = category_ids(self.recipe, self.predictor.classes, source)
        self.facts = data_facts(source, self.predictor.classes)
        self.notes = notes_on({split: self.facts})

    def __len__(self) -> int:
        return min(len(self.source), self.limit or len(self.source))

    def run(
        self,
        *,
        on_batch: Callable[[int], None] | None = None,
        on_detections: Callable[[int, Detections], None] | None = None,
    ) -> EvaluationResult:
        """Evaluate.

        Args:
            on_batch: called with the number of images that are done, after each batch.
            on_detections: called with (index in the source, detections in source pixels) for each image.

        Raises:
            DataError: an image cannot be read, and the recipe does not skip such images.
        """
        evaluator = self.evaluator()
        size = self.recipe.evaluate.batch_size
        broken: list[str] = []
        for start in range(0, len(self), size):
            pictures: dict[int, Picture] = {}
            for index in range(start, min(start + size, len(self))):
                try:
                    pictures[index] = self._picture(index)
                except DataError as error:
                    if self.recipe.data.broken_images == "stop":
                        raise
                    broken.append(str(error))
            found = self.predictor.find(list(pictures.values()))
            for index, detections in zip(pictures, found):
                evaluator.add(index, detections)
                if on_detections is not None:
                    on_detections(index, detections)
            if on_batch is not None:
                on_batch(min(start + size, len(self)))
        numbers = {**evaluator.result(), "images": len(self) - len(broken)}
        if broken:
            numbers["broken_images"] = broken
        return EvaluationResult(numbers, self.recipe.evaluate.metric, metric_value(self.recipe, numbers))

    def _picture(self, index: int) -> Picture:
        truth = self.truth.annotation(index)
        expected = (truth.width, truth.height)
        return self.predictor.picture(self.source.image(index), expected=expected, name=truth.file_name)

    def evaluator(self) -> Evaluator:
        """Build the recipe's evaluator, without detections."""
        return build_evaluator(self.recipe, self.truth, self.predictor.classes)

    def report(self, numbers: dict[str, Any]) -> list[str]:
        """Return the lines that `densedet evaluate` prints of metrics, by the recipe's evaluator."""
        return report_lines(self.evaluator(), numbers)
