"""A recipe's model.weights: what is loaded, what is left out, what is refused."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from densedet.core import assembly, sealed_file
from densedet.core.errors import PartError
from densedet.core.recipe.loading import Recipe, RecipeError, load_recipe
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.weights import name_maps, pretrained

LAYERS = [f"head.logits.convs.{level}.{kind}" for level in range(4) for kind in ("weight", "bias")]


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart_ssd", overrides)


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return assembly.build_detector(recipe(), 10).state_dict()


def saved(state: Any, folder: Path) -> str:
    torch.save(state, folder / "w.pth")
    return f"model.weights={folder / 'w.pth'}"


@pytest.mark.parametrize("wrapped", ["plain", "ordered", "model", "checkpoint", "averaged"])
def test_our_own_weights(wrapped: str, trained: dict[str, Tensor], tmp_path: Path) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in trained.items()}
    state = {
        "plain": trained,
        "ordered": OrderedDict(trained),
        "model": {"model": trained, "epoch": 3},
        "checkpoint": {"format": 1, "detector": trained, "ema": None},
        "averaged": {"format": 1, "detector": zeros, "ema": trained},
    }[wrapped]
    given = saved(state, tmp_path)
    if "format" in state:
        sealed_file.write(tmp_path / "w.pth", state)
    detector, loaded = assembly.build_with_weights(recipe(given), 10)
    assert loaded is not None
    assert (loaded.entries, loaded.left_out, loaded.weight_map) == (len(trained), (), None)
    assert all(torch.equal(value, trained[name]) for name, value in detector.state_dict().items())


def test_another_number_of_classes_loads_all_but_the_class_layers(
    trained: dict[str, Tensor], tmp_path: Path
) -> None:
    detector, loaded = assembly.build_with_weights(recipe(saved(trained, tmp_path)), 3)
    assert loaded is not None
    assert sorted(loaded.left_out) == sorted(LAYERS)
    assert f"{len(trained) - 8} entries" in str(loaded)
    assert all(layer in str(loaded) for layer in LAYERS)
    equal = {
        name
        for name, value in detector.state_dict().items()
        if value.shape == trained[name].shape and torch.equal(value, trained[name])
    }
    assert equal == set(trained) - set(LAYERS)


def test_grey_images_get_the_colours_summed(trained: dict[str, Tensor], tmp_path: Path) -> None:
    coloured = assembly.build_detector(recipe("data.color=rgb"), 10).state_dict()
    detector, _ = assembly.build_with_weights(recipe(saved(coloured, tmp_path)), 10)
    assert torch.equal(
        detector.backbone.stem[0].weight, coloured["backbone.stem.0.weight"].sum(1, keepdim=True)
    )


def test_nothing_is_read_where_a_checkpoint_follows() -> None:
    """A run folder must open where the file that it started from is gone, the backbone's too."""
    gone = load_recipe(
        "torchvision/ssd300_vgg16",
        ["model.weights=gone.pth", "model.backbone.weights=gone_too.pth", "model.backbone.width=0.0625"],
    )
    detector, loaded = assembly.build_with_weights(gone, 90, wanted=False)
    assert loaded is None
    assert len(detector.state_dict()) == 71


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: {k: v for k, v in s.items() if k != "backbone.stem.0.weight"},
            r"they lack backbone\.stem\.0\.weight;",
        ),
        (
            lambda s: {**s, "neck.more": torch.ones(1), "neck.most": torch.ones(1)},
            r"have entries unknown to this detector: neck\.more and 1 more;",
        ),
        (
            lambda s: {**s, "backbone.stem.0.weight": torch.ones(16, 1, 5, 5)},
            r"differ in shape at backbone\.stem\.0\.weight \(\(16, 1, 5, 5\) there",
        ),
        (
            lambda s: {f"module.{k}": v for k, v in s.items()},
            r"neither this detector nor any weight map knows .*the first of them module\.backbone",
        ),
        (lambda s: {}, r"holds nothing, not a state dict"),
        (lambda s: [1, 2], r"holds a list, not a state dict"),
        (lambda s: {"backbone.stem.0.weight": 3}, r"holds a dict, not a state dict"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    change: Any, said: str, trained: dict[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=rf"command line:1:15: model\.weights: the weights .*{said}"):
        assembly.build_with_weights(recipe(saved(change(trained), tmp_path)), 10)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "sprung").touch, ())

    with pytest.raises(RecipeError, match=r"cannot be read as a state dict"):
        assembly.build_with_weights(recipe(saved({"a": Trap()}, tmp_path)), 10)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("nowhere.pth", r"'nowhere\.pth' are neither a file \(relative paths .*nor published ones"),
        (
            "SSD300_VGG_Weights.COCO_V1",
            r"no detection weights 'SSD300_VGG_Weights'\. Did you mean 'SSD300_VGG16_Weights'",
        ),
        ("SSD300_VGG16_Weights.COCO_V2", r"has no 'COCO_V2'\. Did you mean 'COCO_V1'"),
        ("SSD300_VGG16_Weights.COCO_V1", r"could not be downloaded from https://.*model\.weights=PATH"),
    ],
)
def test_weights_that_cannot_be_had(
    weights: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(RecipeError, match=said):
        assembly.build_with_weights(recipe(f"model.weights={weights}"), 10)


def test_published_weights_come_from_the_hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        torchvision.models.detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.value,
        "url",
        "https://x.invalid/w.pth",
    )
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    torch.save(theirs.state_dict(), tmp_path / "hub" / "checkpoints" / "w.pth")
    chosen = load_recipe(
        "torchvision/ssdlite320_mobilenet_v3_large",
        ["model.weights=SSDLite320_MobileNet_V3_Large_Weights.COCO_V1"],
    )
    _, loaded = assembly.build_with_weights(chosen, 90)
    assert loaded is not None
    assert (loaded.weight_map, loaded.entries, loaded.left_out) == ("torchvision_ssdlite", 476, ())


def test_converted_there_and_back_is_the_same(tmp_path: Path) -> None:
    import torchvision

    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None
    ).state_dict()
    components = load_plugins().components
    torch.save(theirs, tmp_path / "theirs.pth")
    assert pretrained.convert(str(tmp_path / "theirs.pth"), tmp_path / "ours.pth", components) == (
        "torchvision_ssdlite",
        "densedet",
        476,
    )
    assert (
        pretrained.convert(str(tmp_path / "ours.pth"), tmp_path / "again.pth", components)[1]
        == "torchvision_ssdlite"
    )
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert set(again) == set(theirs)
    assert all(torch.equal(again[name], value) for name, value in theirs.items())


def test_names_that_several_maps_know_need_a_choice(tmp_path: Path) -> None:
    ours = {"backbone.conv1.weight": torch.ones(1), "head.box.convs.0.bias": torch.ones(4)}
    components = load_plugins().components
    with pytest.raises(PartError, match=r"fit torchvision_fcos and torchvision_retinanet: say --to"):
        name_maps.in_their_names(ours, components, None)
    named, used = name_maps.in_their_names(ours, components, "torchvision_fcos")
    assert used == "torchvision_fcos"
    assert set(named) == {"backbone.body.conv1.weight", "head.regression_head.bbox_reg.bias"}
    with pytest.raises(PartError, match=r"no counterpart in .*the first backbone\.stem"):
        name_maps.in_their_names({"backbone.stem.0.weight": torch.ones(1)}, components, "torchvision_ssd")
