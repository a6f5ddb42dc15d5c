"""The page of `densedet show explain` in a browser: what a person reads there is what the detector has."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.boxes import pairwise_iou
from densedet.core.showing.explain import page
from densedet.core.showing.explain.collecting import Found, Moment, Walk, walk_through
from densedet.core.showing.subject import Wanted, subject_of, views_of
from densedet.core.types import Fate, Trace
from densedet.tests.browser import needs_browser, read_back

SMALL = ("data.train.count=4", "data.val.count=4", "model.backbone.widths=[8, 8, 8]")
DRAWN = {
    # Untrained scores of SSD lie about 1/11, so that some are above 0.12 and compete.
    "quickstart_ssd": ("model.postprocess.score=0.12", "model.postprocess.top_k=60"),
    "quickstart_retinanet": (
        "model.postprocess={name: soft_nms, score: 0.01, iou: 0.4, top_k: 60, final_score: 0.005}",
    ),
}

ACTING = """
const near = (column, name) => column.querySelector(`[data-part="${name}"]`);
const text = (column, name) => near(column, name).textContent;
const columns = [...document.querySelectorAll(".column")];
const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const slide = (column, name, value) => {
  near(column, name).value = value;
  near(column, name).dispatchEvent(new Event("input", { bubbles: true }));
};
// A tap or a click at a point of the picture, as shares of its sides.
const tap = (column, x, y) => {
  const canvas = near(column, "picture");
  const area = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new MouseEvent("click", {
    bubbles: true, clientX: area.left + x * area.width, clientY: area.top + y * area.height }));
};
const found = (column) =>
  [...near(column, "found").children, ...near(column, "more-found").children].map((one) =>
    [Number(one.dataset.anchor), Number(one.dataset.label), Number(one.dataset.score)]);
const cell = (column) => ({
  cell: text(column, "cell-text"),
  anchor: Number(column.querySelector('[data-part="anchors"] .chip:has(:checked)').dataset.anchor),
  match: text(column, "match-kind") + ". " + text(column, "match-text"),
  scores: [...column.querySelectorAll(".bar")].map((one) =>
    [Number(one.dataset.label), Number(one.dataset.score)]),
  shown: [...column.querySelectorAll(".bar .value")].map((one) => one.textContent),
  box: JSON.parse(near(column, "box-numbers").dataset.box),
  boxText: text(column, "box-numbers"),
  fate: text(column, "fate-text"),
});
"""

CLICKING = """
const read = [];
for (const column of columns) {
  const levels = column.querySelectorAll('[data-part="levels"] input');
  levels[0].click();
  tap(column, 0.4, 0.6);                           // column 12 of 32, row 9 of 16
  press(near(column, "picture"), "ArrowRight");
  press(near(column, "picture"), "ArrowUp");       // now column 13, row 8
  const seen = [];
  for (const chip of column.querySelectorAll('[data-part="anchors"] input')) {
    chip.click();
    seen.push(cell(column));
  }
  press(near(column, "picture"), "PageDown");      // the same place on the next level
  read.push({ seen, next: cell(column).cell, live: text(column, "live") });
}
return read;
"""
"""Click a point, go on with the arrow keys, choose each anchor; then another level."""

MOVING = """
const read = columns.map((column, number) => {
  const before = [found(column), text(column, "agreement")];
  const moved = wanted[number].map(([s, i]) => {
    slide(column, "score", s);
    slide(column, "iou", i);
    return found(column);
  });
  near(column, "reset").click();
  const fate = Array.from(page.columns[number].result.fate);
  return { before, moved, after: found(column), fate };
});
const own = page.columns[0];
const direct = others.map((one) => {
  const result = suppress(own.data.cells, { ...own.data.suppression, ...one });
  return {
    kept: result.kept.map((c, at) => [Math.floor(c / 10), c % 10, result.scores[at]]),
    fate: Array.from(result.fate), by: Array.from(result.by),
  };
});
return { read, direct };
"""
"""Move the thresholds and come back; and settings that no slider has."""

PHONE = """
const [first, second] = columns;
const focusable = [...first.querySelectorAll("canvas[tabindex], button, input, select, summary")];
const unnamed = focusable.filter((one) =>
  !(one.textContent.trim() || one.closest("label") || one.getAttribute("aria-label")));
const places = () =>
  columns.map((column) => text(column, "cell-text").match(/column .*, counted/)[0]);
