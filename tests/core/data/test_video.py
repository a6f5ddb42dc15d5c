"""Videos that PyAV makes here are read back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densedet.core.data.video import Video, VideoWriter, is_camera, is_video
from densedet.core.errors import DataError, UsageError

av = pytest.importorskip("av", reason="PyAV is an extra: pip install 'densedet[video]'")


def noise(path: Path, form: str) -> bytes:
    """A video of 40 pictures that do not resemble each other, and its content."""
    random = np.random.default_rng(0)
    writer = VideoWriter(path, form, Fraction(10))
    for number in range(40):
        pixels = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        writer.write(Image.fromarray(pixels).resize((160, 120)), number / 10)
    writer.close()
    return path.read_bytes()


def clip(path: Path, count: int, size: tuple[int, int] = (64, 48), form: str = "mp4") -> Path:
    """A video of grey pictures, each 8 lighter than the one before, a tenth of a second apart."""
    writer = VideoWriter(path, form, Fraction(10))
    for number in range(count):
        writer.write(Image.new("RGB", size, (40 + 8 * number,) * 3), number / 10)
    writer.close()
    return path


def test_frames_come_back_in_order_with_their_times(tmp_path: Path) -> None:
    with Video(str(clip(tmp_path / "a.mp4", 12))) as video:
        frames = list(video.read())
        assert video.size == (64, 48)
        assert video.frames == 12
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.seconds for frame in frames] == pytest.approx([i / 10 for i in range(12)], abs=1e-3)
    assert [frame.pixels.shape for frame in frames] == [(48, 64, 3)] * 12
    # limited range and chroma cost a level or two
    assert [frame.pixels.mean() for frame in frames] == pytest.approx([40 + 8 * i for i in range(12)], abs=3)
    assert video.faults == []


def test_the_first_frames_alone_and_an_odd_size(tmp_path: Path) -> None:
    """A column and a row too many for the codec are left out: 65 x 49 becomes 64 x 48."""
    with Video(str(clip(tmp_path / "a.mkv", 9, (65, 49), "matroska"))) as video:
        frames = list(video.read(3))
    assert [frame.pixels.shape for frame in frames] == [(48, 64, 3)] * 3
    assert video.faults == []


def test_a_turned_video_is_read_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg tells the turn counter-clockwise: by 90 degrees the top right comes to the top left."""
    from densedet.core.data import video as module

    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[0, 2] = 9

    class Picture:
        rotation = 90

        def to_ndarray(self, format: str) -> np.ndarray:
            assert format == "rgb24"
            return pixels

    upright = module._upright(Picture())
    assert upright.shape == (3, 2, 3)
    assert upright[0, 0].tolist() == [9, 9, 9]


@pytest.mark.parametrize(("name", "form"), [("a.mp4", "mp4"), ("a.mkv", "matroska"), ("a.avi", "avi")])
def test_a_video_that_is_damaged_in_the_middle_keeps_what_can_be_read(
    tmp_path: Path, name: str, form: str
) -> None:
    file = tmp_path / name
    data = noise(file, form)
    middle = len(data) // 2
    file.write_bytes(data[:middle] + bytes(2600) + data[middle + 2600 :])
    with Video(str(file)) as video:
        frames = list(video.read())
    assert 30 < len(frames) < 40
    assert frames[-1].seconds > 3.5  # it goes on after the damage
    assert f"{name} is damaged after 1" in video.faults[0] or f"{name} is damaged after 2" in video.faults[0]


@pytest.mark.parametrize(("name", "form"), [("a.mkv", "matroska"), ("a.avi", "avi")])
def test_a_video_that_is_cut_short_says_so(tmp_path: Path, name: str, form: str) -> None:
    """MP4 has its directory at the end: nothing can be read of the rest."""
    file = tmp_path / name
    data = noise(file, form)
    file.write_bytes(data[: len(data) * 2 // 3])
    with Video(str(file)) as video:
        count = len(list(video.read()))
    assert 20 < count < 30
    assert f"{name} is damaged or cut short: it has {count} of the 40 frames" in video.faults[-1]


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    (tmp_path / "empty.mp4").touch()
    for name in ("a.mp4", "empty.mp4"):
        with pytest.raises(DataError, match=r"is no video, or its beginning is damaged"):
            Video(str(tmp_path / name))
    with pytest.raises(DataError, match="there is no video nowhere.mp4"):
        Video("nowhere.mp4")
    with pytest.raises(DataError, match=r"camera:987 cannot be opened"):
        Video("camera:987")
    with av.open(str(tmp_path / "sound.mkv"), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
    with pytest.raises(DataError, match="has no pictures, only audio"):
        Video(str(tmp_path / "sound.mkv"))


def test_names_that_mean_a_video(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert [is_video(n) for n in ("a.MP4", "a.jpg", "camera:0", "camera:", "/dev/video3")] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert not is_video(str(tmp_path / "folder.mp4"))
    assert not is_camera("camera.mp4")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UsageError, match=r"need PyAV: pip install 'densedet\[video\]'"):
        Video("a.mp4")
