"""Muon: its iteration, a step by hand, and which parameters it takes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from densedet.plugins.optim.muon import muon, orthogonal_factors


def iterated(value: float, iterations: int) -> float:
    """What the iteration makes of one singular value."""
    for _ in range(iterations):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    return value


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix after five iterations."""
    [factor] = orthogonal_factors([matrix], 5)
    return matrix @ factor if len(matrix) > len(matrix.T) else factor @ matrix


@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.zeros(shape)
    matrix[0, 0], matrix[1, 1] = 3.0, 4.0  # norm 5: 0.6 and 0.8
    found = orthogonalised(matrix)
    expected = torch.zeros(shape)
    expected[0, 0], expected[1, 1] = iterated(0.6, 5), iterated(0.8, 5)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert 0.7 < expected[0, 0] < 1.2


def test_singular_vectors_stay_and_matrices_of_all_shapes_go_together() -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(shape) for shape in ((4, 7), (9, 4), (4, 4), (2, 3), (1, 5), (40, 33), (33, 70))]
    for factor, matrix in zip(orthogonal_factors(matrices, 5), matrices):
        found = matrix @ factor if len(matrix) > len(matrix.T) else factor @ matrix
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        values = torch.tensor([iterated(float(one / torch.linalg.matrix_norm(matrix)), 5) for one in s])
        torch.testing.assert_close(found, u * values @ v, atol=1e-4, rtol=0)


def test_a_matrix_of_zeros_stays() -> None:
    assert torch.equal(orthogonalised(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_two_steps_by_hand() -> None:
    kernel = nn.Parameter(torch.full((1, 1, 1, 1), 2.0))
    bias = nn.Parameter(torch.tensor([1.0]))
    built = muon(
        parameters=[{"params": [kernel], "decay": True}, {"params": [bias], "decay": False}],
        lr=0.1,
        weight_decay=0.5,
        momentum=0.5,
    )
    kernel.grad, bias.grad = torch.full((1, 1, 1, 1), 3.0), torch.tensor([-3.0])
    built.step()
    # A 1x1 matrix becomes its sign, as far as the iteration goes; the step has lr * 0.2 * sqrt(1) of it.
    first = 2.0 * (1 - 0.1 * 0.5) - 0.1 * 0.2 * iterated(1.0, 5)
    assert kernel.item() == pytest.approx(first, abs=1e-5)
    assert bias.item() == pytest.approx(1.1, abs=1e-5)  # AdamW's first step has size lr
    # Momentum: 0.5 * 3 = 1.5, then 0.5 * 1.5 + 0.5 * -1 = 0.25; looking ahead 0.5 * 0.25 + 0.5 * -1 < 0.
    kernel.grad = torch.full((1, 1, 1, 1), -1.0)
    built.step()
    assert kernel.item() == pytest.approx(first * 0.95 + 0.1 * 0.2 * iterated(1.0, 5), abs=1e-5)


def test_steps_are_as_large_as_those_of_adamw() -> None:
    """The root mean square of a step's entries is 0.2 lr, whatever the shape."""
    torch.manual_seed(0)
    for shape in ((8, 8, 3, 3), (64, 16)):
        kernel = nn.Parameter(torch.zeros(shape))
        built = muon(parameters=[{"params": [kernel], "decay": True}], lr=0.1)
        kernel.grad = torch.randn(shape)
        built.step()
        assert float(kernel.detach().square().mean().sqrt()) == pytest.approx(0.02, rel=0.15)


def test_kernels_without_a_gradient_and_groups_of_a_recipe() -> None:
    kernels = [nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    bias = nn.Parameter(torch.ones(2))
    built = muon(
        parameters=[
            {"params": [*kernels, bias], "decay": True, "lr_factor": 0.5, "weight_decay": 0.25},
        ]
    )
    assert [
        (len(g["params"]), g["orthogonal"], g["weight_decay"], g["lr_factor"]) for g in built.param_groups
    ] == [
        (2, True, 0.25, 0.5),
        (1, False, 0.25, 0.5),
    ]
    kernels[0].grad = torch.eye(2)
    built.step()
    assert torch.equal(kernels[1], torch.ones(2, 2))
    assert not torch.equal(kernels[0], torch.ones(2, 2))


def test_a_copy_takes_the_same_step() -> None:
    """A resumed run asks a copy which state there should be."""
    weights = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))]
    optimizer = muon(parameters=[{"params": weights, "decay": True}])
    twin = copy.deepcopy(optimizer)
    copies = [parameter for group in twin.param_groups for parameter in group["params"]]
    for own, other in zip(weights, copies):
        own.grad = torch.arange(own.numel()).view_as(own).float()
        other.grad = own.grad.clone()
    optimizer.step()
    twin.step()
    assert all(torch.equal(own, other) for own, other in zip(weights, copies))


@pytest.mark.parametrize("order", ["contiguous", "channels_last", "neither"])
def test_the_step_does_not_depend_on_the_order_in_memory(order: str) -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(2, 6, 4, 3, 3)
    laid = {
        "contiguous": start.clone(),
        "channels_last": start.to(memory_format=torch.channels_last),
        "neither": start.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3),
    }[order]
    kernel = nn.Parameter(laid)
    kernel.grad = gradient
    muon(parameters=[{"params": [kernel], "decay": True}], lr=0.1, weight_decay=0.5).step()
    # The first step's momentum is 0.05 of the gradient, and only its direction counts.
    step = orthogonalised(gradient.flatten(1)) * 0.2 * 36**0.5
    torch.testing.assert_close(kernel.detach(), start * 0.95 - 0.1 * step.view_as(start), atol=1e-5, rtol=0)