first.querySelector('[data-part="objects"] button').click();
const matches = columns.map((column) => text(column, "match-kind"));
const moved = [];
for (const button of first.querySelectorAll("[data-move]")) { button.click(); moved.push(places()); }
return {
  unnamed: unnamed.map((one) => one.outerHTML),
  matches,
  moved,
  wide: document.documentElement.scrollWidth,
  window: document.documentElement.clientWidth,
  loaded: performance.getEntriesByType("resource").map((one) => one.name.slice(0, 5)),
};
"""
"""Look for controls without a name, use the buttons, and measure the page."""

LEARNING = """
const [first] = columns;
const read = [0, 1, 2].map((place) => {
  slide(first, "moment", place);
  return {
    text: text(first, "moment-text"),
    note: text(first, "moment-note"),
    map: text(first, "map-text"),
    found: found(first).map((one) => one.slice(1)),
    line: text(first, "learning-text"),
  };
});
return read;
"""
"""Move the slider of the training."""

SCORES = {"quickstart_ssd": (0.1, 0.12, 0.13), "quickstart_retinanet": (0.005, 0.01, 0.015), "flat": ()}
IOUS = (0.05, 0.3, 0.45, 0.7, 1)
OTHERS: tuple[dict[str, Any], ...] = (
    {"top_k": 1000, "per": "level", "iou": 0.5, "class_agnostic": True, "score": 0.11},
    {"top_k": 20, "per": "class", "iou": 0.2, "max_detections": 7, "score": 0.1},
    {"top_k": 400, "per": "level", "iou": 0.4, "min_size": 12, "score": 0.1},
    {"top_k": 1500, "per": "level", "iou": 0.6, "score": 0.0},
)
"""Settings of the page's own function; with the last there are too many candidates to move classes apart."""


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Walk]]:
    """Of each quick start, and of one on a flat picture: detector, batch and walk."""
    made = {}
    for name, changes in DRAWN.items():
        subject = subject_of(name, [*SMALL, *changes])
        view = views_of(subject, Wanted(numbers=[3]))[0]
        made[name] = subject.detector, view.batch, walk_through(subject, view)
    # Many cells of a picture of one grey have the same scores, of which top-k takes some.
    flat = tmp_path_factory.mktemp("flat") / "flat.png"
    Image.new("L", (128, 64), 128).save(flat)
    subject = subject_of("quickstart_ssd", [*SMALL, *DRAWN["quickstart_ssd"]])
    view = views_of(subject, Wanted(files=[str(flat)]))[0]
    made["flat"] = subject.detector, view.batch, walk_through(subject, view)
    detector, batch, walk = made["quickstart_ssd"]
    made["quickstart_ssd"] = detector, batch, replace(walk, moments=learned(walk))
    return made


def learned(walk: Walk) -> list[Moment]:
    """The moment of a walk at step 40, and others with a half and twice its scores at steps 0 and 80."""
    (now,) = walk.moments
    few = Found(
        *(column[:3] for column in (now.found.boxes, now.found.scores, now.found.labels, now.found.anchors))
    )
    others = [Moment(step, [level * by for level in now.maps], few) for step, by in ((0, 0.5), (80, 2))]
    return [others[0], replace(now, step=40), others[1]]


