"""Sums over the processes of a `torchrun`; plain values where there is one process."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def world() -> tuple[int, int]:
    """Return (rank, number of processes); (0, 1) outside of torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the sum of ``value`` over the processes divided by their number.

    A loss that is divided by it, and whose gradients DistributedDataParallel then averages, equals the loss
    of one process on the global batch.
    """
    _, count = world()
    if count == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / count


def gather_objects(value: object) -> list[object]:
    """Return the ``value`` of every process, in rank order."""
    _, count = world()
    if count == 1:
        return [value]
    values: list[object] = [None] * count
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for the other processes."""
    if world()[1] > 1:
        dist.barrier()


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that clocks read what was done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
