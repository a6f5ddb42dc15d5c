"""Receptive fields: the pixels of the image on which a cell of a map depends.

A cell's gradient with respect to the image is not 0 exactly there. So that no number hides a dependence, and
so that it takes little time, the network runs on one channel, on positive weights and without its
nonlinearities: an activation or a norm passes on its input, a maximum becomes a mean, a convolution sums its
window, and a sum, difference, product or quotient of two maps is their sum. Statistics of a whole map, in
group norm or a squeeze-and-excitation, are left out: with them each cell would depend on the whole image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

PASSED = frozenset(
    name + end
    for name in (
        *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish"),
        *("sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "softplus", "softsign", "logsigmoid"),
        *("threshold", "clamp", "clamp_min", "clamp_max", "clip", "exp", "dropout", "dropout2d"),
        *("batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"),
        *("normalize", "contiguous"),
    )
    for end in ("", "_")
)
"""Functions that pass on their first argument."""
JOINED = frozenset(
    f"{before}{name}{after}"
    for name in ("add", "sub", "mul", "div", "truediv", "subtract", "multiply", "divide", "true_divide")
    for before, after in (("", ""), ("", "_"), ("__", "__"), ("__r", "__"), ("__i", "__"))
)
"""Functions of two maps, which become their sum; a number, or a tensor that depends on no pixel, counts for
nothing."""
SPATIAL = frozenset(("interpolate", "pad", "upsample"))
"""Functions that do the same to each channel."""
LARGEST = 8192
"""Pixels of the longest image that is tried."""


class Field(NamedTuple):
    """A receptive field in pixels of the network's input.

    Attributes:
        width: None where it is larger than `LARGEST`, or where no gradient comes back. So is ``height``.
        height: of the field.
    """

    width: int | None
    height: int | None

    def __str__(self) -> str:
        sides = ["?" if side is None else str(side) for side in self]
        return "x".join(sides)


class Linear(TorchFunctionMode):
    """Runs a network as described above. A map whose channels are all the same is held as one channel,
    expanded.

    Attributes:
        square: whether each window so far was as high as wide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.square = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given: dict[str, Any] = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first: Any = args[0] if args else given.get("input")
        if name == "_set_grad_enabled":
            return None  # a detector predicts without gradients
        if name in PASSED:
            return first
        if name in JOINED and len(args) > 1 and any(_counts(one) for one in args[:2]):
            return _joined(args[0], args[1])
        if name in ("conv2d", "conv_transpose2d"):
            return self._convolved(func, *args, **given)
        if name in ("max_pool2d", "max_pool2d_with_indices", "avg_pool2d"):
            return self._pooled(*args, **given)
        if name == "linear":
            return first.mean(-1, keepdim=True).expand(*first.shape[:-1], args[1].shape[0])
        if name == "cat" and _axis(args, given) == 1 and all(one.ndim == 4 for one in first):
            whole: Tensor = sum(map(_thin, first[1:]), _thin(first[0]))
            return whole.expand(-1, sum(one.shape[1] for one in first), -1, -1)
        if name in SPATIAL and _counts(first):
            return func(_thin(first), *args[1:], **given).expand(-1, first.shape[1], -1, -1)
        if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d") and set(_pair(args[1])) == {1}:
            return torch.ones_like(first[:, :, :1, :1])
        if name == "mean" and _is_whole_map(args, given):
            return torch.ones_like(func(*args, **given))
        return func(*args, **given)

    def _convolved(
        self, func: Any, values: Tensor, weight: Tensor, bias: Any = None, *args: Any, **more: Any
    ) -> Tensor:
        strides = args[:1] or (more.get("stride", 1),)
        self._look(weight.shape[2:], *strides, *args[2:3], more.get("dilation", 1))
        groups = more.pop("groups", 1)
        if len(args) > 3:  # stride, padding, dilation or the output's padding, groups
            groups, args = args[3], (*args[:3], 1, *args[4:])
        channels = weight.shape[1] * groups if func.__name__ == "conv_transpose2d" else weight.shape[0]
        height, width = weight.shape[2:]
        window = values.new_full((1, 1, height, width), (height * width) ** -0.5)
        return func(_thin(values), window, None, *args, **more).expand(-1, channels, -1, -1)

    def _pooled(
        self,
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        *_: Any,
        **more: Any,
    ) -> Tensor:
        step = kernel_size if stride is None or stride == [] else stride
        self._look(kernel_size, step)
        if isinstance(dilation, bool) or set(_pair(dilation)) == {1}:  # an average's is its ceil_mode
            ceil = ceil_mode or dilation is True
            pooled = functional.avg_pool2d(_thin(input), kernel_size, step, padding, ceil)
        else:
            window = input.new_ones(1, 1, *_pair(kernel_size))
            pooled = torch.conv2d(_thin(input), window, None, step, padding, dilation)
        return pooled.expand(-1, input.shape[1], -1, -1)

    def _look(self, *windows: Any) -> None:
        self.square &= all(len(set(_pair(window))) == 1 for window in windows)


