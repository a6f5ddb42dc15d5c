"""torchvision's ResNets, tapped at C2..C5."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

import torchvision
from pydantic import Field
from torch import Tensor, nn

from densedet.core.arguments import NonNegativeFloat, PositiveFloat
from densedet.core.layers import norm_layer
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._taps import check_taps
from densedet.plugins.backbones._weights import find_published, load_weights, published_statistics


class ResNet(nn.Module):
    """Deep residual network (He et al. 2016; a bottleneck's stride on its 3x3 convolution, as torchvision has
    it). Modules are called as torchvision's (conv1, bn1, layer1..layer4), so its state dicts fit as they are.

    in_channels: wired. out: the tapped levels, C2..C5 at strides 4..32, fine to coarse; stages past the last
    are not built.
    norm: "batch", "frozen" (constant statistics and scale: for pretrained weights and small batches) or
    "group".
    eps: added to the variance (torchvision's RetinaNet of COCO_V1 was trained with frozen norm and eps 0).
    momentum: of batch norm.
    frozen_stages: how many stages keep their weights and statistics: 1 the stem, 2 C2 too, ... 5 all; 0 none.
    weights: null, torchvision's name ("DEFAULT", "IMAGENET1K_V1"), or the path of a state dict, relative to
    the working directory. One-channel images get the first convolution's weights summed over the colours.
    mean, std: of the images scaled to 0..1, one value or one per channel; null: those of the named weights,
    else ImageNet's.
    """

    architecture: ClassVar[str]

    def __init__(
        self,
        *,
        in_channels: int,
        out: tuple[Literal[2, 3, 4, 5], ...] = (3, 4, 5),
        norm: Literal["batch", "frozen", "group"] = "batch",
        eps: NonNegativeFloat = 1e-5,
        momentum: PositiveFloat = 0.1,
        frozen_stages: Annotated[int, Field(ge=0, le=5)] = 0,
        weights: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        check_taps(out, (2, 3, 4, 5))
        published = find_published(weights, self.architecture)
        self.mean, self.std = image_statistics(
            in_channels, mean, std, published=published_statistics(published)
        )
        self.out, self.frozen_stages = out, frozen_stages

        norms = partial(norm_layer, norm, eps=eps, momentum=momentum)
        network = torchvision.models.get_model(self.architecture, weights=None, norm_layer=norms)
        widths = {level: 2 ** (level + 4) * network.layer1[0].expansion for level in (2, 3, 4, 5)}
        self.channels = tuple(widths[level] for level in out)
        self.strides = tuple(2**level for level in out)

        self.conv1, self.bn1, self.relu, self.maxpool = (
            network.conv1,
            network.bn1,
            network.relu,
            network.maxpool,
        )
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        for level in range(2, out[-1] + 1):
            self.add_module(f"layer{level - 1}", getattr(network, f"layer{level - 1}"))
        if weights is not None:
            unbuilt = [f"layer{level - 1}." for level in range(out[-1] + 1, 6)]
            load_weights(
                self, weights, model=self.architecture, first="conv1.weight", ignored=["fc.", *unbuilt]
            )
        for stage in self._frozen():
            stage.requires_grad_(False)

    def _levels(self) -> list[tuple[int, nn.Module]]:
        return [(level, self.get_submodule(f"layer{level - 1}")) for level in range(2, self.out[-1] + 1)]

    def _frozen(self) -> list[nn.Module]:
        stages = [nn.ModuleList([self.conv1, self.bn1]), *(stage for _, stage in self._levels())]
        return stages[: self.frozen_stages]

    def train(self, mode: bool = True) -> ResNet:
        """As nn.Module's, but the batch norm of frozen stages keeps its statistics."""
        super().train(mode)
        for stage in self._frozen():
            stage.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B,in_channels,H,W) -> the tapped maps, fine to coarse, sides rounded up: ceil(H
        / stride)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        taps = []
        for level, stage in self._levels():
            maps = stage(maps)
            if level in self.out:
                taps.append(maps)
        return taps


class ResNet18(ResNet):
    __doc__ = ResNet.__doc__
    architecture = "resnet18"


class ResNet34(ResNet):
    __doc__ = ResNet.__doc__
    architecture = "resnet34"


class ResNet50(ResNet):
    __doc__ = ResNet.__doc__
    architecture = "resnet50"
