"""Optimizers: decay where it belongs, and a step by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from densedet.core.recipe.loading import load_recipe
from densedet.core.training.parameter_groups import grouped
from densedet.plugins.optim.optimizers import adamw, sgd


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    model[0].bias.requires_grad_(False)
    recipe = load_recipe("quickstart_ssd")
    groups = grouped(model, recipe)
    assert [group["decay"] for group in groups] == [True, False]
    assert [p.shape for p in groups[0]["params"]] == [(2, 1, 3, 3)]
    assert len(groups[1]["params"]) == 2, "the frozen bias is in no group"
    for make in (adamw, sgd):
        built = make(parameters=grouped(model, recipe), lr=0.1, weight_decay=0.3)
        assert [group["weight_decay"] for group in built.param_groups] == [0.3, 0.0]


def test_a_step_of_sgd() -> None:
    weight = nn.Parameter(torch.tensor([[2.0]]))
    built = sgd(parameters=[{"params": [weight], "decay": True}], lr=0.1, momentum=0.0, weight_decay=0.5)
    weight.grad = torch.tensor([[3.0]])
    built.step()
    assert weight.item() == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))  # 1.6


def test_a_step_of_adamw() -> None:
    weight = nn.Parameter(torch.tensor([[2.0]]))
    built = adamw(parameters=[{"params": [weight], "decay": True}], lr=0.1, weight_decay=0.5)
    weight.grad = torch.tensor([[3.0]])
    built.step()
    # The first step of Adam has size lr; decay is decoupled: 2 * (1 - 0.1 * 0.5) - 0.1 = 1.8
    assert weight.item() == pytest.approx(1.8, abs=1e-5)


@pytest.mark.parametrize("make", [adamw, sgd])
def test_the_memory_format_changes_no_step(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Channels-last weights take another kernel of SGD."""
    torch.manual_seed(0)
    start, slope = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone().to(memory_format=layout))
        built = make(parameters=[{"params": [weight], "decay": True}], lr=0.1, weight_decay=0.5)
        for step in (1, 2, 3):
            weight.grad = (slope * step).to(memory_format=layout)
            built.step()
        ends.append(weight.detach())
    torch.testing.assert_close(*ends)
    assert not torch.allclose(ends[0], start)
