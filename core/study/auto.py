"""A recipe for data that nobody has tuned one for: the input's size by the boxes, the member of the laptop
family by the clock."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np

from densedet.core import assembly
from densedet.core.checking.anchor_check import check_anchors
from densedet.core.contracts import Source
from densedet.core.data.decoding import Decoding, decode_array
from densedet.core.data.facts import box_sides, image_size
from densedet.core.errors import DataError
from densedet.core.mappings import touches
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.text import counted

FINE = "laptop_fine"
"""The member with a map at stride 4, for small objects."""

COARSE = ("laptop_medium", "laptop_small")
"""The members without, the larger one first."""

HEADS = {"ssd": "laptop_ssd", "retinanet": "laptop_retinanet"}
"""--head -> the recipe with the classic head."""

WANTED_SIDE = 22.0
"""Pixels that an ordinary object of a class with small objects has in the network's input."""

FINE_BELOW = 14.0
"""Pixels of such an object below which a map at stride 4 is needed."""

SIDES = (224, 640)
"""Least and largest root of the input's area; the least keeps what classes are told apart by."""

GRID = 32
"""Input sides are multiples of it, so that every level's map is exact."""

ENOUGH_IMAGES = 12_000
"""Images in the budget from which on the larger member learns more, and has to be kept from learning them by
heart where they are few."""

FEWEST_IMAGES = 4_000
"""Images in the budget below which a smaller input learns more."""

OFTEN, VERY_OFTEN = 15, 40
"""Times that each training image is seen, from which on the network would learn them by heart."""

AGAINST_HEART = {"train.schedule.final": "0.5", "train.ema_decay": "0.998"}
"""Overrides against it: weights that keep moving, and an average of more of them (docs/laptop.md)."""

MIXED = (0.3, 0.6)
"""Shares of the images that are mixed with another one against it, where they are seen `OFTEN` and
`VERY_OFTEN`."""

ROUNDING = 8
"""Grey levels by which the channels of a grey JPEG may differ."""

MATCHED = 300
"""Augmented training images whose objects anchors are fitted to."""

TRIED = 3
"""Steps that are timed after one that is not."""


@dataclass(frozen=True)
class Choice:
    """What to train.

    Attributes:
        recipe: name of a shipped recipe.
        changes: overrides, beside those that were given.
        reasons: one sentence each.
    """

    recipe: str
    changes: tuple[str, ...]
    reasons: tuple[str, ...]


def choose(given: Sequence[str], minutes: float, head: str | None = None) -> Choice:
    """Choose a member of the laptop family and its input size for a data set, a budget and this machine.

    Args:
        given: overrides that name the data and what else is wished. A ``data.input_size_wh`` or
            ``data.color`` among them stays.
        minutes: of training.
        head: "ssd" or "retinanet" for a classic head; None: the family's own.

    Returns:
        The choice. Training speed is measured: it takes some steps of each candidate.

    Raises:
        DataError: no box counts, so that there is nothing to choose by.
    """
    recipe = load_recipe(HEADS[head] if head else FINE, list(given))
    source, _ = assembly.build_sources(recipe)
    sides = box_sides(source, assembly.class_table(recipe, source))
    if not sides:
        raise DataError("no box counts in the training images, so that no size can be chosen by them")
    fixed = {change.partition("=")[0] for change in given}
    reasons, changes = [], [f"train.budget={{minutes: {minutes:g}}}"]
    if "data.color" not in fixed:
        color = "grey" if looks_grey(recipe, source) else "rgb"
        changes.append(f"data.color={color}")
    small, typical = small_class(sides)
    if "data.input_size_wh" in fixed:
        size = recipe.data.input_size_wh
        reasons.append(f"the input has the size that was given, {size[0]}x{size[1]}")
    else:
        wide, high = image_size(source)
        size = size_for(WANTED_SIDE / typical, wide, high)
        pixels = typical * math.sqrt(size[0] * size[1])
        reasons.append(
            f"half of the boxes of {small!r}, a class with small objects, are narrower than {typical:.1%} of "
            f"an image's side: {pixels:.0f} pixels in an input of {size[0]}x{size[1]}"
        )
    member, own, seconds, told = _member(
        typical * math.sqrt(size[0] * size[1]), minutes, head, [*given, *changes, size_change(size)]
    )
    reasons += told
    if 60 * minutes / seconds < FEWEST_IMAGES and "data.input_size_wh" not in fixed:
        wished, factor = size, math.sqrt(max(0.25, 60 * minutes / seconds / FEWEST_IMAGES))
        size = snapped(wished[0] * factor, wished[1] * factor)
        seconds *= size[0] * size[1] / (wished[0] * wished[1])
        reasons.append(f"at {wished[0]}x{wished[1]} it would see fewer than {FEWEST_IMAGES:,} images")
    if head is not None:
        anchors, told = fitted_anchors(head, [*given, *changes, *own, size_change(size)], sides)
        own, reasons = [*own, *anchors], [*reasons, *told]
    images = 60 * minutes / seconds
    reasons.append(
        f"{1 / seconds:.0f} images a second here: {images:,.0f} in {minutes:g} minutes, "
        f"{images / len(source):.0f} times each of the {counted(len(source), 'training image')}"
    )
    if (seen := images / len(source)) >= OFTEN and images >= ENOUGH_IMAGES:
        more = against_heart(recipe, MIXED[seen >= VERY_OFTEN], fixed)
        own = [*own, *more]
        if more:
            paths = ", ".join(change.partition("=")[0] for change in more)
            reasons.append(f"images seen {OFTEN} times or more would be learned by heart, hence {paths}")
    return Choice(HEADS[head] if head else member, (*changes, size_change(size), *own), tuple(reasons))


