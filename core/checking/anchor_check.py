"""What the anchors of a recipe do for its objects, and what others would do, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from densedet.core import assembly
from densedet.core.checking.coverage import Group, NoCoverageError, Reach, Rows, groups_of
from densedet.core.checking.proposal import Proposal, propose
from densedet.core.recipe.loading import Recipe
from densedet.core.report.sections import Table
from densedet.core.showing.page import table
from densedet.core.text import counted


@dataclass(frozen=True, eq=False)
class AnchorCheck:
    """What the anchors of a recipe do for its objects.

    Attributes:
        classes: names in label order.
        strides: of the levels.
        cells: anchors that a cell may have in a proposal.
        groups: the objects.
        before: what the recipe's anchors do; None: that cannot be told.
        proposal: better ones; None: none were found.
        why: the sentence that tells why nothing is known.
    """

    classes: tuple[str, ...]
    strides: tuple[int, ...] = ()
    cells: int = 0
    groups: list[Group] = field(default_factory=list)
    before: Rows | None = None
    proposal: Proposal | None = None
    why: str = ""

    @property
    def both(self) -> list[Rows]:
        """The rows before, and those after where there is a proposal."""
        after = [] if self.proposal is None else [self.proposal.after]
        return [] if self.before is None else [self.before, *after]

    def plain(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        if self.before is None:
            return {"unknown": self.why}
        told: dict[str, Any] = {"images": self._images(), **self._rows(self.before)}
        if self.proposal is not None:
            told["proposal"] = {
                "overrides": self.proposal.overrides,
                "anchors_of_a_cell": self.proposal.cells,
                **self._rows(self.proposal.after),
            }
        return told

    def _images(self) -> int:
        return sum(len(group.ids) for group in self.groups)

    def _rows(self, rows: Rows) -> dict[str, Any]:
        return {
            "threshold": rows.threshold,
            "all": rows.share(),
            "classes": rows.by_class(self.classes),
            "sides": rows.by_side(),
            "levels": rows.by_level(self.strides),
        }

    def tables(self) -> list[Table]:
        """Return the shares by class, size and level, with those of the proposal beside them."""
        if not self.both:
            return []
        columns = ["positive", "fitting", "IoU"]
        head = ["objects", *columns, *([f"{name}, proposed" for name in columns] if self.proposal else [])]
        by_class = [{"all": rows.share(), **rows.by_class(self.classes)} for rows in self.both]
        by_side = [rows.by_side() for rows in self.both]
        return [
            table(["class", *head], [_cells(name, by_class) for name in by_class[0]]),
            table(["side in the input", *head], [_cells(name, by_side) for name in by_side[0]]),
            self._levels(),
        ]

    def _levels(self) -> Table:
        names = ["objects' share", "median side"]
        head = [
            "level",
            "stride",
            *names,
            *(f"{name}, proposed" for name in names[: 2 * (len(self.both) - 1)]),
        ]
        rows = []
        for levels in zip(*(rows.by_level(self.strides) for rows in self.both)):
            cells = [cell for row in levels for cell in (_percent(row["share"]), row["side"])]
            rows.append([levels[0]["level"], levels[0]["stride"], *cells])
        return table(head, rows)

    def heading(self) -> list[str]:
        """Return the sentences about the anchors; the first one comes before the tables."""
        if self.before is None:
            return [f"anchors: {self.why}"]
        lines = [
            f"anchors: objects of {counted(self._images(), 'augmented training image')} with a positive "
            f"anchor by the recipe's matcher, and with one that fits (IoU {self.before.threshold:g} or more; "
            f"others are positive for want of a better one)"
        ]
        if self.proposal is None:
            most = counted(self.cells, "anchor")
            return [*lines, f"no other arguments of these anchors, with at most {most} in a cell, do better"]
        before, after = self.before.share(), self.proposal.after.share()
        return [
            *lines,
            f"proposed: {' '.join(self.proposal.overrides)}",
            f"applied, {_percent(after['fitting'])} of the objects get an anchor that fits in place of "
            f"{_percent(before['fitting'])}, and {_percent(after['reached'])} a positive one in place of "
            f"{_percent(before['reached'])}",
        ]

    def lines(self) -> list[str]:
        """Return all of it for a terminal."""
        first, *others = self.heading()
        tables = [line for one in self.tables() for line in ["", *(f"  {line}" for line in one.lines())]]
        return [first, *tables, *([""] if tables else []), *others]


def check_anchors(
    recipe: Recipe,
    images: int,
    *,
    most: int | None = None,
    on_images: Callable[[int], None] | None = None,
) -> AnchorCheck:
    """Match the objects of augmented training images with the recipe's anchors, and look for better ones.

    Args:
        recipe: with its anchors.
        images: how many at most.
        most: anchors that a cell may have in a proposal; None: as many as it has now.
        on_images: called with the number of images that are done.
    """
    classes = assembly.class_table(recipe, assembly.build_source(recipe, "train"))
    try:
        reach = Reach(recipe, len(classes))
    except NoCoverageError as error:
        return AnchorCheck(classes, why=str(error))
    groups = groups_of(recipe, images, on_images)
    before = reach.rows(groups)
    proposal = propose(recipe, reach, groups, before, len(classes), most=most)
    cells = max(reach.anchors.num_anchors) if most is None else most
    return AnchorCheck(classes, tuple(reach.strides), cells, groups, before, proposal)


def _cells(name: str, shares: Sequence[dict[str, dict[str, Any]]]) -> list[object]:
    """Return a row of a table: name, objects, and the shares of each of ``shares``."""
    cells: list[object] = [name, f"{shares[0][name]['objects']:,}"]
    for share in shares:
        row = share[name]
        cells += [_percent(row["reached"]), _percent(row["fitting"])]
        cells.append(None if row["iou"] is None else f"{row['iou']:.2f}")
    return cells


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
