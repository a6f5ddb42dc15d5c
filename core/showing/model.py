"""The parts of a detector: what they return, what they cost, and how much of the image their cells see."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn

from densedet.core.errors import DensedetError
from densedet.core.report.drawing import draw_boxes
from densedet.core.showing.anchors import around, level_name, middle_cell, sides, span
from densedet.core.showing.layout import Called, called_parts, tracked
from densedet.core.showing.page import Block, Figure, Page, table
from densedet.core.showing.receptive import LARGEST, Field
from densedet.core.showing.subject import Subject, View, Wanted, views_of
from densedet.core.training.profile import blank_batch, parameter_count
from densedet.core.types import Level


def model_page(subject: Subject, wanted: Wanted) -> Page:
    """Show the parts of a detector, the stages of its backbone, its levels and their anchors.

    Args:
        subject: the detector.
        wanted: the image on which levels are drawn; where the recipe's images are not there, it is grey.
    """
    data = subject.recipe.data
    width, height = (-(-side // data.pad_to) * data.pad_to for side in data.input_size_wh)
    parts = called_parts(subject.detector, data.channels, (height, width))
    levels = _levels(subject, parts, (height, width))
    total = parameter_count(subject.detector)
    macs = sum(part.macs for part in parts if "." not in part.name)
    colors = "grey" if data.channels == 1 else "RGB"
    lead = [
        subject.state,
        f"{total:,} parameters; {macs:,} multiply-adds for an image of {width}x{height} pixels ({colors}); "
        f"{len(subject.classes)} classes.",
        *subject.notes,
    ]
    blocks = [
        _parts_block(parts, total, macs),
        _stages_block(subject.detector, parts, height),
        *([_levels_block(levels)] if levels else []),
    ]
    view = _view(subject, wanted, (height, width))
    if levels and any(level.field for level in levels):
        blocks.append(_pictures(levels, view))
    values = {
        "recipe": subject.recipe.name,
        "trained": subject.trained,
        "input": {"width": width, "height": height, "channels": data.channels},
        "classes": len(subject.classes),
        "parameters": total,
        "macs": macs,
        "parts": [_plain(part) for part in parts],
        "levels": [level.plain() for level in levels],
    }
    return Page(f"The model of {subject.recipe.name}", lead, blocks, values)


def _plain(part: Called) -> dict[str, Any]:
    maps = [
        {"channels": c, "width": w, "height": h, "receptive_field_wh": None if field is None else list(field)}
        for (c, h, w), field in zip(part.maps, part.fields or [None] * len(part.maps))
    ]
    title = {"name": part.title, "class": part.kind, "parameters": part.parameters, "macs": part.macs}
    return {**title, "maps": maps}


def _parts_block(parts: Sequence[Called], total: int, macs: int) -> Block:
    rows: list[tuple[object, ...]] = []
    own = [part for part in parts if "." not in part.name]
    for part in own:
        outputs = ", ".join(f"{w}x{h}" for _, h, w in part.maps)
        share = f"{part.macs / macs:.0%}" if macs else None
        rows.append((part.name, part.kind, f"{part.parameters:,}", f"{part.macs:,}", share, outputs))
    rest = total - sum(part.parameters for part in own)
    if rest:
        rows.append(("other parts", None, f"{rest:,}", None, None, None))
    notes = [] if own else ["No part of this detector could be followed without computing its numbers."]
    head = ("part", "class", "parameters", "multiply-adds", "share", "cells of its maps")
    return Block("Parts", notes, [table(head, rows)] if rows else [])


def _stages_block(detector: nn.Module, parts: Sequence[Called], height: int) -> Block:
    """Table what each part and stage returns, map by map."""
    modules = tracked(detector)
    rows: list[tuple[object, ...]] = []
    for part in parts:
        if part.name == "backbone" and any(one.name.startswith("backbone.") for one in parts):
            continue  # its maps are those of its stages
        strides = getattr(modules.get(part.name), "strides", getattr(detector, "strides", ()))
        for place, (channels, rows_, columns) in enumerate(part.maps):
            first = place == 0
            title = part.title + (f", map {place}" if len(part.maps) > 1 else "")
            rows.append(
                (
                    title,
                    channels,
                    f"{columns}x{rows_}",
                    strides[place] if len(strides) == len(part.maps) else -(-height // rows_),
                    _field_text(part.fields[place] if part.fields else None),
                    f"{part.parameters:,}" if first else "",
                    f"{part.macs:,}" if first else "",
                )
            )
    notes = [
        "The receptive field is the part of the image on which the cell at the middle of a map depends, in "
        "pixels; statistics of whole maps (group norm, squeeze-and-excitation) are left out. Parameters and "
        "multiply-adds stand at the first map of a part."
    ]
    head = ("output", "channels", "cells", "stride", "receptive field", "parameters", "multiply-adds")
    return Block("Maps", notes, [table(head, rows)] if rows else [])


def _field_text(field: Field | None) -> str | None:
    if field is None or field == Field(None, None):
        return None if field is None else f"above {LARGEST}"
    return str(field)


class LevelRow:
    """A level of a detector with anchors.

    Args:
        number: from 0, the finest.
        level: its size.
        anchors: (A,4) of the cell at the middle.
        field: the receptive field of the head there, or None.
    """

    def __init__(self, number: int, level: Level, anchors: torch.Tensor, field: Field | None) -> None:
        self.number, self.level, self.anchors, self.field = number, level, anchors, field

    @property
    def sizes(self) -> str:
        """Widths and heights of the anchors of a cell."""
        shapes = (self.anchors[:, 2:] - self.anchors[:, :2]).tolist()
        return ", ".join(f"{width:.0f}x{height:.0f}" for width, height in shapes)

    def plain(self) -> dict[str, Any]:
        """Return the numbers for a JSON file."""
        shapes = (self.anchors[:, 2:] - self.anchors[:, :2]).tolist()
        return {
            **self.level._asdict(),
            "anchor_sizes_wh": [[round(side, 2) for side in shape] for shape in shapes],
            "receptive_field_wh": None if self.field is None else list(self.field),
        }


def _levels(subject: Subject, parts: Sequence[Called], image_hw: tuple[int, int]) -> list[LevelRow]:
    """Return the levels; none where the detector has no anchors."""
    anchors = getattr(subject.detector, "anchors", None)
    head = next((part for part in parts if part.name == "head"), None)
    counts = getattr(anchors, "num_anchors", None)
    if head is None or counts is None or not callable(anchors) or len(counts) != len(head.maps):
        return []
    sizes = [(height, width) for _, height, width in head.maps]
    strides = getattr(subject.detector, "strides", [-(-image_hw[0] // height) for height, _ in sizes])
    rows = []
    for number, ((height, width), count, stride, boxes) in enumerate(
        zip(sizes, counts, strides, anchors(sizes, image_hw, torch.device("cpu")))
    ):
        level = Level(height, width, count, stride)
        cell = middle_cell(level, image_hw) * count
        field = head.fields[number] if head.fields else None
        rows.append(LevelRow(number, level, boxes[cell : cell + count], field))
    return rows


def _levels_block(levels: Sequence[LevelRow]) -> Block:
    rows = []
    for one in levels:
        level, roots = one.level, sides(one.anchors)
        seen = min(filter(None, one.field or ()), default=None)
        rows.append(
            (
                f"{one.number}",
                level.stride,
                f"{level.width}x{level.height}",
                level.anchors,
                f"{level.count:,}",
                span(roots.min(), roots.max()),
                one.sizes,
                _field_text(one.field),
                None if seen is None else f"{seen / float(roots.max()):.1f}",
            )
        )
    notes = [
        f"{sum(one.level.count for one in levels):,} anchors in all. The last column is the receptive field "
        f"over the largest anchor's side: below 1, a cell cannot see all of an object that it is to find."
    ]
    head = ("level", "stride", "cells", "anchors a cell", "anchors", "side", "width x height")
    return Block("Levels", notes, [table((*head, "head sees", "sees / side"), rows)])


def _view(subject: Subject, wanted: Wanted, image_hw: tuple[int, int]) -> View:
    """Return the image on which levels are drawn."""
    named = wanted.files or wanted.numbers or wanted.ids
    with contextlib.nullcontext() if named else contextlib.suppress(DensedetError):
        return views_of(subject, wanted)[0]
    blank = blank_batch(1, subject.recipe.data.channels, *image_hw, torch.device("cpu"))
    return View("grey", "a grey image", blank, known=False)


def _pictures(levels: Sequence[LevelRow], view: View) -> Block:
    figures = [
        Figure(
            f"level_{one.number}",
            _level_picture(one, view),
            f"{level_name(one.number, one.level)}: its middle cell sees {_field_text(one.field)} pixels",
        )
        for one in levels
    ]
    notes = [f"On {view.title}: the anchors of the cell at the middle, and what the head sees there dashed."]
    return Block("What a cell sees", notes, figures=figures)


def _level_picture(one: LevelRow, view: View) -> Image.Image:
    field = torch.zeros(0, 4)
    if one.field is not None:
        middle = (one.anchors[0, :2] + one.anchors[0, 2:]) / 2
        half = torch.tensor([float(LARGEST if side is None else side) for side in one.field]) / 2
        field = torch.cat([middle - half, middle + half]).unsqueeze(0)
    canvas, shift, scale = around(view.image, torch.cat([one.anchors, field]))
    labels = torch.full((len(one.anchors),), one.number)
    seen = draw_boxes(
        canvas, (field + shift) * scale, labels[: len(field)], None, (), scale=1, style="dashed", names=False
    )
    return draw_boxes(seen, (one.anchors + shift) * scale, labels, None, (), scale=1, names=False)
