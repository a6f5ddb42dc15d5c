"""densedet predict on videos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from densedet.core.data.video import Frame, Video, VideoWriter
from densedet.tests.quick_run import train_quickly
from densedet.tools.main import main

pytest.importorskip("av", reason="PyAV is an extra: pip install 'densedet[video]'")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_quickly(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path("clip.mp4"), "mp4", Fraction(5))
    for number in range(7):
        writer.write(Image.new("RGB", (96, 64), (30 * number,) * 3), number / 5)
    writer.close()
    return tmp_path


def test_a_video_with_boxes_and_a_row_for_each_frame(
    run: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", run, "clip.mp4", "--score", "0", "--batch_size", "3"]
    assert main([*given, "--output", "out.mp4"]) == 0
    assert "7 frames -> out.mp4" in capsys.readouterr().err
    rows = json.loads(Path("out.json").read_text())
    assert [row["frame"] for row in rows] == list(range(7))
    assert [row["time"] for row in rows] == pytest.approx([i / 5 for i in range(7)], abs=1e-3)
    found = [one for row in rows for one in row["detections"]]
    assert found
    for one in found:
        x, y, width, height = one["bbox"]
        assert set(one) == {"category_id", "bbox", "score"}
        assert min(x, y) >= 0
        assert (x + width <= 96.01, y + height <= 64.01) == (True, True)
    with Video("out.mp4") as video:
        frames = list(video.read())
    assert [frame.pixels.shape for frame in frames] == [(64, 96, 3)] * 7
    assert [frame.seconds for frame in frames] == pytest.approx([i / 5 for i in range(7)], abs=1e-3)
    # frames are those of the file: the same detections as on the pictures themselves
    with Video("clip.mp4") as video:
        Image.fromarray(list(video.read())[4].pixels).save("four.png")
    assert main(["predict", run, "four.png", "--score", "0", "--no-pictures", "--output", "four"]) == 0
    still = json.loads(Path("four/results.json").read_text())
    assert [one["bbox"] for one in still] == [one["bbox"] for one in rows[4]["detections"]]


def test_a_folder_the_rows_alone_and_the_first_frames(run: str, here: Path) -> None:
    given = ["predict", run, "clip.mp4", "--frames", "2"]
    assert main([*given, "--output", "found"]) == 0
    assert {path.name for path in Path("found").iterdir()} == {"clip.mp4", "results.json"}
    assert main([*given, "--output", "rows.json"]) == 0
    assert main([*given, "--output", "same.mp4", "--no-pictures", "--tiles", "64x64"]) == 0
    assert not Path("rows.mp4").exists()
    assert not Path("same.mp4").exists()
    for name in ("found/results.json", "rows.json", "same.json"):
        assert len(json.loads(Path(name).read_text())) == 2


def test_wrong_use_is_told_before_the_work(run: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken.json").touch()
    Path("noise.mp4").write_bytes(b"no video" * 100)
    for arguments, code, told in (
        (["clip.mp4", "photo.jpg"], 2, "one video or camera at a time"),
        (["clip.mp4", "--annotations", "a.json"], 2, "--annotations goes with images"),
        (["clip.mp4", "--frames", "0"], 2, "give at least 1"),
        (["clip.mp4", "--output", "a.wmv"], 2, "a video is written as .mp4"),
        (["clip.mp4", "--output", "taken.mp4"], 2, "taken.json is there already"),
        (["noise.mp4", "--output", "a.mp4"], 3, "is no video"),
        (["nowhere.mp4", "--output", "a.mp4"], 3, "there is no video nowhere.mp4"),
        (["camera:987", "--output", "a.mp4"], 3, "camera:987 cannot be opened"),
        (["clip.mp4", "--tiles", "big", "--output", "a.mp4"], 2, "write WIDTHxHEIGHT"),
        (["--frames", "3"], 2, "--frames goes with a video"),
    ):
        assert main(["predict", run, *arguments]) == code, arguments
        assert told in capsys.readouterr().err, arguments
    assert {path.name for path in here.iterdir()} == {"clip.mp4", "taken.json", "noise.mp4"}


def test_what_was_done_is_kept_where_a_signal_or_damage_ends_it(
    run: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Video.read

    def damaged(self: Video, limit: int | None = None) -> Iterator[Frame]:
        yield from whole(self, 4)
        self.faults.append("clip.mp4 is damaged after 4 frames")

    def stopped(self: Video, limit: int | None = None) -> Iterator[Frame]:
        yield from whole(self, 5)
        raise KeyboardInterrupt

    given = ["predict", run, "clip.mp4", "--batch_size", "1", "--output"]
    monkeypatch.setattr(Video, "read", damaged)
    assert main([*given, "a.mp4"]) == 3
    assert "clip.mp4 is damaged after 4 frames; what could be read is done" in capsys.readouterr().err
    assert len(json.loads(Path("a.json").read_text())) == 4
    monkeypatch.setattr(Video, "read", stopped)
    assert main([*given, "b.mp4"]) == 130
    done = len(json.loads(Path("b.json").read_text()))
    assert f"{done} frames -> b.mp4" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    with Video("b.mp4") as video:
        assert len(list(video.read())) == done > 0
