import pytest
import torch

from densedet.core.boxes import area
from densedet.core.contracts import BatchTransform
from densedet.core.errors import PartError
from densedet.core.types import Batch
from densedet.plugins.transforms.affine import BatchAffine
from densedet.plugins.transforms.crop import BatchCrop
from densedet.plugins.transforms.flip import BatchFlip
from densedet.plugins.transforms.photometric import BatchPhotometric

EVERY = [
    BatchFlip(),
    BatchCrop(),
    BatchCrop(scale=(0.5, 0.9), partial="ignore"),
    BatchPhotometric(),
    BatchAffine(),
    BatchAffine(degrees=(-180.0, 180.0), around="ellipse", partial="ignore", fill=90, p=0.7),
]
STILL = {"degrees": (0.0, 0.0), "shear": (0.0, 0.0), "scale": (1.0, 1.0), "translate": (0.0, 0.0)}


def make(boxes, *, sizes=None, channels=1, height=32, width=64, dtype=torch.uint8):
    """A batch of one image per list of boxes; each box is drawn white on black."""
    count, objects = len(boxes), max(map(len, boxes))
    sizes = sizes or [(height, width)] * count
    images = torch.zeros(count, channels, height, width, dtype=dtype)
    held = torch.zeros(count, objects, 4)
    valid = torch.zeros(count, objects, dtype=torch.bool)
    for row, own in enumerate(boxes):
        for slot, box in enumerate(own):
            x1, y1, x2, y2 = box
            images[row, :, y1:y2, x1:x2] = 255
            held[row, slot] = torch.tensor(box, dtype=torch.float32)
            valid[row, slot] = True
    labels = torch.where(valid, torch.arange(objects).expand(count, objects), -1)
    none = torch.zeros_like(valid)
    return Batch(
        images=images,
        valid_hw=torch.tensor(sizes),
        boxes=held,
        labels=labels,
        valid=valid,
        ignore=none,
        indices=torch.arange(count),
        image_ids=list(range(count)),
        source_hw=torch.tensor(sizes),
        to_source=torch.tensor([[1.0, 1.0, 0.0, 0.0]] * count),
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def white_extent(image):
    """xyxy around the pixels above half of white."""
    rows, columns = (image[0] > 127).any(1).nonzero().flatten(), (image[0] > 127).any(0).nonzero().flatten()
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize("transform", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_only_the_generator_decides_and_the_input_stays(transform, channels, dtype):
    assert isinstance(transform, BatchTransform)
    batch = make([[(4, 4, 20, 20)], [(10, 8, 50, 30), (0, 0, 6, 6)]], channels=channels, dtype=dtype)
    images, boxes = batch.images.clone(), batch.boxes.clone()
    first = transform(batch, generator())
    torch.manual_seed(1)
    second = transform(batch, generator())
    for name in ("images", "boxes", "labels", "valid", "ignore"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).shape == getattr(batch, name).shape
        assert getattr(first, name).dtype == getattr(batch, name).dtype
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.boxes, boxes)
    changed = [transform(batch, generator(seed)).images for seed in range(8)]
    assert not all(torch.equal(image, changed[0]) for image in changed)


@pytest.mark.parametrize("transform", EVERY)
def test_no_objects(transform):
    batch = transform(make([[], []]), generator())
    assert batch.boxes.shape == (2, 0, 4)
    assert batch.labels.shape == batch.valid.shape == (2, 0)


@pytest.mark.parametrize("transform", EVERY)
def test_empty_slots_and_padding_stay_empty(transform):
    batch = make([[(4, 4, 20, 14)], [(10, 8, 30, 18), (0, 0, 6, 6)]], sizes=[(16, 40), (32, 64)])
    for seed in range(5):
        after = transform(batch, generator(seed))
        assert after.images[0, :, 16:].max() == 0
        assert after.images[0, :, :, 40:].max() == 0
        empty = ~after.valid
        assert after.boxes[empty].abs().sum() == 0
        assert (after.labels[empty] == -1).all()
        assert not after.ignore[empty].any()
        assert not after.valid[0, 1]
        assert torch.equal(after.valid_hw, batch.valid_hw)
        assert (after.boxes[0, :, 2] <= 40).all()
        assert (after.boxes[0, :, 3] <= 16).all()


def test_flip_mirrors_within_the_valid_width():
    batch = make([[(4, 2, 20, 12)], [(4, 2, 20, 12)]], sizes=[(32, 64), (32, 24)])
    after = BatchFlip(p=1.0)(batch, generator())
    assert after.boxes[:, 0].tolist() == [[44, 2, 60, 12], [4, 2, 20, 12]]  # 64 - 20, 64 - 4; 24 - 20, 24 - 4
    assert white_extent(after.images[0]) == [44, 2, 60, 12]
    assert white_extent(after.images[1]) == [4, 2, 20, 12]
    assert torch.equal(BatchFlip(p=0.0)(batch, generator()).images, batch.images)


def test_flip_decides_for_each_image():
    batch = make([[(0, 0, 8, 8)]] * 64)
    flipped = BatchFlip(p=0.25)(batch, generator()).boxes[:, 0, 0] > 0
    assert 6 <= int(flipped.sum()) <= 28


@pytest.mark.parametrize("scale", [(2.0, 2.0), (0.5, 0.5), (0.6, 1.8)])
def test_crop_moves_boxes_with_the_picture(scale):
    batch = make([[(24, 8, 40, 24)]] * 12)
    after = BatchCrop(scale=scale, stretch=1.3, min_visible=0.0, fill=0)(batch, generator())
    kept = 0
    for row in range(12):
        if after.valid[row, 0]:
            kept += 1
            difference = torch.tensor(white_extent(after.images[row])) - after.boxes[row, 0]
            assert difference.abs().max() <= 1
    assert kept >= 8


def test_crop_by_hand():
    """Twice as large: a window of 32 x 16 of the 64 x 32 pixels, at some (x, y)."""
    batch = make([[(0, 0, 64, 32)]])
    crop = BatchCrop(scale=(2.0, 2.0), stretch=1.0, min_visible=0.25)
    source, target = crop.windows(batch, generator())
    assert source[0, :, 1].tolist() == [16, 32]
    assert target.tolist() == [[[0, 32], [0, 64]]]
    after = crop(batch, generator())
    assert after.valid.all()  # of 2048 pixels 32 * 16 = 512 remain, a quarter
    assert after.boxes[0, 0].tolist() == [0, 0, 64, 32]
    assert not BatchCrop(scale=(2.0, 2.0), stretch=1.0, min_visible=0.26)(batch, generator()).valid.any()


def test_crop_drops_or_ignores_what_is_hardly_left():
    batch = make([[(0, 0, 20, 32), (44, 0, 64, 32)]] * 40)
    strict = {"scale": (2.0, 2.0), "stretch": 1.0, "min_visible": 0.9}
    dropped, ignored = (
        BatchCrop(**strict)(batch, generator()),
        BatchCrop(**strict, partial="ignore")(batch, generator()),
    )
    assert not dropped.valid.any()  # at most half of a height of 32 is seen
    assert not dropped.ignore.any()
    assert ignored.valid.any()
    assert not ignored.valid.all()
    assert torch.equal(ignored.ignore, ignored.valid)
    assert torch.equal(ignored.labels >= 0, ignored.valid)
    assert (area(ignored.boxes[ignored.valid]) > 0).all()


def test_crop_keeps_what_is_ignored_as_long_as_anything_remains():
    batch = make([[(0, 0, 64, 32)]])
    batch.ignore[:] = True
    after = BatchCrop(scale=(3.0, 3.0), min_visible=1.0)(batch, generator())
    assert after.valid.all()
    assert after.ignore.all()


def test_crop_drops_slivers():
    batch = make([[(0, 0, 64, 4)]])
    kept = BatchCrop(scale=(0.5, 0.5), stretch=1.0, min_side=2.0)(batch, generator())
    assert kept.valid.all()  # 4 rows become 2
    assert not BatchCrop(scale=(0.5, 0.5), stretch=1.0, min_side=2.1)(batch, generator()).valid.any()


def test_crop_fills_with_the_mean_or_a_given_grey():
    batch = make([[(0, 0, 32, 32)]])  # half white
    for fill, wanted in ((None, 127), (50, 50)):
        image = BatchCrop(scale=(0.5, 0.5), stretch=1.0, fill=fill)(batch, generator()).images[0, 0]
        values, counts = image.unique(return_counts=True)
        assert int(values[counts.argmax()]) == wanted  # three quarters are ground


def test_crop_leaves_images_alone_with_p_0():
    batch = make([[(4, 4, 20, 20)]] * 4)
    after = BatchCrop(p=0.0)(batch, generator())
    assert torch.equal(after.images, batch.images)
    assert torch.equal(after.boxes, batch.boxes)


def test_crop_refuses_a_range_that_descends():
    with pytest.raises(PartError, match=r"scale \[1.5, 0.5\] must ascend"):
        BatchCrop(scale=(1.5, 0.5))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("around", ["box", "ellipse"])
def test_affine_turns_a_square_image_by_90_degrees_exactly(dtype, channels, around):
    batch = make([[(4, 8, 20, 12)], []], sizes=[(32, 32), (32, 64)], channels=channels, dtype=dtype)
    batch.images[0, :, 2, 3] = 77
    after = BatchAffine(**{**STILL, "degrees": (90.0, 90.0)}, around=around, fill=0)(batch, generator())
    # Clockwise: what was y from the top is now y from the right, what was x from the left is x from the top.
    assert after.boxes[0].tolist() == [[32 - 12, 4, 32 - 8, 20]]
    tolerance = 0 if dtype == torch.uint8 else 1e-3
    assert (
        after.images[0, :, :, :32].float() - batch.images[0, :, :, :32].rot90(-1, (1, 2)).float()
    ).abs().max() <= tolerance
    assert after.images[0, :, 3, 29].tolist() == pytest.approx([77] * channels, abs=1e-3)
    assert after.images[0, :, :, 32:].max() == 0


def test_affine_shift_equals_slicing():
    batch = make([[(10, 6, 40, 20)]] * 8, sizes=[(32, 64), (24, 50)] * 4)
    batch.images[:, 0, 8:12, 20:30] = 100
    affine = BatchAffine(**{**STILL, "translate": (0.2, 0.25)}, fill=30, min_visible=0.0)
    moves, chosen = affine.moves(batch, generator())
    after = affine(batch, generator())
    assert chosen.all()
    assert torch.equal(moves[:, :, :2], torch.eye(2, dtype=torch.float64).expand(8, 2, 2))
    assert len({tuple(shift) for shift in moves[:, :, 2].tolist()}) > 4
    for row, (x, y) in enumerate(moves[:, :, 2].long().tolist()):
        height, width = batch.valid_hw[row].tolist()
        assert abs(x) <= 0.2 * width + 0.5
        assert abs(y) <= 0.25 * height + 0.5
        wanted = torch.full((height, width), 30, dtype=torch.uint8)
        part = batch.images[row, 0, max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
        wanted[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = part
        assert torch.equal(after.images[row, 0, :height, :width], wanted)
        limits = (width, height, width, height)
        moved = [
            min(max(edge + by, 0), limit) for edge, by, limit in zip((10, 6, 40, 20), (x, y, x, y), limits)
        ]
        assert after.boxes[row, 0].tolist() == moved


@pytest.mark.parametrize(
    "change",
    [
        {"degrees": (180.0, 180.0)},
        {"degrees": (-90.0, -90.0)},
        {"scale": (0.5, 1.5)},
        {"scale": (0.6, 1.4), "translate": (0.3, 0.3)},
        {"degrees": (-40.0, 40.0), "shear": (-10.0, 10.0), "scale": (0.8, 1.4), "translate": (0.1, 0.1)},
    ],
)
def test_affine_moves_boxes_with_the_picture(change):
    batch = make([[(20, 16, 60, 46)]] * 16, height=64, width=80)
    after = BatchAffine(**{**STILL, **change}, min_visible=0.0, fill=0)(batch, generator())
    assert after.valid.all()
    for row in range(16):
        difference = torch.tensor(white_extent(after.images[row])) - after.boxes[row, 0]
        assert (
            difference.abs().max() <= 1.5
        )  # a turned corner covers less than half of the pixel that it ends in


def test_affine_around_an_ellipse_fits_it():
    batch = make([[(30, 20, 70, 44)]] * 16, height=64, width=100)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    batch.images[:, 0] = torch.where(((x - 50) / 20) ** 2 + ((y - 32) / 12) ** 2 <= 1, 255, 0)
    turns = {**STILL, "degrees": (-60.0, 60.0), "shear": (-10.0, 10.0), "fill": 0}
    loose, tight = (BatchAffine(**turns, around=around)(batch, generator()) for around in ("box", "ellipse"))
    for row in range(16):
        assert (torch.tensor(white_extent(tight.images[row])) - tight.boxes[row, 0]).abs().max() <= 1
    assert torch.equal(loose.images, tight.images)
    assert (area(loose.boxes) >= area(tight.boxes)).all()


def test_affine_box_around_a_turned_square():
    """Half a diagonal of 20 * 2 ** .5 / 2 = 14.14 to each side; an ellipse in a square is a circle, which
    stays."""
    batch = make([[(22, 22, 42, 42)]], height=64)
    for around, half in (("box", 200**0.5), ("ellipse", 10)):
        boxes = BatchAffine(**{**STILL, "degrees": (45.0, 45.0)}, around=around)(batch, generator()).boxes[
            0, 0
        ]
        assert boxes.tolist() == pytest.approx([32 - half, 32 - half, 32 + half, 32 + half])


def test_affine_shear_and_scale_by_hand():
    """x' - 32 = 2 (x - 32 + tan(45) (y - 16)), y' - 16 = 2 (y - 16 + tan(45) (x - 32)) of the corners around
    (32, 16)."""
    batch = make([[(31, 14, 33, 18)]])
    around_center = torch.tensor([-6, -6, 6, 6]) + torch.tensor([32, 16, 32, 16])  # 2 * (1 + 2) to each side
    boxes = BatchAffine(**{**STILL, "shear": (45.0, 45.0), "scale": (2.0, 2.0)})(batch, generator()).boxes[
        0, 0
    ]
    assert boxes.tolist() == pytest.approx(around_center.tolist())


def test_affine_drops_ignores_and_counts_what_is_hardly_left():
    batch = make([[(0, 0, 8, 32), (40, 0, 64, 32)]] * 20)
    batch.ignore[:, 1] = True
    shifts = {**STILL, "translate": (1.0, 0.0), "min_visible": 0.99}
    dropped, ignored = (
        BatchAffine(**shifts)(batch, generator()),
        BatchAffine(**shifts, partial="ignore")(batch, generator()),
    )
    shift = BatchAffine(**shifts).moves(batch, generator())[0][:, 0, 2]
    assert torch.equal(dropped.valid[:, 0], (shift >= 0) & (shift <= 56))
    assert torch.equal(
        dropped.valid[:, 1], (shift > -64) & (shift < 24)
    )  # ignored: as long as anything remains
    assert dropped.dropped == int((~dropped.valid[:, 0]).sum())
    assert torch.equal(ignored.valid[:, 0], (shift > -8) & (shift < 64))
    assert torch.equal(ignored.ignore[:, 0], ignored.valid[:, 0] & ~dropped.valid[:, 0])


def test_affine_fills_with_the_mean_of_the_image_or_a_given_grey():
    batch = make([[(0, 0, 32, 32)]] * 2, sizes=[(32, 64), (32, 32)])  # half white; white, in a padded tensor
    for fill, wanted in ((None, [127, 255]), (50, [50, 50])):
        images = BatchAffine(**{**STILL, "degrees": (45.0, 45.0), "scale": (0.5, 0.5)}, fill=fill)(
            batch, generator()
        ).images
        assert images[:, 0, 0, 0].tolist() == wanted


def test_affine_leaves_images_alone_by_chance():
    batch = make([[(4, 4, 20, 20)]] * 64)
    after = BatchAffine(p=0.25)(batch, generator())
    still = (after.images == batch.images).flatten(1).all(1)
    assert 36 <= int(still.sum()) <= 58
    assert torch.equal(after.boxes[still], batch.boxes[still])
    assert not (after.boxes[~still] == batch.boxes[~still]).all(2).any()


@pytest.mark.parametrize("name", ["degrees", "shear", "scale"])
def test_affine_refuses_a_range_that_descends(name):
    with pytest.raises(PartError, match=rf"{name} \[2.0, 1.0\] must ascend: write \[from, to\]"):
        BatchAffine(**{name: (2.0, 1.0)})


def test_photometric_by_hand():
    batch = make([[]], height=2, width=2)
    batch.images[0, 0] = torch.tensor([[100, 120], [140, 200]])  # mean 140
    draw = torch.rand(1, 4, generator=generator())[0] * 2 - 1
    gain, light = 1 + 0.5 * float(draw[0]), 0.1 * 255 * float(draw[1])
    after = BatchPhotometric(brightness=0.1, contrast=0.5)(batch, generator()).images[0, 0]
    wanted = [[(v - 140) * gain + 140 + light for v in row] for row in ((100, 120), (140, 200))]
    assert (after.float() - torch.tensor(wanted).clamp(0, 255)).abs().max() <= 0.51
    assert torch.equal(BatchPhotometric(p=0.0)(batch, generator()).images, batch.images)


def test_photometric_saturation_keeps_grey_grey_and_luma_constant():
    batch = make([[]], channels=3, height=2, width=2)
    batch.images[0, :, 0, 0] = torch.tensor([200, 100, 60])
    batch.images[0, :, 1, 1] = 90
    after = (
        BatchPhotometric(brightness=0.0, contrast=0.0, saturation=0.9)(batch, generator()).images[0].float()
    )
    assert after[:, 1, 1].tolist() == [90, 90, 90]
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert abs(float(weights @ after[:, 0, 0]) - float(weights @ torch.tensor([200.0, 100, 60]))) < 1
    assert after[:, 0, 0].tolist() != [200, 100, 60]


def test_photometric_clamps_extremes():
    batch = make([[(0, 0, 32, 32)]])
    after = BatchPhotometric(brightness=5.0, contrast=3.0)(batch, generator()).images
    assert after.dtype == torch.uint8
    assert set(after.unique().tolist()) <= {0, 255}
