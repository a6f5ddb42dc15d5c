"""What every check uses: requirements, wiring, layouts of levels, and the habits that no part may have."""

from __future__ import annotations

import copy
import functools
import inspect
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densedet.core.errors import PartError

Factory = Callable[..., Any]
"""A part's class or function, as it is registered."""


class ConformanceError(AssertionError):
    """A part breaks its contract."""


def require(condition: object, message: str) -> None:
    """Raise ConformanceError with ``message`` unless ``condition``."""
    if not condition:
        raise ConformanceError(message)


def check(kind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a check of parts of ``kind``: it runs with seeded random numbers, and an exception
    inside the part becomes a ConformanceError that names the author's file and line."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(factory: Factory, **arguments: Any) -> None:
            try:
                with torch.random.fork_rng(devices=[]):
                    # torch.manual_seed would note each call's stack for devices that are not there.
                    torch.default_generator.manual_seed(0)
                    function(factory, **arguments)
            except ConformanceError:
                raise
            except Exception as error:
                raise ConformanceError(f"this {kind} raised {_sentence(error)}") from error

        return run

    return decorate


def _sentence(error: Exception) -> str:
    """'ValueError: text (file.py, line 3)', with the last place outside of torch and of this package."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "conformance" not in f.filename]
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    text = " ".join(str(error).split()) or "without a message"
    return f"{type(error).__name__}: {text}{place}"


def wire(factory: Factory, arguments: dict[str, Any], **wired: Any) -> Any:
    """Build a part the way the assembly does: wired values where the constructor names them."""
    names = inspect.signature(factory).parameters
    return factory(**{name: value for name, value in wired.items() if name in names}, **arguments)


def at_end(call: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, with ``progress=1.0`` where ``function`` (its forward) names the training's progress."""
    named = "progress" in inspect.signature(function).parameters
    return functools.partial(call, progress=1.0) if named else call


def accepted(build: Callable[[Any], Any], layouts: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Build a part for each layout and leave out those that it refuses with a PartError or ValueError.

    Args:
        build: makes the part from a layout.
        layouts: what to try.

    Returns:
        Pairs of a layout and its part, at least one.

    Raises:
        ConformanceError: if the part refuses every layout.
    """
    built, refusals = [], []
    for layout in layouts:
        try:
            built.append((layout, build(layout)))
        except (PartError, ValueError) as error:
            refusals.append(f"{layout}: {error}")
    require(built, f"it refuses everything that it was offered, first {refusals[0] if refusals else ''}")
    return built


def tensors(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        return [t for f in fields(value) for t in tensors(getattr(value, f.name))]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors(item)]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in tensors(item)]
    return []


def same(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Whether two nested values hold equal tensors (NaN equals NaN) within an absolute ``tolerance``."""
    pairs = list(zip(tensors(first), tensors(second)))
    if len(tensors(first)) != len(tensors(second)) or any(a.shape != b.shape for a, b in pairs):
        return False
    return all(
        torch.equal(a, b)
        or torch.allclose(a.double(), b.double(), rtol=min(tolerance, 1e-3), atol=tolerance, equal_nan=True)
        for a, b in pairs
    )


def random_states() -> tuple[Any, ...]:
    """The states of the global generators of torch, numpy and Python."""
    _, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), np.asarray(keys).tobytes(), rest


def steady(what: str, call: Callable[..., Any], *given: Any) -> Any:
    """Call a part twice with equal inputs and require equal outputs, untouched inputs and untouched global
    random generators. Returns the first output."""
    before, lengths = [t.detach().clone() for t in tensors(given)], _lengths(given)
    state = random_states()
    first = call(*given)
    require(
        random_states() == state, f"{what} draws from a global random generator: its output must not change"
    )
    require(
        _lengths(given) == lengths and same(before, tensors(given)),
        f"{what} changes its input in place: work on a copy",
    )
    copied = copy.deepcopy([t.detach() for t in tensors(first)])
    again = call(*given)
    require(
        same(copied, tensors(again)),
        f"{what} gives two different outputs for the same input: it keeps a state",
    )
    return first


def _lengths(given: Any) -> list[int]:
    return [len(item) for item in given if isinstance(item, (list, dict))]


def finite(*values: Any) -> bool:
    """Whether no tensor in ``values`` holds a NaN or an infinity."""
    return all(bool(torch.isfinite(t).all()) for t in tensors(values))


def check_gradients(part: nn.Module, output: Tensor, what: str) -> None:
    """Require that ``output``, a scalar, reaches every trainable parameter, with finite gradients."""
    part.zero_grad()
    require(output.requires_grad, f"{what}: the output is cut off from the parameters (detach or no_grad)")
    output.backward()
    trained = [(name, p) for name, p in part.named_parameters() if p.requires_grad]
    idle = [name for name, p in trained if p.grad is None]
    require(not idle, f"{what}: {', '.join(idle[:3])} never get a gradient: build only what is used")
    wild = [name for name, p in trained if not finite(p.grad)]
    require(not wild, f"{what}: the gradient of {', '.join(wild[:3])} is not finite")


def check_rows(what: str, call: Callable[..., Any], given: Sequence[Tensor], output: Any) -> None:
    """Require that the first image alone gets what it got in the batch (in eval mode). ``output`` is what
    ``call(*given)`` gave; the batch axis comes first everywhere."""
    alone = call(*(t[:1] for t in given))
    batch = [t[:1] for t in tensors(output)]
    require(
        same(alone, batch, 1e-3),
        f"{what}: in eval mode an image's output depends on the other images of the batch",
    )


def check_state_dict(
    what: str, part: nn.Module, build: Callable[[], nn.Module], call: Callable[[Any], Any]
) -> None:
    """Require that a state dict holds all that was learned: a second part that loads it gives the same."""
    second = build()
    second.load_state_dict(part.state_dict())
    with torch.no_grad():
        wanted, got = call(part.eval()), call(second.eval())
        require(
            same(wanted, got, 1e-5),
            f"{what}: a second one that loads its state_dict gives other outputs: layers are not registered "
            f"(use nn.ModuleList, nn.Parameter and register_buffer), or random numbers are drawn",
        )
        require(
            same(wanted, call(copy.deepcopy(part).eval()), 1e-5), f"{what}: a deep copy gives other outputs"
        )


def shaken(part: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters are all moved a little, so that nothing starts at exactly 0."""
    part = copy.deepcopy(part).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in part.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    return part


def on_meta(part: Any) -> Any:
    """A copy of a part on the meta device, with its parameters and buffers where it is a module."""
    return copy.deepcopy(part).to("meta") if isinstance(part, nn.Module) else part


def check_device(what: str, call: Callable[[], Any]) -> None:
    """Require that ``call``, on tensors of the meta device, mixes in no tensor of the CPU. Operations that
    the meta device lacks prove nothing and are passed over."""
    try:
        given = tensors(call())
    except Exception as error:
        text = " ".join(str(error).split())
        require(
            "expected device meta" not in text and "same device" not in text,
            f"{what} makes tensors on the CPU whatever the device of its input: {text}",
        )
        return
    require(
        all(t.device.type == "meta" for t in given),
        f"{what} gives tensors on the CPU whatever the device of its input: use its input's device",
    )


def centroid(gradient: Tensor) -> tuple[float, float]:
    """(y, x) of the middle of what a gradient (..., h, w) weighs, squared, so that far cells count little."""
    share = (gradient / gradient.abs().amax().clamp(min=1e-38)).square().flatten(0, -3).sum(0)
    share = share / share.sum().clamp(min=1e-38)
    rows, columns = (torch.arange(n, dtype=share.dtype) for n in share.shape)
    return float((share.sum(1) * rows).sum()), float((share.sum(0) * columns).sum())
