"""Muon: steps of kernels along orthogonalised momentum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw as functional_adamw

from densedet.core.arguments import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from densedet.plugins.optim.optimizers import takes_fused

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of the iteration X <- a X + b (X X^T) X + c (X X^T)^2 X (Jordan et al. 2024), whose singular values
come close to 1 soonest."""


class Muon(torch.optim.Optimizer):
    """Muon's steps for groups with ``orthogonal: True``, AdamW's for the others.

    Args:
        groups: parameter groups with "lr", "weight_decay" and "orthogonal".
        lr: learning rate of groups without one of their own.
        momentum: of orthogonal groups.
        iterations: Newton-Schulz iterations.
        betas: AdamW's.
        eps: AdamW's.
        fused: whether AdamW takes torch's fused kernel.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        iterations: int,
        betas: tuple[float, float],
        eps: float,
        fused: bool,
    ) -> None:
        # All in the groups, as torch has it: a copy of an optimizer keeps nothing else.
        values = {"momentum": momentum, "iterations": iterations, "betas": betas, "eps": eps, "fused": fused}
        super().__init__(groups, {"lr": lr, **values})
        # As torch's fused optimizers do, a step heeds ``found_inf``: where it is 1, nothing changes.
        self._step_supports_amp_scaling = fused

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            (self._step_kernels if group["orthogonal"] else self._step_others)(group, parameters)
        return loss

    def _step_others(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device if group["fused"] else "cpu"),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        functional_adamw(
            parameters,
            [_gradient(parameter) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            found_inf=getattr(self, "found_inf", None),
        )

    def _step_kernels(self, group: dict[str, Any], kernels: list[Tensor]) -> None:
        if not kernels:
            return
        for kernel in kernels:
            if not self.state[kernel]:
                self.state[kernel] = {"momentum": torch.zeros_like(kernel)}
        gradients = [_gradient(kernel) for kernel in kernels]
        momenta = [self.state[kernel]["momentum"] for kernel in kernels]
        refused: Tensor | None = getattr(self, "found_inf", None)
        taken: Any = 1.0 if refused is None else 1 - refused
        if refused is None:
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        else:
            gradients = [gradient.masked_fill(refused > 0, 0.0) for gradient in gradients]
            changes = torch._foreach_sub(gradients, momenta)
            torch._foreach_mul_(changes, (1 - group["momentum"]) * taken)
            torch._foreach_add_(momenta, changes)
        # Nesterov: look ahead by one more step of the momentum.
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        matrices = [_rows(matrix, kernel) for matrix, kernel in zip(ahead, kernels)]
        decay = group["lr"] * group["weight_decay"]
        if refused is not None:
            torch._foreach_mul_(kernels, 1 - decay * taken)
        for kernel, matrix, factor in zip(
            kernels, matrices, orthogonal_factors(matrices, group["iterations"])
        ):
            # The root mean square of the entries of an orthogonal (r,c) matrix is sqrt(min(r, c) / (r c)).
            length = -group["lr"] * 0.2 * max(matrix.shape) ** 0.5
            pair = (matrix, factor) if _is_tall(matrix) else (factor, matrix)
            weights = _rows(kernel, kernel)
            if refused is None:
                weights.addmm_(*pair, beta=1 - decay, alpha=length)
            else:
                weights.add_(torch.mm(*pair) * taken, alpha=length)
            if weights.data_ptr() != kernel.data_ptr():  # strides of which no view as a matrix can be had
                kernel.copy_(weights.view_as(kernel))


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _rows(tensor: Tensor, kernel: Tensor) -> Tensor:
    """Return (out,in*h*w) or, without a copy where the kernel lies so in memory, (out,h*w*in): a step of Muon
    does not depend on the order of columns."""
    lies_otherwise = kernel.ndim == 4 and not kernel.is_contiguous()
    if lies_otherwise and kernel.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten(1)


def orthogonal_factors(matrices: Sequence[Tensor], iterations: int) -> list[Tensor]:
    """Return for each matrix the symmetric factor that moves its singular values close to 1.

    The Newton-Schulz iterations are polynomials of the Gram matrix of the smaller side. So all of them act on
    Gram matrices, and the large side is multiplied twice, however many iterations there are. Gram matrices go
    through them together, filled up with zeros to sides of whole multiples of 32.

    Args:
        matrices: float32, each (rows,columns).
        iterations: at least 1.

    Returns:
        F (side,side) for each, of its smaller side: ``F @ matrix``, or ``matrix @ F`` where there are more
        rows than columns. 5 iterations take singular values of 0.01 to 1 times the norm to between 0.7 and
        1.2. A matrix of zeros stays as it is.
    """
    grams = [matrix.mT @ matrix if _is_tall(matrix) else matrix @ matrix.mT for matrix in matrices]
    by_side: dict[int, list[int]] = {}
    for place, gram in enumerate(grams):
        by_side.setdefault(-(-len(gram) // 32) * 32, []).append(place)
    found: dict[int, Tensor] = {}
    for side, places in by_side.items():
        stack = grams[0].new_zeros(len(places), side, side)
        for row, place in enumerate(places):
            stack[row, : len(grams[place]), : len(grams[place])] = grams[place]
        squares = stack.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_(min=1e-14)[:, None, None]
        factors = _iterated(stack / squares, iterations) / squares.sqrt()
        found |= {place: factors[row] for row, place in enumerate(places)}
    return [found[place][: len(gram), : len(gram)] for place, gram in enumerate(grams)]


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]


def _iterated(grams: Tensor, iterations: int) -> Tensor:
    """Return the polynomials of Gram matrices (n,s,s) by which all iterations together multiply."""
    a, b, c = COEFFICIENTS
    product = None
    for left in range(iterations, 0, -1):
        factor = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else torch.bmm(factor, product)
        if left > 1:
            grams = torch.bmm(torch.bmm(factor, grams), factor)
    assert product is not None
    return product


def muon(
    *,
    parameters: list[dict[str, Any]],
    lr: PositiveFloat = 2e-3,
    weight_decay: NonNegativeFloat = 0.05,
    momentum: Probability = 0.95,
    iterations: PositiveInt = 5,
    betas: tuple[Probability, Probability] = (0.9, 0.99),
    eps: PositiveFloat = 1e-8,
) -> torch.optim.Optimizer:
    """Muon (Jordan et al. 2024) for kernels and matrices, AdamW for biases, norms and scalars.

    A kernel (out,in,h,w) counts as a matrix (out,in*h*w). Its step is the momentum of its gradient with all
    singular values near 1, scaled so that the root mean square of its entries is 0.2 lr, as AdamW's mostly is
    (Liu et al. 2025, section 2.2): the same learning rate serves both.

    Args:
        parameters: (wired) groups as `densedet.core.training.parameter_groups` makes them.
        lr: learning rate at the top of the schedule.
        weight_decay: decoupled weight decay of weights; norms and biases have none.
        momentum: factor on the running average of the gradients of kernels.
        iterations: Newton-Schulz iterations a step.
        betas: AdamW's decay rates of the averages of the gradient and of its square.
        eps: added to AdamW's denominator.

    Returns:
        The optimizer.
    """
    groups = []
    for group in parameters:
        kernels = [p for p in group["params"] if p.ndim > 1]
        rest = [p for p in group["params"] if p.ndim <= 1]
        decay = weight_decay if group["decay"] else 0.0
        for orthogonal, members in ((True, kernels), (False, rest)):
            if members:
                groups.append({"weight_decay": decay, **group, "params": members, "orthogonal": orthogonal})
    return Muon(
        groups,
        lr=lr,
        momentum=momentum,
        iterations=iterations,
        betas=betas,
        eps=eps,
        fused=takes_fused(parameters),
    )
