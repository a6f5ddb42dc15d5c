"""The first place of a step at which a number is not finite: a batch's images, a box, a weight, a buffer, a
layer's output, a loss or a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.training.precision import autocast
from densedet.core.types import Batch


@dataclass(frozen=True)
class Fault:
    """Where a number is not finite.

    Attributes:
        what: "images", "box", "extra", "weight", "buffer", "output", "loss", "statistics" (a buffer that the
            step has moved), "gradient" (of a weight), "gradient of the output" or "norm" (each gradient is
            finite, their norm is not).
        place: dotted name of the module, weight or buffer within the detector; name of the loss or extra.
        value: "nan" or "inf".
        batch: number of the batch among those of the step, from 0 on; -1: of none, as a weight.
        images: ids of the images that hold it, as far as that can be told.
        largest: largest finite magnitude of what the module, or the norm, was computed from; None: nothing.
        sound_input: whether all that the module was given was finite.
    """

    what: str
    place: str
    value: str
    batch: int = -1
    images: tuple[int | str, ...] = ()
    largest: float | None = None
    sound_input: bool = True

    @property
    def spot(self) -> tuple[str, str, str, int]:
        """What must be the same for two faults to be one."""
        return self.what, self.place, self.value, self.batch


@dataclass
class Search:
    """What a step was found to hold.

    Attributes:
        faults: in the order of the step, from what it starts with to its gradients; empty where all is
            finite.
        losses: of each batch, by name.
    """

    faults: list[Fault] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)

    @property
    def layer(self) -> Fault | None:
        """The first module whose output, moved statistics or gradient is not finite; None: there is none."""
        named = ("output", "statistics", "gradient", "gradient of the output")
        return next((fault for fault in self.faults if fault.what in named), None)


@dataclass(frozen=True)
class Step:
    """How a step is computed.

    Attributes:
        batches: on the detector's device; several where gradients are accumulated.
        training: False: losses of an evaluation, without gradients.
        dtype: of autocast; None: there is none.
        channels_last: whether images lie so in memory.
        scale: float16's factor on the loss.
        passed_over: parameters whose gradients nobody takes, since their group has not started.
    """

    batches: tuple[Batch, ...]
    training: bool = True
    dtype: torch.dtype | None = None
    channels_last: bool = False
    scale: float = 1.0
    passed_over: frozenset[str] = frozenset()


def search(detector: Any, step: Step) -> Search:
    """Compute a step once more and look at every layer.

    The global generators must stand where they stood for the step. Buffers, gradients and the mode of the
    detector are put back.

    Args:
        detector: with the weights and buffers from before the step.
        step: what to compute.
    """
    found = Search(list(of_batches(step.batches)))
    found.faults += of_state(detector)
    training, kept = detector.training, [(b, b.clone()) for b in detector.buffers()]
    broken = {fault.place for fault in found.faults}
    watch = _Watch(detector, step)
    detector.zero_grad(set_to_none=True)
    detector.train(step.training)
    try:
        with watch, torch.set_grad_enabled(step.training):
            for number, batch in enumerate(step.batches):
                found.losses.append(watch.run(number, batch))
        backward = [fault for fault in watch.faults if fault.what.startswith("gradient")]
        found.faults += [fault for fault in watch.faults if fault not in backward]
        moved = [fault for fault in of_state(detector) if fault.place not in broken]
        found.faults += [replace(fault, what="statistics") for fault in moved]
        found.faults += backward or (_of_gradients(detector, step) if step.training else [])
    finally:
        with torch.no_grad():
            for buffer, copy in kept:
                buffer.copy_(copy)
        detector.zero_grad(set_to_none=True)
        detector.train(training)
    return found


def of_batches(batches: Sequence[Batch]) -> Iterator[Fault]:
    """Yield the faults of images, boxes and extras."""
    for number, batch in enumerate(batches):
        whole = batch.images.flatten(1)
        rows = [] if not len(batch) else (~whole.isfinite().all(1)).nonzero().flatten().tolist()
        if rows:
            yield Fault("images", "images", _kind(whole), number, _ids(batch, rows), _largest([whole]))
        wrong = batch.valid & ~batch.boxes.isfinite().all(-1)
        for row, slot in wrong.nonzero().tolist():
            yield Fault("box", f"box {slot}", _kind(batch.boxes[row, slot]), number, _ids(batch, [row]))
        for name, values in batch.extra.items():
            known = batch.extra_known[name]
            wrong = known & ~values.isfinite().unsqueeze(-1).flatten(2).all(-1)
            if bool(wrong.any()):
                rows = wrong.any(-1).nonzero().flatten().tolist()
                yield Fault("extra", name, _kind(values[wrong]), number, _ids(batch, rows))


def of_state(detector: nn.Module) -> list[Fault]:
    """Return the faults of weights, then those of buffers. Infinite buffers may be meant so, as masks; NaN
    never is."""
    found = [
        Fault("weight", name, _kind(value), largest=_largest([value]))
        for name, value in detector.named_parameters()
        if not bool(value.isfinite().all())
    ]
    buffers = {n: b for n, b in detector.named_buffers() if b.is_floating_point()}
    wrong = [n for n, b in buffers.items() if bool(b.isnan().any()) or bool((b == torch.inf).any())]
    return found + [Fault("buffer", n, _kind(buffers[n]), largest=_largest([buffers[n]])) for n in wrong]


class _Watch:
    """Hooks on all modules and parameters of a detector while a step is computed.

    Args:
        detector: the network.
        step: what is computed.

    Attributes:
        faults: in the order of the computation.
    """

    def __init__(self, detector: Any, step: Step) -> None:
        self.faults: list[Fault] = []
        self._detector, self._step = detector, step
        self._handles: list[Any] = []
        self._number = 0
        self._batch: Batch | None = None

    def __enter__(self) -> _Watch:
        for name, module in self._detector.named_modules():
            if module is not self._detector:
                self._handles.append(module.register_forward_hook(self._after(name), with_kwargs=True))
        for name, parameter in self._detector.named_parameters():
            if self._step.training and parameter.requires_grad and name not in self._step.passed_over:
                self._handles.append(parameter.register_hook(self._on_gradient("gradient", name)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def run(self, number: int, batch: Batch) -> dict[str, float]:
        """Compute a batch's losses, and its gradients in a step of training; return the losses."""
        step = self._step
        if step.channels_last:
            images = batch.images.contiguous(memory_format=torch.channels_last)
            batch = replace(batch, images=images)
        self._number, self._batch = number, batch
        with autocast(batch.images.device, step.dtype):
            parts = self._detector.losses(batch)
        self.faults += [
            Fault("loss", name, _kind(value), number)
            for name, value in parts.items()
            if not bool(value.isfinite().all())
        ]
        if step.training:
            total = torch.stack([part.float() for part in parts.values()]).sum()
            (total * step.scale / len(step.batches)).backward()
        return {name: float(value.detach()) for name, value in parts.items()}

    def _after(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, given: Any, named: Any, output: Any) -> None:
            tensors = list(_floats(output))
            wrong = [tensor for tensor in tensors if not bool(tensor.isfinite().all())]
            if wrong and not any(fault.what == "output" for fault in self.faults):
                inputs = list(_floats((given, named)))
                sound = all(bool(tensor.isfinite().all()) for tensor in inputs)
                largest = _largest(inputs)
                images = self._images_of(wrong[0])
                self.faults.append(
                    Fault("output", name, _kind(wrong[0]), self._number, images, largest, sound)
                )
            for tensor in tensors:
                if tensor.requires_grad and self._step.training:
                    tensor.register_hook(self._on_gradient("gradient of the output", name))

        return look

    def _on_gradient(self, what: str, name: str) -> Callable[[Tensor], None]:
        def look(gradient: Tensor) -> None:
            if "gradient" not in {fault.what[:8] for fault in self.faults} and _is_broken(gradient):
                images = self._images_of(gradient) if what != "gradient" else ()
                self.faults.append(
                    Fault(what, name, _kind(gradient), self._number, images, _largest([gradient]))
                )

        return look

    def _images_of(self, tensor: Tensor) -> tuple[int | str, ...]:
        if self._batch is None or tensor.ndim < 2 or len(tensor) != len(self._batch):
            return ()
        return _ids(self._batch, (~tensor.isfinite().flatten(1).all(1)).nonzero().flatten().tolist())


