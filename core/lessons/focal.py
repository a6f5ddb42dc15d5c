"""The lesson about the focal loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from densedet.core.lessons.drawing import row_of_axes
from densedet.core.lessons.task import Case, Given, Lesson, Task
from densedet.core.report.charts.chart import line_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def answer(wrong: frozenset[str], logits: Tensor, truth: Tensor, alpha: float, gamma: float) -> Tensor:
    """Compute the focal loss, (B,N,C) to (B,N), with the mistakes ``wrong``, names in `MISTAKES`."""
    true = truth == 1
    # The logarithms of p and 1 - p, without infinities.
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    if "softmax" in wrong:
        yes = logits.log_softmax(-1)
        no = torch.log1p(-yes.exp())
    p, log_pt = yes.exp(), torch.where(true, yes, no)
    pt = log_pt.exp()
    fading = {
        "no_gamma": torch.ones_like(p),
        "gamma_of_p": (1 - p) ** gamma,
        "gamma_of_pt": pt**gamma,
        "gamma_p": p**gamma,
        "gamma_factor": gamma * (1 - pt),
        "power_inside": 1 - pt**gamma,
    }
    loss = -_weight(wrong, true, alpha) * _chosen(wrong, fading, (1 - pt) ** gamma)
    loss = loss * _chosen(wrong, {"log_p": yes, "base_10": log_pt / math.log(10), "no_log": pt}, log_pt)
    if "sign" in wrong:
        loss = -loss
    if "positives_only" in wrong:
        loss = loss * true
    total = loss.sum(-1)
    ends = {
        "mean": loss.mean(-1),
        "every_class": loss,
        "by_anchors": total / logits.shape[1],
        "by_positives": total / truth.sum().clamp(min=1),
        "by_all": total / total.numel(),
        "total": loss.sum(),
        "total_mean": loss.mean(),
    }
    return _chosen(wrong, ends, total)


def _weight(wrong: frozenset[str], true: Tensor, alpha: float) -> Tensor:
    """Compute alpha_t."""
    pairs = {
        "no_alpha": (1.0, 1.0),
        "alpha_swapped": (1 - alpha, alpha),
        "alpha_everywhere": (alpha, alpha),
        "alpha_of_true": (alpha, 1.0),
        "alpha_of_others": (1.0, 1 - alpha),
    }
    of_true, of_others = next((pair for name, pair in pairs.items() if name in wrong), (alpha, 1 - alpha))
    return torch.where(true, of_true, of_others)


def _chosen(wrong: frozenset[str], values: Mapping[str, Tensor], right: Tensor) -> Tensor:
    return next((value for name, value in values.items() if name in wrong), right)


MISTAKES = {
    "no_alpha": "it has no alpha: multiply by alpha where the truth is 1 and by 1 - alpha where it is 0",
    "alpha_swapped": "alpha is on the wrong side: it is the weight where the truth is 1, and 1 - alpha where "
    "it is 0",
    "alpha_everywhere": "it multiplies everything by alpha: where the truth is 0 the weight is 1 - alpha",
    "alpha_of_true": "it lacks the weight 1 - alpha where the truth is 0",
    "alpha_of_others": "it lacks the weight alpha where the truth is 1",
    "no_gamma": "it has no gamma: without the factor (1 - p_t)^gamma it is cross entropy, and easy anchors "
    "do not fade",
    "gamma_of_p": "it fades by (1 - p)^gamma instead of (1 - p_t)^gamma: where the truth is 0, p_t is 1 - p, "
    "so that the factor is p^gamma there",
    "gamma_of_pt": "it fades by p_t^gamma instead of (1 - p_t)^gamma: that keeps what is easy and fades what "
    "is hard",
    "gamma_p": "it fades by p^gamma instead of (1 - p_t)^gamma: where the truth is 1 the factor is (1 - "
    "p)^gamma",
    "gamma_factor": "it multiplies by gamma: gamma is the exponent, (1 - p_t)^gamma",
    "power_inside": "it fades by 1 - p_t^gamma instead of (1 - p_t)^gamma: the brackets close too late",
    "log_p": "it takes the log of p, not of p_t: where the truth is 0 it is log(1 - p)",
    "base_10": "its logarithm is to the base 10: the natural one is meant, torch.log or "
    "functional.logsigmoid",
    "no_log": "it lacks the logarithm: the loss has log(p_t)",
    "sign": "its sign is wrong: log(p_t) is negative, so the loss has a minus in front",
    "mean": "it takes the mean over the classes: the loss of an anchor is their sum",
    "by_anchors": "it is normalised by all anchors: it must not be divided, the detector divides by the "
    "number of matched anchors",
    "by_all": "it is normalised by all anchors of all images: it must not be divided, the detector divides "
    "by the number of matched anchors",
    "by_positives": "it divides by the number of positives: the detector does that, so it would be divided "
    "twice",
    "every_class": "it is not summed: the result has one number for each anchor, (B,N), the sum over the "
    "last axis",
    "total": "it sums over everything: the result has one number for each anchor, (B,N), the sum over the "
    "last axis alone",
    "total_mean": "it takes the mean over everything: the result has one number for each anchor, (B,N), the "
    "sum over the last axis",
    "softmax": "it takes a softmax over the classes: each class has a sigmoid of its own",
    "positives_only": "it counts the true classes only: background teaches too, where the truth is 0",
}
"""Name of each mistake -> the sentence about it."""

THREE = math.log(3)
"""The logit of a probability of 0.75."""


def _case(
    logits: list[list[float]], truth: list[list[float]], loss: list[float], why: str, **of: float
) -> Case:
    given = torch.tensor([logits]), torch.tensor([truth]), of.get("alpha", 0.25), of.get("gamma", 2.0)
    return Case(given, torch.tensor([loss]), why)


BY_HAND = (
    _case([[0.0]], [[1.0]], [0.0433217], "p = p_t = 0.5: 0.25 * 0.5^2 * 0.6931"),
    _case([[0.0]], [[0.0]], [0.1299651], "background, p = p_t = 0.5: 0.75 * 0.5^2 * 0.6931"),
    _case([[THREE]], [[0.0]], [0.5848385], "background, p = 0.75, p_t = 0.25: 0.75 * 0.75^2 * 1.3863"),
    _case([[0.0, THREE]], [[1.0, 0.0]], [0.6281602], "the example of the task: 0.0433 + 0.5848"),
    _case([[THREE]], [[1.0]], [0.0359603], "gamma 1, p_t = 0.75: 0.5 * 0.25 * 0.2877", alpha=0.5, gamma=1.0),
    _case(
        [[0.0, THREE], [THREE, 0.0]],
        [[1.0, 0.0], [0.0, 0.0]],
        [0.6281602, 0.7148036],
        "two anchors, the second is background: 0.5848 + 0.1300",
    ),
)

EDGES = (
    _case(
        [[200.0, -200.0]],
        [[0.0, 1.0]],
        [200.0],
        "logits of 200 and -200, both wrong: 0.75 * 200 + 0.25 * 200; torch.log of a sigmoid that rounds to "
        "0 is infinite, functional.logsigmoid is not",
    ),
    Case((torch.zeros(2, 0, 3), torch.zeros(2, 0, 3), 0.25, 2.0), torch.zeros(2, 0), "no anchors, (B,0,C)"),
)


def draw(generator: torch.Generator) -> Given:
    """Draw logits of 2 images, 4 anchors and 3 classes; a third of the anchors is background."""
    logits = torch.randn(2, 4, 3, generator=generator) * 2
    labels = torch.randint(0, 4, (2, 4), generator=generator)
    labels[0, 0] = 0
    truth = functional.one_hot(labels, 4)[..., 1:].float()
    return logits, truth, 0.3, 1.5


def picture(functions: Mapping[str, Callable[..., Any]]) -> Figure:
    """Draw the loss over p for several gammas, of the true class and of another one."""
    figure, axes = row_of_axes(2, columns=2, width=4.4)
    p = torch.linspace(0.01, 0.99, 99)
    logits = (p / (1 - p)).log().view(1, -1, 1)
    for axis, value, title in zip(
        axes, (1.0, 0.0), ("truth 1: the anchor's class", "truth 0: another class")
    ):
        truth = torch.full_like(logits, value)
        for style, gamma in enumerate((0.0, 0.5, 1.0, 2.0, 5.0)):
            loss = functions["focal"](logits, truth, 0.25, gamma).flatten()
            axis.plot(p.tolist(), loss.tolist(), label=f"gamma {gamma:g}", **line_style(style))
        axis.set(xlabel="p, the sigmoid of the logit", ylabel="loss", ylim=(0, 3.5), xlim=(0, 1))
        axis.set_title(title, fontsize=10)
        axis.grid(True)
    axes[0].legend(fontsize=8)
    figure.suptitle("Your focal loss, alpha 0.25")
    return figure


LESSON = Lesson(
    name="focal",
    kind="class_loss",
    tasks=(Task("focal", ("logits", "truth", "alpha", "gamma"), answer, BY_HAND, EDGES, draw, MISTAKES),),
    picture=picture,
)
