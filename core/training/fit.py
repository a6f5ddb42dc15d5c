"""Whether training would take a recipe, as far as that can be told without its data."""

from __future__ import annotations

import torch
from torch import nn

from densedet.core import assembly
from densedet.core.recipe.loading import Recipe
from densedet.core.state_dict import weights_follow
from densedet.core.text import counted
from densedet.core.training.parameter_groups import freeze, grouped
from densedet.core.training.random_states import seeded
from densedet.core.training.run import Run
from densedet.core.training.session import try_evaluation
from densedet.core.types import Batch

ANY_CLASSES = 3
"""Classes of the detector that is built where the recipe leaves the class names to its source."""


def check_fit(recipe: Recipe) -> None:
    """Build what needs no image, to refuse a recipe whose parts do not fit together.

    Built are the detector, with its dry run at each input size, the optimizer, the schedule, the resize and
    the augmentation. Pretrained weights are not read, the random states are left as they were, and a section
    that is null is left out.

    Raises:
        RecipeError: a part cannot be built, with the position of the part.
    """
    if recipe.values["data"] is None:
        return
    num_classes = len(recipe.data.classes) if recipe.data.classes else ANY_CLASSES
    with seeded(0), weights_follow():
        detector = assembly.build_detector(recipe, num_classes)
        if recipe.values["train"] is not None:
            assembly.check_norms(recipe, detector)
        assembly.build_resize(recipe)
        assembly.build_list(recipe, "data.transforms", "transform", {})
        wired = {"size_wh": assembly.working_size(recipe)}
        assembly.build_list(recipe, "data.batch_transforms", "batch_transform", wired)
        if recipe.values["train"] is not None:
            freeze(detector, recipe)
            groups = {"parameters": grouped(detector, recipe)}
            assembly.build_component(recipe, "train.optimizer", "optimizer", recipe.train.optimizer, groups)
            assembly.build_component(recipe, "train.schedule", "schedule", recipe.train.schedule, {})


def try_run(recipe: Recipe) -> tuple[list[str], nn.Module, Batch]:
    """Build a run without starting it, evaluate a few images, and compute the losses of the first batch.

    Returns:
        Lines that describe it (images, classes, parameters, and the losses by name), the detector, and the
        batch.

    Raises:
        RecipeError: a part cannot be built on this data.
        DataError: the data cannot be read.
    """
    run = Run(recipe)
    with seeded(recipe.train.seed), torch.no_grad():
        try_evaluation(run)
        batch = next(iter(run.loader)).to(run.device)
        losses = run.detector.train().losses(batch)  # type: ignore[operator]
    told = ", ".join(f"{name} {float(value):.3f}" for name, value in losses.items())
    held = counted(0 if run.val_set is None else len(run.val_set), "validation image")
    parameters = sum(p.numel() for p in run.detector.parameters())
    lines = [
        f"{counted(len(run.train_set), 'training image')}, {held}, {counted(len(run.classes), 'class')}",
        f"{parameters:,} parameters; losses of the first batch: {told}",
        *run.notes,
    ]
    return lines, run.detector, batch