def _of_gradients(detector: nn.Module, step: Step) -> list[Fault]:
    """Return the fault of gradients that are not finite once they are summed over batches, or whose norm is
    not."""
    gradients = {
        name: p.grad / step.scale
        for name, p in detector.named_parameters()
        if p.grad is not None and name not in step.passed_over
    }
    for name, gradient in gradients.items():
        if _is_broken(gradient):
            return [Fault("gradient", name, _kind(gradient), largest=_largest([gradient]))]
    if not gradients:
        return []
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients.values()))))
    if math.isfinite(float(norm)):
        return []
    name = max(gradients, key=lambda name: float(gradients[name].abs().max()))
    return [Fault("norm", name, _kind(norm), largest=_largest([gradients[name]]))]


def _floats(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors within what a module takes or returns."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not value.is_meta:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _floats(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from _floats(getattr(value, entry.name))


def _is_broken(value: Tensor) -> bool:
    return not bool(value.isfinite().all())


def _kind(value: Tensor) -> str:
    return "nan" if bool(value.isnan().any()) else "inf"


def _largest(tensors: Sequence[Tensor]) -> float | None:
    sizes = [tensor.detach().float().abs() for tensor in tensors if tensor.numel()]
    finite = [float(size[size.isfinite()].max()) for size in sizes if bool(size.isfinite().any())]
    return max(finite, default=None)


def _ids(batch: Batch, rows: Sequence[int]) -> tuple[int | str, ...]:
    return tuple(batch.image_ids[row] for row in rows)
