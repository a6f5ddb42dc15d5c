"""A detector on the images that it is judged by, and the judgement: one pass over them, kept beside the
run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densedet.core import assembly
from densedet.core.annotations.source import input_scales
from densedet.core.assembly.evaluators import build_evaluator, metric_value, report_lines
from densedet.core.class_table import label_map
from densedet.core.contracts import Evaluator, Source
from densedet.core.data.facts import data_facts, notes_on
from densedet.core.data.fingerprint import fingerprint
from densedet.core.distributed import from_main, gather_objects, join, together, world
from densedet.core.errors import DataError, OutputError, UsageError
from densedet.core.evaluation_result import EvaluationResult
from densedet.core.judgement import judgement as judgements
from densedet.core.judgement.judgement import Found, Judgement, Truth
from densedet.core.judgement.thresholds import ClassThreshold, Wish
from densedet.core.recipe.contents import plugin_content
from densedet.core.recipe.loading import Recipe, recipe_from, recipe_from_dict
from densedet.core.recipe.merging import Overrides
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.training import checkpoint
from densedet.core.training.evaluation import evaluate_on, evaluate_tiled
from densedet.core.training.evidence import EvidenceCollector, gathered
from densedet.core.training.prediction import Predictor, is_recipe, load
from densedet.core.training.run import Run
from densedet.core.training.tiles import Tiling
from densedet.core.types import Detections


class Evaluation:
    """A detector and the images to evaluate it on; see `evaluate` for the arguments.

    Attributes:
        predictor: the detector with its recipe; ``category_ids`` are those of the source.
        recipe: the recipe.
        source: the truth.
        dataset: the images.
        split: "val" or "train", which of the recipe's sources.
        facts: numbers about the data, see `densedet.core.data.facts.data_facts`.
        notes: sentences about what in the data the user must know.
    """

    def __init__(
        self,
        detector: nn.Module | Run | str | Path,
        overrides: Overrides = (),
        *,
        recipe: Recipe | str | Path | None = None,
        split: str = "val",
        device: str = "auto",
        plugins: Sequence[str] = (),
    ) -> None:
        join()
        if isinstance(detector, nn.Module | Run):
            self.predictor = _predictor(detector, overrides, recipe)
        elif recipe is not None:
            raise UsageError(
                f"{detector} has a recipe of its own: leave out recipe=, and change it by overrides="
            )
        else:
            self.predictor = load(detector, overrides, device=device, plugins=plugins)
        self.recipe, self.split = self.predictor.recipe, split
        self.source = source_of(self.recipe, split)
        if not any(name in self.source.classes for name in self.predictor.classes):
            raise self.recipe.error(
                f"data.{split}",
                f"none of the detector's classes ({', '.join(filter(None, self.predictor.classes))}) "
                f"is in this data ({', '.join(self.source.classes)})",
            )
        ids = assembly.category_ids(self.recipe, self.predictor.classes, self.source)
        self.predictor.category_ids = ids
        self.dataset = assembly.make_dataset(self.recipe, self.source, self.predictor.classes)
        self.facts = data_facts(self.source, self.predictor.classes)
        self.notes = notes_on({split: self.facts})

    def run(self, tiling: Tiling | None = None, **callbacks: Any) -> EvaluationResult:
        """Evaluate.

        Args:
            tiling: how large images are cut into tiles, whose detections are merged; None: they are not.
            callbacks: on_batch and on_detections of `densedet.core.training.evaluation.evaluate_detector`,
                and without tiles on_trace.
        """
        with together():
            numbers = (
                self._tiled(tiling, **callbacks)
                if tiling is not None
                else evaluate_on(
                    self.recipe,
                    self.predictor.detector,
                    self.dataset,
                    self.predictor.classes,
                    assembly.make_eval_loader(self.recipe, self.dataset),
                    device=self.predictor.device,
                    **callbacks,
                )
            )
        return EvaluationResult(numbers, self.recipe.evaluate.metric, metric_value(self.recipe, numbers))

    def _tiled(self, tiling: Tiling, **callbacks: Any) -> dict[str, Any]:
        rank, processes = world()
        indices = range(rank, len(self.source), processes)
        broken: dict[int, str] = {}

        def on_broken(position: int, error: DataError) -> None:
            if self.recipe.data.broken_images == "stop":
                raise error
            broken[indices[position]] = str(error)

        found = self.predictor.stream(
            map(self.source.image, indices),
            batch_size=self.recipe.evaluate.batch_size,
            score=0.0,
            on_broken=on_broken,
            tiling=tiling,
            truth=lambda position: self.source.annotation(indices[position]),
        )
        numbered = ((indices[position], detections) for position, detections in found)
        return evaluate_tiled(numbered, self.evaluator(), broken, **callbacks)

    def evaluator(self) -> Evaluator:
        """Build the recipe's evaluator, without detections."""
        return build_evaluator(self.recipe, self.source, self.predictor.classes)

    def report(self, numbers: dict[str, Any]) -> list[str]:
        """Return the lines that `densedet evaluate` prints of metrics, by the recipe's evaluator."""
        return report_lines(self.evaluator(), numbers)

    @property
    def images(self) -> str:
        """The images in words, such as "24 images of data.val (digits)"."""
        spec = self.recipe.values["data"][self.split] or {}
        files = [value for key, value in spec.items() if isinstance(value, str) and set(value) & set("./")]
        named = ", ".join([spec.get("name", "held out"), *files])
        return f"{len(self.source)} images of data.{self.split} ({named})"

    @cached_property
    def about(self) -> dict[str, Any]:
        """What a judgement depends on beside ``iou``, in plain values: of two judgements with the same, one
        need not be made."""
        values = self.recipe.values
        data = {name: value for name, value in values["data"].items() if name not in UNSEEN}
        files = {plugin.name: plugin.origin for plugin in self.recipe.plugins if plugin.parts}
        return {
            "densedet": densedet_version(),
            "weights": weights_digest(self.predictor.detector),
            "classes": list(self.predictor.classes),
            "data": fingerprint(self.source),
            "split": self.split,
            "recipe": {"model": values["model"], "evaluate": values["evaluate"], "data": data},
            "plugins": {name: plugin_content(origin) for name, origin in files.items()},
        }

    def judge(
        self,
        *,
        iou: float = 0.5,
        on_batch: Callable[[int], None] | None = None,
        on_detections: Callable[[int, Detections], None] | None = None,
    ) -> Judgement:
        """Judge the detector by one pass over the images. Every process of a torchrun returns the same.

        Args:
            iou: from which on a candidate reaches an object, see `densedet.core.judgement.missed`.
            on_batch: as for `run`.
            on_detections: as for `run`.
        """
        detections: dict[int, Detections] = {}
        collector = EvidenceCollector(iou, self.recipe.data.filter)

        def keep(index: int, found: Detections) -> None:
            detections[index] = found
            if on_detections is not None:
                on_detections(index, found)

        start = time.perf_counter()
        result = self.run(on_batch=on_batch, on_detections=keep, on_trace=collector)
        seconds = time.perf_counter() - start
        everyone = gather_objects((detections, collector.rows))
        found = {index: one for part in everyone for index, one in part[0].items()}
        rows = {index: row for part in everyone for index, row in part[1].items()}
        thresholds, origin = self.predictor.score_thresholds()
        indices = sorted(found)
        truth, images, counted = _truth(self, indices)
        return Judgement(
            classes=self.predictor.classes,
            **images,
            indices=np.array(indices, dtype=np.int64),
            truth=truth,
            found=_found([found[index] for index in indices]),
            evidence=gathered([rows.get(index, {}) for index in indices], counted),
            metrics=dict(result.numbers),
            max_detections=int(getattr(self.evaluator(), "max_detections", 100)),
            iou=iou,
            thresholds=tuple(thresholds),
            thresholds_from=origin,
            weights=self.about["weights"],
            data=self.about["data"],
            settings=self.recipe.values["evaluate"],
            recipe=self.recipe.to_yaml(),
            recipe_name=self.recipe.name,
            split=self.split,
            seconds=seconds,
        )


