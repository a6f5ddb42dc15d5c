"""The cost of a detector: parameters, arithmetic, speed."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densedet.core.distributed import synchronize
from densedet.core.types import Batch


def blank_batch(count: int, channels: int, height: int, width: int, device: torch.device) -> Batch:
    """Return a batch of ``count`` grey images without objects."""
    return Batch(
        images=torch.full((count, channels, height, width), 127, dtype=torch.uint8, device=device),
        valid_hw=torch.tensor([[height, width]] * count, device=device),
        boxes=torch.zeros(count, 0, 4, device=device),
        labels=torch.zeros(count, 0, dtype=torch.int64, device=device),
        valid=torch.zeros(count, 0, dtype=torch.bool, device=device),
        ignore=torch.zeros(count, 0, dtype=torch.bool, device=device),
        indices=torch.arange(count, device=device),
        image_ids=list(range(count)),
        source_hw=torch.tensor([[height, width]] * count, device=device),
        to_source=torch.tensor([[1.0, 1.0, 0.0, 0.0]] * count, device=device),
    )


def parameter_count(model: nn.Module) -> int:
    """Count the numbers that training may change, frozen ones included."""
    return sum(p.numel() for p in model.parameters())


def forward_flops(detector: Any, batch: Batch) -> int:
    """Count the floating-point operations of predicting one image, 2 per multiply-add. (torchvision's
    "GFLOPS" count multiply-adds, half of that.)"""
    counter = FlopCounterMode(display=False)
    training = detector.training
    detector.eval()
    with counter, torch.no_grad():
        detector.predict(batch)
    detector.train(training)
    return counter.get_total_flops() // len(batch)


def images_per_second(detector: Any, batch: Batch, *, seconds: float = 1.0) -> float:
    """Measure the median speed of ``predict`` on this batch in float32: network, box decoding and NMS,
    without image decoding."""
    times: list[float] = []
    training = detector.training
    detector.eval()
    with torch.no_grad():
        detector.predict(batch)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times) < 3:
            begin = time.perf_counter()
            detector.predict(batch)
            synchronize(batch.images.device)
            times.append(time.perf_counter() - begin)
    detector.train(training)
    return len(batch) / statistics.median(times)
