"""Video files and cameras, read and written by PyAV (the extra ``video``)."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from densedet.core.data.ahead import made_ahead
from densedet.core.errors import DataError, UsageError
from densedet.core.text import counted

READ = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv .mjpeg .mjpg .h264".split()
)
"""By which a file is taken for a video, in lower case."""

WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
"""{ending of a file's name: FFmpeg's name of the format}."""

TICKS = Fraction(1, 90_000)
"""Seconds; the unit of a written video's times."""

CAMERA = re.compile(r"camera:(.+)")

FRAMES_AHEAD = 8
"""Frames that are decoded before they are asked for."""

FEWER, MISSING = 2, 0.05
"""Frames, and the share of them, that a sound file may lack of what it announces."""


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        number: counted from 0, of the pictures that could be read.
        seconds: since the first picture.
        pixels: uint8 (H,W,3), upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


def is_camera(name: str) -> bool:
    """Whether a name on the command line means a camera: camera:0, or a device such as /dev/video0."""
    return CAMERA.fullmatch(name) is not None or name.startswith("/dev/video")


def is_video(name: str) -> bool:
    """Whether a name on the command line means a camera or a video file."""
    return is_camera(name) or (Path(name).suffix.lower() in READ and not os.path.isdir(name))


def library() -> Any:
    """Import PyAV. Raises UsageError where it is missing."""
    try:
        import av
    except ImportError as error:
        raise UsageError("videos and cameras need PyAV: pip install 'densedet[video]'") from error
    return av


class Video:
    """A video file or a camera, open for reading; a context that closes it.

    Args:
        name: a file, "camera:0", or a device path.

    Attributes:
        name: as given.
        live: whether it is a camera, which does not end by itself.
        rate: frames a second, as it says itself; 25 where it says nothing.
        size: (width, height) of its pictures as they are stored.
        frames: number of frames that it announces, about; 0: it does not.
        faults: sentences about what could not be read, complete when `read` has ended.

    Raises:
        DataError: it cannot be opened, or is no video.
        UsageError: PyAV is missing.
    """

    def __init__(self, name: str) -> None:
        av = library()
        self.name, self.live = name, is_camera(name)
        self.faults: list[str] = []
        if not self.live and not os.path.isfile(name):
            raise DataError(f"there is no video {name}")
        path, form = _device(name) if self.live else (name, None)
        try:
            self._container = av.open(path, format=form)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            told = "cannot be opened" if self.live else "is no video, or its beginning is damaged or missing"
            raise DataError(f"{name} {told} ({_why(error)})") from error
        if not self._container.streams.video:
            contents = _contents(self._container)
            self._container.close()
            raise DataError(f"{name} has no pictures, only {contents}")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.size = int(self._stream.width), int(self._stream.height)
        self._seconds = _duration(self._container, self._stream)
        self.frames = int(self._stream.frames) or round((self._seconds or 0) * self.rate)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def read(self, limit: int | None = None) -> Iterator[Frame]:
        """Read the frames, in a thread that is a few frames ahead. What cannot be decoded is left out, and
        told in ``faults``.

        Args:
            limit: most frames; None: all.
        """
        pictures = islice(self._pictures(), limit)
        count = 1 if self.live else FRAMES_AHEAD
        ahead = made_ahead(lambda _: next(pictures, None), repeat(None), threads=1, count=count)
        begin, last = None, 0.0
        number = 0
        with contextlib.closing(ahead):
            for number, picture in enumerate(ahead):
                if picture is None:
                    break
                seconds, pixels = picture
                begin = seconds if begin is None else begin
                if number:  # some files have no times, or one twice
                    since = -1.0 if seconds is None or begin is None else seconds - begin
                    last = since if since > last else last + float(1 / self.rate)
                yield Frame(number, last, pixels)
        if limit is None and not self.live:
            self._look_for_gaps(number, last)

    def _look_for_gaps(self, number: int, last: float) -> None:
        """Add a fault where frames are missing.

        Args:
            number: of frames that were read.
            last: seconds of the last one.
        """
        if number < self.frames - max(FEWER, MISSING * self.frames):
            text = f"it has {number} of the {counted(self.frames, 'frame')} that it announces"
            if self._seconds is not None:
                text += f", the last at {last:.1f} of {self._seconds:.1f} seconds"
            self.faults.append(f"{self.name} is damaged or cut short: {text}")

    def _pictures(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Decode the pictures and their times. Frees the file's other threads at its end."""
        av = library()
        lost, first, number = 0, "", 0
        packets = self._container.demux(self._stream)
        while True:
            pictures: list[Any] = []
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                pictures = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, OSError, ValueError) as error:
                lost += 1
                first = first or f"after {counted(number, 'frame')} ({_why(error)})"
                if lost > 10 and lost > number:  # it is all noise, or the file cannot be read on
                    break
                continue
            for picture in pictures:
                number += 1
                if picture.is_corrupt:
                    lost += 1
                    first = first or f"after {counted(number, 'frame')} (its pixels are not all there)"
                yield picture.time, _upright(picture)
        if lost:
            self.faults.append(
                f"{self.name} is damaged {first}: {counted(lost, 'piece')} of it could not be decoded"
            )


