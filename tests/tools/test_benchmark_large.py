"""The set that `densedet benchmark large` makes, and how it tells phases; what it measures is no test."""

import json

from PIL import Image

from densedet.tools.benchmark_large import Phases, Watch, make, on_disk_mb, tree_mb


def test_the_set_is_hard_links_of_the_sizes_that_its_boxes_are_for(tmp_path):
    make(tmp_path, 40, 290)
    told = json.loads((tmp_path / "x.json").read_text())
    assert (len(told["images"]), len(told["annotations"])) == (40, 290)
    for image in told["images"]:
        with Image.open(tmp_path / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
    distinct = len(list((tmp_path / "pictures").iterdir()))
    assert (
        len({(tmp_path / "images" / image["file_name"]).stat().st_ino for image in told["images"]})
        == distinct
    )
    assert distinct < 40


def test_phases_are_told_by_progress():
    class Run:
        epoch, progress, stopped = 0, 0.3, False

        def stop(self, reason):
            self.stopped = True

    run, watch = Run(), Watch()
    phases = Phases(watch, 0.0, stopping=True)
    phases.densedet_run_step(run)
    assert (watch.phase, run.stopped) == ("epoch 1", False)
    run.epoch, run.progress = 1, 0.5
    phases.densedet_run_step(run)
    assert (watch.phase, run.stopped) == ("epoch 2", True)
    run.progress = 1.0
    phases.densedet_run_step(run)
    assert watch.phase == "evaluation at the end"


def test_memory_of_the_tree_has_a_part_that_is_files():
    total, files = tree_mb()
    assert 0 < files < total


def test_space_on_the_disk_counts_blocks(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(10**9)
    assert on_disk_mb(tmp_path) == 3
