"""A published network's first convolution, for images of another number of channels."""

from __future__ import annotations

from torch import nn

from densedet.core.layers import init_convolutions


def adapt_first_convolution(network: nn.Module, in_channels: int) -> str:
    """Replace the first convolution where it does not take ``in_channels`` channels.

    Args:
        network: network with at least one ``nn.Conv2d``; changed in place.
        in_channels: channels of the images.

    Returns:
        The name of the first convolution's weight in the network's state dict.
    """
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != in_channels:
        convolution = nn.Conv2d(
            in_channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            first.dilation,  # type: ignore[arg-type]
            bias=first.bias is not None,
            device=first.weight.device,
        )
        init_convolutions(convolution)
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, convolution)
    return f"{name}.weight"
