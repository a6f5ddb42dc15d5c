"""torchvision's ResNets, which return C2..C5."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

import torchvision
from pydantic import Field
from torch import Tensor, nn

from densedet.core.arguments import NonNegativeFloat, PositiveFloat
from densedet.core.layers import norm_layer
from densedet.plugins.backbones._first_convolution import adapt_first_convolution
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._out_indices import check_out_indices
from densedet.plugins.backbones._weights import find_published, load_weights, published_statistics


class ResNet(nn.Module):
    """Deep residual network (He et al. 2016), a bottleneck's stride on its 3x3 convolution as torchvision.

    Modules are called as torchvision's (conv1, bn1, layer1..layer4), so that its state dicts fit unchanged.

    Args:
        in_channels: (wired) channels of the images, 1 or 3.
        out_indices: levels whose maps are returned, fine to coarse; index k is C_k, at stride 2^k: 2, 3, 4, 5
            are strides 4, 8, 16, 32. Stages past the last index are not built.
        norm: "batch", "frozen" (constant statistics and scale, for pretrained weights and small batches) or
            "group".
        eps: added to the variance (torchvision's RetinaNet COCO_V1 was trained with frozen norm and eps 0).
        momentum: of batch norm.
        frozen_stages: how many stages keep their weights and statistics: 0 none, 1 the stem, 2 C2 too, ... 5
            all.
        weights: torchvision's name ("DEFAULT", "IMAGENET1K_V1") or the path of a state dict, relative to the
            working directory; null: random. For one-channel images, the first convolution's weights are
            summed over the colours.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: that of the named
            weights, else ImageNet's.
        std: standard deviation of the images scaled to 0..1, in the same form.

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
        out_indices: tuple[Literal[2, 3, 4, 5], ...] = (3, 4, 5),
        norm: Literal["batch", "frozen", "group"] = "batch",
        eps: NonNegativeFloat = 1e-5,
        momentum: PositiveFloat = 0.1,
        frozen_stages: Annotated[int, Field(ge=0, le=5)] = 0,
        weights: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        check_out_indices(out_indices, (2, 3, 4, 5))
        published = find_published(weights, self.architecture)
        self.mean, self.std = image_statistics(
            in_channels, mean, std, published=published_statistics(published)
        )
        self.out_indices, self.frozen_stages = out_indices, frozen_stages

        norms = partial(norm_layer, norm, eps=eps, momentum=momentum)
        network = torchvision.models.get_model(self.architecture, weights=None, norm_layer=norms)
        first = adapt_first_convolution(network, in_channels)
        widths = {level: 2 ** (level + 4) * network.layer1[0].expansion for level in (2, 3, 4, 5)}
        self.channels = tuple(widths[level] for level in out_indices)
        self.strides = tuple(2**level for level in out_indices)

        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        for level in range(2, out_indices[-1] + 1):
            self.add_module(f"layer{level - 1}", getattr(network, f"layer{level - 1}"))
        if weights is not None:
            unbuilt = [f"layer{level - 1}." for level in range(out_indices[-1] + 1, 6)]
            load_weights(self, weights, model=self.architecture, first=first, ignored=["fc.", *unbuilt])
        for stage in self._frozen():
            stage.requires_grad_(False)

    def _levels(self) -> list[tuple[int, nn.Module]]:
        return [
            (level, self.get_submodule(f"layer{level - 1}")) for level in range(2, self.out_indices[-1] + 1)
        ]

    def _frozen(self) -> list[nn.Module]:
        stages = [nn.ModuleList([self.conv1, self.bn1]), *(stage for _, stage in self._levels())]
        return stages[: self.frozen_stages]

    def train(self, mode: bool = True) -> ResNet:
        """Switch to training or evaluation; the batch norm of frozen stages keeps its statistics in both.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            The backbone itself.
        """
        super().train(mode)
        for stage in self._frozen():
            stage.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            The maps of out_indices (B,c_l,h_l,w_l), fine to coarse, with sides ceil(H / stride).
        """
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for level, stage in self._levels():
            maps = stage(maps)
            if level in self.out_indices:
                features.append(maps)
        return features


class ResNet18(ResNet):
    __doc__ = ResNet.__doc__
    architecture = "resnet18"


class ResNet34(ResNet):
    __doc__ = ResNet.__doc__
    architecture = "resnet34"


class ResNet50(ResNet):
    __doc__ = ResNet.__doc__
    architecture = "resnet50"
