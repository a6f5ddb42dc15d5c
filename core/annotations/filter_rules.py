"""The recipe's section on which images and boxes count; `densedet.core.annotations.filters` applies it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from densedet.core.arguments import NonNegativeFloat, NonNegativeInt, PositiveInt, Section


class FilterSection(Section):
    """Which images and boxes count. A rule that takes a box out wins over one that has it ignored."""

    where: str | None = Field(
        None,
        description="SQL on images and boxes, e.g. \"width > 500 and class in ('person', 'car')\"; "
        "images with no such row are left out",
    )
    crowd: Literal["ignore", "drop", "count"] = Field(
        "ignore", description="crowd boxes: ignored, taken out, or counted as one object"
    )
    min_side: NonNegativeFloat = Field(0.0, description="smallest shorter side of a box in source pixels")
    min_input_side: NonNegativeFloat = Field(
        0.0, description="smallest shorter side of a box in pixels of the network's input"
    )
    rest: Literal["ignore", "drop"] = Field(
        "ignore",
        description="boxes of other classes, below the sizes or not meant by `where`: ignored (no "
        "anchor learns that they are background) or taken out",
    )
    empty: Literal["keep", "drop"] = Field("keep", description="images without a box that counts")
    fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="share of the images that is drawn"
    )
    limit: PositiveInt | None = Field(None, description="number of images that is drawn at most")
    seed: NonNegativeInt = Field(0, description="of the drawing")

    @field_validator("where")
    @classmethod
    def _is_sql(cls, text: str | None) -> str | None:
        if text is not None:
            from densedet.core.annotations.where import check_where_syntax  # numpy: only where it is needed

            check_where_syntax(text)
        return text
