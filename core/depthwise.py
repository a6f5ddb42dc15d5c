"""A depthwise convolution whose gradients are fast in bf16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself, with the parameters and values of `torch.nn.Conv2d`.

    oneDNN computes two of its gradients in bf16 with plain loops, 5 to 10 times as slow as the forward pass:
    that of the input at stride 2, and that of a 5x5 kernel. Both are built here of calls that are fast.
    Anywhere else (float32, a GPU, other kernels) torch's own are used.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        on_cpu = input.device.type == "cpu" and torch.is_grad_enabled()
        bf16 = input.dtype == torch.bfloat16 or (
            torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        )
        if not (on_cpu and bf16 and _suits(self)):
            return super()._conv_forward(input, weight, bias)
        maps = _Depthwise.apply(input.bfloat16(), weight.bfloat16(), self.stride[0], self.padding[0])
        return maps if bias is None else maps + bias.to(maps.dtype)[:, None, None]  # type: ignore[no-any-return]


def _suits(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size in ((3, 3), (5, 5))
        and layer.stride in ((1, 1), (2, 2))
        and layer.dilation == (1, 1)
        and layer.padding in ((0, 0), (1, 1), (2, 2))
        and layer.in_channels == layer.out_channels == layer.groups
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(maps, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        grad_maps = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_maps = input_gradient(grad, weight, maps, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(grad, weight, maps, ctx.stride, ctx.padding)
        return grad_maps, grad_weight, None, None


def input_gradient(grad: Tensor, weight: Tensor, maps: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient (B,c,h,w) of ``maps``: the gradient, with zeros between its cells at stride 2,
    convolved with the turned kernel."""
    kernel = weight.shape[-1]
    height, width = (side + 2 * padding - kernel + 1 for side in maps.shape[2:])
    if stride == 2:
        spread = torch.zeros(
            (*grad.shape[:2], height, width), dtype=grad.dtype, device=grad.device
        ).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::2, ::2] = grad
        grad = spread
    return F.conv2d(grad, weight.flip(2, 3), None, 1, kernel - 1 - padding, groups=len(weight))


def weight_gradient(grad: Tensor, weight: Tensor, maps: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient (c,1,k,k) of ``weight``. That of a 5x5 kernel is put together from those of its
    four 3x3 corners, which overlap in the middle row and column."""
    channels = len(weight)

    def of_corner(maps: Tensor, weight: Tensor, padding: int) -> Tensor:
        return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
            grad,
            maps,
            weight,
            None,
            [stride, stride],
            [padding, padding],
            [1, 1],
            False,
            [0, 0],
            channels,
            [False, True, False],
        )[1]

    if weight.shape[-1] == 3:
        return of_corner(maps, weight, padding)
    padded = F.pad(maps, (padding,) * 4)
    height, width = ((cells - 1) * stride + 3 for cells in grad.shape[2:])
    result = torch.empty_like(weight)
    corner = weight[:, :, :3, :3].contiguous()
    for y in (0, 2):
        for x in (0, 2):
            window = padded[:, :, y : y + height, x : x + width].contiguous(memory_format=torch.channels_last)
            result[:, :, y : y + 3, x : x + 3] = of_corner(window, corner, 0)
    return result
