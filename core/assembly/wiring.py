"""What is known for wiring: values of the recipe and attributes of the parts that are built.

data -> backbone -> neck -> anchors, class loss, coder -> head -> matcher, box loss, postprocess -> detector.
The same order holds for parts nested in a part; in a list of necks, each follows the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from densedet.core.recipe.wiring import CLASSES, facts_for, told_by

ORDER = (
    "backbone",
    "neck",
    "anchors",
    "class_loss",
    "coder",
    "head",
    "matcher",
    "box_loss",
    "postprocess",
)
"""Kinds in the order in which they are built; all others come after these."""

T = TypeVar("T")


def in_order(pairs: Iterable[tuple[str, T]]) -> list[tuple[str, T]]:
    """Sort (kind, anything) pairs into the order of building; pairs of one kind keep their order."""
    return sorted(pairs, key=lambda pair: ORDER.index(pair[0]) if pair[0] in ORDER else len(ORDER))


@dataclass(frozen=True)
class Wiring:
    """Facts that hold at one place of a recipe.

    Attributes:
        facts: values by the names that `densedet.core.recipe.wiring.WIRED` uses, e.g. "neck.strides".
    """

    facts: dict[str, Any]

    def arguments(self, kind: str) -> dict[str, Any]:
        """Return the wired arguments of a part of this kind that are known here, by name."""
        return {name: self.facts[fact] for name, fact in facts_for(kind).items() if fact in self.facts}

    def after(self, kind: str, part: Any) -> Wiring:
        """Add the attributes of a freshly built part from which later parts are wired.

        Args:
            kind: the part's kind. A backbone and a neck set the same facts: a neck follows either of them,
                and what follows a neck follows the backbone where there is no neck.
            part: the part, which has the attributes of its contract.

        Returns:
            The facts that hold after the part.

        Raises:
            AttributeError, TypeError, ValueError: where the part does not keep its contract.
        """
        facts = dict(self.facts)
        stages = ("backbone", "neck")
        for stage in stages if kind in stages else (kind,):
            facts.update({fact: self._read(part, attribute) for fact, attribute in told_by(stage).items()})
        return Wiring(facts)

    def _read(self, part: Any, attribute: str) -> Any:
        if attribute == "class_channels":
            return self.facts[CLASSES] + (part.background_channel != "none")
        value = getattr(part, attribute)
        return {"box_channels": int, "initial_bias": float}.get(attribute, tuple)(value)
