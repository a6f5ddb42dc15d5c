"""Channels and strides of a foreign network's maps, measured without computing a number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from densedet.core.errors import PartError

PROBES = (256, 512)
"""Sides of two square images. A map's stride is 256 pixels over the growth of its side, whatever the
padding."""


def measure(body: nn.Module, in_channels: int, what: str) -> list[Any]:
    """Run a network on the meta device, for one image of either side of PROBES.

    Args:
        body: network; its mode is left as it was.
        in_channels: channels of the images.
        what: the network in words, for errors.

    Returns:
        The network's output for each of the two sides.

    Raises:
        PartError: the network does not take images of these sizes.
    """
    tensors = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    empty = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    training = body.training
    try:
        body.eval()
        return [
            functional_call(body, empty, torch.empty(1, in_channels, side, side, device="meta"))
            for side in PROBES
        ]
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise PartError(
            f"{what} does not take images of any size ({reason}): choose a network that does, such as "
            f"resnet18"
        ) from error
    finally:
        body.train(training)


def map_layout(small: Any, large: Any) -> tuple[int, int, bool] | None:
    """Read a map's layout from its values for the two PROBES.

    Args:
        small: value for the smaller image.
        large: value for the larger image.

    Returns:
        (channels, stride, whether channels are the last axis); None where the values are no map.
    """
    if not isinstance(small, Tensor) or not isinstance(large, Tensor) or small.dim() != 4:
        return None
    growing = [axis for axis in (1, 2, 3) if small.shape[axis] != large.shape[axis]]
    if growing not in ([2, 3], [1, 2]):
        return None
    stride = (PROBES[1] - PROBES[0]) / (large.shape[2] - small.shape[2])
    channels = small.shape[1] if growing == [2, 3] else small.shape[3]
    return (channels, int(stride), growing == [1, 2]) if stride >= 1 and stride == int(stride) else None
