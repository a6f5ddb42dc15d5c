"""What an exported file tells of itself: all that is needed from an image file to named detections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from densedet.core.errors import CheckpointError
from densedet.core.recipe.loading import Recipe, recipe_from_dict
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.suppression import Suppression

PREFIX = "densedet."
"""Begins the names of the entries in an ONNX file's metadata; each entry is JSON."""

LATER = (
    *("run", "train", "evaluate", "data.train", "data.val", "data.sampler"),
    *("data.transforms", "data.batch_transforms", "model"),
)
"""Dotted paths of a recipe whose parts an exported file does without when it predicts: its network is built
already, and a source or an evaluator may be unknown until it is asked for."""

Count = Field(ge=1, le=1 << 31)


class Thresholds(BaseModel):
    """Scores from which on a detection counts, as in a checkpoint."""

    model_config = ConfigDict(extra="ignore")

    scores: list[float | None]
    wish: str
    images: str


class Description(BaseModel):
    """The metadata of an exported file.

    Attributes:
        format: version of these fields.
        densedet: version that wrote the file.
        recipe: the resolved recipe, YAML text.
        recipe_name: its name.
        classes: names in label order; an empty one stands for no class.
        category_ids: the data set's id of each class.
        thresholds: of the checkpoint, or None.
        channels: of the images, 1 (grey) or 3 (RGB).
        image_type: "uint8", or "float32" with values 0..255.
        height: of the input in pixels, or None where it is free.
        width: of the input in pixels, or None where it is free.
        mean: of each channel, for values 0..255; subtracted in the graph.
        std: of each channel; divided by in the graph.
        counts: anchors of each level; None where the input's size is free.
        nms: whether the graph suppresses and gives detections; otherwise it gives boxes and scores of all
            anchors.
        suppression: how to suppress; None where the postprocess has not told.
        extra: names of further outputs, what each detection or anchor carries.
        keypoints: those of them that are keypoints.
        opset: of the graph, 0 where it is no ONNX.
        weights: "float32" or "int8".
        checked: {"images": how many, "difference": the largest difference to PyTorch}.
    """

    model_config = ConfigDict(extra="ignore")

    format: Literal[1] = 1
    densedet: str
    recipe: str
    recipe_name: str
    classes: list[str] = Field(min_length=1)
    category_ids: list[int | None]
    thresholds: Thresholds | None = None
    channels: Literal[1, 3]
    image_type: Literal["uint8", "float32"]
    height: int | None = Count
    width: int | None = Count
    mean: list[float]
    std: list[float]
    counts: list[int] | None
    nms: bool
    suppression: Suppression | None
    extra: list[str] = []
    keypoints: list[str] = []
    opset: int = 0
    weights: Literal["float32", "int8"] = "float32"
    checked: dict[str, float] = {}

    @model_validator(mode="after")
    def _fits(self) -> Description:
        if len(self.category_ids) != len(self.classes):
            raise ValueError("category_ids has another length than classes")
        if self.thresholds is not None and len(self.thresholds.scores) != len(self.classes):
            raise ValueError("thresholds.scores has another length than classes")
        return self

    def entries(self) -> dict[str, str]:
        """Return the fields as an ONNX file's metadata."""
        values = self.model_dump(mode="json")
        return {f"{PREFIX}{name}": json.dumps(value, ensure_ascii=False) for name, value in values.items()}

    def load_recipe(self, plugins: Sequence[str] = ()) -> Recipe:
        """Return the recipe; ``plugins`` are files that it needs. The parts that the network was made of need
        not be known here."""
        values = parse_yaml(self.recipe, self.recipe_name).plain()
        if not isinstance(values, dict):
            raise CheckpointError("the recipe in this file is no mapping: densedet has not written it")
        return recipe_from_dict(values, name=self.recipe_name, plugins=plugins, spared=LATER)


def read_entries(entries: Mapping[str, str], file: str) -> Description:
    """Read a description out of a file's metadata.

    Raises:
        CheckpointError: the file is not one of `densedet export`.
    """
    own = {name.removeprefix(PREFIX): text for name, text in entries.items() if name.startswith(PREFIX)}
    if "format" not in own:
        raise CheckpointError(f"{file} tells nothing of densedet: make one with densedet export RUN")
    try:
        values: dict[str, Any] = {name: json.loads(text) for name, text in own.items()}
        return Description.model_validate(values)
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        place = ".".join(map(str, first["loc"])) if first else "its metadata"
        why = first["msg"] if first else str(error)
        raise CheckpointError(
            f"{file} is no file of densedet export: {place or 'its fields'}: {why}"
        ) from error