def judge(
    detector: Run | str | Path,
    overrides: Overrides = (),
    *,
    split: str = "val",
    iou: float = 0.5,
    device: str = "auto",
    plugins: Sequence[str] = (),
    cache: bool = True,
    on_batch: Callable[[int], None] | None = None,
) -> Judgement:
    """Judge a finished run by one forward pass over its validation set, or take the judgement that lies
    beside it.

    Args:
        detector: a run folder (its last.pt), a checkpoint, a recipe with ``model.weights``, or a `Run`.
        overrides: changes to its recipe, such as ``["data.val.annotations=other.json"]`` for another set.
        split: "val" or "train".
        iou: from which on a candidate reaches an object, see `densedet.core.judgement.missed`.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        plugins: plug-in files that the recipe needs.
        cache: False makes the judgement anew and keeps none.
        on_batch: called with the number of images that are done; not at all where the judgement is there.

    Returns:
        The judgement; the same for every process of a torchrun.
    """
    folder = None
    if isinstance(detector, Run):
        folder = detector.folder
    elif not is_recipe(detector):
        detector = checkpoint.resolve(Path(detector), prefer="last.pt")
        folder = detector.parent
    evaluation = Evaluation(detector, overrides, split=split, device=device, plugins=plugins)
    file = cache_file(folder, evaluation, iou) if cache and folder is not None else None
    if file is not None:
        kept = from_main(lambda: _kept(file))
        if kept is not None:
            thresholds, origin = evaluation.predictor.score_thresholds()
            return replace(kept, thresholds=tuple(thresholds), thresholds_from=origin)
    made = evaluation.judge(iou=iou, on_batch=on_batch)
    if file is not None and world()[0] == 0:
        # A folder that cannot be written, or metrics that JSON cannot hold, cost the next call a pass.
        with contextlib.suppress(OSError, OutputError, TypeError, ValueError):
            judgements.save(file, made)
    return made


