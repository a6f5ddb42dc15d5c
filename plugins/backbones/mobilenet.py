"""torchvision's MobileNetV3, which returns a map per stride or the two of SSDlite."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torchvision
from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.layers import norm_layer
from densedet.plugins.backbones._first_convolution import adapt_first_convolution
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._out_indices import check_out_indices
from densedet.plugins.backbones._weights import find_published, load_weights, published_statistics


class MobileNetV3(nn.Module):
    """MobileNetV3 (Howard et al. 2019).

    Modules are called as torchvision's (features.0, ...), so that its state dicts fit unchanged.

    Args:
        in_channels: (wired) channels of the images, 1 or 3.
        out_indices: levels whose maps are returned, fine to coarse; index k is the last block at stride 2^k
            (2, 3, 4, 5 are strides 4, 8, 16, 32), for 5 the last convolution. "ssdlite" returns two maps: the
            expansion inside the first block of stride 32, which is a map of stride 16, and the last
            convolution (section 6.3). Blocks past the last index are not built.
        reduced_tail: halve the channels at stride 32 (table 6), as torchvision's SSDlite does when it is
            trained without ImageNet weights (the published COCO_V1 included).
        width: factor on all channels.
        norm: "batch", "frozen" (constant statistics and scale, for pretrained weights and small batches) or
            "group".
        eps: added to the variance by the normalisation.
        momentum: of batch norm (torchvision's SSDlite: 0.03).
        weights: torchvision's name ("DEFAULT", "IMAGENET1K_V1") or the path of a state dict, relative to the
            working directory; null: random. For one-channel images, the first convolution's weights are
            summed over the colours.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: that of the named
            weights, else ImageNet's (torchvision's SSDlite: 0.5).
        std: standard deviation of the images scaled to 0..1, in the same form (torchvision's SSDlite: 0.5).

    Attributes:
        architecture: torchvision's name of the network.
        channels: channels of each returned map.
        strides: stride of each returned map in input pixels.

    Raises:
        PartError: where out_indices, mean or std is faulty, or the weights cannot be loaded.
    """

    architecture: ClassVar[str]

    def __init__(
        self,
        *,
        in_channels: int,
        out_indices: Literal["ssdlite"] | tuple[Literal[2, 3, 4, 5], ...] = (3, 4, 5),
        reduced_tail: bool = False,
        width: PositiveFloat = 1.0,
        norm: Literal["batch", "frozen", "group"] = "batch",
        eps: PositiveFloat = 1e-3,
        momentum: PositiveFloat = 0.01,
        weights: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        if out_indices != "ssdlite":
            check_out_indices(out_indices, (2, 3, 4, 5))
        published = find_published(weights, self.architecture)
        self.mean, self.std = image_statistics(
            in_channels, mean, std, published=published_statistics(published)
        )

        norms = partial(norm_layer, norm, eps=eps, momentum=momentum)
        network = torchvision.models.get_model(
            self.architecture, weights=None, norm_layer=norms, reduced_tail=reduced_tail, width_mult=width
        )
        first = adapt_first_convolution(network, in_channels)
        features = network.features

        strides = _strides(features)
        self.expansion: int | None = None  # block whose expansion is returned
        if out_indices == "ssdlite":
            self.expansion = strides.index(32)
            self.blocks: tuple[int, ...] = (len(features) - 1,)
            self.channels: tuple[int, ...] = (
                features[self.expansion].block[0].out_channels,
                features[-1].out_channels,
            )
            self.strides: tuple[int, ...] = (16, 32)
        else:
            self.strides = tuple(2**level for level in out_indices)
            self.blocks = tuple(len(strides) - 1 - strides[::-1].index(stride) for stride in self.strides)
            self.channels = tuple(features[block].out_channels for block in self.blocks)
        built = self.blocks[-1] + 1
        self.features = features[:built]
        if weights is not None:
            unbuilt = [f"features.{i}." for i in range(built, len(features))]
            load_weights(
                self, weights, model=self.architecture, first=first, ignored=["classifier.", *unbuilt]
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            The maps of out_indices (B,c_l,h_l,w_l), fine to coarse, with sides ceil(H / stride).
        """
        maps, outputs = images, []
        for index, block in enumerate(self.features):
            if index == self.expansion:
                # This block changes the stride, so it has no shortcut and its layers are simply a chain.
                expansion, *rest = block.block
                maps = expansion(maps)
                outputs.append(maps)
                for layer in rest:
                    maps = layer(maps)
            else:
                maps = block(maps)
            if index in self.blocks:
                outputs.append(maps)
        return outputs


def _strides(features: nn.Sequential) -> list[int]:
    """Return the stride after each block, in input pixels."""
    stride, strides = 1, []
    for block in features:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                stride *= module.stride[0]
        strides.append(stride)
    return strides


class MobileNetV3Large(MobileNetV3):
    __doc__ = MobileNetV3.__doc__
    architecture = "mobilenet_v3_large"


class MobileNetV3Small(MobileNetV3):
    __doc__ = MobileNetV3.__doc__
    architecture = "mobilenet_v3_small"
