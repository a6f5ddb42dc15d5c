"""What objects carry beside their boxes, by hand: from a source to a batch, and through transforms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.views import DROP, Subset
from densedet.core.data.dataset import DetectionDataset
from densedet.core.data.decoding import Decoding
from densedet.core.data.loader import collate, resized
from densedet.core.errors import DataError, PartError
from densedet.core.extras import moved
from densedet.core.placement import Placement
from densedet.core.types import Annotation, Batch, Extra
from densedet.plugins.transforms.affine import BatchAffine
from densedet.plugins.transforms.crop import BatchCrop
from densedet.plugins.transforms.flip import BatchFlip
from densedet.plugins.transforms.mosaic import BatchMosaic
from densedet.plugins.transforms.sanitize import SanitizeBoundingBoxes

EYES = Extra((2, 3), "keypoints", pairs=((0, 1),))
LEFT, RIGHT = [12.0, 14, 2], [18.0, 15, 1]  # x, y, visibility, inside the first box


class Faces:
    """One image of 40x20: a face of age 30 with two eyes, and one of no known age with an eye unseen."""

    classes, category_ids = ("face",), (0,)
    extras = {"age": Extra(), "eyes": EYES}

    def __init__(self, eyes: Tensor | None = None) -> None:
        self.eyes = torch.tensor([[LEFT, RIGHT], [[34.0, 8, 2], [0, 0, 0]]]) if eyes is None else eyes

    def __len__(self) -> int:
        return 1

    def annotation(self, index: int) -> Annotation:
        none = torch.zeros(2, dtype=torch.bool)
        return Annotation(
            boxes=torch.tensor([[10.0, 10, 20, 18], [30, 4, 38, 12]]),
            labels=torch.zeros(2, dtype=torch.int64),
            ignore=none,
            crowd=none.clone(),
            area=torch.tensor([80.0, 64]),
            image_id=7,
            file_name="a.png",
            width=40,
            height=20,
            extra={"age": torch.tensor([30.0, 0]), "eyes": self.eyes},
            extra_known={"age": torch.tensor([True, False])},
        )

    def image(self, index: int) -> Any:
        return np.zeros((20, 40), dtype=np.uint8)

    def fingerprint(self) -> str:
        return "faces"

    def invalid(self) -> list[str]:
        return []


def dataset(source: Any = None, transforms: Any = (), size: tuple[int, int] = (40, 20)) -> DetectionDataset:
    placement = Placement(*size, size)
    return DetectionDataset(
        source or Faces(),
        resize=lambda width, height: placement,
        decoding=Decoding("grey"),
        classes=("face",),
        transforms=transforms,
    )


def batch(**options: Any) -> Batch:
    return collate([dataset(**options)[0]])


def eyes_of(result: Batch, slot: int = 0) -> list[list[float]]:
    return result.extra["eyes"][0, slot].tolist()


def test_a_declaration_is_checked() -> None:
    for arguments, sentence in (
        (((4,), "keypoints"), r"keypoints have the shape \(K, 3\)"),
        (((), "plain", ((0, 1),)), "only keypoints have pairs"),
        (((2, 3), "keypoints", ((0, 2),)), r"outside of 0\.\.1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Extra(*arguments)


def test_values_come_from_the_source_to_the_batch() -> None:
    """Resized to half width and twice the height: x / 2, y * 2."""
    result = batch(size=(20, 40))
    assert result.extras == Faces.extras
    assert result.extra["age"].tolist() == [[30, 0]]
    assert {name: known.tolist() for name, known in result.extra_known.items()} == {
        "age": [[True, False]],
        "eyes": [[True, True]],
    }
    assert eyes_of(result) == [[6, 28, 2], [9, 30, 1]]
    assert eyes_of(result, 1) == [[17, 16, 2], [0, 0, 0]]
    moved = result.to("cpu")
    assert torch.equal(moved.extra["eyes"], result.extra["eyes"])


def test_images_of_a_batch_are_padded() -> None:
    """The second image has one object only; its empty slot carries 0 and is not known."""
    one = Subset(Faces(), [0], actions=np.array([DROP, 0], dtype=np.uint8), offsets=np.array([0, 2]))
    result = collate([dataset()[0], dataset(one)[0]])
    assert result.extra["age"].tolist() == [[30, 0], [0, 0]]
    assert result.extra["eyes"][1].tolist() == [[[34, 8, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert result.extra_known["eyes"].tolist() == [[True, True], [True, False]]
    assert result.extra_known["age"].tolist() == [[True, False], [False, False]]


def test_a_filter_takes_values_along() -> None:
    """The first face is made 5 pixels wide and dropped: the second one, of no known age, remains."""

    class Narrow(Faces):
        def annotation(self, index: int) -> Annotation:
            truth = super().annotation(index)
            truth.boxes[0, 2] = 15
            return truth

    rules = FilterSection(min_side=6, rest="drop")
    left = filtered(Narrow(), rules, classes=None, resize=lambda w, h: Placement(w, h, (w, h)))
    result = collate([dataset(left)[0]])
    assert result.boxes.tolist() == [[[30, 4, 38, 12]]]
    assert result.extra_known["age"].tolist() == [[False]]
    assert eyes_of(result) == [[34, 8, 2], [0, 0, 0]]


def test_a_source_that_does_not_keep_its_word_is_named() -> None:
    with pytest.raises(DataError, match=r"image 7 \(a\.png\): extra 'eyes' has the shape \(1, 2, 3\)"):
        dataset(Faces(torch.zeros(1, 2, 3)))[0]


# -- batch transforms --------------------


def test_a_flip_mirrors_keypoints_and_swaps_pairs() -> None:
    """x becomes 40 - x, and the left eye is the right one in a mirror."""
    result = BatchFlip(p=1.0)(batch(), torch.Generator())
    assert eyes_of(result) == [[40 - 18, 15, 1], [40 - 12, 14, 2]]
    assert eyes_of(result, 1) == [[0, 0, 0], [40 - 34, 8, 2]]
    assert result.extra["age"].tolist() == [[30, 0]]
    assert eyes_of(BatchFlip(p=0.0)(batch(), torch.Generator())) == [LEFT, RIGHT]


def test_a_flip_and_a_crop_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrored, then the window x 12..32, y 10..20 drawn at twice the size: x' = (40 - x - 12) * 2,
    y' = (y - 10) * 2. The second face is mirrored to x 2..10, out of the window."""
    window = torch.tensor([[[10, 10], [12, 20]]]), torch.tensor([[[0, 20], [0, 40]]])
    monkeypatch.setattr(BatchCrop, "windows", lambda *_: window)
    result = BatchCrop()(BatchFlip(p=1.0)(batch(), torch.Generator()), torch.Generator())
    assert eyes_of(result) == [[(40 - 18 - 12) * 2, 10, 1], [(40 - 12 - 12) * 2, 8, 2]]
    assert result.boxes[0, 0].tolist() == [(40 - 20 - 12) * 2, 0, (40 - 10 - 12) * 2, 16]
    assert result.extra_known["eyes"].tolist() == [[True, False]]
    assert eyes_of(result, 1) == [[0, 0, 0], [0, 0, 0]]


