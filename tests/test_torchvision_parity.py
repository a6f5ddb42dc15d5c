"""The five detectors of torchvision, from our parts: the same detections, losses and gradients with the same
weights.

Weights are torchvision's constructors' (nothing is downloaded), with class layers, box layers and batch norm
drawn so that every image gives at least `FEWEST` detections; plain random weights would give none, and the
comparison would be empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from densedet.core import assembly
from densedet.core.data.dataset import sample_of
from densedet.core.data.decoding import Decoding
from densedet.core.data.loader import collate
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.prediction import Predictor
from densedet.core.types import Annotation, Batch
from densedet.core.weights import name_maps

NAMES = (
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
SEEDS = (0, 1)
FEWEST = 50
DRAWS = 20
NUDGES = 16
NUDGE = 5e-7
"""Of pixels in 0..1: moves scores several times as much as another order of summation does."""
SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "coco2017_mini" / "images"

CLASS_LAYER, BOX_LAYER = ("head.logits.", "head.box.")
SPREAD = {"retinanet": (-3.0, 0.6), "fcos": (-2.5, 1.2), "ssd": (0.0, 1.0)}
"""family -> mean and deviation that the class logits of the finest level are drawn to have."""

BOXES = {"retinanet": (0.0, 0.0015), "fcos": (1.0, 0.015), "ssd": (0.0, 0.04)}
"""The same for the box outputs. Small, since a side of 800 pixels times what two orders of summation differ
by must stay below 1e-4."""


class Pair(NamedTuple):
    """theirs: torchvision's model. ours: our predictor with the same weights. name: torchvision's."""

    theirs: nn.Module
    ours: Predictor
    name: str

    @property
    def background(self) -> int:
        """torchvision's label of our label 0."""
        return 1 if "ssd" in self.name else 0


def family(name: str) -> str:
    return next(key for key in ("retinanet", "fcos", "ssd") if name.startswith(key))


def pictures() -> list[np.ndarray]:
    """Photographs (drawn clouds where there are none): large, high, tiny, and grey."""
    files = sorted(SHARED.glob("*.jpg"))[:4] if SHARED.is_dir() else []
    found = [np.asarray(Image.open(file).convert("RGB")) for file in files] or [
        clouds(seed) for seed in range(4)
    ]
    return [
        found[0],
        found[1][20:320, 200:380],
        found[2][200:248, 300:364],
        found[3][100:300, 150:430].mean(2).astype(np.uint8),
    ]


def clouds(seed: int) -> np.ndarray:
    """uint8 (480,640,3): noise whose strength falls with its frequency, as a photograph's."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(3, 480, 640)
    for octave in range(7):
        coarse = torch.randn(1, 3, 4 << octave, 5 << octave, generator=generator)
        image += nn.functional.interpolate(coarse, (480, 640), mode="bicubic")[0] / 2**octave
    return (image * 50 + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()


def tensors(images: list[np.ndarray]) -> list[Tensor]:
    """What torchvision takes: float (3,H,W) in 0..1."""
    rgb = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    return [torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in rgb]


def pair(
    name: str,
    seed: int,
    tmp_path: Path,
    images: list[np.ndarray],
    *,
    short: int | None = 160,
    frozen: bool = False,
    overrides: tuple[str, ...] = (),
) -> Pair:
    """images: that weights are drawn on. short: of the images' sides, where the recipe does not fix them;
    None: the recipe's own. frozen: with the norm that published weights have."""
    torch.manual_seed(seed)
    theirs = reference(name, short, frozen)
    draw_weights(theirs, name, images)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    changes = [f"model.weights={tmp_path / 'theirs.pth'}", *overrides]
    if "resnet50" in name:
        changes += ["model.backbone.frozen_stages=0"]
        changes += (
            [] if short is None else [f"data.resize.short={short}", f"data.resize.max={short * 5 // 3}"]
        )
        if not frozen:
            changes += ["model.backbone.norm=batch", "model.backbone.eps=1e-5"]
    recipe = load_recipe(f"torchvision/{name}", changes)
    classes = [str(slot) for slot in range(90 if "ssd" in name else 91)]
    detector, loaded = assembly.build_with_weights(recipe, len(classes))
    assert loaded is not None
    assert not loaded.left_out
    assert loaded.entries == len(theirs.state_dict())  # no key missing, none left
    return Pair(theirs, Predictor(recipe, detector, classes, range(len(classes)), torch.device("cpu")), name)