@pytest.fixture(scope="module")
def read(walks: dict[str, tuple[Any, Any, Walk]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is read in one visit to the page."""
    path = tmp_path_factory.mktemp("page") / "explain.html"
    page.write([walk for _, _, walk in walks.values()], "image 3", path)
    wanted = [[[score, overlap] for score in SCORES[name] for overlap in IOUS] for name in walks]
    constants = f"const wanted = {json.dumps(wanted)}, others = {json.dumps(OTHERS)};"
    acts = {"clicking": CLICKING, "moving": MOVING, "phone": PHONE, "learning": LEARNING}
    done = "".join(f"read.{name} = await (async () => {{{act}}})();" for name, act in acts.items())
    script = f"{ACTING}{constants} const read = {{}}; {done} return read;"
    return read_back(path, script, width=500)  # the least that Chromium opens


def detected(detector: Any, batch: Any, **settings: Any) -> tuple[list[list[float]], Trace]:
    """What the detector's own postprocess finds with other settings: anchor, label and score; the trace."""
    own = asdict(detector.postprocess.suppression)
    known = {key: value for key, value in own.items() if hasattr(detector.postprocess, key) or key in BOTH}
    kind, before = type(detector.postprocess), detector.postprocess
    try:
        detector.postprocess = kind(**{**known, **settings})
        trace = Trace()
        found = detector.predict(batch, trace)[0]
    finally:
        detector.postprocess = before
    return [
        [a, n, s] for a, n, s in zip(found.anchors.tolist(), found.labels.tolist(), found.scores.tolist())
    ], trace


BOTH = ("score", "top_k", "per", "iou", "max_detections", "class_agnostic", "min_size")


def same(read: list[list[float]], expected: list[list[float]]) -> None:
    assert [row[:2] for row in read] == [row[:2] for row in expected]
    assert [row[2] for row in read] == pytest.approx([row[2] for row in expected], abs=1e-6)


@needs_browser
def test_a_click_and_the_arrow_keys_read_the_cells_own_numbers(
    walks: dict[str, tuple[Any, Any, Walk]], read: dict[str, Any]
) -> None:
    for (detector, batch, _), column in zip(walks.values(), read["clicking"]):
        inside = detector.explain(batch)
        level = inside.levels[0]
        first = (8 * level.width + 13) * level.anchors
        assert "column 13, row 8" in column["seen"][0]["cell"]
        assert [one["anchor"] for one in column["seen"]] == list(range(first, first + level.anchors))
        # 8 pixels a cell on the next level: column 13 * 4 + 2 = 54 pixels, 54 / 8 = 6; row 34 / 8 = 4.
        assert "Level 1" in column["next"]
        assert "column 6, row 4" in column["next"]
        assert column["live"].startswith("Column 6, row 4. ")
        _, trace = detected(detector, batch)
        reasons = inside.reasons()
        for one in column["seen"]:
            anchor = one["anchor"]
            scores = inside.scores[0, anchor]
            assert dict(one["scores"]) == pytest.approx(dict(enumerate(scores.tolist())), abs=1e-6)
            assert [float(text) for text in one["shown"]] == pytest.approx(
                scores.sort(descending=True).values.tolist(), abs=1e-3
            )
            assert one["box"] == pytest.approx(trace["boxes"][0, anchor].tolist(), abs=1e-3)
            assert json.loads(one["boxText"].replace("(", "[").replace(")", "]")) == pytest.approx(
                trace["boxes"][0, anchor].tolist(), abs=0.0051
            )
            index = int(inside.targets.matched_idxs[0, anchor])
            kind = {-1: "background", -2: "ignored"}.get(index, "positive")
            rule = reasons.rules[int(reasons.rule[0, anchor])]
            assert one["match"].startswith(f"{kind}. {rule.split('{')[0]}")
            if "{iou}" in rule:  # so that there are objects
                largest = float(pairwise_iou(batch.boxes[0], inside.anchors).max(dim=0).values[anchor])
                assert f"{largest:.3f}" in one["match"]
            fate = int(trace["fate"][0][anchor, int(scores.argmax())])
            words = {Fate.LOW_SCORE: "dropped at once", Fate.KEPT: "kept, as detection"}
            assert words.get(fate, "") in one["fate"]


@needs_browser
def test_moved_thresholds_find_what_the_detector_finds_with_them(
    walks: dict[str, tuple[Any, Any, Walk]], read: dict[str, Any]
) -> None:
    for (name, (detector, batch, walk)), column in zip(walks.items(), read["moving"]["read"]):
        same(column["before"][0], detected(detector, batch)[0])
        assert len(walk.found.scores) == len(column["before"][0]) > 3
        assert "agree on all of" in column["before"][1]
        same(column["after"], column["before"][0])
        fate = detected(detector, batch)[1]["fate"][0].flatten()
        assert torch.equal(torch.tensor(column["fate"], dtype=torch.int8), fate)
        settings = [(score, overlap) for score in SCORES[name] for overlap in IOUS]
        for (score, overlap), moved in zip(settings, column["moved"], strict=True):
            same(moved, detected(detector, batch, score=score, iou=overlap)[0])
    detector, batch, _ = walks["quickstart_ssd"]
    for other, result in zip(OTHERS, read["moving"]["direct"], strict=True):
        kept, trace = detected(detector, batch, **other)
        same(result["kept"], kept)
        assert torch.equal(torch.tensor(result["fate"], dtype=torch.int8), trace["fate"][0].flatten())
        assert np.array_equal(np.array(result["by"]), trace["by"][0].flatten().numpy())


@needs_browser
def test_the_page_is_used_without_a_mouse_and_on_a_phone(read: dict[str, Any]) -> None:
    assert read["phone"]["unnamed"] == []
    assert read["phone"]["matches"] == ["positive", "positive", "background"]
    # Left, up, down, right, and back where it was: both columns stand at the same place of the image.
    for pair in read["phone"]["moved"]:
        assert pair[0] == pair[1]
    assert len({pair[0] for pair in read["phone"]["moved"]}) == 3
    assert read["phone"]["wide"] <= read["phone"]["window"]
    assert set(read["phone"]["loaded"]) <= {"data:", "blob:"}


@needs_browser
def test_the_slider_of_the_training_shows_maps_and_detections_of_their_steps(
    walks: dict[str, tuple[Any, Any, Walk]], read: dict[str, Any]
) -> None:
    walk = walks["quickstart_ssd"][2]
    untrained, now, later = read["learning"]
    assert [one["text"] for one in read["learning"]] == ["step 0, untrained", "step 40", "step 80"]
    assert now["note"] == ""
    assert "those of step 80. The walk below is through the detector of step 40" in later["note"]
    highest = [float(re.search(r"highest on this map ([0-9.]+)", one["map"])[1]) for one in read["learning"]]  # type: ignore[index]
    assert highest == pytest.approx([highest[1] / 2, highest[1], min(1, 2 * highest[1])], abs=2e-3)
    expected = [
        [label, score] for label, score in zip(walk.found.labels.tolist(), walk.found.scores.tolist())
    ]
    for one in (untrained, later):
        assert one["found"] == [[label, pytest.approx(score, abs=1e-6)] for label, score in expected[:3]]
    assert len(now["found"]) == len(expected)
    assert re.search(r"went from [0-9.]+ \(step 0\) to [0-9.]+ \(step 80\)", now["line"])
