"""The table of a checkpoint: each field with its type, which is checked on writing and on reading."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor

FORMAT = 3

MOST = 2**53
"""Counts above it are no counts; every one below is exact as a float, too."""

DEEPEST = 32
"""Levels of nested lists and mappings."""


def _tensors_and_plain(value: Any) -> Any:
    _walk(value, tensors=True, level=0, seen=set())
    return value


def _json_like(value: Any) -> Any:
    _walk(value, tensors=False, level=0, seen=set())
    return value


def _walk(value: Any, *, tensors: bool, level: int, seen: set[int]) -> None:
    """Refuse what is neither a plain value nor, where allowed, a tensor. Shared containers are looked at
    once: a small file can hold a list of lists of lists that is huge when written out."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str) or (tensors and _is_tensor(value)):
        return
    if kind not in (dict, OrderedDict, list, tuple):
        raise ValueError(f"a {kind.__name__} is {'no tensor and ' if tensors else ''}no plain value")
    if level == DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        for key in value:
            if not (isinstance(key, str) or (tensors and type(key) in (int, float, bool, type(None)))):
                raise ValueError(f"the key {key!r:.40} is no text")
    for item in value.values() if isinstance(value, dict) else value:
        _walk(item, tensors=tensors, level=level + 1, seen=seen)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta


def _tensor(value: Any) -> Any:
    if not _is_tensor(value):
        raise ValueError(f"a {type(value).__name__} is no tensor")
    return value


def _number(value: Any) -> Any:
    if type(value) not in (int, float):  # pydantic takes a tensor of one number for a number
        raise ValueError(f"a {type(value).__name__} is no number")
    return value


def _versions(weights: Any) -> Any:
    """Check what torch keeps beside a state dict: the version of each module."""
    kept = getattr(weights, "_metadata", None)
    if kept is not None and not (
        isinstance(kept, dict)
        and all(
            isinstance(name, str) and isinstance(row, dict) and set(map(type, row.values())) <= {int}
            for name, row in kept.items()
        )
    ):
        raise ValueError("the versions of its modules are not numbers")
    return weights


def _a_stem(name: str) -> str:
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise ValueError("no name of a recipe")
    return name


AnyTensor = Annotated[Any, BeforeValidator(_tensor)]
Plain = Annotated[Any, BeforeValidator(_tensors_and_plain)]
Json = Annotated[Any, BeforeValidator(_json_like)]
Weights = Annotated[dict[str, AnyTensor], Field(min_length=1), BeforeValidator(_versions)]
Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, Field(ge=0, le=MOST)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DataFingerprint(_Table):
    """What `densedet.core.data.fingerprint` makes of a source."""

    images: Count
    boxes: Count | None
    names: str
    order: str
    truth: str
    files: Count
    pixels: str
    times: str


class Fingerprints(_Table):
    """The data of a run."""

    train: DataFingerprint
    val: DataFingerprint | None


class Best(_Table):
    """The best evaluation so far."""

    value: Number | None
    step: Count


class StateDict(_Table):
    """An optimizer's state dict; one of a plug-in may have more entries."""

    model_config = ConfigDict(extra="allow", strict=True)

    state: dict[int, dict[str, Plain]]
    param_groups: list[dict[str, Plain]]
    __pydantic_extra__: dict[str, Plain]


class OptimizerState(_Table):
    """What `densedet.core.training.optimizer_state` keeps."""

    name: str
    parameters: list[str]
    at_start: list[dict[str, Plain]]
    torch: StateDict


class Metrics(_Table):
    """The numbers of an evaluation; an evaluator may add its own."""

    model_config = ConfigDict(extra="allow", strict=True)

    losses: dict[str, Number] = {}
    images: Count = 0
    broken_images: list[str] = []
    __pydantic_extra__: dict[str, Json]


class Counters(_Table):
    """What a run counts."""

    images_seen: Count
    lost_boxes: Count
    broken_images: dict[Annotated[str, Field(pattern="^[0-9]{1,15}$")], str]


class Thresholds(_Table):
    """Scores from which on a detection counts, of the averaged weights where there are any."""

    scores: list[Annotated[Number, Field(ge=0, le=1)] | None] = Field(
        description="of each class; None: none could be found"
    )
    wish: str = Field(description="what they are to reach, in words")
    images: str = Field(description="the images that they were found on, in words")
    fingerprint: DataFingerprint = Field(description="of these images")


class Fields(_Table):
    """The state of a run."""

    format: Literal[3] = Field(description="version of this table")
    densedet: str = Field(description="version that wrote it")
    recipe: str = Field(description="the resolved recipe, YAML text")
    recipe_name: Annotated[str, AfterValidator(_a_stem)] = Field(description="its name")
    classes: list[str] = Field(min_length=1, description="class names in label order")
    category_ids: list[int | None] = Field(description="the data set's id of each class")
    step: Count = Field(description="optimizer steps done")
    epoch: Count = Field(description="epochs done")
    images: Count = Field(description="images of the current epoch done, of all processes")
    seconds: Annotated[Number, Field(ge=0, le=MOST, allow_inf_nan=False)] = Field(
        description="seconds spent in the training loop"
    )
    detector: Weights = Field(description="weights being trained")
    ema: Weights | None = Field(description="averaged weights, or None")
    optimizer: OptimizerState | None = Field(description="the optimizer's state, or None in best.pt")
    precision: Literal["float32", "bf16", "float16"] | None = Field(
        None, description="that it trains in, chosen before the first step; None: it has not been chosen"
    )
    scaler: dict[str, Number] = Field(description="the gradient scaler's state, empty where it is off")
    best: Best = Field(description="best value of evaluate.metric so far and its step")
    metrics: Metrics = Field(description="of the last evaluation; empty before the first")
    stale: Count = Field(description="evaluations since the best one")
    evaluations: Count = Field(description="evaluations done")
    fingerprints: Fingerprints = Field(description="what the data were")
    counters: Counters = Field(description="what a run counts")
    plugins: dict[str, dict[str, Plain]] = Field(description="{hook: what its densedet_state gave}")
    thresholds: Thresholds | None = Field(
        description="found for these very weights by densedet evaluate --thresholds --save, or None"
    )

    @model_validator(mode="after")
    def _one_id_a_class(self) -> Fields:
        if len(self.category_ids) != len(self.classes):
            raise ValueError("category_ids has another length than classes")
        if self.thresholds is not None and len(self.thresholds.scores) != len(self.classes):
            raise ValueError("thresholds.scores has another length than classes")
        return self
