"""A ladder of arms from one recipe to another: its rungs, and pairs of steps in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from densedet.core.statistics.differences import Difference, Interaction


@dataclass(frozen=True)
class Step:
    """One change of a ladder.

    Attributes:
        title: what changes, in a word, such as "neck"; of parts that change together "anchors + head".
        below: name of the arm without it.
        above: name of the arm with it.
        changes: {dotted path: what it was and becomes, in words}.
        refused: sentences on why it does not come earlier, or its parts not one by one.
    """

    title: str
    below: str
    above: str
    changes: dict[str, str]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Swap:
    """Two neighbouring steps in the other order.

    Attributes:
        lower: the step that comes first on the ladder.
        upper: the step that follows it.
        arm: name of the arm that has the upper step without the lower one; "" where none is trained.
        why: why none can be built; "" where one can be.
    """

    lower: Step
    upper: Step
    arm: str = ""
    why: str = ""


@dataclass
class Ladder:
    """A ladder, and what its runs tell on one data set.

    Attributes:
        steps: from the bottom to the top.
        swaps: of each two neighbouring steps.
        gains: {(upper arm, lower arm): the metric of the one minus that of the other}, of the steps and of
            the whole ladder corrected for their number; of steps in the other order as they are.
        interactions: {arm of a swap: how much more each of its two steps gains on top of the other}.
    """

    steps: Sequence[Step]
    swaps: Sequence[Swap]
    gains: dict[tuple[str, str], Difference] = field(default_factory=dict)
    interactions: dict[str, Interaction] = field(default_factory=dict)

    def blank(self) -> Ladder:
        """Return the same ladder without results."""
        return replace(self, gains={}, interactions={})

    @property
    def rungs(self) -> list[str]:
        """Names of the arms from the bottom to the top."""
        return [self.steps[0].below, *(step.above for step in self.steps)]

    @property
    def whole(self) -> tuple[str, str]:
        """Names of the arms at the top and at the bottom."""
        return self.steps[-1].above, self.steps[0].below

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(upper arm, lower arm) of the whole ladder, then of each step."""
        steps = [(step.above, step.below) for step in self.steps]
        return [self.whole, *steps] if len(steps) > 1 else steps

    @property
    def trained_swaps(self) -> list[Swap]:
        """The swaps that have an arm."""
        return [swap for swap in self.swaps if swap.arm]

    def gains_of(self, step: Step) -> Iterator[tuple[str, Difference]]:
        """Yield (order, gain) of a step: in the ladder's order, before the step below it, after the one above
        it; as far as they are known."""
        places = [("", (step.above, step.below))]
        for swap in self.trained_swaps:
            if swap.upper == step:
                places.append((f"before {swap.lower.title}", (swap.arm, swap.lower.below)))
            if swap.lower == step:
                places.append((f"after {swap.upper.title}", (swap.upper.above, swap.arm)))
        yield from ((order, self.gains[pair]) for order, pair in places if pair in self.gains)

    def plain(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        whole = self.gains.get(self.whole)
        return {
            "steps": [
                {
                    **asdict(step),
                    "gains": [{"order": order, **told.to_dict()} for order, told in self.gains_of(step)],
                }
                for step in self.steps
            ],
            "swaps": [
                {
                    "lower": swap.lower.title,
                    "upper": swap.upper.title,
                    "arm": swap.arm,
                    "why": swap.why,
                    "interaction": told.to_dict() if (told := self.interactions.get(swap.arm)) else None,
                }
                for swap in self.swaps
            ],
            "whole": whole.to_dict() if whole else None,
        }