def test_a_keypoint_outside_of_the_image_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window x 14..34: the left eye (12) is outside, the right one (18) at (18 - 14) * 2. The window
    x 0..16: the left one is at 12 * 40 / 16 = 30, the right one at 45 of 40 pixels."""
    for start, length, eyes in ((14, 20, [[0, 0, 0], [8, 15, 1]]), (0, 16, [[30, 14, 2], [0, 0, 0]])):
        window = torch.tensor([[[0, 20], [start, length]]]), torch.tensor([[[0, 20], [0, 40]]])
        monkeypatch.setattr(BatchCrop, "windows", lambda *_, window=window: window)
        assert eyes_of(BatchCrop()(batch(), torch.Generator())) == eyes


def test_an_affine_move_takes_keypoints_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter turn about (20, 10), clockwise as displayed: (x, y) -> (30 - y, x - 10)."""
    matrix = torch.tensor([[[0.0, -1, 30], [1, 0, -10]]], dtype=torch.float64)
    monkeypatch.setattr(BatchAffine, "moves", lambda *_: (matrix, torch.tensor([True])))
    result = BatchAffine()(batch(), torch.Generator())
    assert eyes_of(result) == [[30 - 14, 2, 2], [30 - 15, 8, 1]]
    assert result.boxes[0, 0].tolist() == [30 - 18, 0, 30 - 10, 10]


def test_a_mosaic_keeps_objects_and_their_values_together() -> None:
    """One image four times, each quarter half as wide and high: x / 2 + left, y / 2 + top."""
    result = BatchMosaic(p=1.0, center=(0.5, 0.5))(batch(), torch.Generator())
    assert result.extra["age"].tolist() == [[30, 0] * 4]
    assert result.extra_known["age"].tolist() == [[True, False] * 4]
    assert eyes_of(result, 6) == [[6 + 20, 7 + 10, 2], [9 + 20, 7.5 + 10, 1]]
    assert result.boxes[0, 6].tolist() == [25, 15, 30, 19]


