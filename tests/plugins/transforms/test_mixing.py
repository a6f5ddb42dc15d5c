"""mixup and copy_paste by hand-computable numbers, the same on a CPU and by the arithmetic of a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from densedet.core.types import Batch
from densedet.plugins.transforms import copy_paste as copy_paste_file
from densedet.plugins.transforms.copy_paste import BatchCopyPaste
from densedet.plugins.transforms.mixup import BatchMixUp


def batch(*images: list[tuple[list[float], int, bool]]) -> Batch:
    """Images of 20 x 40 (height x width) of one grey level, with (box, label, ignored) objects."""
    count, most = len(images), max(len(objects) for objects in images)
    boxes, labels = torch.zeros(count, most, 4), torch.full((count, most), -1)
    valid, ignore = torch.zeros(count, most, dtype=torch.bool), torch.zeros(count, most, dtype=torch.bool)
    pixels = torch.zeros(count, 1, 20, 40, dtype=torch.uint8)
    for row, objects in enumerate(images):
        pixels[row] = 100 * (row + 1)
        for slot, (box, label, ignored) in enumerate(objects):
            boxes[row, slot], labels[row, slot] = torch.tensor(box), label
            valid[row, slot], ignore[row, slot] = True, ignored
    return Batch(
        pixels,
        torch.tensor([[20, 40]] * count),
        boxes,
        labels,
        valid,
        ignore,
        indices=torch.arange(count),
        image_ids=list(range(count)),
        source_hw=torch.tensor([[20, 40]] * count),
        to_source=torch.ones(count, 4),
    )


def objects(after: Batch, row: int) -> list[Any]:
    kept = after.valid[row]
    return list(zip(after.boxes[row][kept].tolist(), after.labels[row][kept].tolist()))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CAT, DOG = ([2.0, 2.0, 12.0, 8.0], 0, False), ([20.0, 4.0, 30.0, 14.0], 1, False)


def test_mixup_blends_pixels_and_keeps_the_objects_of_both() -> None:
    """With a large alpha the share is a half: 100 and 200 give 150."""
    before = batch([CAT], [DOG, ([0.0, 0.0, 4.0, 4.0], 1, True)])
    for seed in range(20):
        after = BatchMixUp(p=1.0, alpha=1e12)(before, generator(seed))
        if after.images[0].unique().tolist() == [150]:
            break
    assert objects(after, 0) == [(CAT[0], 0), (DOG[0], 1), ([0, 0, 4, 4], 1)]
    assert after.ignore[0].tolist() == [False, False, True]
    assert before.images[0].unique().tolist() == [100]
    assert after.dropped == 0


def test_mixup_drops_the_objects_of_a_faint_image() -> None:
    """The level tells the share: 100 * share + 200 * (1 - share). With min_share .5 the objects of one of two
    different images go, those of the fainter."""
    before = batch([CAT], [DOG])
    found = set()
    for seed in range(30):
        after = BatchMixUp(p=1.0, alpha=1.0, min_share=0.5)(before, generator(seed))
        level = int(after.images[0, 0, 0, 0])
        if level not in (100, 150):  # 100: with itself, or a share of nearly 1
            assert objects(after, 0) == ([(CAT[0], 0)] if level < 150 else [(DOG[0], 1)])
            found.add(level < 150)
    assert found == {True, False}


def test_mixup_stretches_the_other_image_to_the_own_size() -> None:
    """Valid sizes of 20 x 40 and 10 x 20: the objects of the small image grow by 2, those of the large one
    shrink to a half. An object of 3 pixels then has 1.5, below min_side 2."""
    before = batch([CAT, ([0.0, 0.0, 3.0, 3.0], 0, False)], [([5.0, 2.0, 10.0, 4.0], 1, False)])
    before.valid_hw = torch.tensor([[20, 40], [10, 20]])
    before.images[1, :, 10:] = 0
    before.images[1, :, :, 20:] = 0
    for seed in range(20):
        after = BatchMixUp(p=1.0, alpha=1e12, min_side=2.0)(before, generator(seed))
        if len(objects(after, 0)) == 3 and len(objects(after, 1)) == 2 and after.dropped == 1:
            break
    assert objects(after, 0)[2] == ([10, 4, 20, 8], 1)
    assert objects(after, 1) == [([5, 2, 10, 4], 1), ([1, 1, 6, 4], 0)]
    assert after.images[0].unique().tolist() == [150]
    assert after.images[1, 0, :10, :20].unique().tolist() == [150]
    assert int(after.images[1, 0, 10:].max()) == 0


@pytest.mark.parametrize("kind", [BatchMixUp, BatchCopyPaste])
def test_chance(kind: Any) -> None:
    same = batch([CAT], [DOG])
    assert torch.equal(kind(p=0.0)(same, generator()).boxes, same.boxes)


def pasted_into(before: Batch, seed: int = 0, **arguments: Any) -> tuple[Batch, list[list[int]]]:
    """Paste into all images, each from the next one; the windows of image 0, xyxy in whole pixels."""
    part = BatchCopyPaste(p=1.0, **arguments)
    kept: list[list[int]] = []
    windows = part._windows

    def next_one(batch: Batch, other: Any, *rest: Any) -> Any:
        other.copy_((torch.arange(len(batch)) + 1) % len(batch))
        source, target, pasted = windows(batch, other, *rest)
        kept.extend(target[0][pasted[0]].tolist())
        return source, target, pasted

    part._windows = next_one  # type: ignore[method-assign]
    return part(before, generator(seed)), kept


def test_pasted_pixels_and_boxes_move_together() -> None:
    """The object of 10 x 10 of grey 200 covers 100 of the 800 pixels of grey 100."""
    before = batch([], [DOG])
    after, windows = pasted_into(before, objects=1)
    assert windows == [[int(value) for value in objects(after, 0)[0][0]]]
    ((box, label),) = objects(after, 0)
    assert (box[2] - box[0], box[3] - box[1], label) == (10, 10, 1)
    x, y, right, bottom = windows[0]
    assert (after.images[0, 0] == 200).sum() == 100
    assert (after.images[0, 0, y:bottom, x:right] == 200).all()
    assert before.images[0].unique().tolist() == [100]


def test_a_box_between_pixels_takes_the_pixels_that_it_touches() -> None:
    """x from 20.25 to 29.5 are the pixels 20 to 29: the window is 10 wide. The box keeps its fractions."""
    after, windows = pasted_into(batch([], [([20.25, 4.5, 29.5, 13.75], 1, False)]), objects=1)
    ((box, _),) = objects(after, 0)
    assert (windows[0][2] - windows[0][0], windows[0][3] - windows[0][1]) == (10, 10)
    assert [box[0] - windows[0][0], box[1] - windows[0][1]] == [0.25, 0.5]
    assert [box[2] - box[0], box[3] - box[1]] == [9.25, 9.25]


def test_what_is_covered_is_dropped_and_counted() -> None:
    """The pasted object fills the whole image: the own one is covered, the ignored one stays."""
    whole = ([0.0, 0.0, 40.0, 20.0], 1, False)
    before = batch([CAT, ([1.0, 1.0, 5.0, 5.0], 0, True)], [whole])
    after, _ = pasted_into(before, objects=1, max_covered=0.9)
    assert objects(after, 0) == [([1, 1, 5, 5], 0), (whole[0], 1)]
    assert after.dropped == 1
    kept, _ = pasted_into(before, objects=1, max_covered=1.0)
    assert len(objects(kept, 0)) == 3


def test_the_covered_share_is_that_of_the_union() -> None:
    """A box of 10 x 10 at 0, 0. Windows of 6 x 10 and 4 x 10 over x 0..6 and 4..8 cover 80 of its 100
    pixels, not 100; the second covers 2 of the 6 columns of the first. A window that is not pasted covers
    nothing."""
    boxes = torch.tensor([[[[0.0, 0, 10, 10]], [[0.0, 0, 6, 10]], [[4.0, 0, 8, 10]]]])  # (1,3,1,4)
    windows = torch.tensor([[[0.0, 0, 6, 10], [4.0, 0, 8, 10]]])
    covered = copy_paste_file._covered(boxes, windows, torch.tensor([[True, True]]))
    assert covered.flatten().tolist() == [80, 20, 0]
    covered = copy_paste_file._covered(boxes, windows, torch.tensor([[True, False]]))
    assert covered.flatten().tolist() == [60, 0, 0]


def test_what_else_lies_in_a_pasted_box_goes_along() -> None:
    """In the window of the picked object (30 x 16) lie a whole small object, and a third of one that sticks
    out: 2 of its 6 columns, which is left out; of an ignored one, the part in the window."""
    large = ([0.0, 0.0, 30.0, 16.0], 1, False)
    small, out = ([4.0, 4.0, 8.0, 8.0], 0, False), ([28.0, 0.0, 34.0, 4.0], 0, False)
    odd = ([29.0, 5.0, 39.0, 9.0], 0, True)
    for seed in range(20):
        after, windows = pasted_into(batch([], [large, small, out, odd]), seed, objects=1)
        if windows[0][2] - windows[0][0] == 30:
            break
    x, y = windows[0][:2]
    expected = [([0, 0, 30, 16], 1), ([4, 4, 8, 8], 0), ([29, 5, 30, 9], 0)]
    assert objects(after, 0) == [([a + x, b + y, c + x, d + y], label) for (a, b, c, d), label in expected]
    assert after.ignore[0, :3].tolist() == [False, False, True]


def test_a_box_that_does_not_fit_and_ignored_ones_are_not_pasted() -> None:
    before = batch([], [([0.0, 0.0, 40.0, 20.0], 1, False)])
    before.valid_hw = torch.tensor([[20, 30], [20, 40]])
    assert pasted_into(before)[1] == []
    assert pasted_into(batch([], [([0.0, 0.0, 4.0, 2.0], 1, True)]))[1] == []
    assert len(objects(BatchCopyPaste(p=1.0)(batch([], []), generator()), 0)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_both_ways_to_copy_pixels_agree(seed: int) -> None:
    """A GPU gathers pixels of whole images, a CPU copies windows."""
    draw = generator(seed)
    images = torch.randint(0, 256, (3, 2, 20, 40), generator=draw, dtype=torch.uint8)
    source = torch.tensor([[[0, 0, 5, 4], [3, 2, 9, 8]]] * 3)
    target = source + torch.tensor([[[7, 3, 7, 3], [6, 2, 6, 2]]])
    pasted = torch.rand(3, 2, generator=draw) < 0.7
    other = torch.tensor([1, 2, 0])
    expected = copy_paste_file._copied_by_windows(images, other, source, target, pasted)
    assert torch.equal(copy_paste_file._copied_by_pixels(images, other, source, target, pasted), expected)
    if bool(pasted.any()):
        assert not torch.equal(expected, images)
