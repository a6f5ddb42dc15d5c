"""The anchors that each object gets in training, the ignored ones, and the objects that get none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw

from densedet.core.boxes import pairwise_iou
from densedet.core.errors import UsageError
from densedet.core.report.drawing import IGNORED, class_color, draw_boxes, drawn_name
from densedet.core.showing.anchors import around, level_name, level_slices, size_text
from densedet.core.showing.page import Block, Figure, Page, table
from densedet.core.showing.subject import Subject, View
from densedet.core.text import counted
from densedet.core.types import Targets

SHOWN = 300
"""Most anchors of a level that are drawn."""
NONE = "no anchor"


def matches_page(subject: Subject, views: Sequence[View]) -> Page:
    """Show what the recipe's matcher gives the objects of images, as training gets them without augmentation.

    Raises:
        UsageError: the objects of an image are not known.
    """
    for view in views:
        if not view.known:
            raise UsageError(
                f"the objects of {view.title} are not known: write --box CLASS,X1,Y1,X2,Y2 for each, or name "
                f"an image of the recipe by --number"
            )
    matcher = getattr(subject.detector, "matcher", None)
    lead = [subject.state, *subject.notes]
    if getattr(matcher, "uses_predictions", False):
        changes = "so it changes as the detector learns" if subject.trained else "here those of drawn weights"
        lead.append(f"The matcher goes by what the detector predicts, {changes}.")
    blocks, images = [], []
    for view in views:
        block, values = _block(view, subject.targets(view.batch, "matches"), subject.classes)
        blocks.append(block)
        images.append(values)
    objects = [one for image in images for one in image["objects"] if not one["ignored"]]
    lost = sum(one["anchors"] == 0 for one in objects)
    lead.append(
        f"{counted(len(objects), 'object')} in {counted(len(views), 'image')}; "
        f"{f'{lost} of them got no anchor' if lost else 'each got an anchor'}."
    )
    name = type(matcher).__name__ if matcher is not None else type(subject.detector).__name__
    return Page(f"What {name} matches in {subject.recipe.name}", lead, blocks, {"images": images})


def _block(view: View, inside: Targets, classes: Sequence[str]) -> tuple[Block, dict[str, Any]]:
    """Return the part of the page about an image, and its numbers."""
    matched = inside.matched_idxs[0].cpu()
    slots = view.batch.valid[0].nonzero()[:, 0].tolist()
    places = level_slices(inside.levels)
    overlap = pairwise_iou(view.boxes, inside.anchors)  # (G,N)
    nearest = overlap.argmax(dim=0) if len(slots) else torch.zeros(len(matched), dtype=torch.int64)
    objects = []
    for number, (slot, box, label) in enumerate(zip(slots, view.boxes, view.labels.tolist())):
        own, ignored = matched == slot, (matched == -2) & (nearest == number) & (overlap[number] > 0)
        objects.append(
            {
                "number": number,
                "class": drawn_name(label, classes),
                "ignored": label < 0,
                "size": size_text(box),
                "levels": [int(own[place].sum()) for place in places],
                "anchors": int(own.sum()),
                "ignored_anchors": int(ignored.sum()),
                "best_iou": round(float(overlap[number].max()), 3),
            }
        )
    counts = Counter(matched.clamp(max=0).tolist())
    block = Block(view.title, [_sentence(objects, counts, len(matched))], [_table(objects, inside)])
    block.keys = [(f"{o['number']}: {o['class']}", class_color(o["number"])) for o in objects]
    block.keys += [("ignored anchors", IGNORED)] if counts[-2] else []
    block.figures.append(
        Figure(f"{view.name}_objects", objects_picture(view, classes), "the objects, by their numbers")
    )
    for number, place in enumerate(places):
        here = matched[place]
        if not bool(((here >= 0) | (here == -2)).any()):
            continue
        caption = (
            f"{level_name(number, inside.levels[number])}: {counted(int((here >= 0).sum()), 'anchor')} with "
            f"an object, {int((here == -2).sum())} ignored"
        )
        picture = matches_picture(view, inside, number)
        block.figures.append(Figure(f"{view.name}_level_{number}", picture, caption))
    totals = {"positive": counts[0], "ignored": counts[-2], "background": counts[-1]}
    return block, {"image": view.title, "objects": objects, "anchors": totals}


def _sentence(objects: Sequence[dict[str, Any]], counts: Counter[int], anchors: int) -> str:
    lost = [
        f"{one['number']} ({one['class']})" for one in objects if not one["anchors"] and not one["ignored"]
    ]
    told = (
        f"Of {anchors:,} anchors {counts[0]} are matched to an object, {counts[-2]} are ignored and "
        f"{counts[-1]:,} are background."
    )
    if lost:
        told += f" Without an anchor: {', '.join(lost)}. The detector does not learn them here."
    return told


def _table(objects: Sequence[dict[str, Any]], inside: Targets) -> Any:
    levels = [f"stride {level.stride}" for level in inside.levels]
    rows = [
        (
            f"{one['number']}: {one['class']}",
            one["size"],
            *(count or None for count in one["levels"]),
            one["anchors"] or ("left out" if one["ignored"] else NONE),
            one["ignored_anchors"] or None,
            f"{one['best_iou']:.2f}",
        )
        for one in objects
    ]
    return table(("object", "size", *levels, "anchors", "ignored on it", "best IoU"), rows)


def objects_picture(view: View, classes: Sequence[str]) -> Image.Image:
    """Draw the objects of an image in their own colours, by number and class."""
    names = [f"{number}: {drawn_name(label, classes)}" for number, label in enumerate(view.labels.tolist())]
    numbers = torch.arange(len(view.boxes))
    return draw_boxes(view.image, view.boxes, numbers, None, names, style="dashed")


def matches_picture(view: View, inside: Targets, number: int | None = None) -> Image.Image:
    """Draw the anchors of objects in their objects' colours, the ignored ones grey, and the objects dashed.

    Args:
        view: the image.
        inside: the anchors, and what is matched to them.
        number: of the level; None: all levels.
    """
    place = slice(None) if number is None else level_slices(inside.levels)[number]
    matched, boxes = inside.matched_idxs[0][place].cpu(), inside.anchors[place]
    order = torch.full((view.batch.valid.shape[1],), -1)
    order[view.batch.valid[0]] = torch.arange(int(view.batch.valid[0].sum()))
    ignored, positive = (which.nonzero()[:, 0] for which in (matched == -2, matched >= 0))
    # The best of those that are ignored may be many more than can be seen.
    ignored = ignored[:: max(1, len(ignored) // SHOWN)]
    everything = torch.cat([boxes[positive], boxes[ignored], view.boxes])
    canvas, shift, scale = around(view.image, everything if len(everything) else torch.zeros(1, 4))
    pen = ImageDraw.Draw(canvas)
    for box in ((boxes[ignored] + shift) * scale).tolist():  # thin, since they are many
        pen.rectangle(box, outline=IGNORED)
    own = (boxes[positive] + shift) * scale
    picture = draw_boxes(
        canvas, own, order[matched[positive]], None, (), scale=1, names=False, limit=2 * SHOWN
    )
    numbers = torch.arange(len(view.boxes))
    objects = (view.boxes + shift) * scale
    return draw_boxes(picture, objects, numbers, None, (), scale=1, style="dashed", names=False)
