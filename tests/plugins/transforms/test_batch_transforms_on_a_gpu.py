"""Batch transforms on a device: the same as on the CPU, and nothing waits for them."""

import pytest
import torch

from densedet.core.types import Batch, Extra
from densedet.plugins.transforms.affine import BatchAffine
from densedet.plugins.transforms.copy_paste import BatchCopyPaste
from densedet.plugins.transforms.crop import BatchCrop
from densedet.plugins.transforms.flip import BatchFlip
from densedet.plugins.transforms.mixup import BatchMixUp
from densedet.plugins.transforms.mosaic import BatchMosaic
from densedet.plugins.transforms.photometric import BatchPhotometric
from densedet.tests.devices import a_gpu
from densedet.tests.pretended_gpu import GPU, Pretended, pretended_gpu

EVERY = [
    BatchFlip(),
    BatchCrop(),
    BatchCrop(scale=(0.5, 0.9), partial="ignore", fill=9, p=0.6),
    BatchAffine(),
    BatchAffine(degrees=(-180.0, 180.0), around="ellipse", fill=90, p=0.7),
    BatchPhotometric(p=0.7),
    BatchMosaic(),
    BatchMosaic(p=1.0, min_side=4.0),
    BatchMixUp(p=1.0, alpha=1.0),
    BatchCopyPaste(p=1.0),
]
ROUNDED = 1.0
"""Grey levels by which another kernel may round otherwise."""


def made(*, padded: bool, dtype: torch.dtype, count: int = 5, objects: int = 7) -> Batch:
    """Noise with boxes, some of them ignored, with an attribute and two mirrored keypoints each."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    height, width = 40, 56
    sizes = torch.tensor([[height, width]] * count) - (draw(count, 2) * 15).long() * padded
    inside = (torch.arange(height) < sizes[:, :1])[:, None, :, None]
    inside = inside & (torch.arange(width) < sizes[:, 1:])[:, None, None]
    center, half = draw(count, objects, 2) * sizes.flip(1)[:, None], 1 + draw(count, objects, 2) * 12
    limit = sizes.flip(1).repeat(1, 2)[:, None].float()
    boxes = torch.minimum(torch.cat([center - half, center + half], -1).clamp(min=0), limit)
    valid = (draw(count, objects) < 0.8) & ((boxes[..., 2:] - boxes[..., :2]) > 0).all(-1)
    points = torch.stack([center, center + 1], dim=2)  # (B,G,2,2)
    seen = ((points <= sizes.flip(1)[:, None, None]) & valid[..., None, None]).all(-1, keepdim=True)
    return Batch(
        images=(draw(count, 3, height, width) * 255 * inside).to(dtype),
        valid_hw=sizes,
        boxes=boxes * valid[..., None],
        labels=torch.where(valid, 1, -1),
        valid=valid,
        ignore=valid & (draw(count, objects) < 0.2),
        indices=torch.arange(count),
        image_ids=list(range(count)),
        source_hw=sizes.clone(),
        to_source=torch.ones(count, 4),
        extras={"weight": Extra(), "eyes": Extra((2, 3), "keypoints", ((0, 1),))},
        extra={
            "weight": draw(count, objects) * valid,
            "eyes": torch.where(seen, torch.cat([points, torch.ones(count, objects, 2, 1)], -1), 0.0),
        },
        extra_known={"weight": valid, "eyes": valid.clone()},
    )


def on_cpu(value: torch.Tensor) -> torch.Tensor:
    return value.held if isinstance(value, Pretended) else value.cpu()


def check(expected: Batch, batch: Batch, *, exact: bool) -> None:
    """Compare what a device made with what the CPU made; empty slots at the end do not count."""
    slots = expected.boxes.shape[1]
    assert not on_cpu(batch.valid)[:, slots:].any()
    columns = {
        "boxes": (expected.boxes, batch.boxes),
        **{name: (getattr(expected, name), getattr(batch, name)) for name in ("labels", "valid", "ignore")},
        **{name: (expected.extra[name], batch.extra[name]) for name in expected.extra},
        **{f"{name} known": (mask, batch.extra_known[name]) for name, mask in expected.extra_known.items()},
    }
    for name, (one, other) in columns.items():
        same = torch.equal if exact else torch.allclose
        assert same(one, on_cpu(other)[:, :slots]), name
    assert torch.equal(expected.valid_hw, on_cpu(batch.valid_hw))
    assert torch.equal(expected.valid_hw, batch.sizes_hw)
    assert int(expected.dropped) == int(on_cpu(torch.as_tensor(batch.dropped)))
    assert expected.images.dtype == batch.images.dtype
    difference = (expected.images.float() - on_cpu(batch.images).float()).abs()
    assert float(difference.max()) <= (ROUNDED if expected.images.dtype == torch.uint8 else 1e-3)
    assert float((difference > 0.5).float().mean()) < 0.25


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("transform", EVERY, ids=lambda one: type(one).__name__)
def test_the_device_changes_neither_the_draws_nor_waits(transform, padded, dtype):
    """The host never waits, and boxes, labels and extras are those of the CPU to the last bit."""
    batch = made(padded=padded, dtype=dtype)
    expected = transform(batch, torch.Generator().manual_seed(5))
    assert transform.any_device
    with pretended_gpu() as gpu:
        moved = transform(batch.to(GPU), torch.Generator().manual_seed(5))
        assert {str(tensor.device) for tensor in moved.tensors()} == {"cuda:0"}
    assert not gpu.waits
    check(expected, moved, exact=True)


@a_gpu
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("transform", EVERY, ids=lambda one: type(one).__name__)
def test_a_gpu_augments_as_the_cpu_does(transform, padded):
    batch = made(padded=padded, dtype=torch.uint8)
    expected = transform(batch, torch.Generator().manual_seed(5))
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = transform(batch.to("cuda"), torch.Generator().manual_seed(5))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check(expected, moved, exact=False)
