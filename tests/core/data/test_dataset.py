import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from densedet.core.data.dataset import DetectionDataset, sample_of
from densedet.core.data.decoding import Decoding
from densedet.core.data.image_cache import ImageCache
from densedet.core.errors import DataError, PartError
from densedet.core.types import Annotation
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.resize.letterbox import LetterboxResize
from densedet.plugins.transforms.sanitize import SanitizeBoundingBoxes


class Memory:
    """Images of 40 x 20 pixels with a gradient; image 0 has two objects, image 1 none, image 2 three, one of
    them a crowd."""

    classes = ("cat", "dog", "cow")
    category_ids = (1, 2, 3)
    boxes = ([[4, 2, 12, 10], [20, 4, 40, 20]], [], [[0, 0, 8, 4], [8, 4, 16, 8], [0, 10, 40, 20]])
    labels = ([0, 1], [], [2, 1, 0])
    crowd = ([False, False], [], [False, False, True])
    reads = 0

    def __len__(self):
        return 3

    def annotation(self, index):
        boxes = torch.tensor(self.boxes[index], dtype=torch.float32).reshape(-1, 4)
        crowd = torch.tensor(self.crowd[index], dtype=torch.bool)
        labels = torch.tensor(self.labels[index], dtype=torch.int64)
        return Annotation(
            boxes, labels, crowd.clone(), crowd, torch.ones(len(boxes)), f"id{index}", f"{index}.png", 40, 20
        )

    def image(self, index):
        self.reads += 1
        return np.tile(np.arange(40, dtype=np.uint8) * 5 + index, (20, 1))

    def fingerprint(self):
        return ""

    def invalid(self):
        return []


def dataset(**arguments):
    arguments = {
        "resize": ExactResize(size_wh=(40, 20)),
        "decoding": Decoding("grey"),
        "classes": ("cat", "dog", "cow"),
        **arguments,
    }
    return DetectionDataset(Memory(), **arguments)


def cache(folder):
    return ImageCache(
        Memory(), resize=ExactResize(size_wh=(40, 20)), decoding=Decoding("grey"), folder=str(folder)
    )


def same(first, second):
    return all(
        torch.equal(getattr(first, n), getattr(second, n)) for n in ("image", "boxes", "labels", "ignore")
    )


def test_sample():
    sample = dataset(resize=ExactResize(size_wh=(20, 40)))[0]  # x / 2, y * 2
    assert sample.image.shape == (1, 40, 20)
    assert sample.image.dtype == torch.uint8
    assert sample.canvas_wh == (20, 40)
    assert sample.boxes.tolist() == [[2, 4, 6, 20], [10, 8, 20, 40]]
    assert sample.labels.tolist() == [0, 1]
    assert sample.ignore.tolist() == [False, False]
    assert (sample.index, sample.image_id, sample.source_wh) == (0, "id0", (40, 20))
    assert sample.to_source == (2.0, 0.5, 0.0, 0.0)


def test_an_image_without_objects():
    sample = dataset()[1]
    assert sample.boxes.shape == (0, 4)
    assert sample.labels.shape == sample.ignore.shape == (0,)


def test_labels_go_by_name_and_other_classes_are_ignored():
    sample = dataset(classes=("dog", "cat"))[2]  # labels cow, dog, cat (a crowd)
    assert sample.labels.tolist() == [-1, 0, 1]
    assert sample.ignore.tolist() == [True, False, True]
    with pytest.raises(DataError, match="none of the classes bird"):
        dataset(classes=("bird",))


def test_letterbox_keeps_the_canvas_apart():
    sample = dataset(resize=LetterboxResize(size_wh=(20, 20)))[0]
    assert sample.image.shape == (1, 10, 20)
    assert sample.canvas_wh == (20, 20)
    assert sample.boxes[1].tolist() == [10, 2, 20, 10]


