"""What is wrong with a data set, in the order of how much it hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from densedet.core.annotations.table import AnnotationTable
from densedet.core.checking.coverage import Rows
from densedet.core.data.checking import SIDES, problems, repeated
from densedet.core.data.copies import copies
from densedet.core.text import counted

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

SHOWN = 6
"""Images that show a finding."""
FEW = 20
"""Boxes of a class below which hardly anything is learned of it."""
RATIO = 100
"""Boxes of the most frequent class to those of a rarer one from which on the balance is worth a warning."""
TINY = "4"
"""Side in the input, one of `densedet.core.data.checking.SIDES`, below which an object is a dot."""
MANY = 0.1
"""Share of tiny objects from which on that is worth a warning."""
UNREACHED, UNFIT = 0.02, 0.2
"""Shares of objects without a positive anchor, and without one that fits, from which on that is one."""

assert int(TINY) in SIDES


@dataclass(frozen=True)
class Finding:
    """Something about a data set.

    Attributes:
        severity: "error": training refuses it or means nothing; "warning": results suffer or mislead;
            "note": good to know.
        kind: what it is about, in a word or two with underscores.
        sentence: what was found, and what to do.
        examples: each in a line.
        images: (split, position in its source) of images that show it.
    """

    severity: Severity
    kind: str
    sentence: str
    examples: list[str] = field(default_factory=list)
    images: list[tuple[str, int]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the finding for a JSON file."""
        return asdict(self)


def findings_of(facts: dict[str, dict[str, Any]], tables: Mapping[str, AnnotationTable]) -> list[Finding]:
    """Return the findings of each split and of both together, the worst first.

    Args:
        facts: by split, from `densedet.core.data.checking.check_source`, the digests and thumbnails included.
        tables: by split, the annotations.
    """
    found = [finding for split, row in facts.items() for finding in _of_split(split, row, tables[split])]
    if "train" in facts and "val" in facts:
        found += _of_both(facts["train"], facts["val"], tables)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _of_split(split: str, row: dict[str, Any], table: AnnotationTable) -> list[Finding]:
    found = []

    def add(
        severity: Severity,
        kind: str,
        sentence: str,
        examples: Sequence[str] = (),
        images: Sequence[int] = (),
    ) -> None:
        shown = [(split, index) for index in images[:SHOWN]]
        found.append(Finding(severity, kind, f"{split}: {sentence}", list(examples), shown))

    def showing(names: Sequence[str]) -> list[int]:
        """Return the first image of each class."""
        owners, labels = table.owners()[table.flags == 0], table.labels[table.flags == 0]
        firsts = [owners[labels == table.classes.index(name)][:1] for name in names]
        return [int(index) for first in firsts for index in first]

    boxes = {one["name"]: one["boxes"] for one in row["classes"]}
    if wrong := problems(row):
        what = "box or image" if wrong == 1 else "boxes or images"
        examples = [*row["invalid_boxes"], *row["broken_images"]]
        left = f": {row['wrong']}" if row["wrong"] else ""
        add("error", "broken", f"{wrong:,} {what} cannot be used{left}", examples)
    elif row["invalid_boxes"]:
        add("note", "mended", row["wrong"] or "boxes worth a look", row["invalid_boxes"])
    if not sum(boxes.values()):
        add("error", "no_boxes", "no box counts: nothing can be learnt from these images")
    if row.get("filter") and not row["filter"]["boxes"]:
        add("error", "filtered", f"{row['filter']['rules']} leaves no object that counts")
    if row["duplicate_boxes"]:
        count = counted(len(row["duplicate_boxes"]), "box")
        add("warning", "duplicate_boxes", f"{count} twice: each counts twice", row["duplicate_boxes"])
    if row["duplicate_names"]:
        count = counted(len(row["duplicate_names"]), "file name")
        add("warning", "duplicate_names", f"{count} twice", row["duplicate_names"])
    if row["duplicate_images"]:
        groups = [" = ".join(group) for group in row["duplicate_images"]]
        places = [at for group in repeated(row["digests"]) for at in group[:2]]
        add("warning", "duplicate_images", "images that are the same byte for byte", groups, places)
    some = {name: count for name, count in boxes.items() if count}
    most = max(some.values(), default=0)
    few = [name for name, count in some.items() if count < FEW]
    if few and split == "train":
        told = f"{counted(len(few), 'class')} with less than {FEW} boxes"
        add("warning", "few_boxes", told, [f"{n}: {counted(some[n], 'box')}" for n in few], showing(few))
    rare = [name for name, count in some.items() if most >= RATIO * count]
    if rare:
        add(
            "warning",
            "class_balance",
            f"{counted(len(rare), 'class')} with less than a {RATIO}th of the most frequent one's boxes: AP "
            f"counts all classes alike, training counts boxes",
            [f"{name}: 1 to {most / some[name]:.0f}" for name in rare],
            showing(rare),
        )
    absent = [name for name, count in boxes.items() if not count]
    if absent:
        add("note", "absent_classes", f"{counted(len(absent), 'class')} without a box", absent)
    total, tiny = sum(boxes.values()), row["sides"]["below"][TINY]
    if total and tiny > MANY * total:
        add(
            "warning",
            "tiny_objects",
            f"{tiny:,} boxes ({tiny / total:.0%}) are smaller than {TINY} pixels in the network's input: "
            f"give a larger data.input_size_wh",
            images=_smallest(table),
        )
    if row["empty_images"]:
        add("note", "empty_images", f"{counted(row['empty_images'], 'image')} without a box")
    return found