def _counts(value: Any) -> bool:
    """Whether a value is a map (B,c,h,w) that depends on the image."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.requires_grad


def _thin(maps: Tensor) -> Tensor:
    """Return maps (B,c,h,w) as one channel (B,1,h,w) that depends on all of theirs."""
    if maps.shape[1] == 1:
        return maps
    one = maps._base  # what was expanded; a slice would carry a gradient of all channels
    if one is not None and maps.stride(1) == 0 and one.shape == (maps.shape[0], 1, *maps.shape[2:]):
        return one
    return maps.mean(1, keepdim=True)


def _joined(first: Any, second: Any) -> Tensor:
    """Return the sum of those of two values that depend on the image, in the shape of both together."""
    shape = torch.broadcast_shapes(*(one.shape for one in (first, second) if isinstance(one, Tensor)))
    maps = [_thin(one) for one in (first, second) if _counts(one)]
    total: Tensor = sum(maps[1:], maps[0])
    return total.expand(shape)


def _axis(args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    return given.get("dim", args[1] if len(args) > 1 else 0)


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _is_whole_map(args: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Whether a mean is taken over height and width of maps (B,c,h,w)."""
    axes = _axis(args, given)
    if not isinstance(axes, (tuple, list)) or args[0].ndim != 4:
        return False
    return {axis % 4 for axis in axes} == {2, 3}


@contextlib.contextmanager
def positive(module: nn.Module) -> Iterator[None]:
    """Set all parameters to 1 for a while, in float64."""
    kept = {p: p.data for p in module.parameters()}
    buffers = {b: b.data for b in module.buffers() if b.is_floating_point()}
    try:
        for parameter in kept:
            parameter.data = torch.tensor(1.0, dtype=torch.float64).expand(parameter.shape)
        for buffer in buffers:
            buffer.data = buffer.data.double()
        yield
    finally:
        for tensor, data in (*kept.items(), *buffers.items()):
            tensor.data = data


Run = Callable[[Tensor], Mapping[str, Tensor]]
"""From images (1,ch,H,W) to the values, by name, of one cell each. What is not there any more is left out."""


def receptive_fields(
    module: nn.Module, run: Run, channels: int, image_hw: tuple[int, int]
) -> dict[str, Field]:
    """Measure receptive fields.

    The image is long and narrow, and twice as long for the fields that reach its ends; where all windows are
    square, a field is as high as wide.

    Args:
        module: whose parameters ``run`` uses.
        run: runs the network; the cells are to lie at the middle of their maps.
        channels: of the images.
        image_hw: (height, width) of an image that the network takes.
    """
    with positive(module):
        widths, square = _lengths(run, channels, image_hw, across=True)
        heights = widths if square else _lengths(run, channels, image_hw, across=False)[0]
    return {name: Field(width, heights.get(name)) for name, width in widths.items()}


def _lengths(
    run: Run, channels: int, image_hw: tuple[int, int], *, across: bool
) -> tuple[dict[str, int | None], bool]:
    """Return the width (``across``) or height of each field, and whether all windows were square."""
    found: dict[str, int | None] = {}
    short, long = image_hw if across else image_hw[::-1]
    square = True
    while True:
        size = (short, long) if across else (long, short)
        images = torch.rand(1, channels, *size, dtype=torch.float64).requires_grad_()
        mode = Linear()
        with mode, torch.enable_grad():
            spots = dict(run(images))
        square &= mode.square
        left = False
        for name, values in spots.items():
            if found.get(name) is not None:
                continue
            first, last = _reach(values, images, 3 if across else 2)
            inside = first > 0 and last < long - 1
            found[name] = last - first + 1 if inside and last >= first else None
            left |= not inside
        if not left or long * 2 > LARGEST:
            return found, square
        long *= 2


def _reach(values: Tensor, images: Tensor, axis: int) -> tuple[int, int]:
    """Return the first and the last place along an axis of the images on which values depend; 1 and 0 where
    there is none."""
    if not values.requires_grad:
        return 1, 0
    (gradient,) = torch.autograd.grad(values.sum(), images, retain_graph=True, allow_unused=True)
    if gradient is None:
        return 1, 0
    touched = (gradient != 0).any(dim=0).any(dim=0).any(dim=3 - axis).nonzero()
    return (int(touched.min()), int(touched.max())) if len(touched) else (1, 0)
