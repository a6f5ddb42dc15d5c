"""The promise of the project: any cross of the parts builds and trains a step, or is refused while loading
with a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from densedet.core import assembly
from densedet.core.examples import example_batch
from densedet.core.recipe.loading import RecipeError, recipe_from_dict
from densedet.core.recipe.plugin_loading import load_plugins

SIDE = 32
ARGUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("backbone", "torchvision"): {"model": "shufflenet_v2_x0_5", "nodes": ["stage2", "stage3"]},
    ("backbone", "timm"): {"model": "test_resnet"},
    ("backbone", "vgg16_ssd"): {"width": 0.0625},
    ("backbone", "convnet"): {"widths": [16, 16], "stem": 8, "out_indices": [1, 2], "norm": "none"},
    ("neck", "ssd_extras"): {"stages": [{"out_channels": 16}]},
    ("neck", "fpn"): {"channels": 16},
    ("neck", "pan"): {"channels": 16},
    ("head", "retinanet"): {"depth": 1},
    ("head", "fcos"): {"depth": 1},
    ("anchors", "default_boxes"): {"ratios": [2.0]},
}
"""What a part needs, or what keeps it small, where its defaults are for larger images."""

KINDS = ("head", "matcher", "coder", "class_loss", "box_loss", "anchors")


def names(kind: str) -> list[str]:
    """Built-in components of a kind (a plug-in file loaded by another test has no business here)."""
    return [c.name for c in load_plugins().components.find(kind) if c.origin.startswith("densedet")]


def spec(kind: str, name: str) -> dict[str, Any]:
    return {"name": name, **ARGUMENTS.get((kind, name), {})}


def recipe_of(color: str = "grey", size: tuple[int, int] = (SIDE, SIDE), **parts: str) -> Any:
    """A recipe with two 16-channel levels at 32x32; ``parts`` names what differs from the defaults."""
    chosen = {
        "backbone": "convnet",
        "neck": "identity",
        "anchors": "octave",
        "head": "retinanet",
        "matcher": "iou",
        "coder": "delta",
        "class_loss": "focal",
        "box_loss": "smooth_l1",
        "postprocess": "nms",
    } | parts
    values = {
        "model": {kind: spec(kind, name) for kind, name in chosen.items()},
        "data": {"train": {"name": "digits"}, "input_size_wh": list(size), "color": color},
        "train": {"budget": {"steps": 1}},
    }
    return recipe_from_dict(values)


def step(recipe: Any, batch: Any) -> str:
    """Build and train a step: "trained", or the sentence of the refusal."""
    torch.manual_seed(0)
    try:
        detector = assembly.build_detector(recipe, 3)
    except RecipeError as error:
        [fault] = error.faults
        assert fault.path.startswith("model."), fault
        assert len(fault.message.split()) > 5, f"no sentence: {fault.message}"
        assert "Error" not in fault.message, f"an exception's name reached the user: {fault.message}"
        return fault.message
    detector.train()
    losses = detector(batch)
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total), losses
    total.backward()
    idle = [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle, f"no gradient for {idle}"
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
    detector.eval()
    assert len(detector.predict(batch)) == len(batch)
    return "trained"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These networks are so small that a second thread only costs time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


HEADS = ("fcos", "retinanet", "ssd", "ssdlite")


def crosses(head: str) -> Iterator[dict[str, str]]:
    kinds = [kind for kind in KINDS if kind != "head"]
    for places in itertools.product(*(range(len(names(kind))) for kind in kinds)):
        if (sum(places) - HEADS.index(head)) % 8 == 0:
            yield {"head": head, **{kind: names(kind)[place] for kind, place in zip(kinds, places)}}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("head", HEADS)
def test_full_cross(head: str) -> None:
    """Every head x matcher x coder x class loss x box loss x anchors: each of the other parts' combinations
    meets one head or none, so that every head meets every two of them."""
    batch = example_batch(objects=2, size=(SIDE, SIDE))
    outcomes = [(parts, step(recipe_of(**parts), batch)) for parts in crosses(head)]
    trained = sum(outcome == "trained" for _, outcome in outcomes)
    refused = {outcome for _, outcome in outcomes} - {"trained"}
    assert trained > len(outcomes) / 2, f"{trained} of {len(outcomes)} trained"
    # The only reasons there are: a box loss in a space that the coder lacks.
    assert all("works on" in sentence for sentence in refused), refused


SCENARIOS = [
    {"color": color, "size": size, "objects": objects}
    for color in ("grey", "rgb")
    for size in ((32, 32), (64, 32))
    for objects in (0, 1, 2, 300)
]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(KINDS, 2)))
def test_pairwise_cross(first: str, second: str) -> None:
    """Every pair of two kinds' parts, with scenarios dealt out over them; the full cross is the long test."""
    pairs = list(itertools.product(names(first), names(second)))
    assert len(pairs) >= 9
    # Each pair of kinds begins with another scenario, so that short lists do not always get the same ones.
    start = KINDS.index(first) * len(KINDS) + KINDS.index(second)
    for number, pair in enumerate(pairs, start):
        scenario = SCENARIOS[number % len(SCENARIOS)]
        width, height = scenario["size"]
        recipe = recipe_of(color=scenario["color"], size=scenario["size"], **dict(zip((first, second), pair)))
        channels = 1 if scenario["color"] == "grey" else 3
        step(recipe, example_batch(channels, scenario["objects"], (height, width)))


@pytest.mark.parametrize("neck", ["fpn", "identity", "pan", "ssd_extras"])
@pytest.mark.parametrize("backbone", names("backbone"))
def test_backbone_by_neck(backbone: str, neck: str) -> None:
    """Each backbone under each neck, at a size that suits it."""
    if backbone == "timm":
        pytest.importorskip("timm", reason="timm is an extra: pip install 'densedet[timm]'")
    recipe = recipe_of(size=(128, 64), backbone=backbone, neck=neck, head="ssd")
    assert step(recipe, example_batch(size=(64, 128))) == "trained"


def test_every_neck_is_in_the_cross() -> None:
    assert names("neck") == ["fpn", "identity", "pan", "ssd_extras"]
    assert names("head") == ["fcos", "retinanet", "ssd", "ssdlite"]


def test_refusals_name_the_part_and_the_way_out() -> None:
    """A box loss in a space that the coder lacks; a shared head on unequal anchors."""
    with pytest.raises(
        RecipeError,
        match=r"model\.box_loss: DistributionFocalLoss works on bins.*choose a box loss on deltas or boxes",
    ):
        assembly.build_detector(recipe_of(box_loss="dfl"), 3)
    values = recipe_of(anchors="default_boxes").values
    values["model"]["anchors"] |= {"ratios": [[2.0], [2.0, 3.0]]}
    with pytest.raises(RecipeError, match=r"model\.head.*shared"):
        assembly.build_detector(recipe_from_dict(values), 3)


def test_too_small_an_image_is_refused_while_loading() -> None:
    """Valid padding on a map that has no room: the sentence names part and size."""
    values = recipe_of(neck="ssd_extras", head="ssd").values
    values["model"]["neck"]["stages"] = [{"out_channels": 16, "padding": 0}] * 6
    with pytest.raises(RecipeError, match=r"model\.neck.*32x32"):
        assembly.build_detector(recipe_from_dict(values), 3)