def cache_file(folder: Path, evaluation: Evaluation, iou: float) -> Path | None:
    """Return where a run folder keeps a judgement; None where the folder is no run's."""
    if not (folder / "recipe.yaml").is_file():
        return None
    text = json.dumps(
        {**evaluation.about, "iou": iou, "format": judgements.FORMAT}, sort_keys=True, default=str
    )
    return folder / "judged" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.npz"


def _kept(file: Path) -> Judgement | None:
    try:
        return judgements.load(file)
    except (OSError, ValueError):
        return None


def save_thresholds(
    evaluation: Evaluation, path: str | Path, wish: Wish, found: Sequence[ClassThreshold]
) -> Path:
    """Write thresholds into the checkpoint whose weights were judged.

    Args:
        evaluation: of that checkpoint.
        path: the checkpoint, or its run folder as `densedet.core.training.prediction.load` takes it.
        wish: what the thresholds are to reach.
        found: the threshold of each class, from `densedet.core.judgement.thresholds.find_thresholds`.

    Returns:
        The file.

    Raises:
        UsageError: the evaluation was of another detector than the checkpoint's.
    """
    check_savable(evaluation)
    file = checkpoint.resolve(Path(path))
    fields = {
        "scores": [one.score for one in found],
        "wish": str(wish),
        "images": evaluation.images,
        "fingerprint": evaluation.about["data"],
    }
    weights = evaluation.predictor.detector.state_dict()
    from_main(lambda: checkpoint.save_thresholds(file, fields, of=weights))
    return file


def check_savable(evaluation: Evaluation) -> None:
    """Raise UsageError where thresholds would not be those of the checkpoint's own detector."""
    if changed := evaluation.predictor.changed:
        raise UsageError(
            f"thresholds are saved for the detector as it is in the checkpoint, and here it is changed "
            f"({', '.join(changed)}): leave out --save, or the changes"
        )


def replayed(judgement: Judgement, *, plugins: Sequence[str] = ()) -> Evaluator:
    """Return the recipe's evaluator with the detections of a judgement, without the detector.

    Args:
        judgement: of a detector.
        plugins: plug-in files that its recipe needs.

    Raises:
        DataError: the images are gone.
    """
    recipe = _judged_recipe(judgement, plugins)
    dataset = assembly.make_dataset(recipe, source_of(recipe, judgement.split), judgement.classes)
    evaluator = build_evaluator(recipe, dataset.source, judgement.classes)
    for position, index in enumerate(judgement.indices.tolist()):
        evaluator.add(index, detections_of(judgement, position))
    return evaluator


def judged_source(judgement: Judgement, *, plugins: Sequence[str] = ()) -> Source:
    """Return the filtered source whose images were judged.

    Args:
        judgement: of a detector.
        plugins: plug-in files that its recipe needs.

    Raises:
        DataError: the images are gone.
    """
    source: Source = source_of(_judged_recipe(judgement, plugins), judgement.split)
    return source


def _judged_recipe(judgement: Judgement, plugins: Sequence[str]) -> Recipe:
    values = parse_yaml(judgement.recipe, judgement.recipe_name).plain()
    return recipe_from_dict(values, name=judgement.recipe_name, plugins=tuple(plugins))


