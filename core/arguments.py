"""Types for constructor arguments that a recipe may set: a range is checked while the recipe loads, with file
and line.

`Part(kind)` marks an argument that is itself a part: ``stages: Annotated[list[nn.Module], Part("neck")]``
lets the recipe write ``stages: [{name: fpn}, {name: pan}]`` and the constructor receive built parts. They are
wired by their place: the first neck gets the channels and strides that the outer part gets, the second those
of the first. Two arguments marked as necks get the same; a head beside them gets those of the last neck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

__all__ = [
    "BatchSize",
    "ChannelCount",
    "Factor",
    "LayerCount",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Part",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "Section",
    "Side",
]

Probability = Annotated[float, Field(ge=0, le=1)]
"""0..1, both ends allowed."""

Factor = Annotated[float, Field(gt=0, le=1)]
"""Above 0, at most 1."""


LayerCount = Annotated[int, Field(ge=0, le=200)]
"""A number of layers or levels, which are built one by one: a slip of the finger must not take hours."""


ChannelCount = Annotated[int, Field(gt=0, le=16_384)]
"""Channels of a map. A convolution between two of the largest has 10 GB of weights."""


Side = Annotated[int, Field(gt=0, le=32_768)]
"""Width or height of an image in pixels. A larger one is a slip of the finger, and no memory holds it."""


BatchSize = Annotated[int, Field(gt=0, le=65536)]
"""Images, or batches, that are in memory at once."""


@dataclass(frozen=True)
class Part:
    """Marks an argument as a part (or a list of parts) of this kind, to be built by the assembly.

    Attributes:
        kind: a kind of part, e.g. "neck".
    """

    kind: str


class Section(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)
