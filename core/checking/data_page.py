"""The page of `densedet check data`: the findings with pictures that show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from densedet.core.checking.anchor_check import AnchorCheck
from densedet.core.checking.findings import Finding
from densedet.core.data.decoding import Decoding, decode
from densedet.core.errors import DataError
from densedet.core.placement import Placement
from densedet.core.report.drawing import draw_boxes
from densedet.core.showing.page import Block, Figure, Page, table
from densedet.core.text import counted

SHOWN = 6
"""Pictures of a finding."""
SIDE = 480
"""Pixels of the longest side of a picture."""


def data_page(
    what: str,
    splits: dict[str, Any],
    facts: dict[str, dict[str, Any]],
    found: Sequence[Finding],
    anchors: AnchorCheck | None,
) -> Page:
    """Return the page.

    Args:
        what: recipe or file that was checked.
        splits: {split: source}.
        facts: of each split.
        found: the findings, the worst first.
        anchors: what is told of the anchors; None: nothing.
    """
    counts = {s: sum(one.severity == s for one in found) for s in ("error", "warning", "note")}
    lead = [", ".join(counted(count, severity) for severity, count in counts.items())]
    blocks = [_finding_block(finding, splits) for finding in found]
    if anchors is not None:
        blocks.append(_anchor_block(anchors))
    blocks += [_split_block(split, row) for split, row in facts.items()]
    return Page(f"Data of {what}", lead, blocks, {})


def _finding_block(finding: Finding, splits: dict[str, Any]) -> Block:
    block = Block(f"{finding.severity}: {finding.sentence}", least=20)
    if finding.examples:
        block.tables.append(table(["examples"], [[example] for example in finding.examples[:20]]))
    for split, index in finding.images[:SHOWN]:
        picture = _picture(splits[split], index)
        if picture is not None:
            name = splits[split].annotation(index).file_name
            block.figures.append(Figure(f"{finding.kind}_{split}_{index}", picture, f"{split}: {name}"))
    return block


def _picture(source: Any, index: int) -> Image.Image | None:
    """Return an image with its boxes; None where it cannot be read."""
    truth = source.annotation(index)
    factor = min(1.0, SIDE / max(truth.width, truth.height))

    def place(width: int, height: int) -> Placement:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        return Placement(*size, canvas_wh=size)

    try:
        pixels, source_wh = decode(source.image(index), decoding=Decoding("rgb"), placement_of=place)
    except DataError:
        return None
    boxes = place(*source_wh).boxes_to_input(truth.boxes, source_wh)
    return draw_boxes(pixels, boxes, truth.labels, None, source.classes, style="dashed")


def _anchor_block(check: AnchorCheck) -> Block:
    block = Block("Anchors", check.heading(), check.tables(), least=20)
    rows = check.before
    if rows is None:
        return block
    images = [image for group in check.groups if group.images is not None for image in group.images]
    ids = [own for group in check.groups for own in group.ids]
    missing = ~rows.fitting & (rows.owners < len(images))
    owners, counts = np.unique(rows.owners[missing].numpy(), return_counts=True)
    for owner in owners[np.argsort(-counts, kind="stable")][:SHOWN].tolist():  # those with the most first
        which = missing & (rows.owners == owner)
        picture = draw_boxes(images[owner], rows.boxes[which], rows.labels[which], None, check.classes)
        objects = counted(int(which.sum()), "object")
        caption = f"image {ids[owner]}, augmented: {objects} without an anchor that fits"
        block.figures.append(Figure(f"anchors_{owner}", picture, caption))
    return block


def _split_block(split: str, row: dict[str, Any]) -> Block:
    head = [
        "class",
        "category id",
        "boxes",
        "share",
        "images",
        "ignored",
        "crowd",
        "median side in the input",
    ]
    rows = []
    for one in row["classes"]:
        sides = row["sides"]["classes"][one["name"]]
        rows.append(
            [
                one["name"],
                one["category_id"],
                f"{one['boxes']:,}",
                f"{one['share']:.1%}",
                f"{one['images']:,}",
            ]
            + [one["ignored"], one["crowd"], None if sides is None else f"{sides[2]:.1f}"]
        )
    title = f"{split}: {counted(row['images'], 'image')}, {counted(row['boxes'], 'box')}"
    return Block(title, [], [table(head, rows)])
