"""Training batches as they reach the network: augmented, with their boxes, and what the sampler draws."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from densedet.core import assembly
from densedet.core.annotations.image_header import image_size
from densedet.core.contracts import Source
from densedet.core.data.facts import box_counts, drawn_facts
from densedet.core.data.sampling import BatchKey, BatchSampler
from densedet.core.errors import UsageError
from densedet.core.mappings import at_path
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.merging import Overrides
from densedet.core.report.pictures import truth_labels, truth_picture
from densedet.core.showing.page import Block, Figure, Page, table
from densedet.core.showing.subject import Wanted, boxes_of, positions
from densedet.core.text import counted, visible
from densedet.core.training import checkpoint
from densedet.core.training.judging import source_of
from densedet.core.training.prediction import is_recipe
from densedet.core.types import Annotation, Batch

COUNTED = 5000
"""Most images of an epoch whose objects are counted."""
OFTEN = 5
"""Images that are drawn most often, and are named."""


def recipe_of(what: str, overrides: Overrides = (), plugins: Sequence[str] = ()) -> Recipe:
    """Return a recipe, or that of a run folder or checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, or it cannot be read.
        RecipeError: the recipe is faulty.
    """
    if is_recipe(what):
        return load_recipe(what, overrides, plugins=plugins)
    own = checkpoint.recipe_of(checkpoint.load(checkpoint.resolve(Path(what))), tuple(plugins))
    return own.with_overrides(overrides) if overrides else own


def data_page(
    recipe: Recipe, wanted: Wanted, *, batches: int = 1, epoch: int = 0, progress: float = 0.0
) -> Page:
    """Show training batches.

    Args:
        recipe: its data, batch size and seed are used.
        wanted: image files, or images of the recipe, which then fill each batch alone; where none is named,
            the batches are those of a training. ``count`` is the most pictures of a batch.
        batches: how many; where images are named, each batch is of another epoch.
        epoch: the first one, counted from 0.
        progress: of the training, 0..1, by which augmentation may end.

    Raises:
        UsageError: a number is out of its range, or an image is not there.
        DataError: an image cannot be read.
    """
    if batches < 1 or epoch < 0:
        raise UsageError(f"--batches {batches} --epoch {epoch}: give at least 1 and 0")
    if not 0 <= progress <= 1:
        raise UsageError(f"--progress {progress}: give a number from 0 to 1")
    own = None if wanted.files and recipe.data.classes else source_of(recipe, "train")
    classes = assembly.listed_classes(recipe) if own is None else assembly.class_table(recipe, own)
    source: Source = Files(wanted.files, wanted.boxes, classes) if wanted.files else own  # type: ignore[assignment]
    sampler = assembly.build_batch_sampler(recipe, source)
    named = bool(wanted.files or wanted.numbers or wanted.ids)
    keys = _named_keys(source, wanted, recipe, batches, epoch) if named else _keys(sampler, batches, epoch)
    loader = assembly.make_train_loader(recipe, assembly.make_train_set(recipe, source), [])
    made = [loader.made(key._replace(progress=progress)) for key in keys]
    size = made[0].images.shape
    lead = [
        f"{recipe.name}: batches of {len(keys[0].indices)} images, {size[3]}x{size[2]} pixels, as they reach "
        f"the network at progress {progress:g} of the training (epoch {epoch}, seed {recipe.train.seed}).",
    ]
    active = assembly.transforms_at(recipe, progress)
    blocks = [_transforms_block(recipe, active)]
    values: dict[str, Any] = {"progress": progress, "transforms": active, "batches": []}
    if not named and own is not None:
        block, values["sampler"] = _sampler_block(recipe, own, sampler, classes, epoch, made)
        blocks.append(block)
    for number, (key, batch) in enumerate(zip(keys, made)):
        blocks.append(_batch_block(number, key, batch, classes, wanted.count))
        values["batches"].append(_plain(key, batch, classes))
    return Page(f"The data of {recipe.name}", lead, blocks, values)


class Files:
    """Image files as a source.

    Args:
        files: paths.
        boxes: "CLASS,X1,Y1,X2,Y2" of the objects of the one file.
        classes: names in label order.
    """

    def __init__(self, files: Sequence[str], boxes: Sequence[str], classes: Sequence[str]) -> None:
        self.files, self.boxes, self.classes = list(files), list(boxes), tuple(classes)
        self.category_ids = tuple(range(len(self.classes)))

    def __len__(self) -> int:
        return len(self.files)

    def annotation(self, index: int) -> Annotation:
        """Return the objects of a file."""
        width, height = image_size(Path(self.files[index]))
        boxes, labels = boxes_of(self.boxes, self.classes, (width, height))
        none = torch.zeros(len(labels), dtype=torch.bool)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        name = os.path.basename(self.files[index])
        return Annotation(boxes, labels, none, none, area, name, name, width, height)

    def image(self, index: int) -> str:
        """Return the path of a file."""
        return self.files[index]

    def fingerprint(self) -> str:
        """Return the paths: nothing is kept of them."""
        return "\n".join(self.files)

    def invalid(self) -> list[str]:
        """Return no sentence."""
        return []


def _keys(sampler: BatchSampler, batches: int, epoch: int) -> list[BatchKey]:
    sampler.seek(epoch, 0)
    return list(islice(sampler, batches))


def _named_keys(source: Source, wanted: Wanted, recipe: Recipe, batches: int, epoch: int) -> list[BatchKey]:
    """Return batches that the named images fill in turns, each of an epoch of its own."""
    indices = list(range(len(source))) if wanted.files else positions(source, wanted)
    filled = [indices[place % len(indices)] for place in range(max(recipe.train.images, len(indices)))]
    return [BatchKey(epoch + number, 0, tuple(filled)) for number in range(batches)]


def _transforms_block(recipe: Recipe, active: dict[str, bool]) -> Block:
    """Table the augmentation, and which of it takes part."""
    rows = []
    for path, takes_part in active.items():
        where, _, name = path.rpartition(" ")
        spec = dict(at_path(recipe.values, where.rpartition(".")[0])[int(where.rpartition(".")[2])])
        end = spec.pop("until", None)
        arguments = ", ".join(f"{key} {value}" for key, value in spec.items() if key != "name")
        state = "takes part" if takes_part else "has ended"
        rows.append((name, where, state, f"until {end:g}" if end is not None else None, arguments or None))
    if not rows:
        return Block("Augmentation", ["The recipe has none: batches are images and boxes as they are."])
    return Block(
        "Augmentation", [], [table(("transform", "in the recipe", "now", "ends", "arguments"), rows)]
    )


def _sampler_block(
    recipe: Recipe,
    source: Source,
    sampler: BatchSampler,
    classes: Sequence[str],
    epoch: int,
    made: Sequence[Batch],
) -> tuple[Block, dict[str, Any]]:
    """Table the classes: boxes of the data, what the sampler draws of them, and the weights in the loss."""
    order = [int(index) for index in sampler.sampler(epoch)]
    drawn = drawn_facts(source, order[:COUNTED])
    there = box_counts(source)
    weighted, told = assembly.with_class_weights(recipe, classes, there)
    if len(source) <= COUNTED:  # all images, where some stand for all of a source without a table
        there = {name: row["objects"] for name, row in drawn_facts(source, range(len(source))).items()}
    weights = at_path(weighted.values, "model.class_loss.class_weights")
    shown = Counter(
        label for batch in made for i in range(len(batch)) for label in truth_labels(batch, i).tolist()
    )
    head = ["class", "boxes in the data", "images drawn", "boxes drawn", "boxes in these batches"]
    head += ["weight in the loss"] if weights else []
    rows = []
    for label, name in enumerate(classes):
        row = drawn.get(name, {"images": 0, "objects": 0})
        cells = (there.get(name, 0), row["images"], row["objects"], shown[label])
        rows.append((name or f"class {label}", *cells, *([f"{weights[label]:.3g}"] if weights else [])))
    often = [(index, times) for index, times in Counter(order).most_common(OFTEN) if times > 1]
    spec = recipe.values["data"]["sampler"]
    notes = [
        f"Sampler {spec['name']}: an epoch has {len(order):,} draws of {len(set(order)):,} of the "
        f"{counted(len(source), 'image')}."
    ]
    if often:
        listed = ", ".join(f"image {index} ({times} times)" for index, times in often)
        notes.append(f"Drawn most often: {listed}.")
    if len(order) > COUNTED:
        notes.append(f"Drawn images and boxes are those of the first {COUNTED:,} draws.")
    notes += [f"{told}."] if told else []
    block = Block("What is drawn", notes, [table(head, rows)])
    values = {
        "name": spec["name"],
        "draws": len(order),
        "images": len(set(order)),
        "classes": {
            name: {
                "boxes": there.get(name, 0),
                "drawn": drawn.get(name),
                "weight": weights and weights[label],
            }
            for label, name in enumerate(classes)
        },
    }
    return block, values


def _batch_block(number: int, key: BatchKey, batch: Batch, classes: Sequence[str], count: int) -> Block:
    objects = int((batch.valid & ~batch.ignore).sum())
    lost = int(batch.dropped)
    notes = [
        f"{counted(len(batch), 'image')}, {counted(objects, 'object')}"
        + (f"; augmentation lost {counted(lost, 'object')}" if lost else "")
        + (f". The first {count} are shown." if len(batch) > count else ".")
    ]
    notes += [f"Left out: {sentence}" for _, sentence in batch.broken]
    block = Block(f"Batch {key.number} of epoch {key.epoch}", notes)
    for index in range(min(count, len(batch))):
        labels = truth_labels(batch, index).tolist()
        caption = (
            f"{index}: image id {visible(str(batch.image_ids[index]))}, {counted(len(labels), 'object')}"
        )
        picture = truth_picture(batch, index, classes)
        block.figures.append(Figure(f"batch_{number}_{index}", picture, caption))
    return block


def _plain(key: BatchKey, batch: Batch, classes: Sequence[str]) -> dict[str, Any]:
    """Return a batch's objects as plain values that JSON can hold."""
    images = []
    for index in range(len(batch)):
        boxes = batch.boxes[index][batch.valid[index]].tolist()
        names = [classes[label] if label >= 0 else None for label in truth_labels(batch, index).tolist()]
        images.append({"image_id": batch.image_ids[index], "boxes": boxes, "classes": names})
    return {
        "epoch": key.epoch,
        "number": key.number,
        "height": batch.images.shape[2],
        "width": batch.images.shape[3],
        "dropped": int(batch.dropped),
        "images": images,
    }
