"""What the host waits for in a training step on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from densedet.core.api import build
from densedet.core.assembly import build_batch_sampler, build_source, make_train_loader, make_train_set
from densedet.core.recipe.loading import load_recipe
from densedet.core.types import Batch
from densedet.tests.pretended_gpu import GPU, Pretended, on_gpu, pretended_gpu

SMALL = (
    *("data.train.count=8", "data.val.count=4", "train.batch_size=4", "model.backbone.widths=[8, 8, 8]"),
    "data.workers=0",
)


def parts(name: str, *changes: str) -> tuple[Any, Batch]:
    recipe = load_recipe(name, [*SMALL, *changes])
    dataset = make_train_set(recipe, build_source(recipe, "train"))
    batch = next(iter(make_train_loader(recipe, dataset, build_batch_sampler(recipe, dataset.source))))
    return build(recipe), batch


def moved(detector: Any) -> None:
    """Put the network on the pretended GPU, in place."""
    for module in detector.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(on_gpu(parameter))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = on_gpu(buffer)


def step(detector: Any, batch: Batch) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    losses = detector.losses(batch)
    sum(losses.values()).backward()
    gradients = [p.grad for p in detector.parameters()]
    detector.zero_grad(set_to_none=True)
    return losses, gradients


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("quickstart_ssd", ()),
        ("quickstart_retinanet", ()),
        ("quickstart_retinanet", ("model.class_loss={name: quality_focal}",)),
    ],
    ids=["hard_negative", "focal", "quality_focal"],
)
def test_no_step_waits_for_the_gpu_once_the_targets_are_made(name: str, changes: tuple[str, ...]) -> None:
    """The losses and gradients are those of the CPU, and nothing of the step is waited for: what the matcher
    waits for is done beside the step before."""
    detector, batch = parts(name, *changes)
    detector.train()
    losses, gradients = step(detector, batch)
    with pretended_gpu() as gpu:
        moved(detector)
        own = batch.to(GPU)
        first = gpu.waits.copy()
        own = detector.with_targets(own)
        assert own.targets is not None
        gpu.waits.clear()
        found, own_gradients = step(detector, own)
        assert not gpu.waits
    assert not first
    for key, value in losses.items():
        assert isinstance(found[key], Pretended)
        torch.testing.assert_close(found[key].held, value, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, own_gradients):
        torch.testing.assert_close(other.held, one, rtol=1e-3, atol=1e-6)
