import importlib
import inspect
import json

import pytest
import torch
from pydantic import ConfigDict, TypeAdapter
from torchvision import tv_tensors

from densedet.plugins.transforms import COMPONENTS

REQUIRED = {
    "CenterCrop": {"size": [40, 50]},
    "GaussianBlur": {"kernel_size": 3},
    "Pad": {"padding": 3},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "RandomAffine": {"degrees": [-10.0, 10.0], "translate": [0.1, 0.1], "shear": 5.0},
    "RandomCrop": {"size": [40, 50]},
    "RandomPosterize": {"bits": 3},
    "RandomResize": {"min_size": 30, "max_size": 60},
    "RandomResizedCrop": {"size": [64, 64]},
    "RandomRotation": {"degrees": 10.0},
    "RandomShortestSize": {"min_size": [40]},
    "RandomSolarize": {"threshold": 100.0},
    "Resize": {"size": [32, 64]},
    "ScaleJitter": {"target_size": [64, 128]},
}
SAMPLE = [row for row in COMPONENTS if row[0] == "transform"]


def build(target, arguments):
    """As a recipe does it: every argument against its type hint, strictly as JSON."""
    module, _, name = target.partition(":")
    part = getattr(importlib.import_module(module), name)
    hints = inspect.get_annotations(part.__init__, eval_str=True)
    for parameter in inspect.signature(part).parameters.values():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        adapter = TypeAdapter(hints[parameter.name], config=ConfigDict(strict=True))
        adapter.json_schema()
        if parameter.name in arguments:
            arguments = arguments | {
                parameter.name: adapter.validate_json(json.dumps(arguments[parameter.name]))
            }
        else:
            assert parameter.default is not parameter.empty
    return part(**arguments)


@pytest.mark.parametrize(("name", "target"), [row[1:3] for row in SAMPLE], ids=[row[1] for row in SAMPLE])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore:RandomErasing")
def test_every_transform_builds_from_a_recipe_and_takes_grey_and_colour(name, target, channels):
    transform = build(target, REQUIRED.get(name, {}))
    for seed in range(3):
        torch.manual_seed(seed)
        image = tv_tensors.Image(torch.randint(0, 256, (channels, 64, 128), dtype=torch.uint8))
        boxes = tv_tensors.BoundingBoxes(
            torch.tensor([[10.0, 10, 30, 30], [50, 20, 90, 60]]), format="XYXY", canvas_size=(64, 128)
        )
        target_in = {"boxes": boxes, "labels": torch.tensor([0, 1]), "ignore": torch.tensor([False, True])}
        out, target_out = transform(image, target_in)
        if name != "Grayscale":  # makes one channel by default
            assert out.shape[0] == channels
        assert out.dtype == torch.uint8
        assert len(target_out["boxes"]) == len(target_out["labels"]) == len(target_out["ignore"])
        assert target_out["boxes"].canvas_size == tuple(out.shape[-2:])


def test_sanitize_drops_labels_and_flags_with_their_boxes():
    transform = build("densedet.plugins.transforms.sanitize:SanitizeBoundingBoxes", {"min_size": 5.0})
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([[0.0, 0, 4, 20], [0, 0, 6, 20]]), format="XYXY", canvas_size=(30, 30)
    )
    image = tv_tensors.Image(torch.zeros(1, 30, 30, dtype=torch.uint8))
    _, target = transform(
        image, {"boxes": boxes, "labels": torch.tensor([3, 4]), "ignore": torch.tensor([False, True])}
    )
    assert target["labels"].tolist() == [4]
    assert target["ignore"].tolist() == [True]
    assert target["boxes"].tolist() == [[0, 0, 6, 20]]