def test_a_batch_at_another_size() -> None:
    result = resized(batch(), (80, 30))
    assert eyes_of(result) == [[24, 21, 2], [36, 22.5, 1]]


def test_every_batch_transform_keeps_a_middle_in_the_middle() -> None:
    """A keypoint in the middle of each box stays in the middle of a box that is seen whole."""
    data = batch()
    middle = (data.boxes[..., :2] + data.boxes[..., 2:]) / 2
    data.extras = {"middle": Extra((1, 3), "keypoints")}
    data.extra = {"middle": torch.cat([middle, torch.ones(1, 2, 1)], -1)[:, :, None]}
    data.extra_known = {"middle": data.valid.clone()}
    for transform in (BatchFlip(p=1.0), BatchCrop(), BatchAffine(), BatchMosaic(p=1.0)):
        for seed in range(5):
            result = transform(replace(data), torch.Generator().manual_seed(seed))
            limit = result.valid_hw.flip(1).repeat(1, 2)[:, None].float()
            whole = result.valid & (result.boxes > 0).all(-1) & (result.boxes < limit).all(-1)
            wanted = ((result.boxes[..., :2] + result.boxes[..., 2:]) / 2)[whole]
            assert torch.allclose(result.extra["middle"][whole][:, 0, :2], wanted, atol=1e-3)


# -- torchvision's transforms --------------------


def sample_eyes(*transforms: Any) -> list[Any]:
    return dataset(transforms=transforms)[0].extra["eyes"].tolist()


def test_torchvisions_flips_move_continuous_coordinates() -> None:
    """x becomes 40 - x (not 39 - x), y 20 - y; both mirror, so that pairs swap, and both at once do not."""
    across, down = v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0)
    assert sample_eyes(across)[0] == [[40 - 18, 15, 1], [40 - 12, 14, 2]]
    assert sample_eyes(down)[0] == [[18, 20 - 15, 1], [12, 20 - 14, 2]]
    assert sample_eyes(across, down)[0] == [[40 - 12, 20 - 14, 2], [40 - 18, 20 - 15, 1]]


def test_each_set_of_keypoints_stays_by_itself() -> None:
    class Hands(Faces):
        extras = {"age": Extra(), "eyes": EYES, "hands": Extra((1, 3), "keypoints")}

        def annotation(self, index: int) -> Annotation:
            truth = super().annotation(index)
            truth.extra["hands"] = torch.tensor([[[11.0, 17, 1]], [[31, 11, 1]]])
            return truth

    found = dataset(Hands(), transforms=(v2.RandomHorizontalFlip(1.0),))[0]
    assert found.extra["hands"].tolist() == [[[29, 17, 1]], [[9, 11, 1]]]
    assert found.extra["eyes"].tolist()[0] == [[22, 15, 1], [28, 14, 2]]


def test_torchvisions_crop_and_the_way_back_to_size() -> None:
    """The middle 20x20 is taken and stretched to 40x20: x' = (x - 10) * 2. The second face is dropped."""
    found = dataset(transforms=(v2.CenterCrop(20),))[0]
    assert found.extra["eyes"].tolist() == [[[4, 14, 2], [16, 15, 1]]]
    assert found.extra["age"].tolist() == [30]
    assert found.extra_known["age"].tolist() == [True]


def test_sanitising_drops_values_with_their_objects() -> None:
    """The first face has 80 square pixels, the second one 64."""
    found = dataset(transforms=(SanitizeBoundingBoxes(min_area=70), v2.RandomHorizontalFlip(1.0)))[0]
    assert found.extra["age"].tolist() == [30]
    assert found.extra["eyes"].tolist() == [[[22, 15, 1], [28, 14, 2]]]


def test_a_transform_that_forgets_the_rows_is_named() -> None:
    def first_only(image: Any, target: dict[str, Any]) -> Any:
        kept = {name: target[name][:1] for name in ("boxes", "labels", "ignore")}
        return image, {**target, **kept}

    with pytest.raises(PartError, match="left 1 boxes, 1 labels, 1 ignore, 2 rows: it must keep or drop"):
        dataset(transforms=(first_only,))[0]


def test_plain_values_never_move() -> None:
    values = {"age": torch.tensor([3.0])}
    assert moved(values, {"age": Extra()}, torch.zeros(2, 3), torch.tensor([1, 1])) == values
