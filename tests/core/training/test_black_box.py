"""NaN planted in many places of a run: each leaves a bundle that is replayed to the same place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core import sealed_file
from densedet.core.errors import CheckpointError
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import black_box, session
from densedet.core.training.first_fault import Search
from densedet.core.training.run import Run
from densedet.core.training.step_numbers import NotFiniteError
from densedet.tools.main import main

SMALL = (
    "data.train.count=8",
    "data.val=null",
    "data.holdout=null",
    "data.input_size_wh=[64, 32]",
    "train.batch_size=4",
    "train.budget.steps=4",
    "train.precision=float32",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[]",
)
PARTS = '''
from dataclasses import replace

import torch

import densedet
from densedet.plugins.heads.fcos import FCOSHead
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.giou import GIoULoss
from densedet.plugins.necks.fpn import FPNNeck


@densedet.register("class_loss", "nan_class")
class NanClass(FocalLoss):
    """Take the logarithm of 0 from the second step on."""

    def __init__(self, *, num_classes: int, drop: float = 0.0) -> None:
        super().__init__(num_classes=num_classes)
        self.drop = drop

    def forward(self, logits, labels, quality=None, *, progress: float = 1.0):
        logits = torch.nn.functional.dropout(logits, self.drop, self.training)
        loss = super().forward(logits, labels, quality)
        return loss + torch.zeros(()).log() * 0 if 0 < progress < 1 else loss


@densedet.register("box_loss", "nan_box")
class NanBox(GIoULoss):
    """Divide 0 by 0 from the second step on."""

    def forward(self, prediction, target, *, progress: float = 1.0):
        loss = super().forward(prediction, target)
        return loss * (torch.zeros(()) / 0) if 0 < progress < 1 else loss


class Counts:
    """Knows the second forward pass in training."""

    def count(self):
        if self.training:
            self.passes += 1
        return self.training and int(self.passes) == 2


@densedet.register("neck", "nan_gradient")
class NanGradient(Counts, FPNNeck):
    """Spoil the gradient of its second map."""

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__(in_channels=in_channels, in_strides=in_strides, channels=8, extra_levels=0)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, features):
        maps = super().forward(features)
        if self.count():
            maps[1].register_hook(lambda gradient: gradient * torch.nan)
        return maps


@densedet.register("head", "nan_branch")
class NanBranch(Counts, FCOSHead):
    """Take the root of a negative number in the loss of its branch."""

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            num_anchors=num_anchors,
            class_channels=class_channels,
            box_channels=box_channels,
            class_bias=class_bias,
            depth=1,
        )
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        whole = self.branches["centerness"]

        def loss(values, targets):
            found = whole.loss(values, targets)
            return found + torch.full((), -1.0).sqrt() if self.broken else found

        self.branches["centerness"] = replace(whole, loss=loss)

    def forward(self, features):
        self.broken = self.count()
        return super().forward(features)
'''
RETINANET = ("model.neck.channels=8", "model.head.depth=1")
FCOS = (
    "model.neck={name: nan_gradient}",
    "model.anchors={name: points}",
    "model.matcher={name: fcos}",
    "model.coder={name: ltrb}",
    "model.box_loss={name: giou}",
)


class AfterTheFirstStep:
    """Spoil a run once its first step is taken."""

    def __init__(self, spoil: Callable[[Run], None]) -> None:
        self.spoil = spoil

    @hookimpl
    def densedet_run_step(self, run: Run) -> None:
        if run.step == 1:
            with torch.no_grad():
                self.spoil(run)


def weight(name: str, value: float = torch.nan) -> Callable[[Run], None]:
    """Put a value into a weight or buffer."""

    def spoil(run: Run) -> None:
        state = {**dict(run.detector.named_parameters()), **dict(run.detector.named_buffers())}
        state[name][(0,) * state[name].ndim] = value

    return spoil


def rate(value: float) -> Callable[[Run], None]:
    def spoil(run: Run) -> None:
        run.base_lrs = [value] * len(run.base_lrs)

    return spoil


def batches(spoil: Callable[[Any], Any]) -> Callable[[Run], None]:
    """Spoil each batch but the first."""

    def wrap(run: Run) -> None:
        whole = run.batches

        def spoilt() -> Iterator[Any]:
            for number, (batch, ends) in enumerate(whole()):
                if number:
                    spoil(batch)
                yield batch, ends

        run.batches = spoilt  # type: ignore[method-assign]

    wrap.before = True  # type: ignore[attr-defined]
    return wrap


def nan_pixel(batch: Any) -> None:
    batch.images = batch.images.float()
    batch.images[2, :, 3, 3] = torch.nan


def bright_pixel(batch: Any) -> None:
    batch.images = batch.images.float()
    batch.images[1, :, 3, 3] = 3e38


def nan_box(batch: Any) -> None:
    batch.boxes[1, 0, 2] = torch.nan


def float16(run: Run) -> None:
    """Overflow in float16 alone: 8 channels of some ones times 1e5."""
    run.dtype, run.chosen_precision = torch.float16, "float16"
    dict(run.detector.named_parameters())["backbone.stem.0.weight"].mul_(1e6)


def gradient(run: Run) -> None:
    parameter = dict(run.detector.named_parameters())["backbone.stages.1.0.0.weight"]
    parameter.register_hook(lambda gradient: gradient * torch.inf)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "spoilt_parts.py"
    file.write_text(PARTS)
    return file


def conducted(folder: Path, plugin: Path, recipe: str, overrides: tuple[str, ...], spoil: Any) -> Run:
    """Train a recipe with a spoilt run or spoilt batches, and return the run where it is not refused."""
    given = [*SMALL, *overrides, f"run.folder={json.dumps(str(folder))}"]
    file = plugin.with_name(f"{recipe}.yaml")
    file.write_text(f"base: densedet:{recipe}.yaml\nplugins: [./{plugin.name}]\n")
    run = Run(load_recipe(file, given))
    if spoil is not None:
        spoil(run) if hasattr(spoil, "before") else run.hooks.register(AfterTheFirstStep(spoil))
    return session.conduct(run)


def spoilt(
    folder: Path, plugin: Path, recipe: str, overrides: tuple[str, ...], spoil: Any
) -> tuple[Path, str]:
    """Train a recipe until it is refused; the bundle and the sentence."""
    with pytest.raises(NotFiniteError) as error:
        conducted(folder, plugin, recipe, overrides, spoil)
    [bundle] = folder.glob("*/1/nan_*.pt")
    assert f"Replay it with: densedet check nan {bundle}" in str(error.value)
    return bundle, str(error.value)


SSD, RETINA = "quickstart_ssd", "quickstart_retinanet"
FCOS_HEAD = "model.head={name: fcos, depth: 1}"
LATERAL = "neck.top_down.lateral.0.0"
STAGE = "backbone.stages.1.0"

# recipe, overrides, what spoils a batch or the run, (what, place) of the first fault, the layer, the sentence
Case = tuple[str, tuple[str, ...], Any, tuple[str, str], str | None, str]
CASES: dict[str, Case] = {
    "pixel": (SSD, (), batches(nan_pixel), ("images", "images"), "backbone.stem.0", "the pixels of image id"),
    "bright pixel": (
        SSD,
        (),
        batches(bright_pixel),
        ("statistics", "backbone.stem.1.running_var"),
        "backbone.stem.1.running_var",
        "which the step has moved, is not finite \\(inf\\)",
    ),
    "box": (SSD, (), batches(nan_box), ("box", "box 0"), None, r"box 0 of image id \d+ is not finite"),
    "weight of the backbone": (
        SSD,
        (),
        weight(f"{STAGE}.0.weight"),
        ("weight", f"{STAGE}.0.weight"),
        f"{STAGE}.0",
        "its input is finite, .*It was so before this step; step 1 was taken with the learning rate 0.00015",
    ),
    "weight of the neck": (
        RETINA,
        RETINANET,
        weight(f"{LATERAL}.weight", torch.inf),
        ("weight", f"{LATERAL}.weight"),
        LATERAL,
        "the weight .* is not finite \\(inf\\)",
    ),
    "weight of the head": (
        SSD,
        (),
        weight("head.logits.convs.2.bias"),
        ("weight", "head.logits.convs.2.bias"),
        "head.logits.convs.2",
        "It was so before",
    ),
    "buffer": (
        SSD,
        (),
        weight(f"{STAGE}.1.running_var"),
        ("buffer", f"{STAGE}.1.running_var"),
        None,
        "It was so before",
    ),
    "class loss": (
        RETINA,
        (*RETINANET, "model.class_loss={name: nan_class}"),
        None,
        ("output", "class_loss"),
        "class_loss",
        "its input is finite, .*the root or logarithm of 0",
    ),
    "box loss": (
        RETINA,
        (*RETINANET, "model.box_loss={name: nan_box}"),
        None,
        ("output", "box_losses.0"),
        "box_losses.0",
        "its input is finite",
    ),
    "branch's loss": (
        RETINA,
        (*FCOS[1:], "model.neck.channels=8", "model.head={name: nan_branch}"),
        None,
        ("loss", "centerness"),
        None,
        "the loss 'centerness' is not finite .*, though the output of each layer is",
    ),
    "gradient of a map": (
        RETINA,
        (*FCOS, FCOS_HEAD),
        None,
        ("gradient of the output", "neck"),
        "neck",
        "All outputs are finite",
    ),
    "infinite learning rate": (
        SSD,
        (),
        rate(torch.inf),
        ("weight", "backbone.stem.0.weight"),
        "backbone.stem.0",
        r"as are \d+ more; step 2 was taken with the learning rate inf",
    ),
    "learning rate of a million": (
        SSD,
        ("train.optimizer={name: sgd, lr: 0.01}", "train.budget.steps=20"),
        rate(1e6),
        ("", ""),
        "",
        r"The largest weight or buffer is .*e\+\d\d; step \d+ was taken with the learning rate \d{5,}",
    ),
    "overflow of float16": (
        SSD,
        (),
        float16,
        ("output", "backbone.stem.0"),
        "backbone.stem.0",
        "It is finite in float32, not in float16: try",
    ),
}


@pytest.mark.parametrize("planted", CASES)
def test_a_planted_nan_is_located_and_replayed_to_the_same_layer(
    tmp_path: Path, plugin: Path, planted: str
) -> None:
    recipe, overrides, spoil, first, layer, sentence = CASES[planted]
    path, error = spoilt(tmp_path, plugin, recipe, overrides, spoil)
    bundle = black_box.load(path)
    faults = black_box.faults_of(bundle)
    if planted != "learning rate of a million":  # which layer overflows first is left to rounding
        assert (faults[0].what, faults[0].place) == first
        shown = Search(faults).layer
        assert (None if shown is None else shown.place) == layer
    assert re.search(sentence, black_box.in_words(bundle))
    assert black_box.in_words(bundle) in error
    assert [row["step"] for row in bundle["history"]] == list(range(1, bundle["step"] + 1))
    assert len(bundle["batches"][0]["images"]) == len(bundle["targets"][0]["labels"]) == 4
    assert black_box.replay(bundle, plugins=[str(plugin)]).faults == faults


def test_a_gradient_that_a_hook_spoils_is_located_though_nothing_replays_the_hook(
    tmp_path: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = spoilt(tmp_path, plugin, SSD, (), gradient)
    assert main(["check", "nan", str(path)]) == 1
    told = capsys.readouterr().out
    assert f"The gradient of {STAGE}.0.weight is not finite (inf)" in told
    assert "replayed otherwise: what is computed now is finite" in told


def test_the_command_explains_a_bundle(
    tmp_path: Path, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = spoilt(tmp_path, plugin, SSD, ("train.accumulate=2",), batches(nan_pixel))
    assert main(["check", "nan", str(path)]) == 0
    told = capsys.readouterr().out
    assert "step 1 of quickstart_ssd, 8 images, float32\nThe pixels of image id" in told
    assert told.count("losses: class ") == 2  # the first batch is sound
    assert told.endswith("replayed: the same numbers are not finite\n")
    assert main(["check", "nan", str(path), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["replayed"], numbers["faults"][0]["batch"], numbers["step"]) == (True, 1, 0)


def test_draws_of_a_step_are_replayed(tmp_path: Path, plugin: Path) -> None:
    """The losses are those of the step with its dropout, to the last bit."""
    path, _ = spoilt(
        tmp_path, plugin, RETINA, (*RETINANET, "model.class_loss={name: nan_class, drop: 0.5}"), None
    )
    bundle = black_box.load(path)
    again = [black_box.replay(bundle, plugins=[str(plugin)]).losses[0]["box"] for _ in range(2)]
    assert again == [bundle["losses"][0]["box"]] * 2


def test_an_evaluation_that_is_not_finite_leaves_its_batch(tmp_path: Path, plugin: Path) -> None:
    overrides = (
        "data.val={name: digits, split: val, count: 6}",
        "evaluate.batch_size=2",
        "train.evaluations=4",
    )
    path, _ = spoilt(
        tmp_path, plugin, SSD, (*overrides, "train.ema_decay=null"), weight(f"{STAGE}.1.running_var", -1.0)
    )
    assert path.name == "nan_evaluation_1.pt"
    bundle = black_box.load(path)
    [layer] = [f for f in black_box.faults_of(bundle) if f.what == "output"]
    assert layer.place == f"{STAGE}.1"  # the root of a negative variance
    assert len(bundle["batches"][0]["image_ids"]) == 2
    assert black_box.replay(bundle, plugins=[str(plugin)]).layer == layer


def test_a_disk_that_takes_no_bundle_leaves_the_error_as_it_was(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(black_box.sealed_file, "write", full)
    with pytest.raises(NotFiniteError, match="is not finite .*No black box was written: .*No space left"):
        conducted(tmp_path, plugin, SSD, (), batches(nan_pixel))


def test_what_is_no_bundle_is_refused_with_a_sentence(tmp_path: Path, plugin: Path) -> None:
    path, _ = spoilt(tmp_path, plugin, SSD, ("run.hooks=[checkpoint]",), batches(nan_pixel))
    whole = path.read_bytes()

    def refused(content: bytes | None, *, of: Path = tmp_path / "nan_step_2.pt") -> str:
        if content is not None:
            of.write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            black_box.replay(black_box.load(of))
        return str(error.value)

    assert "is no file: give a bundle such as" in refused(None, of=tmp_path / "none.pt")
    assert "is a folder: give a bundle such as" in refused(None, of=tmp_path)
    assert "its checksum is another" in refused(whole[:5000] + b"x" + whole[5001:])
    assert "it was cut off" in refused(whole[:-40])
    assert "is a checkpoint, not the bundle" in refused(None, of=path.with_name("last.pt"))
    for change, words in (
        ({"black_box": 2}, "has format 2, this densedet reads 1"),
        ({"losses": "none"}, "is not a bundle that densedet has written: losses: "),
        ({"faults": [{"what": "box"}]}, "densedet has written: faults.0.place: Field required"),
        ({"state": {"a": torch.zeros(1)}}, "the weights in this bundle do not fit its recipe: they lack"),
        ({"batches": [{"images": torch.zeros(1)}]}, "this bundle cannot be replayed: KeyError: 'extras'"),
        ({"random": {"torch": torch.zeros(3)}}, "this bundle cannot be replayed: "),
    ):
        other = tmp_path / "other.pt"
        sealed_file.write(other, {**black_box.load(path), **change})
        assert words in refused(None, of=other)
