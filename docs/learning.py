"""The numbers and pictures of docs/how: what the pages' commands give on one image of the embedded digits.

A number stands in a page between two comments, ``<!--=ssd.anchors-->2,720<!--/-->``, so that it is written
anew where the code changes. One of a trained run differs from machine to machine: ``<!--=trained.kept~.3-->``
may be off by 30 %.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import draw_pictures
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from densedet.core.boxes import pairwise_iou
from densedet.core.report.drawing import draw_boxes
from densedet.core.training.prediction import load
from densedet.core.types import Batch, Fate
from densedet.plugins.coders.delta import DeltaCoder
from densedet.plugins.losses.focal import FocalLoss
from densedet.tools.main import main

MARK = re.compile(r"<!--=(?P<name>[\w.]+?)(?:~(?P<slack>[\d.]+))?-->(?P<value>[^<]*)<!--/-->")
STEPS = 150
"""Of the trained detector on the pages."""


def command(*words: str) -> str:
    """What a densedet command prints."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        if code := main(words):
            raise SystemExit(f"densedet {' '.join(words)} failed with {code}")
    return told.getvalue()


def train(folder: Path) -> Path:
    """Train the detector that the pages show; the run's folder."""
    changes = [f"train.budget.steps={STEPS}", "train.precision=float32", "run.hooks=[checkpoint]"]
    command("train", "quickstart_retinanet", *changes, "train.evaluations=1", f"run.folder={folder}")
    return folder / "quickstart_retinanet" / "1"


def numbers(run: Path) -> dict[str, str]:
    """The text of each number of the pages, by its name.

    Args:
        run: the trained run.
    """
    found: dict[str, str] = {}
    for name in ("ssd", "retinanet"):
        found |= {f"{name}.{key}": text for key, text in of_recipe(f"quickstart_{name}").items()}
    found["iou"] = decimals(
        pairwise_iou(torch.tensor([[102.0, 33, 122, 57]]), torch.tensor([[104.0, 30, 120, 46]]))
    )
    coder = DeltaCoder(weights=(10, 10, 5, 5))
    deltas = coder.encode(torch.tensor([[102.0, 33, 122, 57]]), torch.tensor([[102.0, 38, 118, 54]]))[0]
    found["deltas.ssd"] = ", ".join(f"{value:.2f}" for value in deltas.tolist())
    detector, batch, _ = trained(run)
    trace: dict[str, Any] = {}
    [kept] = detector.predict(batch, trace=trace)
    fate = trace["fate"][0]
    found["trained.candidates"] = f"{int((fate != Fate.LOW_SCORE).sum()):,}"
    found["trained.suppressed"] = f"{int((fate == Fate.REMOVED_BY_NMS).sum()):,}"
    found["trained.kept"] = str(len(kept.boxes))
    found["trained.confident"] = str(int((kept.scores > 0.3).sum()))
    return found


def of_recipe(recipe: str) -> dict[str, str]:
    """The numbers of an untrained detector on the pages' image."""
    model = json.loads(command("show", "model", recipe, "--json"))
    found = {"parameters": f"{model['parameters']:,}", "macs": f"{model['macs'] / 1e6:.1f}"}
    [neck] = [part for part in model["parts"] if part["name"] == "neck"]
    for place, level in enumerate(neck["maps"]):
        found[f"channels.{place}"] = str(level["channels"])
        found[f"field.{place}"] = " x ".join(map(str, level["receptive_field_wh"]))
    detector, batch, _ = draw_pictures.built(recipe)
    inside = detector.explain(batch)
    targets, counts = inside.targets, [level.count for level in inside.levels]
    positive = targets.positive[0]
    found |= {f"count.{place}": f"{count:,}" for place, count in enumerate(counts)}
    total, learning = sum(counts), int(positive.sum())
    found["anchors"], found["positive"] = f"{total:,}", str(learning)
    found["positive.levels"] = ", ".join(str(int(part.sum())) for part in positive.split(counts))
    objects = range(int(batch.valid[0].sum()))
    found["positive.objects"] = ", ".join(
        str(int((targets.matched_idxs[0][positive] == place).sum())) for place in objects
    )
    ignored = int((targets.matched_idxs[0] == -2).sum())
    found["ignored"] = str(ignored)
    found["imbalance"] = f"{(total - learning - ignored) / learning:.0f}"
    found["background.share"] = f"{100 * (total - learning - ignored) / total:.1f}"
    losses = {name: float(value.detach()) for name, value in detector.losses(batch).items()}
    return found | {f"loss.{name}": f"{value:.2f}" for name, value in losses.items()}