def _smallest(table: AnnotationTable) -> list[int]:
    """Return the images with the smallest boxes, as shares of their images."""
    owners = table.owners()[table.flags == 0]
    shares = table.xywh[table.flags == 0, 2:].prod(1) / table.sizes[owners].prod(1)
    return list(dict.fromkeys(owners[np.argsort(shares, kind="stable")].tolist()))[:SHOWN]


def _of_both(
    train: dict[str, Any], val: dict[str, Any], tables: Mapping[str, AnnotationTable]
) -> list[Finding]:
    found = []
    first, second = tables["train"], tables["val"]
    known = {one["name"] for one in train["classes"] if one["boxes"]}
    lacking = sorted(one["name"] for one in val["classes"] if one["boxes"] and one["name"] not in known)
    if lacking:
        found.append(
            Finding(
                "warning",
                "unknown_classes",
                f"{counted(len(lacking), 'class')} with boxes in val and none in train: AP counts what "
                f"cannot be learned",
                lacking,
            )
        )
    same = set(train.get("digests", ())) - {None}
    places = [at for at, digest in enumerate(val.get("digests", ())) if digest in same]
    if places:
        found.append(
            Finding(
                "warning",
                "shared_images",
                f"{counted(len(places), 'image')} of val, byte for byte, in train too: AP on them says "
                f"nothing",
                [second.name(at) for at in places],
                [("val", at) for at in places],
            )
        )
    near = [
        pair for pair in copies(*(row.get("thumbnails", ()) for row in (train, val))) if pair[1] not in places
    ]
    if near:
        found.append(
            Finding(
                "warning",
                "near_copies",
                f"{counted(len(near), 'image')} of val in train too, encoded anew or at another size: AP on "
                f"them says nothing",
                [f"val {second.name(j)} is train {first.name(i)}" for i, j, _ in near],
                [at for i, j, _ in near for at in (("val", j), ("train", i))],
            )
        )
    return found


def coverage_findings(rows: Rows, classes: Sequence[str]) -> list[Finding]:
    """Return what is worth a warning about the anchors."""
    found = []
    every = rows.share()
    if not every["objects"]:
        return []
    for column, limit, kind, what in (
        ("reached", UNREACHED, "unreached", "get no positive anchor, so that nothing is learned of them"),
        ("fitting", UNFIT, "unfit", f"get no anchor of an IoU of {rows.threshold:g} or more"),
    ):
        missing = 1 - every[column]
        if missing > limit:
            own = {name: row for name, row in rows.by_class(classes).items() if row["objects"]}
            worst = sorted(own, key=lambda name: own[name][column])[:10]
            found.append(
                Finding(
                    "warning",
                    kind,
                    f"anchors: {missing:.1%} of the objects {what}",
                    [f"{name}: {1 - own[name][column]:.1%} of {own[name]['objects']:,}" for name in worst],
                )
            )
    return found
