"""VGG-16 as SSD uses it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.layers import init_convolutions, norm_layer
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._weights import find_published, load_weights, published_statistics

GROUPS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) of conv1..conv5; a pooling follows each but the last (VGG's configuration D)."""


class VGG16SSDBackbone(nn.Module):
    """VGG-16 (Simonyan and Zisserman 2015) as SSD reshapes it (Liu et al. 2016, section 3).

    It returns conv4_3 after its ReLU (stride 8) and fc7 (stride 16). pool3 rounds up, pool5 is 3x3 with
    stride 1, fc6 is a 3x3 convolution with dilation 6 and fc7 a 1x1 convolution. At 300x300 the maps are
    38x38 and 19x19. The rescaled L2 norm of the first map and the stages that follow belong to the neck
    ``ssd_extras``.

    ``features.N`` are called as torchvision's VGG. fc6 and fc7 are ``fc.1`` and ``fc.3`` (norm "none") and
    always start from random weights, as in torchvision, where the paper subsamples VGG's.

    Args:
        in_channels: (wired) channels of the images, 1 or 3.
        width: factor on all channels, which are rounded to multiples of 8.
        norm: "none" is the paper's; "batch" (torchvision's vgg16_bn) trains far better from random weights.
        eps: added to the variance by batch norm.
        momentum: of batch norm.
        weights: torchvision's name ("IMAGENET1K_FEATURES" is SSD's own, "IMAGENET1K_V1") or the path of a
            state dict, relative to the working directory; null: random. For one-channel images, the first
            convolution's weights are summed over the colours.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: that of the named weights
            (0.48235, 0.45882, 0.40784 for SSD's own), else ImageNet's. Write it down where the weights come
            from a file of SSD's own.
        std: standard deviation of the images scaled to 0..1, in the same form (1/255 for SSD's own weights).

    Attributes:
        channels: channels of conv4_3 and fc7.
        strides: (8, 16).

    Raises:
        PartError: where mean or std is faulty, or the weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: PositiveFloat = 1.0,
        norm: Literal["none", "batch"] = "none",
        eps: PositiveFloat = 1e-5,
        momentum: PositiveFloat = 0.1,
        weights: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        architecture = "vgg16" if norm == "none" else "vgg16_bn"
        published = find_published(weights, architecture)
        self.mean, self.std = image_statistics(
            in_channels, mean, std, published=published_statistics(published)
        )

        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        def convolution(
            fan_in: int, channels: int, kernel: int, padding: int, dilation: int
        ) -> list[nn.Module]:
            layers: list[nn.Module] = [
                nn.Conv2d(fan_in, channels, kernel, padding=padding, dilation=dilation)
            ]
            if norm == "batch":
                layers.append(norm_layer("batch", channels, eps=eps, momentum=momentum))
            return [*layers, nn.ReLU(inplace=True)]

        layers: list[nn.Module] = []
        fan_in = in_channels
        for group, (channels, count) in enumerate(GROUPS, start=1):
            for _ in range(count):
                layers += convolution(fan_in, scaled(channels), 3, 1, 1)
                fan_in = scaled(channels)
            if group == 4:
                self.conv4_3 = len(layers) - 1  # index of its ReLU
            if group < 5:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=group == 3))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            *convolution(fan_in, scaled(1024), 3, 6, 6),
            *convolution(scaled(1024), scaled(1024), 1, 0, 1),
        )
        self.channels: tuple[int, ...] = (scaled(512), scaled(1024))
        self.strides: tuple[int, ...] = (8, 16)
        init_convolutions(self)
        if weights is not None:
            body = nn.Module()
            body.features = self.features
            load_weights(
                body, weights, model=architecture, first="features.0.weight", ignored=["classifier."]
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            conv4_3 and fc7, (B,c_l,h_l,w_l) each.
        """
        conv4_3 = self.features[: self.conv4_3 + 1](images)
        return [conv4_3, self.fc(self.features[self.conv4_3 + 1 :](conv4_3))]
