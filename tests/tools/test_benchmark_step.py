"""The two sides that `densedet benchmark step` times do the same: losses agree step for step."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from densedet.core.training.engine import optimizer_step
from densedet.tools import benchmark_step


@pytest.mark.long
def test_trained_side_by_side_with_torchvision(tmp_path: Path) -> None:
    """RetinaNet with ResNet-18 at 128x64, batches of 16: the same initial weights, images and optimizer;
    contiguous, float32."""
    torch.manual_seed(0)
    model = benchmark_step.reference(10).train()
    run = benchmark_step.ours(tmp_path, model, *benchmark_step.PLAIN)
    run.detector.train()
    optimizer = benchmark_step.optimizer_of(model)
    batches = run.batches()
    start = [parameter.detach().clone() for parameter in model.parameters()]
    for number in range(5):
        batch = next(batches)[0]
        theirs = benchmark_step.step_of(model, optimizer, *benchmark_step.as_theirs(batch))
        losses = optimizer_step(run, (batch,))["losses"]
        assert losses["class"] == pytest.approx(theirs["classification"], rel=1e-3), number
        assert losses["box"] == pytest.approx(theirs["bbox_regression"], rel=1e-3), number
    moved = max(float((now - then).abs().max()) for now, then in zip(model.parameters(), start))
    assert moved > 1e-4  # they agree on more than the first step


@pytest.mark.long
def test_the_command_times_every_side() -> None:
    rows = benchmark_step.step(argparse.Namespace(rounds=1))
    for side in ("ours, float32", "ours, default", "bare network, float32"):
        assert rows[f"{side} s"] > 0
        assert rows[f"{side} / torchvision's"] > 0