def reference(name: str, short: int | None, frozen: bool) -> nn.Module:
    """torchvision's model without weights. frozen: with the norm that it has only when it downloads some."""
    size = {} if short is None or "resnet50" not in name else {"min_size": short, "max_size": short * 5 // 3}
    model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, **size)
    if frozen:
        body = torchvision.models.resnet50(norm_layer=torchvision.ops.FrozenBatchNorm2d)
        layers = {key: dict(body.named_children())[key] for key in model.backbone.body}
        for key, layer in layers.items():
            model.backbone.body[key] = layer
        if name == "retinanet_resnet50_fpn":
            torchvision.models.detection._utils.overwrite_eps(model, 0.0)
    return model


@torch.no_grad()
def draw_weights(model: nn.Module, name: str, images: list[np.ndarray]) -> None:
    """Batch norm's numbers and the last layers, see the module's docstring."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, torchvision.ops.FrozenBatchNorm2d))]
    for norm in norms:
        norm.weight.copy_(torch.rand_like(norm.weight) * 0.6 + 0.5)
        norm.bias.copy_(torch.randn_like(norm.bias) * 0.1)
    model.eval()
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    hooks += [
        m.register_forward_hook(Rescaled(1.0))
        for n, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.bias is not None and ".fc" not in n
    ]
    features = [*model.backbone(model.transform(tensors(images))[0].tensors).values()]
    for part, (mean, spread) in (
        (model.head.classification_head, SPREAD[family(name)]),
        (model.head.regression_head, BOXES[family(name)]),
    ):
        hooks += [layer.register_forward_hook(Rescaled(spread, mean)) for layer in last_layers(part)]
    model.head(features)
    for hook in hooks:
        hook.remove()


def last_layers(part: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that say classes or boxes."""
    if hasattr(part, "module_list"):
        return [level if isinstance(level, nn.Conv2d) else level[1] for level in part.module_list]
    return [part.cls_logits if hasattr(part, "cls_logits") else part.bbox_reg]


