"""Copies from the CPU to a GPU and back, for which nothing waits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALIGNMENT = 256
"""Bytes between which tensors begin in a common buffer, as torch's allocator has it."""


def uploaded(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Copy tensors of the CPU to a device.

    To a GPU they go in one copy from pinned memory, in the current stream: the host does not wait for it, and
    ten small tensors take the time of one.

    Args:
        tensors: of any shapes and dtypes, on the CPU.
        device: where they go.

    Returns:
        Tensors of the same shapes and dtypes on ``device``; on the CPU the same tensors.
    """
    import torch

    if torch.device(device).type == "cpu" or not tensors:
        return list(tensors)
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
    # torch keeps pinned memory until the copy is done, whatever happens to the tensor.
    buffer = torch.empty(end, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
    for tensor, start in zip(tensors, starts):
        _part(buffer, start, tensor).copy_(tensor)
    moved = buffer.to(device, non_blocking=True)
    return [_part(moved, start, tensor) for tensor, start in zip(tensors, starts)]


def _part(buffer: Tensor, start: int, like: Tensor) -> Tensor:
    size = math.prod(like.shape) * like.element_size()
    return buffer[start : start + size].view(like.dtype).view(like.shape)
