"""torchvision's MobileNetV3, tapped by stride or as SSDlite does."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torchvision
from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.layers import norm_layer
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._taps import check_taps
from densedet.plugins.backbones._weights import find_published, load_weights, published_statistics


class MobileNetV3(nn.Module):
    """MobileNetV3 (Howard et al. 2019). Modules are called as torchvision's (features.0, ...), so its state
    dicts fit as they are.

    in_channels: wired. out: levels 2..5 at strides 4..32, fine to coarse: the last block of each stride, for
    5 the last convolution; or "ssdlite": the expansion inside the first block of stride 32 (a map of stride
    16) and the last convolution, as section 6.3 has it. Blocks past the last tap are not built. reduced_tail:
    halve the channels at stride 32 (table 6; torchvision's SSDlite when trained without ImageNet weights, the
    published COCO_V1 included). width: multiplies all channels.
    norm, eps, momentum: "frozen" is for pretrained weights and small batches; torchvision's SSDlite has
    momentum 0.03.
    weights: null, torchvision's name ("DEFAULT", "IMAGENET1K_V1"), or the path of a state dict, relative to
    the working directory. One-channel images get the first convolution's weights summed over the colours.
    mean, std: of the images scaled to 0..1, one value or one per channel; null: ImageNet's (torchvision's
    SSDlite: 0.5 and 0.5).
    """

    architecture: ClassVar[str]

    def __init__(
        self,
        *,
        in_channels: int,
        out: Literal["ssdlite"] | tuple[Literal[2, 3, 4, 5], ...] = (3, 4, 5),
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
        if out != "ssdlite":
            check_taps(out, (2, 3, 4, 5))
        published = find_published(weights, self.architecture)
        self.mean, self.std = image_statistics(
            in_channels, mean, std, published=published_statistics(published)
        )

        norms = partial(norm_layer, norm, eps=eps, momentum=momentum)
        network = torchvision.models.get_model(
            self.architecture, weights=None, norm_layer=norms, reduced_tail=reduced_tail, width_mult=width
        )
        features = network.features
        if in_channels != 3:
            first = features[0][0]
            features[0][0] = nn.Conv2d(
                in_channels, first.out_channels, kernel_size=3, stride=2, padding=1, bias=False
            )
            nn.init.kaiming_normal_(features[0][0].weight, mode="fan_out")

        reached = _strides(features)
        self.expansion_tap: int | None = None
        if out == "ssdlite":
            self.expansion_tap = reached.index(32)
            self.taps: tuple[int, ...] = (len(features) - 1,)
            self.channels = (features[self.expansion_tap].block[0].out_channels, features[-1].out_channels)
            self.strides: tuple[int, ...] = (16, 32)
        else:
            self.taps = tuple(len(reached) - 1 - reached[::-1].index(2**level) for level in out)
            self.channels = tuple(features[tap].out_channels for tap in self.taps)
            self.strides = tuple(2**level for level in out)
        self.features = features[: self.taps[-1] + 1]
        if weights is not None:
            unbuilt = [f"features.{i}." for i in range(self.taps[-1] + 1, len(features))]
            load_weights(
                self,
                weights,
                model=self.architecture,
                first="features.0.0.weight",
                ignored=["classifier.", *unbuilt],
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B,in_channels,H,W) -> the tapped maps, fine to coarse, sides rounded up: ceil(H
        / stride)."""
        maps, taps = images, []
        for index, block in enumerate(self.features):
            if index == self.expansion_tap:
                # This block changes the stride, so it has no shortcut and its layers are simply a chain.
                expansion, *rest = block.block
                maps = expansion(maps)
                taps.append(maps)
                for layer in rest:
                    maps = layer(maps)
            else:
                maps = block(maps)
            if index in self.taps:
                taps.append(maps)
        return taps


def _strides(features: nn.Sequential) -> list[int]:
    """Input pixels per cell after each block."""
    reached, strides = 1, []
    for block in features:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                reached *= module.stride[0]
        strides.append(reached)
    return strides


class MobileNetV3Large(MobileNetV3):
    __doc__ = MobileNetV3.__doc__
    architecture = "mobilenet_v3_large"


class MobileNetV3Small(MobileNetV3):
    __doc__ = MobileNetV3.__doc__
    architecture = "mobilenet_v3_small"
