"""The numbers of a step: on a CPU they are there at once, on a GPU some steps later."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densedet.core.errors import TrainingError

LAG = 2
"""Steps that a GPU may be behind the host. Looking at a number earlier would stop the host until the GPU has
come so far, and then the GPU until the host has told it what comes next."""

if TYPE_CHECKING:
    from densedet.core.types import Batch


class NotFiniteError(TrainingError):
    """A loss, a gradient, a buffer or a box is not finite; the run is as it was before that step.

    Args:
        message: what is not finite, and what usually helps.
        batches: those of the step; () for an evaluation, whose batches are gone.
    """

    def __init__(self, message: str, batches: tuple[Batch, ...] = ()) -> None:
        super().__init__(message)
        self.batches = batches


class StepNumbers:
    """The losses and the gradient norm of a step.

    Args:
        names: of the losses.
        values: float (len(names) + 2,) on the run's device: the losses, the norm of all gradients, and 0, or
            NaN where a buffer or a box is not finite.
        parts: the losses by name of each batch of the step, () on the device.
        lost: number of objects that augmentation lost, int64 (), as far as a GPU counts them; None: it counts
            none.

    Attributes:
        names: the same.
        parts: the same.
        norm: the norm, float () on the device.
    """

    def __init__(
        self,
        names: list[str],
        values: Tensor,
        parts: list[dict[str, Tensor]],
        *,
        lost: Tensor | None = None,
    ) -> None:
        self.names, self.parts, self.norm = names, parts, values[-2]
        self._values = values
        self._host = values if lost is None else torch.cat([values, lost.to(values.dtype)[None]])
        self._copied: torch.cuda.Event | None = None
        self._read: list[float] | None = None
        if values.device.type == "cuda":
            on_device = self._host
            self._host = torch.empty(on_device.shape, dtype=on_device.dtype, pin_memory=True)
            self._host.copy_(on_device, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def refused(self) -> Tensor:
        """1 where a number is not finite, else 0, float32 () on the device."""
        return (~self._values.isfinite().all()).float()

    def read(self) -> list[float]:
        """Return the values, and the number of lost objects where it was given; wait for them where they are
        not there yet."""
        if self._read is None:
            if self._copied is not None:
                self._copied.synchronize()
            self._read = self._host.tolist()
        return self._read

    @property
    def losses(self) -> dict[str, float]:
        """The losses by name."""
        return dict(zip(self.names, self.read()))

    @property
    def finite_losses(self) -> bool:
        """Whether the losses, the buffers and the boxes are finite, whatever the gradients are."""
        *losses, _, others = self.read()[: len(self.names) + 2]
        return all(map(math.isfinite, (*losses, others)))

    @property
    def grad_norm(self) -> float:
        """The norm of all gradients."""
        return self.read()[len(self.names)]

    @property
    def lost(self) -> int:
        """The number of lost objects that a GPU has counted."""
        return sum(map(int, self.read()[len(self.names) + 2 :]))


class StepReport(dict[str, Any]):
    """What hooks get of a step on a GPU: a dict whose "losses", "loss" and "grad_norm" are read, and waited
    for, when somebody asks for one of them or for all.

    Args:
        numbers: of the step.
        known: the other entries.
    """

    def __init__(self, numbers: StepNumbers, known: dict[str, Any]) -> None:
        super().__init__(known)
        self._numbers: StepNumbers | None = numbers

    def _read(self) -> None:
        if self._numbers is not None:
            numbers, self._numbers = self._numbers, None
            losses = numbers.losses
            self |= {"losses": losses, "loss": sum(losses.values()), "grad_norm": numbers.grad_norm}

    def __missing__(self, key: str) -> Any:
        if self._numbers is None:
            raise KeyError(key)
        self._read()
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        self._read()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._read()
        return super().__iter__()

    def __len__(self) -> int:
        self._read()
        return super().__len__()

    def keys(self) -> Any:
        """As of a dict."""
        self._read()
        return super().keys()

    def items(self) -> Any:
        """As of a dict."""
        self._read()
        return super().items()

    def values(self) -> Any:
        """As of a dict."""
        self._read()
        return super().values()

    def copy(self) -> dict[str, Any]:
        """As of a dict."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    def __repr__(self) -> str:
        return repr(self.copy())
