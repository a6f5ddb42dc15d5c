"""The buffers of a network, such as the statistics of batch norm, which its forward pass moves."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn


class Buffers:
    """Keep a copy of a network's buffers over a step, so that a step that is refused changes nothing.

    Args:
        model: the network, on its device. A buffer that is not finite from the start, such as a mask of
            -inf, is meant so, and is not looked at.
        steps: copies that are held, of the last so many steps.
    """

    def __init__(self, model: nn.Module, *, steps: int = 1) -> None:
        self._named = {name: buffer for name, buffer in model.named_buffers() if buffer.numel()}
        self._copies = deque([buffer.clone() for buffer in self._named.values()] for _ in range(steps))
        self._device = next((p.device for p in model.parameters()), None)
        self._watched = {
            name: buffer
            for name, buffer in self._named.items()
            if buffer.is_floating_point() and bool(buffer.isfinite().all())
        }

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the buffers as they are now."""
        if self._named:
            self._copies.rotate(-1)
            torch._foreach_copy_(self._copies[-1], list(self._named.values()))

    @torch.no_grad()
    def put_back(self, *, later: int = 0) -> None:
        """Give the buffers the values that `keep` copied, ``later`` calls before the last one."""
        for buffer, copy in zip(self._named.values(), self._copies[-1 - later]):
            buffer.copy_(copy)

    def finite(self) -> Tensor:
        """Return a scalar on the network's device: 0 where all buffers are finite, else NaN."""
        if not self._watched:
            return torch.zeros((), device=self._device)
        # The largest magnitude cannot overflow, as a sum of squares can; infinity times 0 is NaN.
        return torch.stack(torch._foreach_norm(list(self._watched.values()), torch.inf)).amax() * 0

    def broken(self) -> list[str]:
        """Return the names of the buffers that are no longer finite."""
        return [name for name, buffer in self._watched.items() if not bool(buffer.isfinite().all())]
