"""A trained detector at work on files: load a checkpoint, predict in source pixels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from densedet.core import assembly
from densedet.core.class_table import of_classes
from densedet.core.data.ahead import made_ahead
from densedet.core.data.dataset import Sample, sample_of
from densedet.core.data.loader import collate
from densedet.core.errors import DataError, UsageError
from densedet.core.mappings import differing
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.merging import Overrides, shipped_recipes
from densedet.core.thresholds import shown_from
from densedet.core.training import checkpoint
from densedet.core.training.evaluation import takes, to_source
from densedet.core.training.precision import own_threads, resolve_device
from densedet.core.training.tiles import Tiling, merged, tile_samples
from densedet.core.types import Annotation, Batch, Detections


class Predictor:
    """A detector with its recipe, ready to predict.

    Args:
        recipe: of the detector.
        detector: is moved to ``device``, in evaluation mode.
        classes: names in label order; an empty one is a slot that stands for nothing, and is never predicted.
        category_ids: the data set's id of each class; None for an empty slot.
        device: where to predict.
        thresholds: the field of this name of the checkpoint that the weights are from, or None.
        changed: where ``recipe`` differs from that of the checkpoint in what decides which objects are found,
            as dotted paths. The thresholds do not count there, since they were found without the changes.
    """

    def __init__(
        self,
        recipe: Recipe,
        detector: nn.Module,
        classes: Sequence[str],
        category_ids: Sequence[int | None],
        device: torch.device,
        *,
        thresholds: dict[str, Any] | None = None,
        changed: Sequence[str] = (),
    ) -> None:
        self.recipe, self.classes, self.category_ids = recipe, tuple(classes), tuple(category_ids)
        self.changed = tuple(changed)
        self.thresholds = None if self.changed else thresholds
        self._unfit = thresholds is not None and self.thresholds is None
        self.detector, self.device = detector.to(device).eval(), device
        torch.set_num_threads(own_threads())
        self.decoding, self._resize = assembly.decoding_of(recipe), assembly.build_resize(recipe)

    def predict(
        self, images: Sequence[Any], *, batch_size: int = 16, score: float | None = None
    ) -> list[Detections]:
        """Find the objects of images.

        Args:
            images: paths, encoded bytes, or uint8 arrays (H,W) or (H,W,3).
            batch_size: images at once.
            score: detections with a lower score are left out. None: those below the thresholds that the
                checkpoint holds for its classes are left out; where it holds none, no detection is.

        Returns:
            One `Detections` an image, boxes in source pixels. Where any were left out, `draw` shows all.
        """
        return [detections for _, detections in self.stream(images, batch_size=batch_size, score=score)]

    def tiling(self, text: str) -> Tiling:
        """Read the size of tiles as `densedet predict --tiles` takes it. Raises UsageError."""
        width, height = self.recipe.data.input_size_wh
        return Tiling.parse(text, (width, height))

    def score_thresholds(self, score: float | None = None) -> tuple[list[float], str]:
        """Return the score of each class from which on a detection is shown, and its origin in words.

        Args:
            score: one for all classes; None: those of the checkpoint, else the default.
        """
        why = f"; those saved are of the detector without {', '.join(self.changed)}" * self._unfit
        return shown_from(self.thresholds, len(self.classes), score, why=why)

    def stream(
        self,
        images: Iterable[Any],
        *,
        batch_size: int = 16,
        score: float | None = None,
        on_broken: Callable[[int, DataError], None] | None = None,
        tiling: Tiling | None = None,
        truth: Callable[[int], Annotation] | None = None,
    ) -> Iterator[tuple[int, Detections]]:
        """Find the objects of many images, in memory for a few batches. Threads decode ahead.

        Args:
            images: as for `predict`; they may come from a generator without end.
            batch_size: images, or tiles, at once.
            score: as for `predict`.
            on_broken: called with the position of an image that cannot be decoded, and why; None raises.
            tiling: how large images are cut into tiles; None: they are not.
            truth: gives the annotation of a position, by which a picture is turned where it says nothing
                itself; None: there is none.

        Yields:
            The position of each image and its detections, in order.

        Raises:
            DataError: an image cannot be decoded, and there is no ``on_broken``.
        """
        check_images(images)
        cores = torch.get_num_threads()
        # All tiles of an image are in memory at once.
        threads, count = (cores, max(2 * batch_size, cores)) if tiling is None else (min(cores, 2), 3)
        numbered = ((i, image, None if truth is None else truth(i)) for i, image in enumerate(images))
        read = partial(self.samples, tiling=tiling)
        parts: list[Detections] = []
        with contextlib.closing(made_ahead(read, numbered, threads=threads, count=count)) as ahead:
            samples = _sound(ahead, on_broken)
            while batch := list(islice(samples, batch_size)):
                found = self.find(collate([one for one, _ in batch], pad_to=self.recipe.data.pad_to), score)
                for (sample, number), (index, detections) in zip(batch, found):
                    parts.append(detections)
                    if len(parts) == number:
                        whole = parts[0]
                        if tiling is not None:
                            whole = merged(parts, tiling.windows(*sample.source_wh))
                        yield index, whole
                        parts = []

    def samples(
        self, numbered: tuple[int, Any, Annotation | None], *, tiling: Tiling | None = None
    ) -> tuple[int, list[Sample] | DataError]:
        """Decode an image for `find`.

        Args:
            numbered: its position, the image, and its annotation or None.
            tiling: as for `stream`.

        Returns:
            The position, and a sample for each tile or why there is none.
        """
        index, image, truth = numbered
        how: dict[str, Any] = {
            "decoding": self.decoding,
            "resize": self._resize,
            "index": index,
            "truth": truth,
        }
        try:
            if tiling is None:
                return index, [sample_of(image, **how)]
            return index, list(tile_samples(image, tiling, **how))
        except DataError as error:
            return index, error

    def find(self, batch: Batch, score: float | None = None) -> Iterator[tuple[int, Detections]]:
        """Find the objects of a batch.

        Args:
            batch: the images.
            score: as for `predict`.

        Yields:
            The index of each image and its detections, boxes in source pixels.
        """
        lowest, asked = None, {}
        if score is not None or self.thresholds is not None:
            lowest = torch.tensor(self.score_thresholds(score)[0])
            asked = {"lowest": float(lowest.min())} if takes(self.detector.predict, "lowest") else {}
        found = self.detector.predict(batch.to(self.device), **asked)  # type: ignore[operator]
        for index, detections in zip(batch.indices.tolist(), to_source(found, batch)):
            named = of_classes(detections, self.classes)
            if lowest is not None:
                named = replace(named.where(named.scores >= lowest[named.labels]), shown_from=0.0)
            yield index, replace(named, classes=self.classes)


def _sound(
    ahead: Iterable[tuple[int, list[Sample] | DataError]],
    on_broken: Callable[[int, DataError], None] | None,
) -> Iterator[tuple[Sample, int]]:
    """Give each sample and the number of samples of its image; see `Predictor.stream`."""
    for index, made in ahead:
        if not isinstance(made, DataError):
            yield from ((sample, len(made)) for sample in made)
        elif on_broken is None:
            raise made
        else:
            on_broken(index, made)


def check_images(images: Any) -> None:
    """Refuse one image where a list of images is wanted.

    Raises:
        UsageError: ``images`` is a path or encoded bytes, whose letters are no images.
    """
    if isinstance(images, (str, bytes, Path)):
        one = "bytes" if isinstance(images, bytes) else repr(str(images))
        raise UsageError(f"images is a list, not one image: write [{one}]")


def load(
    path: str | Path,
    overrides: Overrides = (),
    *,
    device: str = "auto",
    plugins: Sequence[str] = (),
    weights: Literal["ema", "trained"] = "ema",
) -> Predictor:
    """Load a trained detector, ready to predict.

    Args:
        path: a checkpoint file, a run folder (its best.pt, else last.pt), or a recipe whose ``model.weights``
            names trained weights.
        overrides: changes to its recipe, ``["model.postprocess.iou=0.5"]`` or a mapping.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        plugins: plug-in files that the recipe needs; those named in a checkpoint are never imported by
            themselves.
        weights: of a checkpoint, "ema" takes the averaged weights where there are any, "trained" the others.

    Raises:
        CheckpointError: there is no checkpoint, or it cannot be read.
        UsageError: a recipe without weights.
    """
    if weights not in ("ema", "trained"):
        raise UsageError(f"weights={weights!r}: write 'ema' or 'trained'")
    if is_recipe(path):
        if weights != "ema":
            raise UsageError(
                f"weights={weights!r} chooses between the two that a checkpoint holds: leave it out "
                f"for {path}, a recipe"
            )
        return _from_recipe(load_recipe(path, overrides, plugins=plugins), device)
    file = checkpoint.resolve(Path(path))
    state = checkpoint.load(file)
    own = checkpoint.recipe_of(state, tuple(plugins), for_training=False)
    recipe = own.with_overrides(overrides) if overrides else own
    detector, _ = assembly.build_with_weights(recipe, len(state["classes"]), wanted=False)
    average: dict[str, Tensor] | None = state["ema"]
    evaluated = average is None or weights == "ema"
    checkpoint.load_weights(detector, average if average is not None and evaluated else state["detector"])
    return Predictor(
        recipe,
        detector,
        state["classes"],
        state["category_ids"],
        resolve_device(device),
        thresholds=state["thresholds"] if evaluated else None,
        changed=_changed(own, recipe),
    )


DETECTING = ("input_size_wh", "color", "value_range", "resize", "pad_to")
"""Keys of the section ``data`` that decide how an image reaches the network."""
TRAINING_PARTS = ("matcher", "box_loss", "weights")
"""Keys of the section ``model`` on which the detections of a trained detector do not depend."""


def _changed(own: Recipe, recipe: Recipe) -> list[str]:
    """Return where two recipes differ in what decides which objects are found, as dotted paths."""

    def values(one: Recipe) -> dict[str, Any]:
        data, model = one.values["data"], one.values["model"]
        return {
            "data": {key: data.get(key) for key in DETECTING},
            "model": {key: value for key, value in model.items() if key not in TRAINING_PARTS},
        }

    return [path for path, _ in differing(values(own), values(recipe))]


def is_recipe(path: str | Path) -> bool:
    """Whether ``path`` means a recipe rather than a checkpoint: a YAML file, or a shipped recipe's name where
    no such file or folder is."""
    file = Path(path)
    return file.suffix in (".yaml", ".yml") or (not os.path.exists(file) and str(path) in shipped_recipes())


def _from_recipe(recipe: Recipe, device: str) -> Predictor:
    if recipe.values["model"].get("weights") is None:
        raise UsageError(
            f"{recipe.name} is a recipe without trained weights: add model.weights=FILE, or give a run "
            f"folder such as runs/{recipe.name}/1"
        )
    if recipe.data.classes is None:
        source = assembly.build_source(recipe, "train")
        classes = assembly.class_table(recipe, source)
    else:
        source, classes = None, assembly.listed_classes(recipe)
    detector, _ = assembly.build_with_weights(recipe, len(classes))
    return Predictor(
        recipe, detector, classes, assembly.category_ids(recipe, classes, source), resolve_device(device)
    )