def against_heart(recipe: Recipe, share: float, fixed: Collection[str]) -> list[str]:
    """Return overrides that keep a network from learning its images by heart.

    Args:
        recipe: whose batch transforms are kept, of whichever member: they share them.
        share: of the images that are mixed, for the first four fifths of the training.
        fixed: paths of overrides that stay.
    """
    mixed = [*recipe.values["data"]["batch_transforms"], {"name": "mixup", "p": share, "until": 0.8}]
    wanted = {"data.batch_transforms": json.dumps(mixed), **AGAINST_HEART}
    return [
        f"{path}={value}"
        for path, value in wanted.items()
        if not touches([".".join(path.split(".")[:2])], fixed)  # another schedule may have no such argument
    ]


def _member(
    pixels: float, minutes: float, head: str | None, changes: Sequence[str]
) -> tuple[str, list[str], float, list[str]]:
    """Choose a member by the size of objects and by the images that it would see.

    Args:
        pixels: side of an ordinary object of a class with small ones, in the network's input.
        minutes: of training.
        head: as for `choose`.
        changes: overrides that name data, size and budget.

    Returns:
        The member; overrides that give its backbone to the classic head, none without one; seconds of
        training for an image; and reasons.
    """
    members: tuple[str, ...] = COARSE
    reasons: list[str] = []
    if pixels < FINE_BELOW:
        members = (FINE,)
        reasons.append(f"objects of {pixels:.0f} pixels need the map at stride 4 of {FINE}")
    for member in members:
        own = [] if head is None else backbone_of(member, HEADS[head], changes)
        seconds = seconds_per_image(HEADS[head] if head else member, [*changes, *own])
        if 60 * minutes / seconds >= ENOUGH_IMAGES or member == members[-1]:
            break
        reasons.append(
            f"{member} would see {60 * minutes / seconds:,.0f} images in {minutes:g} minutes here, too few "
            f"for its size"
        )
    return member, own, seconds, [*reasons, *([f"the backbone is that of {member}"] if own else [])]


def size_change(size: tuple[int, int]) -> str:
    """Return the override of an input size."""
    return f"data.input_size_wh=[{size[0]}, {size[1]}]"


