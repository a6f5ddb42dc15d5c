"""The arithmetic that the sigmoid losses share: all channels but the true one in one fused pass."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHUNK = 1 << 17
"""Logits per step on the CPU: temporary tensors then stay in the cache, and memory beside the gradient is
constant."""

MOST_EXPONENT = 80.0
"""e to this is a finite float32."""


def prior_bias(prior: float) -> float:
    """The logit whose sigmoid is ``prior``: -log((1 - prior) / prior)."""
    return -math.log((1 - prior) / prior)


def split(logits: Tensor, labels: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Separate the few true channels of a sigmoid loss from all others.

    The plain formula of the first result is::

        p = logits.sigmoid()
        others = p ** gamma * -(1 - p).log()                # softplus(logits) = -log(1 - p)
        others[the true channel of each anchor, if any] = 0
        negatives = others.sum(-1) * (labels >= 0)

    Args:
        logits: (B,N,C).
        labels: int64 (B,N), 0..C-1 an object's class, C background, -1 ignore.
        gamma: at least 0.

    Returns:
        negatives (B,N), finite for all finite logits, exactly 0 with zero gradient where ignored; the true
        logits (P,), of the label's channel of each anchor whose label is a class; and their places, int64
        (P,) in B*N, for `add_at` and `at`. Once differentiable. The P are few, so that whatever a loss does
        with them costs nothing.
    """
    counted = ((labels >= 0) & (labels < logits.shape[-1])).flatten()
    if logits.device.type != "cpu":
        # Their number would have to be waited for: all B*N are taken, and `counted` stands for the places.
        negatives, true = _SplitEverywhere.apply(logits, labels, gamma, counted)  # type: ignore[no-untyped-call]
        return negatives, true, counted
    places = counted.nonzero().squeeze(1)
    negatives, true = _Split.apply(logits, labels, gamma, places)  # type: ignore[no-untyped-call]
    return negatives, true, places


class _Split(torch.autograd.Function):
    """`split`, with the gradient computed along with the value.

    One tensor is stored instead of autograd's eight, and no exponent is gamma - 1, so that gamma < 1 has a
    finite gradient at p = 0. The true logits are a second result, since a `gather` of their own would cost a
    gradient as large as the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, gamma: float, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        channels = logits.shape[-1]
        rows, channel = logits.reshape(-1, channels), labels.flatten()[owner]  # (B*N,C), (P,)
        loss, ones = rows.new_empty(len(rows)), rows.new_ones(channels)
        slope = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        step = max(1, CHUNK // channels) if rows.device.type == "cpu" else max(1, len(rows))
        starts = range(0, len(rows), step)
        bounds = [0, len(owner)]
        if len(starts) > 1:
            bounds = torch.searchsorted(owner, owner.new_tensor([*starts, len(rows)])).tolist()
        for start, first, last in zip(starts, bounds, bounds[1:]):  # a chunk of rows, and its true channels
            part = slice(start, start + step)
            p, cost = _sigmoid_and_softplus(rows[part])
            weight = p.square() if gamma == 2 else p.pow(gamma)
            if slope is not None:
                # d/dx p^g s = p^g (g (1-p) s + p), with s = softplus(x), s' = p and p' = p (1-p).
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


class _SplitEverywhere(torch.autograd.Function):
    """`split` with a true logit for each of the B*N anchors, whose value does not matter where the label is
    no class."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, gamma: float, counted: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = logits.reshape(-1, logits.shape[-1])  # (B*N,C)
        channel = labels.reshape(-1, 1).clamp(0, rows.shape[1] - 1)  # (B*N,1)
        others = ~counted[:, None]
        p, cost = _sigmoid_and_softplus(rows)
        weight = p.square() if gamma == 2 else p.pow(gamma)
        slope = None
        if ctx.needs_input_grad[0]:
            slope = torch.addcmul(p, 1 - p, cost, value=gamma).mul_(weight)
            slope.scatter_(1, channel, slope.gather(1, channel) * others)
        weight.scatter_(1, channel, weight.gather(1, channel) * others)
        ctx.save_for_backward(slope, channel, counted, labels)
        loss = weight.mul_(cost).sum(1)
        return loss.view(labels.shape) * (labels >= 0), rows.gather(1, channel).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_negatives: Tensor, of_true: Tensor) -> tuple[Tensor, None, None, None]:
        slope, channel, counted, labels = ctx.saved_tensors
        gradient = slope * (of_negatives * (labels >= 0)).view(-1, 1)
        own = torch.where(counted, of_true, gradient.gather(1, channel).squeeze(1))
        gradient.scatter_(1, channel, own[:, None])
        return gradient.view(*labels.shape, slope.shape[1]), None, None, None


def _sigmoid_and_softplus(x: Tensor) -> tuple[Tensor, Tensor]:
    """p and -log(1 - p) of logits.

    On a CPU, where nothing can overflow, both come from one exponential, which takes two thirds of the time;
    on other devices the look at the largest logit would cost more.
    """
    if x.device.type != "cpu" or x.numel() == 0 or float(x.amax()) > MOST_EXPONENT:
        return x.sigmoid(), functional.softplus(x)
    odds = x.exp()
    cost = odds.log1p()
    return odds.div_(odds + 1), cost


def add_at(values: Tensor, places: Tensor, more: Tensor) -> Tensor:
    """A copy of values (B,N) with ``more`` (P,) added at the ``places`` of `split`; differentiable in
    both."""
    if places.dtype == torch.bool:
        return values + torch.where(places, more, 0.0).view_as(values)
    return values.flatten().index_add(0, places, more).view_as(values)


def at(values: Tensor, places: Tensor) -> Tensor:
    """The values (B,N) at the ``places`` of `split`, (P,)."""
    return values.flatten() if places.dtype == torch.bool else values.flatten()[places]
