"""Any network of the library timm that gives feature maps."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from densedet.core.arguments import NonNegativeInt, PositiveFloat
from densedet.core.errors import PartError
from densedet.core.state_dict import follow, read_state
from densedet.plugins.backbones._images import IMAGENET, Statistics, image_statistics
from densedet.plugins.backbones._out_indices import check_out_indices
from densedet.plugins.backbones._probing import PROBES, map_layout, measure
from densedet.plugins.backbones._weights import fill
from densedet.registry import suggest


class TimmBackbone(nn.Module):
    """A network of timm without its classifier (``features_only``); needs the extra ``timm``.

    Networks for one fixed image size (most ViTs and Swins) are refused.

    Args:
        in_channels: (wired) channels of the images.
        model: timm's name, e.g. "mobilenetv4_conv_small"; after a dot may follow the tag of the weights that
            ``pretrained`` downloads, e.g. "resnet18.a1_in1k".
        out_indices: maps that are returned, fine to coarse, in timm's numbers from 0 on. null: the last map
            at each of the strides 8, 16 and 32.
        pretrained: whether timm downloads the model's weights, once, into its own cache.
        weights: path of a state dict of the whole network under timm's names (.safetensors, or written by
            torch.save), relative to the working directory; null: none. For one-channel images, the first
            convolution's weights are summed over the colours.
        norm: "model" keeps the network's own norms; "frozen" makes the statistics and the scale of its batch
            norms constant, for pretrained weights and small batches.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: what timm states for the
            model.
        std: standard deviation of the images scaled to 0..1, in the same form.

    Attributes:
        channels: channels of each returned map.
        strides: stride of each returned map in input pixels.

    Raises:
        PartError: where timm is not installed or lacks the model, the model gives no maps or takes one image
            size only, out_indices, mean or std is faulty, or the weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        model: str,
        out_indices: tuple[NonNegativeInt, ...] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        norm: Literal["model", "frozen"] = "model",
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        timm = _library()
        if not timm.is_model(model):
            known = timm.list_models()
            raise PartError(
                f"timm {timm.__version__} has no model {model!r}.{suggest(model, known)} It has "
                f"{len(known)}; python -c 'import timm; print(*timm.list_models())' lists them"
            )
        if weights is not None:
            if pretrained:
                raise PartError("pretrained: true and weights are both given: delete one of the two")
            if not os.path.isfile(weights) and not follow():
                raise PartError(
                    f"weights {weights!r} are no file (relative paths start in the working directory): give "
                    f"the path of a state dict of timm's {model}, or weights: null"
                )
        device = torch.empty(0).device
        settings: dict[str, Any] = {
            "in_chans": in_channels,
            "pretrained": pretrained and device.type != "meta" and not follow(),
        }
        body: Any = _features(model, settings)
        indices = tuple(body.feature_info.out_indices)
        layouts = _layouts(measure(body, in_channels, f"timm's {model}"), indices, model)
        if out_indices is None:
            last = {layouts[index][1]: index for index in indices}
            out_indices = tuple(last[stride] for stride in (8, 16, 32) if stride in last) or indices[-1:]
        check_out_indices(out_indices, indices)
        if out_indices[-1] != indices[-1]:  # layers past the last map are not kept
            body = _features(model, {**settings, "out_indices": out_indices})
            indices = out_indices
        self.picked = tuple(indices.index(index) for index in out_indices)
        self.channels: tuple[int, ...] = tuple(layouts[index][0] for index in out_indices)
        self.strides: tuple[int, ...] = tuple(layouts[index][1] for index in out_indices)
        self.channels_last = tuple(layouts[index][2] for index in out_indices)
        self.mean, self.std = image_statistics(in_channels, mean, std, published=_statistics(body))
        if weights is not None and not follow():
            _load(body, model, in_channels, weights)
        if norm == "frozen":
            body = timm.layers.freeze_batch_norm_2d(body)
        self.body = body.to(device)
        self._freeze_unused(in_channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            The maps of out_indices (B,c_l,h_l,w_l), fine to coarse; the network's padding rounds their sides.
        """
        maps = self.body(images)
        return [
            maps[position].permute(0, 3, 1, 2) if last else maps[position]
            for position, last in zip(self.picked, self.channels_last)
        ]

    def _freeze_unused(self, in_channels: int) -> None:
        """Freeze parameters on which no returned map depends: some of timm's networks keep all layers."""
        own = {name: p.detach().to("meta").requires_grad_() for name, p in self.named_parameters()}
        buffers = {name: buffer.to("meta") for name, buffer in self.named_buffers()}
        images = torch.empty(2, in_channels, PROBES[0], PROBES[0], device="meta")
        with torch.enable_grad():
            maps = functional_call(self, {**own, **buffers}, (images,))
            total = torch.stack([level.sum() for level in maps]).sum()
        gradients = torch.autograd.grad(total, list(own.values()), allow_unused=True)
        for parameter, gradient in zip(self.parameters(), gradients):
            parameter.requires_grad_(gradient is not None)


def _library() -> Any:
    try:
        import timm
    except ImportError as error:
        raise PartError(
            "the backbone timm needs the library timm: pip install 'densedet[timm]', or take a backbone such "
            "as efficientnet_lite0 or torchvision"
        ) from error
    return timm


def _features(model: str, settings: dict[str, Any]) -> nn.Module:
    """Build the network up to its last map; some of timm's networks cannot be built on the meta device."""
    try:
        with torch.device("cpu"):
            return _library().create_model(model, features_only=True, **settings)  # type: ignore[no-any-return]
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if settings["pretrained"]:
            raise PartError(
                f"timm could not load the weights of {model} ({reason}): fetch them elsewhere and write "
                f"weights: PATH, or write pretrained: false"
            ) from error
        raise PartError(
            f"timm's {model} gives no feature maps ({reason}): choose another model, such as resnet18"
        ) from error


def _layouts(
    values: list[list[Tensor]], indices: tuple[int, ...], model: str
) -> dict[int, tuple[int, int, bool]]:
    """Read (channels, stride, whether channels are the last axis) of each map."""
    layouts = {}
    for index, small, large in zip(indices, *values):
        layout = map_layout(small, large)
        if layout is None:
            raise PartError(
                f"output {index} of timm's {model} is no feature map ({tuple(small.shape)} for a 256x256 "
                f"image): choose another model, such as resnet18"
            )
        layouts[index] = layout
    return layouts


def _statistics(body: Any) -> Statistics:
    stated = body.pretrained_cfg
    mean, std = tuple(stated.get("mean") or ()), tuple(stated.get("std") or ())
    return (mean, std) if len(mean) == len(std) == 3 else IMAGENET


def _load(body: nn.Module, model: str, in_channels: int, weights: str) -> None:
    """Fill the body with the weights of the whole network, the classifier left out."""
    if weights.endswith(".safetensors"):
        from safetensors.torch import load_file

        try:
            state = load_file(weights)
        except Exception as error:
            raise PartError(f"the weights file {weights!r} cannot be read ({error})") from error
    else:
        state = read_state(weights)
    own = body.state_dict()
    # timm joins the first two parts of a name where it takes a sequence of stages apart.
    names = {name: (name, name.replace(".", "_", 1), f"model.{name}") for name in state}
    renamed = {
        next((other for other in others if other in own), name): state[name] for name, others in names.items()
    }
    with torch.device("cpu"):
        whole = tuple(_library().create_model(model, in_chans=in_channels).state_dict())
    first = next(name for name, module in body.named_modules() if isinstance(module, nn.Conv2d))
    fill(
        body,
        renamed,
        what=f"the weights {weights!r}",
        model=f"timm's {model}",
        first=f"{first}.weight",
        ignored=whole,
    )