def small_class(sides: dict[str, np.ndarray]) -> tuple[str, float]:
    """Return the class whose median side is at the lower quartile of all classes', and that median."""
    ranked = sorted((float(np.median(values)), name) for name, values in sides.items())
    middle, name = ranked[(len(ranked) - 1) // 4]
    return name, middle


def size_for(side: float, wide: float, high: float) -> tuple[int, int]:
    """Return an input size of the images' shape.

    Args:
        side: wished root of the input's area; it is kept within `SIDES`, and below that of the images.
        wide: width of the images.
        high: their height.

    Returns:
        Width and height, multiples of `GRID`.
    """
    least, largest = SIDES
    root = math.sqrt(wide * high)
    factor = min(max(least, min(side, largest)), root) / root
    return snapped(wide * factor, high * factor)


def snapped(wide: float, high: float) -> tuple[int, int]:
    """Return a size in multiples of `GRID`, at least one of each."""
    return max(1, round(wide / GRID)) * GRID, max(1, round(high / GRID)) * GRID


def backbone_of(member: str, recipe: str, given: Sequence[str]) -> list[str]:
    """Return overrides that give a recipe the backbone of another one; none where one is given already."""
    if any(change.startswith("model.backbone") for change in given):
        return []
    wanted, own = (load_recipe(name).values["model"]["backbone"] for name in (member, recipe))
    return [
        f"model.backbone.{key}={json.dumps(value)}" for key, value in wanted.items() if value != own.get(key)
    ]


def fitted_anchors(
    head: str, changes: Sequence[str], sides: dict[str, np.ndarray]
) -> tuple[list[str], list[str]]:
    """Return overrides that fit a classic head's anchors to the boxes, and sentences that tell why.

    SSD's default boxes begin with the quantiles of the boxes' sides. Then the anchors' sizes and ratios are
    changed as ``densedet check data`` does it, where more objects get an anchor that fits.
    """
    if any(change.startswith("model.anchors") for change in changes):
        return [], []
    size = load_recipe(HEADS[head], list(changes)).data.input_size_wh
    quantiles = [scales_of(np.concatenate(list(sides.values())), size)] if head == "ssd" else []
    checked = check_anchors(load_recipe(HEADS[head], [*changes, *quantiles]), MATCHED)
    if checked.before is None or checked.proposal is None:
        return quantiles, []
    fitted = checked.proposal.overrides
    paths = {change.partition("=")[0] for change in fitted}
    before, after = (rows.share()["fitting"] for rows in checked.both)
    return (
        [*(change for change in quantiles if change.partition("=")[0] not in paths), *fitted],
        [f"anchors are fitted to the boxes: one fits {after:.0%} of the objects, {before:.0%} before"],
    )


def scales_of(sides: np.ndarray, size: tuple[int, int]) -> str:
    """Return the override of SSD's scales by the boxes' sides.

    They are the quantiles from the 2nd to the 98th per cent, in the shorter side of the input.

    Args:
        sides: roots of the boxes' areas as shares of the root of the image's area.
        size: (width, height) of the input.
    """
    relative = sides * math.sqrt(size[0] * size[1]) / min(size)
    scales = np.quantile(relative, (0.02, 0.25, 0.5, 0.75, 0.98))
    for level in range(1, len(scales)):  # ascending, each at least a quarter larger than the one before
        scales[level] = max(scales[level], 1.25 * scales[level - 1])
    return f"model.anchors.scales=[{', '.join(f'{scale:.3f}' for scale in scales)}]"


def looks_grey(recipe: Recipe, source: Source) -> bool:
    """Return whether some images of a source have no colour."""
    decoding = Decoding("rgb", recipe.data.value_range, recipe.data.max_megapixels)
    placement_of = assembly.build_resize(recipe, (64, 64))
    for image in assembly.some_images(source):
        with contextlib.suppress(DataError):  # a broken image is told where it is trained on
            pixels, _, _ = decode_array(image, decoding=decoding, placement_of=placement_of)
            if int(np.ptp(pixels.astype(np.int16), axis=0).max()) > ROUNDING:
                return False
    return True


def seconds_per_image(recipe: str, changes: Sequence[str]) -> float:
    """Time a few training steps.

    Returns:
        Seconds of the fastest one, for an image.
    """
    from densedet.core.training.engine import optimizer_step
    from densedet.core.training.probing import choose_precision
    from densedet.core.training.run import Run
    from densedet.core.training.session import process_settings
    from densedet.core.training.trials import seconds_of

    with TemporaryDirectory() as folder:
        loaded = load_recipe(recipe, [*changes, "run.hooks=[]", f"run.folder={folder}"])
        run = Run(loaded)
        with process_settings(run):
            choose_precision(run)
            run.detector.train()
            batches = run.batches()
            steps = [(next(batches)[0],) for _ in range(1 + TRIED)]
            seconds = [seconds_of(partial(optimizer_step, run, step), run) for step in steps]
    return min(seconds[1:]) / loaded.train.images