def settle(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
    """The statistics of what a norm is given, off by a little, before it uses them."""
    norm.running_mean.copy_(given[0].mean((0, 2, 3)))
    spread = given[0].var((0, 2, 3), correction=0)
    # A channel that hardly varies would blow the noise of the arithmetic up, layer after layer.
    norm.running_var.copy_(spread * (torch.rand(spread.shape) * 0.4 + 0.8) + 0.3 * spread.mean())


class Rescaled:
    """Scales a convolution's weights so that its first output (the finest level's) has this deviation; with a
    mean it gets new weights with which each channel has this deviation and about this mean. That output is
    then what the network goes on with."""

    def __init__(self, spread: float, mean: float | None = None) -> None:
        self.spread, self.mean, self.done = spread, mean, False

    def __call__(self, layer: nn.Conv2d, given: tuple[Tensor, ...], _: Tensor) -> Tensor | None:
        if self.done:
            return None
        self.done = True
        if self.mean is None:
            layer.weight.mul_(self.spread / float(self.again(layer, given[0]).std()))
            return self.again(layer, given[0])
        layer.weight.normal_()
        layer.bias.zero_()
        said = self.again(layer, given[0])
        layer.weight.mul_((self.spread / said.std((0, 2, 3), correction=0)).view(-1, 1, 1, 1))
        layer.bias.copy_(
            self.mean
            - self.again(layer, given[0]).mean((0, 2, 3))
            + 0.2 * self.spread * torch.randn_like(layer.bias)
        )
        return self.again(layer, given[0])

    @staticmethod
    def again(layer: nn.Conv2d, maps: Tensor) -> Tensor:
        return nn.functional.conv2d(
            maps, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
        )


Found = list[dict[str, Tensor]]
"""Per image "scores", "labels", "boxes", as torchvision gives them."""


def detections(model: nn.Module, images: list[Tensor]) -> Found:
    with torch.no_grad():
        return model.eval()(images)  # type: ignore[no-any-return]


def assert_agree(expected: Found, found: Found, limit: int, tolerance: float = 1e-4) -> None:
    """Detections whose scores are closer than the arithmetic's noise may stand in another order. limit: of
    detections an image."""
    for theirs, ours in zip(expected, found, strict=True):
        scores = theirs["scores"]
        assert len(ours["scores"]) == len(scores)
        torch.testing.assert_close(ours["scores"], scores, rtol=0, atol=tolerance)
        off = (ours["boxes"][:, None] - theirs["boxes"]).abs() / theirs["boxes"].abs().clamp(min=1)
        same = (
            (ours["labels"][:, None] == theirs["labels"])
            & ((ours["scores"][:, None] - scores).abs() <= tolerance)
            & (off.amax(-1) <= tolerance)
        )
        # Where the limit cuts between two scores that are equal but for noise, either may be the last.
        last = len(scores) if len(scores) < limit else int((scores > scores[-1] + tolerance).sum())
        assert last >= FEWEST
        assert same[:, :last].any(0).all()
        assert same[:last].any(1).all()


def same_detections(name: str, seed: int, tmp_path: Path, images: list[np.ndarray], **options: Any) -> None:
    """Count, labels, scores and boxes of every image, all in one batch. Where they differ, torchvision must
    be sure of its own: on a draw where it is not, another is made."""
    for draw in range(DRAWS):
        made = pair(name, seed + len(SEEDS) * draw, tmp_path, images, **options)
        expected = detections(made.theirs, tensors(images))
        for theirs in expected:
            assert len(theirs["scores"]) >= FEWEST
            assert len(theirs["labels"].unique()) >= 10
            assert len(theirs["scores"].unique()) > 0.9 * len(theirs["scores"])
        found = made.ours.predict(images, batch_size=len(images))
        ours = [
            {"scores": one.scores, "labels": one.labels + made.background, "boxes": one.boxes}
            for one in found
        ]
        try:
            assert_agree(expected, ours, made.theirs.detections_per_img)
        except AssertionError:
            if steady(made.theirs, images, expected):
                raise
        else:
            return
    raise AssertionError(
        f"torchvision's {name} agreed with itself in none of {DRAWS} draws: they are too noisy"
    )


def steady(model: nn.Module, images: list[np.ndarray], expected: Found) -> bool:
    """Whether torchvision finds the same in pixels that are off by `NUDGE`. Among thousands of overlapping
    boxes some draws have two whose IoU is NMS's threshold, or whose scores are equal, but for the last digit:
    which one stays is then the machine's choice."""
    given, generator = tensors(images), torch.Generator().manual_seed(0)
    for _ in range(NUDGES):
        nudged = [image + NUDGE * torch.randn(image.shape, generator=generator) for image in given]
        try:
            # a nudge moves all numbers by more than our arithmetic does; what it must not do is bring other
            # boxes in
            assert_agree(expected, detections(model, nudged), model.detections_per_img, tolerance=1e-3)
        except AssertionError:
            return False
    return True


def images_for(name: str, seed: int) -> list[np.ndarray]:
    """All four kinds for the first seed, a high and a tiny one for the others; SSD300, which enlarges all,
    gets fewer."""
    chosen = pictures() if seed == 0 else pictures()[1:3]
    return chosen[::2] if name == "ssd300_vgg16" else chosen


SLOW_LAST = [pytest.param(n, marks=pytest.mark.long) if n == "ssd300_vgg16" else n for n in NAMES]
"""SSD300 takes as long as all others together; SSDlite compares the same parts with torchvision's SSD."""
QUICK = ("fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large")
LATER = [pytest.param(seed, marks=pytest.mark.long) for seed in SEEDS[1:]]


@pytest.mark.parametrize("seed", [SEEDS[0], *LATER])
@pytest.mark.parametrize("name", SLOW_LAST)
def test_detections(name: str, seed: int, tmp_path: Path) -> None:
    images = images_for(name, seed)
    same_detections(name, seed, tmp_path, images)


@pytest.mark.parametrize(
    "name", ["retinanet_resnet50_fpn", pytest.param("fcos_resnet50_fpn", marks=pytest.mark.long)]
)
def test_detections_with_the_norm_of_published_weights(name: str, tmp_path: Path) -> None:
    """The recipe as it ships: frozen norm, for RetinaNet with eps 0."""
    images = images_for(name, 1)
    same_detections(name, 1, tmp_path, images, frozen=True)


@pytest.mark.long
def test_detections_at_full_size(tmp_path: Path) -> None:
    same_detections("retinanet_resnet50_fpn", 0, tmp_path, pictures()[:1], short=None)


# -- training --------------------

CONTIGUOUS = "train.channels_last=false"
"""As torchvision trains. In the other memory format torchvision's own gradients differ by 18 % of their norm
from these (batch norm on a few cells magnifies each rounding), and ours agree with those as closely as with
these."""


def truth_of(image: np.ndarray, kind: str, seed: int) -> Annotation:
    """Objects of an image: "none"; "few" of ordinary size; "crowd": 40, one of them a speck; "outside": one
    that touches no anchor."""
    height, width = image.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    count = {"none": 0, "few": 3, "crowd": 40, "outside": 2}[kind]
    sides = torch.tensor([width, height])
    shape = (0.08 + 0.3 * torch.rand(count, 2, generator=generator)) * sides
    corner = torch.rand(count, 2, generator=generator) * (sides - shape)
    boxes = torch.cat([corner, corner + shape], dim=1)
    if kind == "crowd":
        boxes[0] = torch.tensor([10.3, 10.1, 12.4, 12.7])
    if kind == "outside":
        boxes[0] = torch.tensor([90000.0, 90000.0, 90100.0, 90100.0])
    flags = torch.zeros(count, dtype=torch.bool)
    labels = torch.randint(0, 90, (count,), generator=generator)
    return Annotation(boxes, labels, flags, flags, torch.ones(count), 0, "", width, height)


class Step(NamedTuple):
    """A training step of torchvision's. losses: under our names. seen: what its compute_loss was called with,
    and "input", the batch that its network saw. batch: the same images and objects as our detector takes
    them."""

    losses: dict[str, Tensor]
    seen: dict[str, Any]
    batch: Batch


def train_step(pair: Pair, images: list[np.ndarray], truths: list[Annotation]) -> Step:
    recipe = pair.ours.recipe
    resize = pair.ours._resize
    batch = collate(
        [
            sample_of(i, decoding=Decoding("rgb"), resize=resize, index=n, truth=t)
            for n, (i, t) in enumerate(zip(images, truths))
        ],
        pad_to=recipe.data.pad_to,
    )
    seen: dict[str, Any] = {}
    owner = pair.theirs if "ssd" in pair.name else pair.theirs.head
    compute = owner.compute_loss

    def listening(targets: Any, outputs: Any, anchors: Any, matched: Any) -> Any:
        seen.update(targets=targets, anchors=torch.stack(list(anchors)), matched=torch.stack(list(matched)))
        return compute(targets, outputs, anchors, matched)

    owner.compute_loss = listening
    hook = pair.theirs.transform.register_forward_hook(lambda *event: seen.update(input=event[2][0].tensors))
    targets = [{"boxes": t.boxes.clone(), "labels": t.labels + pair.background} for t in truths]
    losses = pair.theirs.train()(tensors(images), targets)
    owner.compute_loss = compute
    hook.remove()
    names = {"classification": "class", "bbox_regression": "box", "bbox_ctrness": "centerness"}
    return Step({names[key]: value for key, value in losses.items()}, seen, batch)


def same_losses_and_gradients(pair: Pair, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of the whole way from pixels on; gradients on bit-equal input, since a ReLU near 0 or a maximum
    of equals that the last digit of a pixel decides moves a gradient by far more than it moves a loss."""
    detector = pair.ours.detector.train()
    torch.testing.assert_close(
        detector.normalise(step.batch.images, step.batch.valid_hw), step.seen["input"], rtol=1e-5, atol=2e-4
    )
    with torch.no_grad():
        ours = detector.losses(step.batch)
    assert set(step.losses) == set(ours)
    for name, value in step.losses.items():
        assert float(ours[name]) == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-6), name
    with monkeypatch.context() as patch:
        patch.setattr(detector, "normalise", lambda images, sizes: step.seen["input"])
        ours = detector.losses(step.batch)
    for losses in (step.losses, ours):
        torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in pair.theirs.named_parameters() if p.grad is not None}
    renamed, _ = name_maps.in_our_names(gradients, {}, pair.ours.recipe.plugins.components, "gradients")
    own = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    assert set(renamed) == set(own)
    for name, gradient in renamed.items():
        assert float((own[name] - gradient).norm()) <= 1e-3 * float(gradient.norm()) + 1e-7, name


def same_targets(pair: Pair, step: Step) -> None:
    """Anchors, matches and encoded targets, bit for bit."""
    detector, batch = pair.ours.detector, step.batch
    output = detector.run_network(batch)
    targets = detector.assign(output, batch)
    assert torch.equal(output.anchors, step.seen["anchors"][0])
    assert torch.equal(targets.matched_idxs, step.seen["matched"])
    coder = pair.theirs.box_coder
    for row, theirs in enumerate(step.seen["targets"]):
        positive = targets.positive[row]
        ours = detector.coder.encode(targets.boxes[row][positive], output.anchors[positive])
        matched = theirs["boxes"][step.seen["matched"][row][positive]]
        anchors = step.seen["anchors"][row][positive]
        expected = (
            coder.encode(anchors, matched) if "fcos" in pair.name else coder.encode_single(matched, anchors)
        )
        assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n not in QUICK else n for n in NAMES]
)
def test_losses_gradients_and_targets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image without objects, one with an ordinary few, one with a crowd and a speck smaller than any
    anchor."""
    images = pictures()[1:4]
    truths = [
        truth_of(image, kind, seed)
        for seed, (image, kind) in enumerate(zip(images, ("few", "none", "crowd")))
    ]
    both = pair(name, 0, tmp_path, images, overrides=(CONTIGUOUS,))
    step = train_step(both, images, truths)
    assert (step.seen["matched"][0] >= 0).any()
    assert not (step.seen["matched"][1] >= 0).any()
    same_losses_and_gradients(both, step, monkeypatch)
    same_targets(both, step)


def test_an_object_that_touches_no_anchor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision makes anchors positive that do not touch it: an argument reproduces that, our default does
    not."""
    name, images = "ssdlite320_mobilenet_v3_large", pictures()
    # With two images, batch norm on its 1x1 map would turn the last digits of two numbers into +1 and -1.
    truths = [truth_of(image, "outside", seed) for seed, image in enumerate(images)]
    no_limit = "model.matcher.low_quality_min_iou=null"
    as_theirs = pair(name, 0, tmp_path, images, overrides=(no_limit, CONTIGUOUS))
    step = train_step(as_theirs, images, truths)
    same_losses_and_gradients(as_theirs, step, monkeypatch)
    same_targets(as_theirs, step)
    shipped = pair(name, 0, tmp_path, images).ours.detector
    targets = shipped.assign(shipped.run_network(step.batch), step.batch)
    assert (step.seen["matched"] == 0).any(1).all()
    assert not (targets.matched_idxs == 0).any()
