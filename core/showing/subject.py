"""The detector and the images that a page of `densedet show` is about."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core import assembly
from densedet.core.contracts import Source
from densedet.core.data.dataset import Sample, sample_of
from densedet.core.data.loader import collate
from densedet.core.errors import DataError, UsageError
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.merging import Overrides
from densedet.core.text import counted, visible
from densedet.core.training.fit import ANY_CLASSES
from densedet.core.training.judging import source_of
from densedet.core.training.prediction import is_recipe, load
from densedet.core.training.random_states import seeded
from densedet.core.types import Batch, Explanation, Targets
from densedet.registry import suggest

IMAGES = 4
"""Images that are shown where none is named."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A detector with its recipe, on the CPU, in evaluation mode.

    Attributes:
        what: a run folder, a checkpoint or a recipe, as the user named it.
        recipe: of the detector.
        detector: with trained weights, or with drawn ones.
        classes: names in label order.
        trained: whether the weights are trained ones.
        notes: sentences that a page repeats.
    """

    what: str
    recipe: Recipe
    detector: nn.Module
    classes: tuple[str, ...]
    trained: bool
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """The detector in words, for a page's heading."""
        how = "trained" if self.trained else "with drawn weights, not trained"
        return f"{visible(self.what)}, {how}"

    def targets(self, batch: Batch, topic: str) -> Targets:
        """Return the anchors of a batch and what is matched to them, without running the network where that
        is possible; arguments and errors as of `explain`."""
        match = getattr(self.detector, "match", None)
        found: Targets | None = None if match is None else match(batch)
        return self.explain(batch, topic).targets if found is None else found

    def explain(self, batch: Batch, topic: str) -> Explanation:
        """Return the inside of the detector on a batch.

        Args:
            batch: of one image or more.
            topic: what asks, for the error.

        Raises:
            UsageError: this kind of detector gives none.
        """
        explain = getattr(self.detector, "explain", None)
        if explain is None:
            raise UsageError(
                f"show {topic} needs the inside of the detector, and {type(self.detector).__name__} has no "
                f"explain(batch): show model and show missed work without it"
            )
        found: Explanation = explain(batch)
        return found


def subject_of(
    what: str | Path, overrides: Overrides = (), *, plugins: Sequence[str] = (), without_data: bool = False
) -> Subject:
    """Load a trained detector, or build a recipe's with drawn weights.

    Args:
        what: a run folder (its best.pt), a checkpoint, a YAML file, or a shipped recipe's name.
        overrides: changes to its recipe.
        plugins: plug-in files that the recipe needs.
        without_data: whether a recipe without trained weights may lack its images: its classes are then
            placeholders.

    Raises:
        CheckpointError: there is no checkpoint, or it cannot be read.
        RecipeError: the recipe is faulty.
        DataError: the classes are those of images that are not there.
    """
    recipe = load_recipe(what, overrides, plugins=plugins) if is_recipe(what) else None
    if recipe is None or recipe.values["model"].get("weights") is not None:
        predictor = load(what, overrides, device="cpu", plugins=plugins)
        return Subject(str(what), predictor.recipe, predictor.detector, predictor.classes, trained=True)
    classes, notes = _classes(recipe, without_data)
    with seeded(recipe.train.seed):
        detector, _ = assembly.build_with_weights(recipe, len(classes))
    return Subject(str(what), recipe, detector.eval(), classes, trained=False, notes=notes)


