"""What the sigmoid losses share: the cost of saying "no" on every channel but the true one, and picking out the true one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHUNK = 1 << 18
"""Logits per step on the CPU: temporaries then stay in the cache, and memory beside the gradient is constant."""


def prior_bias(prior: float) -> float:
    """The logit whose sigmoid is ``prior``: -log((1 - prior) / prior)."""
    return -math.log((1 - prior) / prior)


def split(logits: Tensor, labels: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """(B,N,C), labels (B,N): 0..C-1, C background, -1 ignore -> negatives (B,N), true logit (B,N).

    negatives: the sum of p^gamma * -log(1 - p) over the channels c != label, with p = sigmoid(logit); exactly 0, with zero gradient,
    where the label is -1; finite for all finite logits and gamma >= 0. true logit: of the label's channel; where the label is no
    class some finite number without a gradient. Once differentiable.
    """
    return _Split.apply(logits, labels, gamma)  # type: ignore[no-any-return]


class _Split(torch.autograd.Function):
    """The closed-form gradient is made along with the value: one stored tensor instead of autograd's eight, and no gamma - 1 in an
    exponent, so that gamma < 1 has a finite gradient at p = 0. The true logit comes along, since a `gather` of its own would cost
    a gradient as large as the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        channels = logits.shape[-1]
        rows = logits.reshape(-1, channels)
        index, is_class = labels.clamp(0, channels - 1).view(-1, 1), ((labels >= 0) & (labels < channels)).view(-1, 1)
        loss = rows.new_empty(len(rows))
        slope = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        step = max(1, CHUNK // channels) if rows.device.type == "cpu" else max(1, len(rows))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            p, cost = rows[part].sigmoid(), functional.softplus(rows[part])
            weight = p.square() if gamma == 2 else p.pow(gamma)
            if slope is not None:
                # d/dx p^g s = p^g (g (1-p) s + p), with s = softplus(x), s' = p and p' = p (1-p)
                torch.sub(1, p, out=slope[part]).mul_(cost).mul_(gamma).add_(p).mul_(weight)
                _clear(slope[part], index[part], is_class[part])
            torch.sum(_clear(weight.mul_(cost), index[part], is_class[part]), 1, out=loss[part])
        ctx.save_for_backward(slope, index, is_class, labels)
        return loss.view(labels.shape) * (labels >= 0), rows.gather(1, index).view(labels.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_negatives: Tensor, of_true: Tensor) -> tuple[Tensor, None, None]:
        slope, index, is_class, labels = ctx.saved_tensors
        gradient = slope * (of_negatives * (labels >= 0)).view(-1, 1)
        gradient.scatter_add_(1, index, of_true.reshape(-1, 1) * is_class)
        return gradient.view(*labels.shape, slope.shape[1]), None, None


def _clear(values: Tensor, index: Tensor, where: Tensor) -> Tensor:
    """values (n,C), set to 0 at column ``index`` (n,1) of the rows of ``where`` (n,1), in place."""
    return values.scatter_(1, index, values.gather(1, index).masked_fill_(where, 0))
