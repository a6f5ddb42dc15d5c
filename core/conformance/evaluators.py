"""Evaluators."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from densedet.core.conformance.requirements import ConformanceError, Factory, check, require, same, wire
from densedet.core.types import Annotation, Detections

NAMES = ("cat", "dog", "bird")


class ExampleSource:
    """Five images of (width, height) 100 + 10 * i, 80 with some objects, the last one without."""

    classes = NAMES
    category_ids = (3, 7, 9)

    def __len__(self) -> int:
        return 5

    def annotation(self, index: int) -> Annotation:
        """Objects of different sizes; the third image has a crowd too."""
        count = 0 if index == 4 else 2 + (index == 2)
        corner = torch.tensor([[5.0 + 2 * index, 6.0], [50.0, 10.0 + index], [4.0, 44.0]])[:count]
        size = torch.tensor([[20.0 + index, 28.0], [40.0, 33.0], [30.0, 30.0]])[:count]
        crowd = torch.tensor([False, False, True])[:count]
        return Annotation(
            boxes=torch.cat([corner, corner + size], 1),
            labels=torch.tensor([index % 3, (index + 1) % 3, 0])[:count],
            ignore=crowd,
            crowd=crowd.clone(),
            area=size.prod(1),
            image_id=100 - index,
            file_name=f"{index}.png",
            width=100 + 10 * index,
            height=80,
        )

    def image(self, index: int) -> Any:
        """A black image."""
        return torch.zeros(80, 100 + 10 * index, dtype=torch.uint8).numpy()

    def fingerprint(self) -> str:
        """The same always."""
        return "example"

    def invalid(self) -> list[str]:
        """Nothing is wrong."""
        return []


SOURCE = ExampleSource()


def perfect(index: int) -> Detections:
    """The truth of an image, ignored objects left out, as detections with a score each, best first."""
    truth = SOURCE.annotation(index)
    keep = ~truth.ignore
    count = int(keep.sum())
    scores = torch.linspace(0.9, 0.6, count) - 0.01 * index
    return Detections(
        truth.boxes[keep], scores, truth.labels[keep], torch.full((count,), -1, dtype=torch.int64)
    )


def shifted(index: int) -> Detections:
    """`perfect`, moved so that nothing is met."""
    found = perfect(index)
    return Detections(found.boxes + 1000, found.scores, found.labels, found.anchors)


def relabelled(index: int) -> Detections:
    """`perfect`, with each label the next one."""
    found = perfect(index)
    return Detections(found.boxes, found.scores, (found.labels + 1) % len(NAMES), found.anchors)


def half(index: int) -> Detections:
    """`perfect` on the first three images, nothing on the others."""
    return perfect(index) if index < 3 else Detections.empty()


def with_doubtful(index: int) -> Detections:
    """`perfect`, and a false detection of a low score."""
    found = perfect(index)
    box, none = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.full((1,), -1)
    return Detections(
        torch.cat([found.boxes, box]),
        torch.cat([found.scores, torch.tensor([0.01])]),
        torch.cat([found.labels, torch.tensor([index % len(NAMES)])]),
        torch.cat([found.anchors, none]),
    )


def on_crowd(index: int) -> Detections:
    """`perfect`, and a detection of the best score on the crowd."""
    found = perfect(index)
    if index != 2:
        return found
    more = SOURCE.annotation(2).boxes[2:]
    return Detections(
        torch.cat([more, found.boxes]),
        torch.cat([torch.tensor([0.99]), found.scores]),
        torch.cat([torch.tensor([0]), found.labels]),
        torch.cat([torch.tensor([-1]), found.anchors]),
    )


@check("evaluator")
def check_evaluator(factory: Factory, *, metric: str | None = None, **arguments: Any) -> None:
    """Check that the truth as detections gets the best number and no detections the worst, that the order of
    images does not matter, that processes' parts merged are the whole, and that crowds do not count.

    Args:
        factory: the class or function.
        metric: the number that counts; None: AP, or else the first number that is not -1.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """

    def build() -> Any:
        return wire(factory, arguments, source=SOURCE, classes=NAMES)

    def judged(detections: Any, order: Iterable[int] = range(5)) -> dict[str, Any]:
        part = build()
        for index in order:
            found = detections(index)
            before = copy.deepcopy(found)
            part.add(index, found)
            require(same(before, found), "add changes the detections in place: work on a copy")
        result = part.result()
        require(isinstance(result, dict), f"result() gives a dict of numbers, not {type(result).__name__}")
        require(_plain(result) == _plain(part.result()), "result() called twice gives different numbers")
        try:
            json.dumps(result)
        except (TypeError, ValueError) as error:
            raise ConformanceError(
                f"result() holds what JSON cannot, e.g. numpy's numbers: {error}"
            ) from error
        return result

    best, worst = judged(perfect), judged(lambda index: Detections.empty())
    name = metric or _metric(best)
    require(name in best, f"result() has no {name!r}, only {', '.join(map(str, best))}")
    top, bottom = float(best[name]), float(worst[name])
    require(
        math.isfinite(top) and math.isfinite(bottom),
        f"{name} is {top} for the truth and {bottom} for nothing",
    )
    require(top != bottom, f"{name} is {top:g} both for the truth as detections and for no detections at all")
    rising = top > bottom
    require(
        rising or name not in ("AP", "AP50", "AP75"),
        f"{name} is {top:g} for the truth as detections and {bottom:g} for none: a larger number is better",
    )
    require(name != "AP" or top > 0.99, f"AP is {top:g} for the truth as detections: it should be 1")
    for detections, what in (
        (shifted, "detections that meet nothing"),
        (relabelled, "wrong labels"),
        (half, "half of it"),
    ):
        value = float(judged(detections)[name])
        require(
            value <= top + 1e-6 if rising else value >= top - 1e-6,
            f"{name} is better for {what} ({value:g}) than for the truth as detections ({top:g})",
        )
        require(
            what != "detections that meet nothing" or value != top,
            f"{name} is as good for {what} as for the truth as detections",
        )
    require(
        "precision" in name.lower() or not _close(judged(half)[name], top),
        f"{name} is as good where images have no detections: their objects are missed",
    )
    require(
        name not in ("AP", "AP50", "AP75") or _close(judged(with_doubtful)[name], top),
        f"false detections with the lowest scores of all change {name}: detections of all images are ranked "
        f"together by their scores",
    )
    value = float(judged(on_crowd)[name])
    require(
        abs(value - top) < 1e-6,
        f"a detection on a crowd changes {name} from {top:g} to {value:g}: crowds and ignored objects "
        f"neither count nor hurt",
    )
    turned = judged(perfect, reversed(range(5))) if name in best else {}
    require(_close(turned[name], top), f"{name} depends on the order of the images")
    _check_merge(build, judged(half), name)
    if hasattr(build(), "resampled"):
        _check_resampled(build, name)
    build().result()  # no image at all


def _metric(result: dict[str, Any]) -> str:
    numbers = [k for k, v in result.items() if isinstance(v, (int, float)) and v != -1]
    require(numbers, f"result() holds no number: {result}")
    return "AP" if "AP" in result else str(numbers[0])


def _plain(value: Any) -> str:
    return repr(value)


def _close(first: Any, second: Any) -> bool:
    return abs(float(first) - float(second)) < 1e-9


def _check_resampled(build: Any, name: str) -> None:
    """Weights of 1 give the number itself, and an image of weight 0 is as good as not there."""
    weights = np.ones((2, 5))
    weights[1, 3:] = 0

    def of(images: Iterable[int]) -> Any:
        part = build()
        for index in images:
            part.add(index, with_doubtful(index) if index % 2 else half(index))
        return part

    numbers = of(reversed(range(5))).resampled(weights.copy())
    require(
        name in numbers,
        f"resampled(weights) gives no {name!r}, only {', '.join(map(str, numbers))}: it gives what result() "
        f"gives",
    )
    values = np.asarray(numbers[name])
    require(
        values.shape == (2,),
        f"resampled(weights) gives {name} of the shape {values.shape} for weights of the shape (2, 5): one "
        f"number for each row",
    )
    for value, images, what in (
        (values[0], range(5), "1"),
        (values[1], range(3), "0 for the last two images"),
    ):
        alone = of(images).result()[name]
        require(
            _close(value, alone),
            f"resampled(weights) gives {name} {value:g} for weights of {what}, and result() of the images "
            f"that count {alone:g}: a column stands for an image, in the order of their indices",
        )


def _check_merge(build: Any, whole: dict[str, Any], name: str) -> None:
    """Two processes with some images each: both have the whole's number after merging all states."""
    parts = [build(), build()]
    for index in range(5):
        parts[index % 2].add(index, half(index))
    if not hasattr(parts[0], "state"):
        require(False, "an evaluator has state() and merge(states), for several processes")
    states = pickle.loads(pickle.dumps([part.state() for part in parts]))
    for part in parts:
        part.merge(states)
        value = part.result()[name]
        require(
            _close(value, whole[name]),
            f"{name} of two processes merged is {float(value):g}, of one it is {float(whole[name]):g}: "
            f"merge(states) gets all states, its own among them",
        )