def test_transforms_depend_on_seed_epoch_and_index_only(tmp_path):
    transforms = (
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.5),
        v2.RandomAffine(10, translate=(0.2, 0.2)),
    )
    data = dataset(transforms=transforms, seed=1, cache=cache(tmp_path))
    first = {(epoch, index): data[epoch, index] for epoch in range(3) for index in range(3)}
    torch.manual_seed(99)
    other = dataset(transforms=transforms, seed=1)
    assert all(same(other[key], first[key]) for key in reversed(first))
    assert same(data[0], first[0, 0])
    assert not same(data[1, 0], data[2, 0])
    assert not same(data[1, 0], dataset(transforms=transforms, seed=2)[1, 0])
    assert same(dataset()[0], dataset(transforms=())[5, 0])


def test_transforms_leave_the_global_generator_alone():
    data = dataset(transforms=(v2.RandomHorizontalFlip(),))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    data[0]
    assert torch.equal(torch.rand(2), expected)


def test_transforms_do_not_change_the_cache(tmp_path):
    data = dataset(transforms=(v2.RandomHorizontalFlip(1.0),), cache=cache(tmp_path))
    before = data[0]
    assert same(data[0], before)
    assert before.boxes[0].tolist() == [28, 2, 36, 10]  # 40 - 12, 40 - 4


class Shift:
    """Moves boxes by whole images' widths to the left, as a transform of one's own."""

    def __call__(self, image, target):
        return image, target | {
            "boxes": type(target["boxes"])(
                target["boxes"] - torch.tensor([15, 0, 15, 0]), format="XYXY", canvas_size=(20, 40)
            )
        }


def test_boxes_that_leave_are_dropped_and_counted():
    data = dataset(transforms=(Shift(),))
    sample = data[2]  # x 0..8 -> -15..-7, 8..16 -> -7..1, 0..40 -> -15..25
    assert sample.boxes.tolist() == [[0, 4, 1, 8], [0, 10, 25, 20]]
    assert sample.labels.tolist() == [1, 0]
    assert sample.ignore.tolist() == [False, True]
    assert sample.dropped == 1


def test_a_changed_size_is_brought_back():
    data = dataset(
        transforms=(v2.CenterCrop((10, 20)),)
    )  # the middle: x 10..30, y 5..15, then twice as large
    sample = data[0]
    assert sample.image.shape == (1, 20, 40)
    assert sample.canvas_wh == (40, 20)
    assert sample.boxes.tolist() == [
        [0, 0, 4, 10],
        [20, 0, 40, 20],
    ]  # (4,2,12,10) -> (0,0,2,5); (20,4,40,20) -> (10,0,20,10)


def test_sanitizing_keeps_ignore_flags_in_step():
    data = dataset(
        transforms=(v2.RandomCrop((20, 8)), SanitizeBoundingBoxes(min_size=3)),
        resize=LetterboxResize(size_wh=(40, 20)),
    )
    for epoch in range(20):
        sample = data[epoch, 2]
        assert len(sample.boxes) == len(sample.labels) == len(sample.ignore)
        assert all(
            (label == 0) == ignore for label, ignore in zip(sample.labels.tolist(), sample.ignore.tolist())
        )  # cat is the crowd


@pytest.mark.parametrize(
    "broken",
    [
        lambda image, target: (image, target | {"labels": target["labels"][:1]}),
        lambda image, target: (image.float() / 255, target),
        lambda image, target: (image[0], target),
    ],
)
def test_a_faulty_transform_is_named(broken):
    with pytest.raises(PartError, match="transform"):
        dataset(transforms=(broken,))[0]


def test_pickles_without_its_cache(tmp_path):
    data = dataset(cache=cache(tmp_path), transforms=(v2.RandomHorizontalFlip(),))
    data[0]
    assert len(pickle.dumps(data)) < 5000
    assert same(pickle.loads(pickle.dumps(data))[4, 0], data[4, 0])


class Holes(Memory):
    """Image 1 cannot be read."""

    def image(self, index):
        return b"no picture" if index == 1 else super().image(index)


