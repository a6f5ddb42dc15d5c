"""densedet from Python, for notebooks: the names that `import densedet` offers.

Everywhere ``recipe`` is a `Recipe`, a YAML file or the bare name of a shipped recipe, and ``overrides`` are
changes to it: ``["train.batch_size=8"]`` as on the command line, or ``{"train.batch_size": 8}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from densedet.core import assembly
from densedet.core.data.dataset import sample_of
from densedet.core.data.facts import box_counts
from densedet.core.data.loader import collate
from densedet.core.evaluation_result import EvaluationResult
from densedet.core.recipe import loading
from densedet.core.recipe.loading import Recipe, recipe_from
from densedet.core.recipe.merging import Overrides
from densedet.core.training import session
from densedet.core.training.fit import check_fit
from densedet.core.training.judging import Evaluation, source_of
from densedet.core.training.prediction import Predictor, check_images, load
from densedet.core.training.run import Run
from densedet.core.types import Batch

__all__ = [
    "EvaluationResult",
    "Predictor",
    "Run",
    "build",
    "dataloader",
    "evaluate",
    "load",
    "load_recipe",
    "make_batch",
    "resume",
    "train",
]


def load_recipe(
    path: str | Path,
    overrides: Overrides = (),
    *,
    plugins: Sequence[Path | str] = (),
) -> Recipe:
    """Load a recipe, and refuse one that training would refuse, as far as its data need not be opened.

    Args:
        path: a YAML file, or the bare name of a shipped recipe.
        overrides: changes to it, ``["train.batch_size=8"]`` as on the command line, or
            ``{"train.batch_size": 8}``.
        plugins: plug-in files that are loaded beside those that the recipe names.

    Raises:
        RecipeError: all faults at once, or the part that does not fit the others.
    """
    recipe = loading.load_recipe(path, overrides, plugins=plugins)
    check_fit(recipe)
    return recipe


def build(
    recipe: Recipe | str | Path, overrides: Overrides = (), *, num_classes: int | None = None
) -> nn.Module:
    """Build the recipe's detector, untrained but for ``model.weights``.

    Args:
        recipe: a `Recipe`, a YAML file, or the bare name of a shipped recipe.
        overrides: changes to it, ``["train.batch_size=8"]`` or ``{"train.batch_size": 8}``.
        num_classes: None opens the training source and counts its classes.
    """
    recipe = recipe_from(recipe, overrides)
    if num_classes is None:
        source = source_of(recipe, "train")
        classes = assembly.class_table(recipe, source)
        recipe, _ = assembly.with_class_weights(recipe, classes, box_counts(source))
        num_classes = len(classes)
    return assembly.build_with_weights(recipe, num_classes)[0]


def make_batch(
    recipe: Recipe | str | Path,
    images: Sequence[Any] | None = None,
    *,
    overrides: Overrides = (),
    split: str = "val",
    count: int = 4,
) -> Batch:
    """Make a batch, the input of a detector.

    Args:
        recipe: gives the size and colour of the images, and where there are no ``images``, its data.
        images: paths, encoded bytes, Pillow images, or uint8 arrays (H,W) or (H,W,3); None takes images of
            the recipe with their objects.
        overrides: changes to the recipe.
        split: "val" or "train", without augmentation; unused with ``images``.
        count: number of images, from the first on; unused with ``images``.
    """
    recipe = recipe_from(recipe, overrides)
    if images is None:
        source = source_of(recipe, split)
        dataset = assembly.make_dataset(recipe, source, assembly.class_table(recipe, source))
        return assembly.first_batch(recipe, dataset, count)
    check_images(images)
    resize = assembly.build_resize(recipe)
    decoding = assembly.decoding_of(recipe)
    samples = [sample_of(m, decoding=decoding, resize=resize, index=i) for i, m in enumerate(images)]
    return collate(samples, pad_to=recipe.data.pad_to)


def dataloader(
    recipe: Recipe | str | Path, split: str = "train", *, overrides: Overrides = (), epoch: int = 0
) -> DataLoader[Batch]:
    """Make a loader of batches.

    Args:
        recipe: its data, batch sizes and seed are used.
        split: "train" gives the shuffled and augmented batches of one epoch, as training gets them; "val"
            gives all validation images once, in order.
        overrides: changes to the recipe.
        epoch: which epoch of "train", counted from 0; each has its own order and augmentation.
    """
    recipe = recipe_from(recipe, overrides)
    source = source_of(recipe, split)
    if split == "train":
        keys = list(assembly.build_batch_sampler(recipe, source).keys(epoch))
        return assembly.make_train_loader(recipe, assembly.make_train_set(recipe, source), keys)
    dataset = assembly.make_dataset(recipe, source, assembly.class_table(recipe, source))
    return assembly.make_eval_loader(recipe, dataset)


def train(
    recipe: Recipe | str | Path,
    overrides: Overrides = (),
    *,
    hooks: Sequence[Any] = (),
    folder: str | Path | None = None,
) -> Run:
    """Train a recipe.

    Args:
        recipe: a `Recipe`, a YAML file, or the bare name of a shipped recipe.
        overrides: changes to it, ``["train.batch_size=8"]`` or ``{"train.batch_size": 8}``.
        hooks: objects with `densedet.hookimpl` methods, which are called after the hooks of the recipe.
        folder: the run folder; None makes the next free one, ``runs/RECIPE/N``.

    Returns:
        The finished run: ``run.folder``, ``run.metrics``, ``run.eval_detector``.
    """
    return session.train(
        recipe_from(recipe, overrides), folder=None if folder is None else Path(folder), hooks=hooks
    )


def resume(
    run: str | Path,
    overrides: Overrides = (),
    *,
    hooks: Sequence[Any] = (),
    plugins: Sequence[str] = (),
    allow_changes: bool = False,
) -> Run:
    """Continue a run that was stopped, or one whose budget ``overrides`` raise.

    Args:
        run: a run folder, or a checkpoint in one.
        overrides: changes to the recipe that it was started with, such as ``["train.budget.epochs=20"]``.
        hooks: as for `train`.
        plugins: plug-in files that the recipe needs; those that it names are not imported by themselves.
        allow_changes: whether to go on where the data or the folder's recipe.yaml have changed since.

    Returns:
        The finished run.
    """
    return session.resume(
        Path(run), overrides, [str(file) for file in plugins], hooks=hooks, allow_changes=allow_changes
    )


def evaluate(
    detector: nn.Module | Run | str | Path,
    overrides: Overrides = (),
    *,
    recipe: Recipe | str | Path | None = None,
    split: str = "val",
    device: str = "auto",
    plugins: Sequence[str] = (),
) -> EvaluationResult:
    """Evaluate a detector on its recipe's images.

    Args:
        detector: a run folder or checkpoint, a recipe's name with ``model.weights``, a `Run` (its averaged
            weights where the recipe has them), or a module, which stays on its device.
        overrides: changes to the recipe, e.g. ``["data.val.annotations=other.json"]``.
        recipe: the recipe of a module; all others have one of their own.
        split: "val" or "train".
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; of a folder, checkpoint or recipe.
        plugins: plug-in files that a checkpoint's recipe needs.
    """
    return Evaluation(detector, overrides, recipe=recipe, split=split, device=device, plugins=plugins).run()