def detections_of(judgement: Judgement, position: int) -> Detections:
    """Return the detections of the image at ``position`` of a judgement."""
    found = judgement.found
    rows = slice(*np.searchsorted(found.image, (position, position + 1)))  # they lie image by image
    none = torch.full((rows.stop - rows.start,), -1, dtype=torch.int64)
    boxes, scores, labels = (
        torch.from_numpy(column[rows]) for column in (found.boxes, found.scores, found.labels)
    )
    extra = {name: torch.from_numpy(values[rows]) for name, values in found.extra.items()}
    return Detections(boxes, scores, labels, none, extra=extra, classes=judgement.classes)


UNSEEN = ("train", "sampler", "transforms", "batch_transforms", "workers", "cache_gb", "cache_folder")
"""Keys of a recipe's section ``data`` on which no judgement depends."""


def weights_digest(detector: nn.Module) -> str:
    """Return a SHA-256 of a detector's state dict: names, types and values."""
    digest = hashlib.sha256()
    for name, value in detector.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def densedet_version() -> str:
    from densedet import __version__

    return str(__version__)


def _truth(evaluation: Evaluation, indices: list[int]) -> tuple[Truth, dict[str, Any], list[np.ndarray]]:
    """Return the truth of these images of the source.

    Returns:
        The objects of the detector's classes; the columns of `Judgement` about the images; and bool (G,) of
        each image, which of its objects in the source those are.
    """
    source, classes = evaluation.source, evaluation.predictor.classes
    table = torch.from_numpy(label_map(source.classes, classes))
    annotations = [source.annotation(index) for index in indices]
    columns: dict[str, list[Tensor]] = {name: [] for name in ("boxes", "labels", "areas", "ignored")}
    counted = []
    for one in annotations:
        labels = table[one.labels]
        keep = labels >= 0
        counted.append(keep.numpy())
        columns["labels"].append(labels[keep])
        columns["ignored"].append((one.crowd | one.ignore)[keep])
        columns["areas"].append(one.area.double()[keep])
        columns["boxes"].append(torch.from_numpy(one.corners())[keep])
    image = np.repeat(np.arange(len(indices)), [int(keep.sum()) for keep in counted])
    joined = {name: torch.cat(values).numpy() if values else np.zeros(0) for name, values in columns.items()}
    sizes = np.array([(one.width, one.height) for one in annotations], dtype=np.int64).reshape(-1, 2)
    images = {
        "image_ids": tuple(one.image_id for one in annotations),
        "file_names": tuple(one.file_name for one in annotations),
        "sizes_wh": sizes,
        "scales_xy": input_scales(sizes, evaluation.dataset.resize),
    }
    return Truth(image=image, **joined), images, counted


def _found(detections: list[Detections]) -> Found:
    image = np.repeat(np.arange(len(detections)), [len(one) for one in detections])
    joined = {
        name: torch.cat([getattr(one, name) for one in detections]).numpy()
        for name in ("boxes", "scores", "labels")
    }
    names = detections[0].extra if detections else {}
    extra = {name: torch.cat([one.extra[name] for one in detections]).numpy() for name in names}
    return Found(image=image, **joined, extra=extra)


def source_of(recipe: Recipe, split: str) -> Any:
    """Return the filtered source of a split.

    Raises:
        UsageError: there is no such split.
        RecipeError: the recipe has no source for it.
    """
    if split not in ("train", "val"):
        raise UsageError(f"split {split!r}: write 'train' or 'val'")
    source = assembly.build_split(recipe, split)
    if source is None:
        raise recipe.error("data", f"the recipe has no {split} source: give data.{split}")
    return source


def _predictor(
    detector: nn.Module | Run, overrides: Overrides, recipe: Recipe | str | Path | None
) -> Predictor:
    """Return a module or a run's detector with its recipe, in the mode and on the device where it is."""
    if isinstance(detector, Run):
        if recipe is not None:
            raise UsageError("a run has a recipe of its own: leave out recipe=, and change it by overrides=")
        module, classes = detector.eval_detector, detector.classes
        checked = recipe_from(detector.recipe, overrides)
    else:
        if recipe is None:
            raise UsageError(
                "give the recipe that the module was built from: evaluate(module, recipe=recipe)"
            )
        module, checked = detector, recipe_from(recipe, overrides)
        classes = assembly.class_table(checked, assembly.build_source(checked, "train"))
        if getattr(module, "num_classes", len(classes)) != len(classes):
            raise UsageError(f"the module has {module.num_classes} classes, the recipe's data {len(classes)}")
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    training = module.training
    predictor = Predictor(checked, module, classes, assembly.category_ids(checked, classes), device)
    module.train(training)
    return predictor
