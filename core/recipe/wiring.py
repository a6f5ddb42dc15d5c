"""Which constructor arguments the assembly fills in, and from what; a recipe that sets one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from densedet.core.arguments import Factor, NonNegativeFloat
from densedet.registry import KINDS

CLASSES = "the classes of the source"

WIRED: dict[str, dict[str, str]] = {
    "backbone": {"in_channels": "data.color"},
    "neck": {"in_channels": "backbone.channels", "in_strides": "backbone.strides"},
    "anchors": {"strides": "neck.strides"},
    "head": {
        "in_channels": "neck.channels",
        "in_strides": "neck.strides",
        "num_anchors": "anchors.num_anchors",
        "class_channels": "class_loss.class_channels",
        "box_channels": "coder.box_channels",
        "class_bias": "class_loss.initial_bias",
    },
    "matcher": {"num_classes": CLASSES, "strides": "neck.strides"},
    "coder": {"num_classes": CLASSES, "strides": "neck.strides"},
    "class_loss": {"num_classes": CLASSES},
    "postprocess": {"num_classes": CLASSES, "strides": "neck.strides"},
    "detector": {
        "in_channels": "neck.channels",
        "in_strides": "neck.strides",
        "num_classes": CLASSES,
        "class_loss_weight": "model.class_loss.weight",
        "class_weights": "model.class_loss.class_weights",
        "box_loss_weights": "model.box_loss.weight",
        "box_loss_names": "model.box_loss.name",
    },
    "source": {"root": "data.root"},
    "sampler": {"source": "data.train", "seed": "train.seed"},
    "resize": {"size_wh": "data.input_size_wh"},
    "transform": {},  # torchvision's own `size` (height, width) is the recipe's to set
    "batch_transform": {"size_wh": "data.input_size_wh"},
    "optimizer": {"parameters": "the detector"},
    "evaluator": {"source": "data.val", "classes": "data.classes"},
    "hook": {"run": "the runner"},
}
"""kind -> {argument: the fact that it is wired from}. A fact is ``kind.attribute`` of the part of that kind,
or a value that the assembly knows by that name. An argument is wired only where the constructor names it. A
detector's arguments that are named after kinds are wired too: from the parts beside it in ``model``."""


@dataclass(frozen=True)
class Reserved:
    """A key of a part's mapping that the assembly keeps for itself.

    Attributes:
        hint: type of its values.
        default: its value where the recipe writes none.
        doc: what it does.
    """

    hint: Any
    default: Any
    doc: str


_WEIGHT = Reserved(NonNegativeFloat, 1.0, "factor on this loss")
_UNTIL = Reserved(
    Factor | None,
    None,
    "share of the training from which it is left out: with 0.9 the last tenth is without it; null: it takes "
    "part to the end",
)
RESERVED: dict[str, dict[str, Reserved]] = {
    "class_loss": {
        "weight": _WEIGHT,
        "class_weights": Reserved(
            Literal["inverse_frequency", "effective_number"]
            | list[NonNegativeFloat]
            | dict[str, NonNegativeFloat]
            | None,
            None,
            "factor on the loss of the anchors of each class, that of the background being 1: a mapping from "
            "names (1 where one is not named), a list in label order, or computed from the training images' "
            "boxes, with a mean of 1: inverse_frequency or effective_number (Cui et al. 2019, equation 4); "
            "null: 1 for all",
        ),
        "class_weights_beta": Reserved(
            Annotated[float, Field(ge=0, lt=1)],
            0.999,
            "beta of effective_number: 0 weights all classes alike, and towards 1 it is inverse_frequency",
        ),
    },
    "box_loss": {"weight": _WEIGHT},
    "transform": {"until": _UNTIL},
    "batch_transform": {"until": _UNTIL},
}
"""kind -> keys that the recipe may write into the part's mapping and that the assembly keeps for itself."""


def facts_for(kind: str) -> dict[str, str]:
    """List what a part of this kind may be wired from, as {argument: fact}."""
    parts = {name: f"model.{name}" for name in KINDS if name != kind} if kind == "detector" else {}
    return WIRED.get(kind, {}) | parts


def told_by(kind: str) -> dict[str, str]:
    """What other parts are wired from a part of this kind, as {fact: attribute of the part}."""
    facts = {fact for table in WIRED.values() for fact in table.values()}
    return {fact: fact.partition(".")[2] for fact in sorted(facts) if fact.partition(".")[0] == kind}


def in_words(fact: str) -> str:
    """A fact as messages name it: ``neck.strides`` is told by "the neck"."""
    kind = fact.partition(".")[0]
    return f"the {kind.replace('_', ' ')}" if kind in KINDS else fact
