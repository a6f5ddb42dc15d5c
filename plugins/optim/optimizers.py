"""torch's optimizers with their arguments named; fused kernels where torch has them (they take a fifth of the
time on small nets)."""

from __future__ import annotations

from typing import Any

import torch

from densedet.core.arguments import NonNegativeFloat, PositiveFloat, Probability


def takes_fused(parameters: list[dict[str, Any]]) -> bool:
    """Return whether torch has fused kernels for these parameters."""
    return all(
        p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point()
        for group in parameters
        for p in group["params"]
    )


def _decayed(group: dict[str, Any], weight_decay: float) -> dict[str, Any]:
    """The group with its own weight decay, else ``weight_decay`` where its parameters decay."""
    return {"weight_decay": weight_decay if group["decay"] else 0.0, **group}


def adamw(
    *,
    parameters: list[dict[str, Any]],
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.05,
    betas: tuple[Probability, Probability] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019).

    Args:
        parameters: (wired) groups as `densedet.core.training.parameter_groups` makes them.
        lr: learning rate at the top of the schedule.
        weight_decay: decoupled weight decay of weights; norms and biases have none.
        betas: decay rates of the averages of the gradient and of its square.
        eps: added to the denominator.

    Returns:
        The optimizer.
    """
    groups = [_decayed(group, weight_decay) for group in parameters]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=takes_fused(parameters))


def sgd(
    *,
    parameters: list[dict[str, Any]],
    lr: PositiveFloat = 0.01,
    momentum: Probability = 0.9,
    weight_decay: NonNegativeFloat = 1e-4,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """SGD with momentum, by which the papers trained SSD and RetinaNet.

    Args:
        parameters: (wired) groups as `densedet.core.training.parameter_groups` makes them.
        lr: learning rate at the top of the schedule.
        momentum: factor on the previous update.
        weight_decay: L2 penalty of weights; norms and biases have none.
        nesterov: whether to use Nesterov's momentum.

    Returns:
        The optimizer.
    """
    groups = [_decayed(group, weight_decay) for group in parameters]
    # On the CPU the fused kernel copies weights that are not contiguous (channels-last), which is slower than
    # a pass per operation.
    fused = takes_fused(parameters) and all(
        p.is_contiguous() or p.device.type != "cpu" for group in parameters for p in group["params"]
    )
    return torch.optim.SGD(
        groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused, foreach=not fused
    )