def _device(name: str) -> tuple[str, str]:
    """Return a camera's name and format as FFmpeg knows them on this system."""
    given = CAMERA.fullmatch(name)
    which = given[1] if given else name
    if sys.platform == "darwin":
        return f"{which}:none", "avfoundation"
    if sys.platform == "win32":
        return f"video={which}", "dshow"
    return (f"/dev/video{which}" if which.isdigit() else which), "v4l2"


def _duration(container: Any, stream: Any) -> float | None:
    """Return the seconds that a file announces for its pictures; None where it does not."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if told is not None:
        return 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3])
    if container.duration is None or len(container.streams) > 1:  # sound may go on for longer
        return None
    return float(container.duration / 1e6)


def _why(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _contents(container: Any) -> str:
    kinds = sorted({stream.type for stream in container.streams})
    return " and ".join(kinds) or "nothing"


def _upright(picture: Any) -> np.ndarray:
    """Return uint8 (H,W,3) as players show it: phones store a turn."""
    pixels: np.ndarray = picture.to_ndarray(format="rgb24")
    turns = round(getattr(picture, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class VideoWriter:
    """A new video file, H.264 where FFmpeg has it.

    Args:
        path: where it is written; `form` tells the format.
        form: a value of `WRITTEN`.
        rate: frames a second, for players; each frame has its own time.
    """

    def __init__(self, path: Path, form: str, rate: Fraction) -> None:
        av = library()
        self._av = av
        self._container = av.open(os.fspath(path), "w", format=form)
        wanted = {"webm": ("libvpx-vp9", "libvpx"), "avi": ()}.get(form, ("libx264", "h264"))
        codec = next(name for name in (*wanted, "mpeg4") if name in av.codecs_available)
        rate = rate.limit_denominator(60_000)
        self._stream = self._container.add_stream(codec, rate=rate)
        self._stream.pix_fmt = "yuv420p"
        # AVI has one rate for all frames; elsewhere each frame has its own time.
        self._tick = 1 / rate if form == "avi" else TICKS
        self._begun, self._last = False, -1

    def write(self, picture: Image.Image, seconds: float) -> None:
        """Add a picture; all get the size of the first, less an odd row or column at the right and bottom."""
        if not self._begun:
            self._stream.width, self._stream.height = (side - side % 2 or 2 for side in picture.size)
            self._stream.codec_context.time_base = self._tick
            self._begun = True
        size = self._stream.width, self._stream.height
        picture = picture.crop((0, 0, *size)) if picture.size != size else picture
        frame = self._av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
        self._last = max(self._last + 1, round(seconds / self._tick))
        frame.pts, frame.time_base = self._last, self._tick
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder holds back, and the end of the file."""
        if self._begun:
            self._container.mux(self._stream.encode(None))
        self._container.close()
