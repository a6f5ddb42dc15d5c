"""The numbers of the page of `densedet show explain`, before a browser reads them."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.errors import UsageError
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.showing.explain import packing, page
from densedet.core.showing.explain.collecting import Cells, Walk, walk_through
from densedet.core.showing.subject import Subject, View, Wanted, subject_of, views_of
from densedet.core.training import session
from densedet.core.types import Fate, Level, Trace
from densedet.plugins.anchors.default_boxes import DefaultBoxAnchors
from densedet.tests.quick_run import QUICK

ROOT = Path(__file__).resolve().parents[3]
THIRD = Wanted(numbers=[3])
SMALL = ("data.train.count=4", "data.val.count=4", "model.backbone.widths=[8, 8, 8]")


def subject_and_view(what: str | Path, *changes: str, wanted: Wanted = THIRD) -> tuple[Subject, View]:
    subject = subject_of(what, changes)
    return subject, views_of(subject, wanted)[0]


@pytest.fixture(scope="module")
def ssd() -> tuple[Subject, View, Walk]:
    subject, view = subject_and_view("quickstart_ssd", *SMALL, "model.postprocess.score=0.12")
    return subject, view, walk_through(subject, view)


def unpacked(packed: dict[str, Any]) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, dtype=f"<{packed['type']}").reshape(packed["shape"])


def numbers(walks: list[Walk]) -> list[dict[str, Any]]:
    text = page.html_of(walks, "an image")
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return json.loads(found[1])["columns"]


def test_the_page_holds_the_detectors_numbers(ssd: tuple[Subject, View, Walk]) -> None:
    subject, view, walk = ssd
    detector: Any = subject.detector
    trace = Trace()
    found, inside = detector.predict(view.batch, trace)[0], detector.explain(view.batch)
    column = numbers([walk])[0]
    cells = column["cells"]
    assert cells["rows"] is None
    assert cells["from"] == 0
    assert np.array_equal(unpacked(cells["scores"]), trace["scores"][0].numpy())
    assert np.array_equal(unpacked(cells["boxes"]), trace["boxes"][0].numpy())
    assert np.array_equal(unpacked(cells["fate"]), trace["fate"][0].numpy())
    assert np.array_equal(unpacked(cells["matched"]), inside.targets.matched_idxs[0].numpy())
    assert (unpacked(cells["fate"]) == Fate.KEPT).sum() == len(found) == len(column["found"]["scores"]) > 3
    # The anchors of a level are those of its first cell, moved by strides.
    assert cells["anchors"] is None
    start = 0
    for level, of in zip(cells["levels"], inside.levels):
        assert (level["height"], level["width"], level["anchors"], level["stride"]) == tuple(of)
        y, x = of.height - 1, of.width // 2
        moved = np.array(level["base"]) + np.array([x, y, x, y]) * of.stride
        first = start + (y * of.width + x) * of.anchors
        assert moved == pytest.approx(inside.anchors[first : first + of.anchors].numpy(), abs=1e-3)
        start += of.count
    # One map of the best class, then one of each class.
    maps = unpacked(column["moments"][0]["maps"][1]) / 65535
    expected = inside.score_maps()[1][0]
    assert column["mapClasses"] == list(range(10))
    assert maps[0] == pytest.approx(expected.amax(dim=0).numpy(), abs=1e-4)
    assert maps[1:] == pytest.approx(expected.numpy(), abs=1e-4)
    assert [one["box"] for one in column["objects"]] == [
        pytest.approx(box, abs=1e-3) for box in view.boxes.tolist()
    ]


def test_a_page_that_would_be_too_large_keeps_what_matters_most(ssd: tuple[Subject, View, Walk]) -> None:
    _, _, walk = ssd
    assert walk.cells is not None
    assert walk.fate is not None
    column = packing.column(walk, 120_000)
    assert packing.size_of(column) + len(column["picture"]) <= 120_000
    rows = unpacked(column["cells"]["rows"])
    assert 50 < len(rows) < len(walk.cells.anchors)
    assert np.array_equal(unpacked(column["cells"]["scores"]), walk.cells.scores[rows])
    # Every candidate that top-k left, and every matched anchor, before any other.
    kept = set(rows.tolist())
    candidates = np.flatnonzero((walk.fate > Fate.CUT_BY_TOP_K).any(axis=1))
    assert kept >= set(candidates.tolist())
    assert kept >= set(np.flatnonzero(walk.cells.matched >= 0).tolist())
    # From this score on, nothing is missing but what top-k cut; at the recipe's own threshold it is complete.
    others = np.delete(walk.cells.scores, rows, axis=0)
    assert column["cells"]["from"] == pytest.approx(float(others.max()), abs=1e-6)
    # Fewer maps too: those of the objects' and the detections' classes.
    rows, classes = packing.packed_moments(walk, 9_000)
    assert packing.size_of(rows) <= 9_000
    assert len(classes) <= 5
    wanted = {one["label"] for one in walk.objects} | set(walk.found.labels.tolist())
    assert set(classes) <= wanted


def test_anchors_off_the_grid_are_held_one_by_one(ssd: tuple[Subject, View, Walk]) -> None:
    _, _, walk = ssd
    assert walk.cells is not None
    anchors = walk.cells.anchors.copy()
    anchors[5, 2] += 0.5  # as anchors that are cut at the image's border
    column = packing.column(replace(walk, cells=replace(walk.cells, anchors=anchors)), 5_000_000)
    assert column["cells"]["levels"][0]["base"] is None
    assert np.array_equal(unpacked(column["cells"]["anchors"]), anchors)


def test_cells_are_where_their_anchors_are(ssd: tuple[Subject, View, Walk]) -> None:
    """SSD300's last maps have 3 x 3 and 1 x 1 cells of 100 and 300 pixels (Liu et al. 2016), whatever their
    strides are; its anchors are cut at the border."""
    spec = dict(load_recipe("ssd300_vgg16").values["model"]["anchors"])
    strides, sides = (8, 16, 32, 64, 128, 256), (38, 19, 10, 5, 3, 1)
    assert spec.pop("name") == "default_boxes"
    anchors = DefaultBoxAnchors(strides=strides, **spec)
    levels = tuple(Level(n, n, a, s) for n, a, s in zip(sides, anchors.num_anchors, strides))
    boxes = torch.cat(list(anchors([(n, n) for n in sides], (300, 300), torch.device("cpu")))).numpy()
    none = np.zeros(len(boxes), dtype=np.int64)
    cells = Cells(levels, boxes, boxes, boxes[:, :2], none, None, boxes[:, 0], none)
    walk = replace(ssd[2], cells=cells, picture=Image.new("RGB", (300, 300)))
    found = [packing.cell_of(walk, number) for number in range(6)]
    assert found == [[side, side] for side in (8, 16, 32, 64, 100, 300)]
    # Anchors that begin at the corner of their cell, on a picture that is no whole number of cells wide:
    # 2 x 6 cells of stride 8 on 43 x 16 pixels.
    corners = np.array([[x * 8 - 4, y * 8 - 4, x * 8 + 4, y * 8 + 4] for y in range(2) for x in range(6)])
    cells = replace(cells, levels=(Level(2, 6, 1, 8),), anchors=corners.astype(np.float32))
    walk = replace(walk, cells=cells, picture=Image.new("RGB", (43, 16)))
    assert packing.cell_of(walk, 0) == [8, 8]


class Stopped:
    @hookimpl
    def densedet_run_step(self, run: Any) -> None:
        if run.step == 3:
            run.stop("so that the weights are of no snapshot")


def test_snapshots_become_moments_of_the_training(tmp_path: Path) -> None:
    hooks = "run.hooks=[{name: snapshots, count: 2}, checkpoint]"
    changes = [*QUICK, hooks, f"run.folder={json.dumps(str(tmp_path))}", "train.budget.steps=4"]
    run = session.train(load_recipe("quickstart_ssd", changes), hooks=[Stopped()])
    subject, view = subject_and_view(run.folder)
    before = {name: value.clone() for name, value in subject.detector.state_dict().items()}
    walk = walk_through(subject, view)
    assert [moment.step for moment in walk.moments] == [0, 2, 3]
    assert [moment.walked for moment in walk.moments] == [False, False, True]
    assert walk.cells is not None
    first, _, last = (moment.maps[0] for moment in walk.moments)
    assert not np.allclose(first, last)
    level = walk.cells.levels[0]
    grid = walk.cells.scores[: level.count].reshape(level.height, level.width, level.anchors, 10)
    assert np.array_equal(last, grid.max(axis=2).transpose(2, 0, 1))
    after = subject.detector.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    # A damaged one is told and left out.
    (run.folder / "snapshots" / "00000002.pt").write_bytes(b"damaged")
    walk = walk_through(subject, view)
    assert [moment.step for moment in walk.moments] == [0, 3]
    assert re.match(r"A snapshot is left out: .*00000002\.pt is no readable checkpoint", walk.notes[0])
    # The untrained weights' map, by a detector that has them.
    untrained, _ = subject_and_view(run.folder / "snapshots" / "00000000.pt")
    detector: Any = untrained.detector
    assert np.array_equal(first, detector.explain(view.batch).score_maps()[0][0].numpy())


def test_the_network_runs_once_and_finds_what_predict_finds() -> None:
    subject, view = subject_and_view("quickstart_ssd", *SMALL)
    detector: Any = subject.detector
    trace = Trace()
    (found,) = detector.predict(view.batch, trace=trace)
    passes = []
    detector.backbone.register_forward_hook(lambda *_: passes.append(1))
    walk = walk_through(subject, view)
    assert len(passes) == 1
    assert np.array_equal(walk.found.boxes, found.boxes.numpy())
    assert np.array_equal(walk.found.scores, found.scores.numpy())
    assert np.array_equal(walk.fate, trace["fate"][0].numpy())
    assert np.array_equal(walk.by, trace["by"][0].numpy())


def test_what_a_detector_does_not_tell_is_said(tmp_path: Path) -> None:
    example = ROOT / "examples" / "beside_a_recipe" / "centernet.yaml"
    walk = walk_through(*subject_and_view(example, "data.train.count=4", "data.val.count=4"))
    assert walk.cells is None
    said = "CenterNet has no explain(batch), so that this page cannot walk through its cells"
    assert walk.notes == [f"{said}: it shows what is found."]
    column = numbers([walk])[0]
    assert column["cells"] is None
    assert column["suppression"] is None

    subject, view = subject_and_view("quickstart_ssd", *SMALL)
    detector: Any = subject.detector

    class WithoutTrace(torch.nn.Module):
        def predict(self, batch: Any) -> Any:
            return detector.predict(batch)

        def explain(self, batch: Any) -> Any:
            return replace(detector.explain(batch), detect=None)

    walk = walk_through(replace(subject, detector=WithoutTrace()), view)
    assert walk.fate is None
    assert any("takes no trace" in note for note in walk.notes)
    assert any("no settings that could be moved" in note for note in walk.notes)


def test_an_image_without_known_objects_says_so() -> None:
    file = ROOT / "examples" / "beside_a_recipe" / "shapes" / "train_00.png"
    walk = walk_through(*subject_and_view("quickstart_retinanet", *SMALL, wanted=Wanted(files=[str(file)])))
    assert walk.objects == []
    assert any("objects of this image are not known" in note for note in walk.notes)
    assert walk.cells is not None
    assert set(walk.cells.matched.tolist()) == {-1}
    assert set(walk.cells.nearest.tolist()) == {-1}


def test_weights_that_are_not_finite_are_refused(ssd: tuple[Subject, View, Walk]) -> None:
    subject, view, _ = ssd
    head: Any = subject.detector
    bias = next(p for name, p in head.named_parameters() if "head" in name and p.ndim == 1)
    kept = bias.detach().clone()
    try:
        with torch.no_grad():
            bias.fill_(float("nan"))
        with pytest.raises(UsageError, match="scores or boxes are not finite on this image"):
            walk_through(subject, view)
    finally:
        with torch.no_grad():
            bias.copy_(kept)


def test_a_class_name_cannot_leave_its_script(ssd: tuple[Subject, View, Walk]) -> None:
    walk = replace(ssd[2], classes=["</script><b>", *ssd[2].classes[1:]], title="<i>")
    text = page.html_of([walk], "<u>an image")
    assert "</script><b>" not in text
    assert "<i>, step" not in text
    assert "<u>an" not in text
    assert numbers([walk])[0]["classes"][0] == "</script><b>"