def _classes(recipe: Recipe, without_data: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names of a recipe, and a sentence where they are placeholders."""
    if recipe.data.classes:
        return assembly.listed_classes(recipe), ()
    try:
        return assembly.class_table(recipe, assembly.build_source(recipe, "train")), ()
    except DataError as error:
        if not without_data:
            raise
        names = tuple(f"class {number}" for number in range(ANY_CLASSES))
        return names, (f"The data is not here, so that {ANY_CLASSES} classes are assumed ({error}).",)


@dataclass(frozen=True, eq=False)
class View:
    """An image as it reaches the network.

    Attributes:
        name: begins the names of its pictures.
        title: names the image for people.
        batch: of this image alone, with its objects.
        known: whether its objects are known; False where a file was given without boxes.
    """

    name: str
    title: str
    batch: Batch
    known: bool

    @property
    def boxes(self) -> Tensor:
        """(G,4) xyxy of its objects, in pixels of the network's input."""
        return self.batch.boxes[0][self.batch.valid[0]]

    @property
    def labels(self) -> Tensor:
        """int64 (G,) of its objects; -1 where one is ignored."""
        ignored = self.batch.ignore[0] | (self.batch.labels[0] < 0)
        return torch.where(ignored, -1, self.batch.labels[0])[self.batch.valid[0]]

    @property
    def image(self) -> Tensor:
        """(ch,h,w), without padding."""
        height, width = (int(v) for v in self.batch.valid_hw[0])
        return self.batch.images[0, :, :height, :width]


@dataclass(frozen=True)
class Wanted:
    """The images that a user asks for.

    Attributes:
        files: image files.
        numbers: positions in the recipe's images, from 0 on.
        ids: ids of the recipe's images.
        boxes: "CLASS,X1,Y1,X2,Y2" of the objects of the one image in ``files``, in its own pixels.
        split: "val" or "train", the recipe's images meant.
        count: images from the first on, where none is named.
    """

    files: Sequence[str] = ()
    numbers: Sequence[int] = ()
    ids: Sequence[str] = ()
    boxes: Sequence[str] = ()
    split: str = "val"
    count: int = IMAGES


def views_of(subject: Subject, wanted: Wanted) -> list[View]:
    """Return the images as they reach the network, without augmentation.

    Raises:
        UsageError: a name, number, id or box means nothing.
        DataError: an image cannot be read.
    """
    check_wanted(wanted)
    recipe = subject.recipe
    views = []
    known = contextlib.suppress(Exception) if wanted.files else contextlib.nullcontext()
    source: Source | None = None
    with known:  # a file needs no data of the recipe, which may be elsewhere
        source = source_of(recipe, wanted.split)
    for file in wanted.files:
        at = None if source is None or wanted.boxes else _position(source, file)
        if at is None:
            views.append(_of_file(subject, file, wanted.boxes))
        else:
            views.append(_of_source(subject, source, at, name=Path(file).stem))
    if wanted.numbers or wanted.ids or not wanted.files:
        source = source if source is not None else source_of(recipe, wanted.split)
        views += [_of_source(subject, source, at) for at in positions(source, wanted)]
    return views


def check_wanted(wanted: Wanted) -> None:
    """Raise UsageError or DataError where the names mean nothing, before anything is built."""
    for file in wanted.files:
        if os.path.isdir(file):
            raise UsageError(f"--image {file} is a folder: name image files, e.g. {Path(file) / 'a.jpg'}")
        if not os.path.isfile(file):
            raise DataError(f"--image {file}: there is no such file")
    if wanted.boxes and len(wanted.files) != 1:
        raise UsageError("--box gives the objects of one image file: write one --image with it")
    if wanted.count < 1:
        raise UsageError(f"--count {wanted.count}: give at least 1")


def positions(source: Source, wanted: Wanted) -> list[int]:
    """Return the positions in a source of the images that are wanted by number or id; the first ones where
    none is named.

    Raises:
        UsageError: there is no such image.
    """
    last = len(source) - 1
    for number in wanted.numbers:
        if not 0 <= number <= last:
            raise UsageError(
                f"--number {number}: data.{wanted.split} has {counted(last + 1, 'image')}, number 0 to {last}"
            )
    found = list(wanted.numbers)
    if wanted.ids:
        at = {str(source.annotation(index).image_id): index for index in range(len(source))}
        for one in wanted.ids:
            if one not in at:
                raise UsageError(
                    f"--id {one}: data.{wanted.split} has no such image id.{suggest(one, list(at))}"
                )
            found.append(at[one])
    return found or list(range(min(wanted.count, len(source))))


def _position(source: Source, file: str) -> int | None:
    """Return the position of an image file in a source; None where it is not there."""
    name = os.path.basename(file)
    for index in range(len(source)):
        image = source.image(index)
        if not isinstance(image, (str, os.PathLike)):
            return None
        if os.path.basename(image) == name and os.path.samefile(image, file):
            return index
    return None


def _of_source(subject: Subject, source: Any, index: int, *, name: str | None = None) -> View:
    dataset = assembly.make_dataset(subject.recipe, source, subject.classes)
    truth = source.annotation(index)
    file = visible(os.path.basename(str(truth.file_name)))
    title = f"image {index} (id {truth.image_id}{f', {file}' if file else ''})"
    return View(name or f"image_{index}", title, _batch(subject, dataset[index]), known=True)


def _of_file(subject: Subject, file: str, boxes: Sequence[str]) -> View:
    recipe = subject.recipe
    resize = assembly.build_resize(recipe)
    sample = sample_of(file, decoding=assembly.decoding_of(recipe), resize=resize)
    if boxes:
        corners, labels = boxes_of(boxes, subject.classes, sample.source_wh)
        placed = resize(*sample.source_wh).boxes_to_input(corners, sample.source_wh)
        sample = replace(
            sample, boxes=placed, labels=labels, ignore=torch.zeros_like(labels, dtype=torch.bool)
        )
    name = os.path.basename(file)
    batch = _with_unknown_extras(subject.detector, _batch(subject, sample))
    return View(Path(file).stem, visible(name), batch, known=bool(boxes))


def _with_unknown_extras(detector: nn.Module, batch: Batch) -> Batch:
    """Declare what the branches of a head learn of each object, as not known: a file tells nothing of it."""
    branches = getattr(getattr(detector, "head", None), "branches", {})
    needs = {name: extra for branch in branches.values() for name, extra in branch.needs.items()}
    none = torch.zeros_like(batch.valid)
    values = {name: batch.boxes.new_zeros(*none.shape, *extra.shape) for name, extra in needs.items()}
    return replace(batch, extras=needs, extra=values, extra_known=dict.fromkeys(needs, none))


def boxes_of(texts: Sequence[str], classes: Sequence[str], size_wh: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Read "CLASS,X1,Y1,X2,Y2" of objects in an image.

    Args:
        texts: one an object.
        classes: names in label order.
        size_wh: (width, height) of the image.

    Returns:
        float32 (G,4) xyxy, and int64 (G,), 0..C-1.

    Raises:
        UsageError: a text means no box in the image.
    """
    read = [_box(text, classes, size_wh) for text in texts]
    boxes = torch.tensor([corners for corners, _ in read], dtype=torch.float32).reshape(-1, 4)
    return boxes, torch.tensor([label for _, label in read], dtype=torch.int64)


def _batch(subject: Subject, sample: Sample) -> Batch:
    return collate([sample], pad_to=subject.recipe.data.pad_to)


def _box(text: str, classes: Sequence[str], size_wh: tuple[int, int]) -> tuple[list[float], int]:
    """Read "CLASS,X1,Y1,X2,Y2". Returns the corners and the label."""
    name, *numbers = text.rsplit(",", 4)
    try:
        left, top, right, bottom = (float(number) for number in numbers)
    except ValueError as error:
        raise UsageError(f"--box {text}: write CLASS,X1,Y1,X2,Y2 in pixels of the image") from error
    if not (0 <= left < right <= size_wh[0] and 0 <= top < bottom <= size_wh[1]):
        raise UsageError(
            f"--box {text}: the corners are to lie in the image of {size_wh[0]}x{size_wh[1]} pixels, with "
            f"X1 < X2 and Y1 < Y2"
        )
    if name not in classes:
        raise UsageError(
            f"--box {text}: the detector has no class {name!r}.{suggest(name, list(classes))} "
            f"Classes: {', '.join(filter(None, classes))}"
        )
    return [left, top, right, bottom], list(classes).index(name)
