"""Receptive fields, by hand: a window of k cells of stride s sees (k - 1) * s pixels more than a cell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core.showing.receptive import LARGEST, Field, receptive_fields


def field_of(module: nn.Module, size: tuple[int, int] = (64, 64)) -> Field:
    def run(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():  # as detectors predict
            maps = module(images)
        return {"map": maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]}

    return receptive_fields(module.eval(), run, 1, size)["map"]


def conv(before: int, after: int, kernel: Any, stride: int = 1, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, **more)


class Unlike(nn.Module):
    """Two ways whose difference, product and quotient are taken, the second one through a wider window."""

    def __init__(self, joined: str) -> None:
        super().__init__()
        self.narrow, self.wide, self.joined = conv(1, 4, 1), conv(1, 4, 5, padding=2), joined

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.narrow(x), self.wide(x)
        if self.joined == "in place":
            first *= second
            return first
        made = {"difference": first - second, "product": first * second, "quotient": first / second}
        return made[self.joined]


class Excited(nn.Module):
    """A squeeze-and-excitation, whose mean over the map is left out."""

    def __init__(self, *, as_mean: bool) -> None:
        super().__init__()
        self.conv, self.as_mean = conv(1, 4, 3, padding=1), as_mean

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        squeezed = x.mean((2, 3), keepdim=True) if self.as_mean else functional.adaptive_avg_pool2d(x, 1)
        return x * squeezed.sigmoid()


@pytest.mark.parametrize(
    ("module", "field"),
    [
        # 1 + 2 + 2 + 2
        (nn.Sequential(conv(1, 4, 3), conv(4, 4, 3), nn.ReLU(), conv(4, 2, 3)), (7, 7)),
        # 7, then 3 cells of stride 2: + 4, then of stride 4: + 8
        (nn.Sequential(conv(1, 4, 7, 2), nn.MaxPool2d(3, 2, 1), conv(4, 4, 3, padding=1)), (19, 19)),
        # a dilation of 2 makes a window of 3 span 5
        (nn.Sequential(conv(1, 4, 3, dilation=2), nn.MaxPool2d(3, 1, dilation=3)), (11, 11)),
        # 1 high and 7 wide
        (conv(1, 4, (1, 7)), (7, 1)),
        # depthwise, grouped, and norms and activations between
        (
            nn.Sequential(
                conv(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), conv(4, 4, 3, groups=4), nn.GroupNorm(2, 4)
            ),
            (5, 5),
        ),
        # A window of 3 on the enlarged map sees cells j - 1 to j + 1, made of 2 cells of stride 2 with
        # 2 pixels each: 4
        (nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2), conv(1, 1, 3)), (4, 4)),
        (nn.Sequential(conv(1, 4, 3, bias=False), nn.Hardswish(), nn.ZeroPad2d(1), conv(4, 1, 1)), (3, 3)),
        (Unlike("difference"), (5, 5)),
        (Unlike("product"), (5, 5)),
        (Unlike("quotient"), (5, 5)),
        (Unlike("in place"), (5, 5)),
        (Excited(as_mean=True), (3, 3)),
        (Excited(as_mean=False), (3, 3)),
    ],
)
def test_fields_computed_by_hand(module: nn.Module, field: tuple[int, int]) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert field_of(module) == field
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_field_larger_than_the_image_is_measured_on_a_longer_one() -> None:
    """Six windows of 3 at strides 1, 2, 4 ... 32: 1 + 2 * (1 + 2 + 4 + ... + 32) = 127, on images of 64."""
    module = nn.Sequential(*(conv(1, 1, 3, 2, padding=1) for _ in range(6)))
    assert field_of(module) == (127, 127)


def test_a_field_without_end_is_none() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x[:, :, ::8, ::8].flatten(2).transpose(1, 2)
            mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens)
            return mixed.transpose(1, 2).reshape(1, 1, x.shape[2] // 8, -1)

    assert field_of(Attention(), (16, LARGEST // 2)).width is None
