import pytest
import torch

from densedet.core.errors import PartError
from densedet.core.types import Batch
from densedet.plugins.transforms.mosaic import BatchMosaic


def batch(count=4, channels=1, dtype=torch.uint8, valid=(20, 40)):
    """Image i is grey 50 * (i + 1) with a white object at x 8..24, y 4..12; object 1 of image 0 is
    ignored."""
    images = torch.zeros(count, channels, 20, 40)
    boxes = torch.zeros(count, 2, 4)
    for row in range(count):
        images[row, :, : valid[0], : valid[1]] = 50.0 * (row + 1) if row < 4 else 10
        images[row, :, 4:12, 8:24] = 255
        boxes[row, 0] = torch.tensor([8.0, 4.0, 24.0, 12.0])
    boxes[0, 1] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    labels = torch.tensor([[row, -1] for row in range(count)])
    mask = torch.tensor([[True, row == 0] for row in range(count)])
    ignore = torch.tensor([[False, row == 0] for row in range(count)])
    sizes = torch.tensor([list(valid)] * count)
    extra = {
        "indices": torch.arange(count),
        "image_ids": list(range(count)),
        "source_hw": sizes,
        "to_source": torch.ones(count, 4),
    }
    return Batch(images.to(dtype), sizes, boxes, labels, mask, ignore, **extra)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_objects_move_with_their_pixels(channels, dtype, count):
    before = batch(count, channels, dtype)
    copy = before.images.clone()
    after = BatchMosaic(p=1.0, center=(0.5, 0.5))(before, generator())
    assert torch.equal(before.images, copy)
    assert after.images.shape == before.images.shape
    assert after.images.dtype == dtype
    for row in range(count):
        objects = after.boxes[row][after.valid[row] & ~after.ignore[row]]
        # each quarter is the whole image at half its size: x 4..12, y 2..6, moved by (0 or 20, 0 or 10)
        assert objects.tolist() == [[4, 2, 12, 6], [24, 2, 32, 6], [4, 12, 12, 16], [24, 12, 32, 16]]
        for x1, y1, x2, y2 in objects.long().tolist():
            inside = after.images[row, :, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            assert (inside == 255).all()
        labels = after.labels[row][after.valid[row] & ~after.ignore[row]].tolist()
        assert labels[0] == row
        for label, (y, x) in zip(labels, ((0, 2), (0, 22), (10, 2), (10, 22))):
            assert after.images[row, 0, y, x] == (50 * (label + 1) if label < 4 else 10)
    assert after.valid_hw.tolist() == [[20, 40]] * count


def test_only_the_valid_part_of_an_image_counts():
    after = BatchMosaic(p=1.0, center=(0.5, 0.5))(batch(valid=(10, 20)), generator())
    assert after.valid_hw.tolist() == [[20, 40]] * 4
    # 20 x 10 fills a quarter of 20 x 10: nothing shrinks
    assert after.boxes[1, 0].tolist() == [8, 4, 24, 12]
    assert (after.images[1, 0, :2] > 0).all()


def test_small_ones_are_dropped_and_counted_ignored_ones_stay():
    after = BatchMosaic(p=1.0, center=(0.5, 0.5), min_side=5)(batch(), generator())  # objects are 8 x 4 then
    assert not (after.valid & ~after.ignore).any()
    assert after.dropped == 16
    assert after.ignore.any()
    assert (after.labels[~after.valid] == -1).all()
    assert (after.boxes[~after.valid] == 0).all()


def test_chance():
    assert BatchMosaic(p=0.0)(batch(), generator()).images is not None
    same = batch()
    assert torch.equal(BatchMosaic(p=0.0)(same, generator()).boxes, same.boxes)
    one, two = (BatchMosaic(p=0.5)(batch(), generator(3)) for _ in range(2))
    assert torch.equal(one.images, two.images) and torch.equal(one.boxes, two.boxes)
    assert any(
        not torch.equal(one.images, BatchMosaic(p=0.5)(batch(), generator(seed)).images)
        for seed in range(4, 9)
    )


def test_no_objects():
    empty = batch()
    empty.valid[:] = empty.ignore[:] = False
    after = BatchMosaic(p=1.0)(empty, generator())
    assert after.boxes.shape == (4, 0, 4)


def test_a_centre_that_cannot_be():
    with pytest.raises(PartError, match="must ascend within 0..1"):
        BatchMosaic(center=(0.7, 0.3))
