"""The benchmark of training on a GPU, as far as a CPU goes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from densedet.tools.benchmark_gpu import PROFILED, measured, profiled, run_of


def test_steps_are_measured_through_the_whole_loop(tmp_path: Path) -> None:
    run = run_of("quickstart_ssd", torch.device("cpu"), tmp_path, "float32", "off", 0)
    figures = measured(run, 0.01)
    assert run.step > PROFILED
    assert figures["numbers read late by steps"] == 0
    assert figures["images/s"] > 0


def test_streams_that_work_at_once_make_the_gpu_busy_once() -> None:
    """0..40 and 30..60 microseconds overlap: 60 are busy; 100..140 are 40 more, of a step of 200."""

    def event(name: str, first: float, last: float, device: DeviceType = DeviceType.CUDA) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, device_type=device, time_range=SimpleNamespace(start=first, end=last)
        )

    events = [
        event("kernel", 0, 40 * PROFILED),
        event("Memcpy HtoD", 30 * PROFILED, 60 * PROFILED),
        event("kernel", 100 * PROFILED, 140 * PROFILED),
        *[event("cudaLaunchKernel", 0, 1, DeviceType.CPU)] * (2 * PROFILED),
        *[event("cudaStreamSynchronize", 0, 1, DeviceType.CPU)] * PROFILED,
    ]
    figures = profiled(events, 200e-6)
    assert figures["GPU busy"] == pytest.approx(0.5)
    assert figures["GPU busy ms"] == pytest.approx(0.1)
    assert (figures["launches a step"], figures["waits a step"], figures["copies a step"]) == (2, 1, 0.1)
