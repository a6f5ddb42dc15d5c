"""A stream of a GPU beside the one that trains."""

from __future__ import annotations

from collections.abc import Callable

import torch

from densedet.core.types import Batch


class SideStream:
    """Make batches beside the running step, on a GPU in a stream of their own.

    The host does not wait, and the step that takes a batch waits on the GPU for that batch alone.

    Args:
        device: where the batches are made. Where it is no GPU, they are made in line.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # Before the step's own kernels where both are ready: a batch is small work that much waits for.
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None

    def make(self, work: Callable[[], Batch]) -> Batch:
        """Return the batch that ``work`` makes, ready for the current stream."""
        if self.stream is None:
            return work()
        with torch.cuda.stream(self.stream):
            batch = work()
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        for tensor in batch.tensors():
            tensor.record_stream(current)  # its memory is taken anew only when the step is through with it
        return batch
