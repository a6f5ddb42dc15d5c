"""What the sigmoid losses share: the cost of saying "no" on every channel but the true one, and picking out
the true one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHUNK = 1 << 17
"""Logits per step on the CPU: temporaries then stay in the cache, and memory beside the gradient is
constant."""

MOST_EXPONENT = 80.0
"""e to this is a finite float32."""


def prior_bias(prior: float) -> float:
    """The logit whose sigmoid is ``prior``: -log((1 - prior) / prior)."""
    return -math.log((1 - prior) / prior)


def split(logits: Tensor, labels: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """(B,N,C), labels (B,N): 0..C-1, C background, -1 ignore -> negatives (B,N), true logits (P,), their
    places int64 (P,) in B*N.

    negatives: the sum of p^gamma * -log(1 - p) over the channels c != label, with p = sigmoid(logit); exactly
    0, with zero gradient, where the label is -1; finite for all finite logits and gamma >= 0. true logits: of
    the label's channel of each of the P anchors whose label is a class; few, so that what a loss does with
    them costs nothing. Once differentiable.
    """
    places = ((labels >= 0) & (labels < logits.shape[-1])).flatten().nonzero().squeeze(1)
    negatives, true = _Split.apply(logits, labels, gamma, places)  # type: ignore[no-untyped-call]
    return negatives, true, places


class _Split(torch.autograd.Function):
    """The closed-form gradient is made along with the value: one stored tensor instead of autograd's eight,
    and no gamma - 1 in an exponent, so that gamma < 1 has a finite gradient at p = 0. The true logits come
    along, since a `gather` of their own would cost a gradient as large as the logits."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, gamma: float, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        channels = logits.shape[-1]
        rows, channel = logits.reshape(-1, channels), labels.flatten()[owner]
        loss, ones = rows.new_empty(len(rows)), rows.new_ones(channels)
        slope = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        step = max(1, CHUNK // channels) if rows.device.type == "cpu" else max(1, len(rows))
        starts = range(0, len(rows), step)
        bounds = [0, len(owner)]
        if len(starts) > 1:
            bounds = torch.searchsorted(owner, owner.new_tensor([*starts, len(rows)])).tolist()
        for start, first, last in zip(starts, bounds, bounds[1:]):
            part = slice(start, start + step)
            p, cost = _sigmoid_and_softplus(rows[part])
            weight = p.square() if gamma == 2 else p.pow(gamma)
            if slope is not None:
                # d/dx p^g s = p^g (g (1-p) s + p), with s = softplus(x), s' = p and p' = p (1-p)
                torch.addcmul(p, 1 - p, cost, value=gamma, out=slope[part]).mul_(weight)
            weight[owner[first:last] - start, channel[first:last]] = 0
            torch.mv(weight.mul_(cost), ones, out=loss[part])
        if slope is not None:
            slope[owner, channel] = 0
        ctx.save_for_backward(slope, owner, channel, labels)
        return loss.view(labels.shape) * (labels >= 0), rows[owner, channel]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_negatives: Tensor, of_true: Tensor) -> tuple[Tensor, None, None, None]:
        slope, owner, channel, labels = ctx.saved_tensors
        gradient = slope * (of_negatives * (labels >= 0)).view(-1, 1)
        gradient[owner, channel] = of_true
        return gradient.view(*labels.shape, slope.shape[1]), None, None, None


def _sigmoid_and_softplus(x: Tensor) -> tuple[Tensor, Tensor]:
    """p and -log(1 - p). Both from one exponential, in two thirds of the time, where nothing can overflow and
    asking is free."""
    if x.device.type != "cpu" or x.numel() == 0 or float(x.amax()) > MOST_EXPONENT:
        return x.sigmoid(), functional.softplus(x)
    odds = x.exp()
    cost = odds.log1p()
    return odds.div_(odds + 1), cost


def add_at(values: Tensor, places: Tensor, more: Tensor) -> Tensor:
    """values (B,N) with ``more`` (P,) added at ``places`` in B*N; differentiable in both, not in place."""
    return values.flatten().index_add(0, places, more).view_as(values)
