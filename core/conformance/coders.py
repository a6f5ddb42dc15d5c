"""Coders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.conformance.requirements import (
    Factory,
    check,
    check_device,
    finite,
    require,
    same,
    steady,
    wire,
)
from densedet.core.examples import CLASSES, STRIDES, example_grid

SPACES = ("boxes", "deltas", "bins")


@check("coder")
def check_coder(factory: Factory, **arguments: Any) -> None:
    """Check shapes, units, that encode and decode are inverse, finite numbers wherever the anchor lies, boxes
    that stay boxes however wild the output, gradients and device.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments, num_classes=CLASSES, strides=STRIDES)
    anchors, _ = example_grid()
    anchors = anchors * torch.tensor([1.0, 0.6, 1.0, 0.6])  # wider than high
    require(
        isinstance(part.box_channels, int) and part.box_channels >= 4,
        f"box_channels is a whole number of at least 4, not {part.box_channels!r}",
    )
    require(
        part.spaces and set(part.spaces) <= set(SPACES), f"spaces: of boxes, deltas, bins, not {part.spaces}"
    )
    _check_decode(part, anchors)
    _check_units(part, anchors)
    if set(part.spaces) & {"deltas", "bins"}:
        _check_encode(part, anchors)
        _check_round_trip(part, anchors)
    meta = anchors[:3].to("meta")
    raw = torch.zeros(3, part.box_channels, device="meta")
    check_device("the coder's decode", lambda: part.decode(raw, meta))
    if set(part.spaces) & {"deltas", "bins"}:
        check_device("the coder's encode", lambda: part.encode(meta, meta))


def _check_decode(part: Any, anchors: Tensor) -> None:
    for shape in ((len(anchors),), (2, len(anchors))):
        raw = torch.randn(*shape, part.box_channels).requires_grad_()
        decoded = steady("decode", part.decode, raw, anchors)
        require(
            decoded.shape == (*shape, 4),
            f"decode broadcasts anchors over {shape}: expected {(*shape, 4)}, got {tuple(decoded.shape)}",
        )
        require(decoded.dtype == torch.float32, f"decode gives float32, not {decoded.dtype}")
        require(finite(decoded), "decode gives NaN or infinity")
        require(bool((decoded[..., 2:] >= decoded[..., :2]).all()), "decode gives x2 >= x1, y2 >= y1")
        require(decoded.requires_grad, "decode cuts the gradient off (detach or no_grad)")
        for side, name in enumerate(("x1", "y1", "x2", "y2")):
            (gradient,) = torch.autograd.grad(decoded[..., side].sum(), raw, retain_graph=True)
            require(finite(gradient), "decode's gradient must be finite")
            require(bool(gradient.any()), f"decode's {name} does not depend on the output: no gradient")
    for size in (30.0, 1e3, 1e4):
        for sign in (1.0, -1.0, torch.randn(len(anchors), part.box_channels).sign()):
            raw = (torch.ones(len(anchors), part.box_channels) * size * sign).requires_grad_()
            decoded = part.decode(raw, anchors)
            require(
                finite(decoded) and bool((decoded[..., 2:] >= decoded[..., :2]).all()),
                f"an output of {size:g} decodes to an infinite or inverted box: clamp it",
            )
            (gradient,) = torch.autograd.grad(decoded.sum(), raw)
            require(finite(gradient), f"decode's gradient is not finite at an output of {size:g}: clamp it")
    none = part.decode(torch.zeros(0, part.box_channels), anchors[:0])
    require(none.shape == (0, 4), "decode takes no anchors at all (P = 0)")


def _check_units(part: Any, anchors: Tensor) -> None:
    raw = torch.randn(len(anchors), part.box_channels) * 0.5
    decoded = part.decode(raw, anchors)
    shift = torch.tensor([32.0, 16.0, 32.0, 16.0])
    require(
        same(part.decode(raw, anchors + shift), decoded + shift, 1e-2),
        "an anchor that is moved must move its box by as much: anchors and boxes are xyxy in pixels",
    )
    at_zero = part.decode(torch.zeros_like(raw), anchors)
    sides = anchors[:, 2:] - anchors[:, :2]
    away = (box_ops.centers(at_zero) - box_ops.centers(anchors)).abs()
    require(
        bool((away <= sides + 1).all()),
        "an output of 0 decodes to a box elsewhere than on its anchor: boxes are xyxy in pixels",
    )
    alone = torch.cat([part.decode(raw[i : i + 1], anchors[i : i + 1]) for i in (0, 7)])
    require(same(alone, decoded[[0, 7]], 1e-3), "a box depends on other anchors than its own")


def _check_encode(part: Any, anchors: Tensor) -> None:
    boxes = anchors.flip(0)
    target = steady("encode", part.encode, boxes, anchors)
    require(target.shape == anchors.shape, f"encode gives (...,4), got {tuple(target.shape)}")
    require(target.dtype == torch.float32, f"encode gives float32, not {target.dtype}")
    require(finite(target), "encode must be finite for every anchor, inside the box or not")
    both = part.encode(torch.stack([boxes, anchors]), anchors)
    require(
        same(both[0], target, 1e-4),
        "encode gives (2,N,4) for boxes (2,N,4) and anchors (N,4), each box for itself",
    )
    empty = anchors.clone()
    empty[:, 2:] = empty[:, :2]
    require(finite(part.encode(empty, anchors)), "encode must be finite for a box without area")
    require(finite(part.encode(anchors, empty)), "encode must be finite for an anchor without area")
    require(part.encode(anchors[:0], anchors[:0]).shape == (0, 4), "encode takes no boxes at all (P = 0)")


def _check_round_trip(part: Any, anchors: Tensor) -> None:
    """What decode makes of an output must be encoded as that output's deltas; where the deltas are the
    output itself, encoded boxes must come back."""
    for scale, enough in ((0.1, 0.9), (0.3, 0.75), (1.0, 0.5)):  # a clamp may catch some of the wild ones
        raw = torch.randn(len(anchors), part.box_channels) * scale
        said = steady("deltas", part.deltas, raw)
        require(said.shape == (len(anchors), 4), f"deltas(raw) gives (...,4), got {tuple(said.shape)}")
        decoded = part.decode(raw, anchors)
        # A box without area may come of a clamp; what is lost there needs no way back.
        whole = (decoded[:, 2:] - decoded[:, :2] > 1).all(-1)
        allowed = 1e-3 if "deltas" in part.spaces else 0.51
        error = (part.encode(decoded, anchors) - said).abs() / (1 + said.abs())
        share = (error[whole] < allowed).all(-1).float().mean()
        require(
            not bool(whole.any()) or float(share) > enough,
            f"encode is not the inverse of decode: the box that an output decodes to is encoded as other "
            f"deltas than deltas(output), on {1 - float(share):.0%} of the anchors",
        )
    if part.box_channels == 4 and same(said, raw):
        generator = torch.Generator().manual_seed(1)
        size = (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2)
        boxes = anchors + (torch.rand(len(anchors), 4, generator=generator) - 0.5) * size * 0.6
        away = (part.decode(part.encode(boxes, anchors), anchors) - boxes).abs().amax(-1)
        require(
            float((away < 1e-2).float().mean()) > 0.9,
            f"decode(encode(box)) is off by {float(away.median()):.3g} pixels",
        )
