"""Any classification network of torchvision as a backbone, by feature extraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from densedet.core.arguments import PositiveFloat
from densedet.core.errors import PartError
from densedet.plugins.backbones._first_convolution import adapt_first_convolution
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._probing import map_layout, measure
from densedet.plugins.backbones._weights import find_published, load_weights, published_statistics
from densedet.registry import suggest


class TorchvisionBackbone(nn.Module):
    """A classification network of torchvision, traced and cut after the last node that is returned.

    Networks for one fixed image size (ViT, MaxViT) are refused.

    Args:
        in_channels: (wired) channels of the images; another number than 3 replaces the first convolution.
        model: torchvision's name, e.g. "efficientnet_b0".
        nodes: nodes whose maps are returned, fine to coarse: names of
            `torchvision.models.feature_extraction.get_graph_node_names` or of modules ("layer2",
            "features.4"). null: the last map at each of the strides 8, 16 and 32 that is not inside a block
            whose output is coarser.
        weights: torchvision's name ("DEFAULT", "IMAGENET1K_V1") or the path of a state dict, relative to the
            working directory; null: random. For one-channel images, the first convolution's weights are
            summed over the colours.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: that of the named
            weights, else ImageNet's.
        std: standard deviation of the images scaled to 0..1, in the same form.

    Attributes:
        channels: channels of each returned map.
        strides: stride of each returned map in input pixels.

    Raises:
        PartError: where torchvision lacks the network or the node, the network cannot be traced, a node is no
            feature map, or the weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        model: str,
        nodes: tuple[str, ...] | None = None,
        weights: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        known = torchvision.models.list_models(module=torchvision.models)
        if model not in known:
            raise PartError(
                f"torchvision has no classification network {model!r}.{suggest(model, known)} It has: "
                f"{', '.join(known)}"
            )
        published = find_published(weights, model)
        self.mean, self.std = image_statistics(
            in_channels, mean, std, published=published_statistics(published)
        )

        device = torch.empty(0).device
        # Some of these networks compute their widths with tensors, which the meta device cannot.
        with torch.device("cpu"):
            network = torchvision.models.get_model(model, weights=None)
            whole = tuple(network.state_dict())
            first = adapt_first_convolution(network, in_channels)
        if nodes is None:
            names = _node_names(network, model)
            nodes = _last_of_each_stride(
                measure(_extract(network, names, model), in_channels, f"torchvision's {model}")
            )
        if not nodes or len(set(nodes)) != len(nodes):
            raise PartError(f"nodes is {list(nodes)}: name at least one node, each once")
        self.nodes = nodes
        self.body = _extract(network, nodes, model)
        values = measure(self.body, in_channels, f"torchvision's {model}")
        self.channels, self.strides, self.channels_last = _layout(values, nodes, model)
        self.body.to(device)
        if weights is not None:
            load_weights(self.body, weights, model=model, first=first, ignored=whole)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            The maps of the nodes (B,c_l,h_l,w_l), fine to coarse; the network's padding rounds their sides.
        """
        maps = self.body(images)
        return [
            maps[node].permute(0, 3, 1, 2) if last else maps[node]
            for node, last in zip(self.nodes, self.channels_last)
        ]


def _node_names(network: nn.Module, model: str) -> list[str]:
    """List the nodes that exist both in training and in evaluation."""
    try:
        training, evaluation = get_graph_node_names(network)
    except Exception as error:
        raise PartError(
            f"torchvision's {model} cannot be traced ({error}): choose a convolutional network such as "
            f"resnet18"
        ) from error
    kept = set(training)
    return [name for name in evaluation if name in kept]


def _extract(network: nn.Module, nodes: Sequence[str], model: str) -> nn.Module:
    """Cut the network to a module from images to {node: value}; layers that no node needs are removed."""
    try:
        return create_feature_extractor(network, {node: node for node in nodes})
    except Exception as error:
        names = _node_names(network, model)
        for node in nodes:
            if not any(name == node or name.startswith(f"{node}.") for name in names):
                some = ", ".join(names[:: max(1, len(names) // 12)])
                choices = sorted(
                    {
                        ".".join(name.split(".")[:depth])
                        for name in names
                        for depth in range(1, name.count(".") + 2)
                    }
                )
                raise PartError(
                    f"torchvision's {model} has no node {node!r}.{suggest(node, choices)} Some of its "
                    f"{len(names)} nodes: {some}"
                ) from error
        raise PartError(
            f"torchvision's {model} cannot be cut at {list(nodes)} ({error}): choose other nodes"
        ) from error


def _last_of_each_stride(values: list[dict[str, Any]]) -> tuple[str, ...]:
    """Choose the default nodes: the last map of strides 8, 16 and 32 that is not on its way to a coarser one.

    A map is on its way inside a module whose first maps have this stride and whose last ones are coarser.
    """
    strides = {}
    for name in values[0]:
        layout = map_layout(values[0][name], values[1][name])
        if layout is not None:
            strides[name] = layout[1]
    spans: dict[str, tuple[int, int]] = {}  # module -> its finest and its coarsest stride
    for name, stride in strides.items():
        parts = name.split(".")
        for prefix in (".".join(parts[:depth]) for depth in range(1, len(parts))):
            low, high = spans.get(prefix, (stride, stride))
            spans[prefix] = (min(low, stride), max(high, stride))

    def passing(name: str, stride: int) -> bool:
        return any(
            name.startswith(f"{prefix}.") and low == stride < high for prefix, (low, high) in spans.items()
        )

    last = {stride: name for name, stride in strides.items() if not passing(name, stride)}
    return tuple(last[stride] for stride in (8, 16, 32) if stride in last)


def _layout(
    values: list[dict[str, Any]], nodes: tuple[str, ...], model: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    layouts = []
    for node in nodes:
        layout = map_layout(values[0][node], values[1][node])
        if layout is None:
            value = values[0][node]
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise PartError(
                f"node {node!r} of torchvision's {model} is no feature map ({shape} for a 256x256 "
                f"image): name an earlier one"
            )
        layouts.append(layout)
    channels, strides, last = zip(*layouts)
    if list(strides) != sorted(strides):
        raise PartError(
            f"nodes go from fine to coarse, but {list(nodes)} have strides {list(strides)}: sort them"
        )
    return channels, strides, last