def decimals(value: torch.Tensor) -> str:
    """.394"""
    return f"{float(value):.3f}".removeprefix("0")


def written(page: str, texts: dict[str, str]) -> tuple[str, list[str]]:
    """A page with its numbers as they are now, and what was wrong in it."""
    wrong: list[str] = []

    def new(mark: re.Match[str]) -> str:
        name, slack, old = mark["name"], mark["slack"], mark["value"]
        text = texts[name]
        if slack is None:
            same = text == old
        else:
            same = bool(old.strip("?")) and abs(number(old) - number(text)) <= float(slack) * number(text)
        if not same:
            wrong.append(f"{name}: the page has {old!r}, the command gives {text!r}")
        return mark[0] if same else mark[0].replace(f">{old}<", f">{text}<")

    return MARK.sub(new, page), wrong


def number(text: str) -> float:
    return float(text.replace(",", ""))


def pictures(run: Path) -> dict[str, Image.Image]:
    """The pictures that need the trained run, and the focal loss."""
    detector, batch, classes = trained(run)
    inside = detector.explain(batch)
    label = int(batch.labels[0][batch.valid[0]][1])
    heat = draw_pictures.score_maps(inside, batch, classes[label], label, side=300, columns=2)
    positive = inside.targets.positive[0]
    of_class = inside.targets.labels[0][positive]
    moved = [
        draw_boxes(batch.images[0], some[positive], of_class, None, classes, scale=3, names=False, limit=500)
        for some in (inside.anchors, inside.boxes[0])
    ]
    trace: dict[str, Any] = {}
    [kept] = detector.predict(batch, trace=trace)
    place, which = torch.where((trace["fate"][0] >= Fate.REMOVED_BY_NMS) & (trace["scores"][0] > 0.1))
    before = draw_boxes(
        batch.images[0], trace["boxes"][0][place], which, None, classes, scale=3, names=False, limit=500
    )
    after = draw_boxes(batch.images[0], kept.boxes, kept.labels, kept.scores, classes, scale=3, min_score=0.3)
    return {
        "heatmaps": heat,
        "boxes": draw_pictures.below(moved, ["positive anchors", "the boxes that the head makes of them"]),
        "nms": draw_pictures.below([before, after], ["scores above .1 before NMS", "after NMS, from .3"]),
        "focal": focal(),
    }


def focal() -> Image.Image:
    """The focal loss of a positive anchor over its score, for several gammas."""
    p = np.linspace(0.001, 0.999, 200)
    figure, axes = plt.subplots(figsize=(6, 3.2), dpi=100)
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
        loss = FocalLoss(num_classes=1, alpha=0.25, gamma=gamma)
        values = loss(
            torch.logit(torch.tensor(p, dtype=torch.float32)).view(1, -1, 1),
            torch.zeros(1, len(p), dtype=torch.int64),
        )
        axes.plot(p, values[0].numpy(), label=f"gamma {gamma:g}")
    axes.set(xlabel="score of the right class", ylabel="loss (alpha .25)", xlim=(0, 1), ylim=(0, 1.2))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    return picture


@cache
def trained(run: Path) -> tuple[Any, Batch, tuple[str, ...]]:
    """The trained detector, a batch of the pages' image, and the class names."""
    predictor = load(run, device="cpu")
    _, batch, classes = draw_pictures.built("quickstart_retinanet")
    return predictor.detector.eval(), batch, classes
