"""The sections of a recipe as typed tables: the recipe checker, the JSON schema and the engine read the same
ones.

Arguments marked `Part(kind)` are parts, written ``{name: ..., argument: ...}``. Of the section ``model`` only
what is no part stands here: its other keys follow from the constructor of the recipe's detector.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.arguments import (
    BatchSize,
    NonNegativeFloat,
    Part,
    PositiveFloat,
    PositiveInt,
    Section,
    Side,
)
from densedet.core.text import counted

LR_IS_FOR = 16
"""Images a step that the learning rate of a recipe with ``train.batch_size: auto`` is meant for."""


def section_of_field(info: FieldInfo | None) -> type[Section] | None:
    """The section that stands in a field of another one, or None."""
    hint = info.annotation if info else None
    return hint if isinstance(hint, type) and issubclass(hint, Section) else None


class Budget(Section):
    """How long to train: exactly one of the three."""

    steps: PositiveInt | None = Field(None, description="optimizer steps")
    epochs: PositiveInt | None = Field(None, description="passes over the training images")
    minutes: PositiveFloat | None = Field(
        None, description="minutes in the training loop; evaluation and checkpoints not counted"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        given = [k for k in ("steps", "epochs", "minutes") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of steps, epochs, minutes (given: {', '.join(given) or 'none'})"
            )
        return self


class DataSection(Section):
    """Where images come from and how they reach the network."""

    root: str = Field(
        ".",
        description="folder that relative paths of the sources start from, itself relative to the "
        "working directory",
    )
    train: Annotated[Any, Part("source")] = Field(..., description="training images and boxes")
    val: Annotated[Any, Part("source")] = Field(
        None, description="images to evaluate on; null: no evaluation"
    )
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="where `val` is null: this share of the training images, drawn by `holdout_seed`, is "
        "held out to evaluate on",
    )
    holdout_seed: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        None, description="draws the images of `holdout`; null: train.seed does"
    )
    input_size_wh: tuple[Side, Side] = Field(
        (128, 64), description="WIDTH, HEIGHT of the network's input in pixels"
    )
    color: Literal["grey", "rgb"] = Field("grey", description="grey: 1 channel; rgb: 3")
    value_range: tuple[FiniteFloat, FiniteFloat] | None = Field(
        None,
        description="the values that become black and white in images of more than 8 bits a channel (16-bit "
        "PNG, TIFF, floats), e.g. [0, 4095]; null: guessed for each image from its largest value",
    )
    max_megapixels: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="larger images are refused; null: Pillow's own limit, 179"
    )
    resize: Annotated[Any, Part("resize")] = Field(
        {"name": "exact"}, description="how an image of another size gets to `input_size_wh`"
    )
    pad_to: Side = Field(1, description="batches are padded right and bottom to a multiple of this")
    classes: list[str | None] | None = Field(
        None,
        description="names to train on, in label order; boxes of other classes become ignored; null: "
        "all. A null in the list is a slot of "
        "the network that stands for nothing",
    )
    category_ids: list[int | None] | None = Field(
        None,
        description="the data set's id of each of `classes`, for results where no source tells; null: "
        "the source's, else 0, 1, 2 ...",
    )
    transforms: Annotated[list[Any], Part("transform")] = Field(
        [], description="augmentation of one training sample, in order"
    )
    batch_transforms: Annotated[list[Any], Part("batch_transform")] = Field(
        [], description="augmentation of a training batch, in order"
    )
    sampler: Annotated[Any, Part("sampler")] = Field(
        {"name": "shuffle"}, description="order of the training images in each epoch"
    )
    workers: Annotated[int, Field(ge=0, le=512)] | Literal["auto"] = Field(
        0,
        description="loader processes; 0 loads in the main process; auto: 0 where the CPU trains, since it "
        "needs the cores, and beside a GPU one for each core that the process may use, 8 at most",
    )
    filter: FilterSection = Field(
        FilterSection.model_validate({}),
        description="which training images and boxes count (before `holdout`)",
    )
    val_filter: FilterSection = Field(
        FilterSection.model_validate({}), description="the same for `val`; it changes what AP means"
    )
    broken_images: Literal["stop", "skip"] = Field(
        "stop", description="an image that cannot be read ends the run, or is left out and named at the end"
    )
    working_size_wh: tuple[Side, Side] | None = Field(
        None,
        description="WIDTH, HEIGHT at which training images are cached and augmented before they go to "
        "`input_size_wh`; null: `input_size_wh`",
    )
    input_sizes_wh: list[tuple[Side, Side]] | None = Field(
        None,
        description="multi-scale training: WIDTH, HEIGHT of the network's input, one drawn for each "
        "batch; evaluation is at `input_size_wh`",
    )
    cache_gb: NonNegativeFloat = Field(
        4.0, description="decoded images are kept on disk, at most this much a source; 0: decode every time"
    )
    cache_folder: str | None = Field(
        None, description="where; null: $DENSEDET_CACHE, else the user's cache folder"
    )

    @field_validator("value_range")
    @classmethod
    def _black_to_white(cls, values: tuple[float, float] | None) -> tuple[float, float] | None:
        if values is not None and not values[0] < values[1]:
            raise ValueError("write the value of black first, and a larger one of white")
        return values

    @field_validator("holdout")
    @classmethod
    def _beside_no_val(cls, share: float | None, info: ValidationInfo) -> float | None:
        if share is not None and info.data.get("val") is not None:
            raise ValueError("there is a data.val already: delete one of the two")
        return share

    @field_validator("classes")
    @classmethod
    def _named_once(cls, names: list[str | None] | None) -> list[str | None] | None:
        if names is not None:
            named = [name for name in names if name is not None]
            if len(set(named)) != len(named):
                raise ValueError("a class is listed twice")
            if not named or "" in named:
                raise ValueError(
                    "name at least one class, none of them empty; write null for all of the source's"
                )
        return names

    @field_validator("category_ids")
    @classmethod
    def _as_many_as_classes(
        cls, ids: list[int | None] | None, info: ValidationInfo
    ) -> list[int | None] | None:
        classes = info.data.get("classes")
        if ids is not None and classes is not None and len(ids) != len(classes):
            raise ValueError(
                f"has {counted(len(ids), 'id')} for {counted(len(classes), 'class')}: write one for each, or "
                f"data.category_ids=null"
            )
        return ids

    @property
    def channels(self) -> int:
        """Channels of the images: 1 for grey, 3 for rgb."""
        return 1 if self.color == "grey" else 3


class ParameterGroup(Section):
    """How the parameters of one name pattern train."""

    lr: PositiveFloat = Field(1.0, description="factor on the optimizer's learning rate")
    weight_decay: NonNegativeFloat | None = Field(
        None, description="of weights with two axes or more; null: the optimizer's"
    )
    start: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="progress (0..1) from which these parameters train; until then they stay as they are"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="further factor on the learning rate, once more for each stage (direct child of the "
        "part, such as backbone.layer1; children of the only child, such as backbone.body.layer1) that lies "
        "before the last one; null: none",
    )


class TrainSection(Section):
    """How the detector is trained."""

    budget: Budget = Field(..., description="how long: {epochs: 12}, {steps: 1000} or {minutes: 10}")
    batch_size: BatchSize | Literal["auto"] = Field(
        LR_IS_FOR,
        description="images per optimizer step and accumulation step, over all processes; auto: on a GPU as "
        "many as fit and make it faster, on a CPU 16 or as many as fit; the optimizer's lr is then meant for "
        "16 and grows in proportion, and both numbers stand in the run's recipe.yaml",
    )
    optimizer: Annotated[Any, Part("optimizer")] = Field(
        {"name": "adamw"}, description="what turns gradients into steps"
    )
    schedule: Annotated[Any, Part("schedule")] = Field(
        {"name": "cosine"}, description="learning rate over the budget"
    )
    accumulate: BatchSize = Field(1, description="batches whose gradients are added up before a step")
    clip_norm: PositiveFloat | None = Field(
        10.0, description="largest norm of the whole gradient; null: no clipping"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        0.998,
        description="decay of the averaged weights that evaluation and best.pt use, ramped up from 0; "
        "null: none",
    )
    precision: Literal["auto", "float32", "bf16", "float16"] = Field(
        "auto",
        description="of training (judging and predicting are float32); auto: the faster one, measured before "
        "the first step in runs of 300 steps and more, float32 in shorter ones",
    )
    compile: Literal["auto", "off", "on"] = Field(
        "auto",
        description="torch.compile of backbone, neck and head while they train, on a GPU as CUDA graphs; "
        "auto: on a GPU where it pays, measured before the first step in runs of 5000 steps and more; off "
        "elsewhere",
    )
    sync_batch_norm: bool = Field(
        False,
        description="whether batch norm takes its statistics over the images of all GPUs of a torchrun; "
        "false: over those of each process",
    )
    channels_last: bool = Field(True, description="memory format of images and convolutions")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    threads: Annotated[int, Field(gt=0, le=1024)] | None = Field(
        None, description="CPU threads; null: as many as there are cores that this process may use"
    )
    seed: Annotated[int, Field(ge=0, le=2**53)] = Field(0, description="of weights, order and augmentation")
    deterministic: bool = Field(False, description="refuse operations that may differ between runs")
    evaluations: PositiveInt = Field(
        4, description="how often to evaluate, spread evenly over the budget; the last is at its end"
    )
    early_stop: PositiveInt | None = Field(
        None, description="stop after this many evaluations without a better AP"
    )
    frozen: list[str] = Field(
        [],
        description="name patterns of parameters that stay as they are, e.g. 'backbone.*'; a batch norm of "
        "which all are named keeps its statistics, too",
    )
    parameter_groups: dict[str, ParameterGroup] = Field(
        {},
        description="how parameters train, by name pattern, e.g. {'backbone.*': {lr: 0.1}}; the "
        "first that fits counts",
    )

    @property
    def images(self) -> int:
        """``batch_size``, or `LR_IS_FOR` where it is still "auto"."""
        return LR_IS_FOR if self.batch_size == "auto" else self.batch_size


class ModelValues(Section):
    """What stands in ``model`` beside the parts."""

    weights: str | None = Field(
        None,
        description="the whole detector's weights to start from: a file (ours or torchvision's names), "
        "or torchvision's name of published ones; null: none",
    )


class EvaluateSection(Section):
    """How it is evaluated."""

    evaluator: Annotated[Any, Part("evaluator")] = Field(
        {"name": "coco"}, description="what computes the numbers"
    )
    metric: str = Field(
        "AP",
        description="the number that best.pt, early stop and comparisons go by; a dotted path such as "
        "classes.person.AP reaches inside",
    )
    higher_is_better: bool = Field(True, description="whether a larger metric is better")
    batch_size: BatchSize = Field(32, description="images per forward pass")


class RunSection(Section):
    """What is written and shown while it runs."""

    folder: str = Field("runs", description="run folders are made below it: FOLDER/RECIPE/1, 2, ...")
    hooks: Annotated[list[Any], Part("hook")] = Field(
        [
            {"name": "metrics"},
            {"name": "checkpoint"},
            {"name": "tensorboard"},
            {"name": "pictures"},
            {"name": "progress"},
        ],
        description="called in this order at each event of the run",
    )


class Expectation(Section):
    """What a recipe reaches, each seed on an idle machine; ``densedet benchmark recipes`` proves it."""

    AP: Annotated[float, Field(gt=0, le=1)] = Field(
        ..., description="least mean of the metric over the seeds"
    )
    minutes: PositiveFloat = Field(..., description="most minutes of training of each seed, on two cores")
    seeds: Annotated[int, Field(gt=0, le=100)] = Field(1, description="seeds from train.seed on")
    data: str | None = Field(
        None,
        description="what it holds for, in words, where the data have to be given; null: the recipe's own",
    )


SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "train": TrainSection,
    "evaluate": EvaluateSection,
    "run": RunSection,
}