def test_a_broken_image_stops_or_is_skipped_by_policy():
    stops = DetectionDataset(
        Holes(),
        resize=ExactResize(size_wh=(40, 20)),
        decoding=Decoding("grey"),
        classes=("cat", "dog", "cow"),
    )
    with pytest.raises(DataError, match="1.png is in no known format"):
        stops.samples(0, (0, 1, 2), replacing=True)
    skips = DetectionDataset(
        Holes(),
        resize=ExactResize(size_wh=(40, 20)),
        decoding=Decoding("grey"),
        classes=("cat", "dog", "cow"),
        broken="skip",
    )
    samples, broken = skips.samples(0, (0, 1, 2), replacing=False)
    assert [sample.index for sample in samples] == [0, 2]
    assert [index for index, _ in broken] == [1]
    assert "1.png is in no known format" in broken[0][1]
    for epoch in range(10):
        samples, broken = skips.samples(epoch, (0, 1, 2), replacing=True)
        assert [sample.index for sample in samples][::2] == [0, 2]
        assert samples[1].index in (0, 2)
        assert same(samples[1], skips.samples(epoch, (1,), replacing=True)[0][0])


def test_nothing_but_broken_images():
    class Broken(Memory):
        def image(self, index):
            return b""

    data = DetectionDataset(
        Broken(),
        resize=ExactResize(size_wh=(40, 20)),
        decoding=Decoding("grey"),
        classes=("cat",),
        broken="skip",
    )
    assert data.samples(0, (0, 1), replacing=False)[0] == []
    with pytest.raises(DataError, match="20 images drawn one after the other cannot be read"):
        data.samples(0, (0,), replacing=True)


def test_an_image_of_another_size_than_its_annotation():
    class Wrong(Memory):
        def image(self, index):
            return np.zeros((33, 44), np.uint8)

    with pytest.raises(DataError, match=r"0\.png is 44 x 33 pixels but its annotation says 40 x 20"):
        DetectionDataset(
            Wrong(), resize=ExactResize(size_wh=(8, 8)), decoding=Decoding("grey"), classes=("cat",)
        )[0]


def test_out_of_range():
    for index in (3, -1):
        with pytest.raises(IndexError):
            dataset()[index]


def test_sample_of_an_image_alone():
    sample = sample_of(
        np.zeros((20, 40, 3), np.uint8),
        decoding=Decoding("rgb"),
        resize=LetterboxResize(size_wh=(20, 20)),
        index=5,
    )
    assert sample.image.shape == (3, 10, 20)
    assert sample.boxes.shape == (0, 4)
    assert sample.image_id == 5
    assert sample.to_source == (2.0, 2.0, 0.0, 0.0)


class Encoded(Memory):
    """The same images as PNG files in memory; image 1 is damaged."""

    def image(self, index):
        file = io.BytesIO()
        Image.fromarray(super().image(index)).save(file, format="png")
        return file.getvalue() if index != 1 else file.getvalue()[:60]


def test_the_files_of_a_batch_are_decoded_in_threads(monkeypatch, tmp_path):
    """From the second batch on, when it is known that the source gives files; nothing else changes."""
    used = []

    class Counted(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            used.append(arguments[1])
            return super().submit(function, *arguments)

    monkeypatch.setattr("densedet.core.data.dataset.ThreadPoolExecutor", Counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    plain = dataset()
    whole = [plain[index] for index in (0, 2)]
    for stored in (None, cache(tmp_path)):
        used.clear()
        files = dataset(broken="skip", cache=stored)
        files.source = Encoded()
        batches = [files.samples(0, (0, 1, 2), replacing=False) for _ in range(2)]
        for samples, broken in batches:
            assert all(map(same, samples, whole))
            assert [index for index, _ in broken] == [1]
            assert "damaged" in broken[0][1]
        # the cache has all but the broken one, which is alone then
        assert used == ([0, 1, 2] if stored is None else [])
        pickle.loads(pickle.dumps(files))
