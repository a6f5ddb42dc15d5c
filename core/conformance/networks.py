"""Backbones and necks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.conformance.requirements import (
    Factory,
    accepted,
    centroid,
    check,
    check_gradients,
    check_rows,
    check_state_dict,
    finite,
    require,
    steady,
    wire,
)

NECK_CHANNELS = ((16, 24, 32), (16, 16, 16), (16,), (8, 16, 24, 32), (16, 24), (8,) * 5, (8,) * 7)
"""Channels of the maps that a neck is offered, at the strides of `strides_for`."""


def strides_for(levels: int) -> tuple[int, ...]:
    """Strides of so many levels: 8, 16, 32, or from 4 on where there are more."""
    first = 8 if levels <= 3 else 4
    return tuple(first * 2**level for level in range(levels))


def check_attributes(part: Any, what: str) -> None:
    """Require tuples ``channels`` and ``strides`` of positive whole numbers, fine to coarse."""
    for name in ("channels", "strides"):
        values = getattr(part, name, None)
        require(
            isinstance(values, tuple) and values and all(isinstance(v, int) and v > 0 for v in values),
            f"{what} has a tuple `{name}` of whole numbers before any forward, not {values!r}",
        )
    require(
        list(part.strides) == sorted(part.strides),
        f"{what}: levels go from fine to coarse, strides={part.strides}",
    )


def check_maps(part: Any, maps: list[Tensor], size: tuple[int, int], what: str) -> None:
    """Require maps whose number, channels and sizes are those that the attributes announce.

    Args:
        part: a backbone or neck.
        maps: what it gave for two images.
        size: (height, width) of the images.
        what: its name in messages.
    """
    require(isinstance(maps, list), f"{what} must give a list of maps, gave {type(maps).__name__}")
    require(
        len(maps) == len(part.channels) == len(part.strides),
        f"{what}: {len(maps)} maps but channels={part.channels}, strides={part.strides}",
    )
    for feature, channels, stride in zip(maps, part.channels, part.strides):
        shape = tuple(feature.shape)
        require(
            len(shape) == 4 and shape[0] == 2 and shape[1] == channels,
            f"{what}: a map {shape} should be (B, {channels} channels, h, w), as its `channels` says",
        )
        for cells, side in zip(shape[2:], size):
            # Half-way sizes may be rounded either way by each stage, and valid padding takes up to two cells.
            require(
                abs(cells - side / stride) <= 2.01,
                f"{what}: {cells} cells for {side} pixels at stride {stride} ({shape})",
            )
        require(feature.dtype == torch.float32, f"{what}: maps are float32, not {feature.dtype}")
        require(finite(feature), f"{what}: a map holds NaN or infinity")


def check_alignment(part: nn.Module, given: list[Tensor], maps: list[Tensor], what: str) -> None:
    """Require that the upper left cell of each map sees more of the upper left than the lower right cell.

    Args:
        part: a backbone or neck in eval mode.
        given: its input, images or maps that require a gradient.
        maps: its output.
        what: its name in messages.
    """
    for level, feature in enumerate(maps):
        seen = []
        require(feature.requires_grad, f"{what}: map {level} is cut off from the input (detach or no_grad)")
        for corner in ((0, 0), (-1, -1)):
            value = feature[0, :, corner[0], corner[1]].square().sum()
            gradients = torch.autograd.grad(value, given, retain_graph=True, allow_unused=True)
            strongest = [g for g in gradients if g is not None and bool(g.any())]
            require(strongest, f"{what}: map {level} does not depend on the input")
            finest = strongest[0]
            seen.append([at / n for at, n in zip(centroid(finest), finest.shape[-2:])])
        for axis, side in enumerate(("y", "x")):
            require(
                seen[0][axis] < seen[1][axis] + 0.25,  # a deep map sees the whole image from every cell
                f"{what}: on map {level} the first cell sees what lies at larger {side} than what the last "
                f"cell sees: rows and columns must lie as in the image",
            )


@check("backbone")
def check_backbone(
    factory: Factory,
    *,
    sizes: Sequence[tuple[int, int]] = ((64, 96), (75, 101), (128, 64)),
    **arguments: Any,
) -> None:
    """Check grey and colour, odd and non-square sizes, attributes before forward, gradients, alignment with
    the image, independence of the images of a batch, and the state dict.

    Args:
        factory: the class or function.
        sizes: (height, width) of the images to try.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """

    def build(channels: int) -> Any:
        return wire(factory, arguments, in_channels=channels)

    for channels, part in accepted(build, (1, 3)):
        check_attributes(part, "a backbone")
        for name in ("mean", "std"):
            values = getattr(part, name, None)
            require(
                isinstance(values, tuple) and len(values) == channels,
                f"a backbone has a tuple `{name}` of {channels} values for {channels} image channels before "
                f"any forward, not {values!r}",
            )
        require(
            all(-0.5 <= m <= 1.5 for m in part.mean) and all(0.002 <= s <= 2 for s in part.std),
            f"mean {part.mean} and std {part.std} are for images scaled to 0..1: divide values for 0..255 "
            f"by 255",
        )
        part.train()
        for size in sizes if channels == 1 else sizes[:1]:
            maps = part(torch.rand(2, channels, *size))
            check_maps(part, maps, size, "the backbone")
        if any(p.requires_grad for p in part.parameters()):
            check_gradients(part, torch.stack([m.mean() for m in maps]).sum(), "the backbone")
    part.eval()
    images = torch.rand(2, channels, 96, 128) * torch.tensor([1.0, 0.3]).view(2, 1, 1, 1)
    with torch.no_grad():
        output = steady("the backbone in eval mode", part, images)
        check_rows("the backbone", part, [images], output)
    images.requires_grad_()
    check_alignment(part, [images], part(images), "the backbone")
    check_state_dict(
        "the backbone", part, lambda: build(channels), lambda p: p(images.detach()[:1, :, :64, :64])
    )


@check("neck")
def check_neck(factory: Factory, **arguments: Any) -> None:
    """Check as `check_backbone`, on one to seven maps; a neck may refuse some numbers of maps.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """

    def build(channels: tuple[int, ...]) -> Any:
        return wire(factory, arguments, in_channels=channels, in_strides=strides_for(len(channels)))

    def features(channels: tuple[int, ...], size: tuple[int, int]) -> list[Tensor]:
        strides = strides_for(len(channels))
        return [torch.randn(2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(channels, strides)]

    for channels, part in accepted(build, NECK_CHANNELS)[:3]:
        check_attributes(part, "a neck")
        part.train()
        for size in ((128, 192), (136, 72)):
            given = features(channels, size)
            maps = part(list(given))
            check_maps(part, maps, size, "the neck")
        total = torch.stack([m.mean() for m in maps]).sum()
        if any(p.requires_grad for p in part.parameters()):
            check_gradients(part, total, "the neck")
        part.eval()
        given = features(channels, (128, 192))
        with torch.no_grad():
            output = steady("the neck in eval mode", part, given)
            check_rows("the neck", partial(_called, part), given, output)
        given = [g.requires_grad_() for g in given]
        check_alignment(part, given, part(list(given)), "the neck")
        inputs = [g.detach() for g in given]
        check_state_dict("the neck", part, partial(build, channels), partial(_given, inputs))


def _called(part: Any, *maps: Tensor) -> Any:
    return part(list(maps))


def _given(maps: list[Tensor], part: Any) -> Any:
    return part(list(maps))
