"""Find objects in a video file, or in what a camera sees: a video with boxes, and JSON of each frame."""

from __future__ import annotations

import argparse
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from densedet.core.text import counted, say
from densedet.tools.predict_output import output_folder, results_file, tiling_of

if TYPE_CHECKING:
    from densedet.core.data.video import Frame, Video
    from densedet.core.training.prediction import Predictor
    from densedet.core.types import Detections

HELD = 256 << 20
"""Bytes of the frames that are in memory at once, about."""


def check_alone(paths: list[str], arguments: argparse.Namespace) -> None:
    """Raise UsageError where a video is named with something that does not go with it."""
    from densedet.core.data.video import READ, WRITTEN
    from densedet.core.errors import UsageError

    if len(paths) > 1:
        raise UsageError(f"give one video or camera at a time, without images: {', '.join(paths)}")
    if arguments.annotations is not None:
        raise UsageError("--annotations goes with images, not with a video")
    if arguments.frames is not None and arguments.frames < 1:
        raise UsageError(f"--frames {arguments.frames}: give at least 1")
    suffix = Path(arguments.output or "").suffix.lower()
    if suffix in READ and suffix not in WRITTEN:
        raise UsageError(f"--output {arguments.output}: a video is written as {', '.join(WRITTEN)}")


def predict_video(name: str, predictor: Predictor, score: float | None, arguments: argparse.Namespace) -> int:
    """Predict frame by frame. What was done is kept where the video is damaged, and where a signal ends it.

    Args:
        name: of the file or camera.
        predictor: the detector.
        score: as for its ``stream``.
        arguments: of `densedet predict`.

    Returns:
        The exit code, 3 where a part of the video could not be read.
    """
    from densedet.core.data.video import Video
    from densedet.core.errors import DataError
    from densedet.core.results import coco_results
    from densedet.core.terminal import progress

    done = objects = 0
    stopped: KeyboardInterrupt | None = None
    with (
        Video(name) as video,
        outputs(name, arguments) as (file, clip),
        results_file(file) as write,
        drawing(clip, video, predictor) as draw,
        progress() as bar,
    ):
        task = bar.add_task("predicting", total=video.frames or None)
        try:
            for frame, found in found_in(video, predictor, score, arguments):
                rows = coco_results(found, "", predictor.category_ids)
                told = [{key: row[key] for key in row if key != "image_id"} for row in rows]
                write([{"frame": frame.number, "time": round(frame.seconds, 4), "detections": told}])
                draw(frame, found)
                done, objects = done + 1, objects + len(rows)
                bar.update(task, completed=done)
        except KeyboardInterrupt as error:  # a camera ends in no other way
            stopped = error
        if not done:
            raise stopped or DataError("; ".join([f"{name} has no frame that can be read", *video.faults]))
    if arguments.json:
        say(file.read_text())
    say(f"{counted(objects, 'object')} in {counted(done, 'frame')} -> {clip or file}", error=True)
    for fault in video.faults:
        say(f"{fault}; what could be read is done", error=True)
    if stopped is not None:
        raise stopped
    return DataError.exit_code if video.faults else 0


def found_in(
    video: Video, predictor: Predictor, score: float | None, arguments: argparse.Namespace
) -> Iterator[tuple[Frame, Detections]]:
    """Give each frame with its detections, while the next frames are decoded."""
    waiting: deque[Frame] = deque()

    def pixels() -> Iterator[object]:
        for frame in video.read(arguments.frames):
            waiting.append(frame)
            yield frame.pixels

    width, height = video.size
    fitting = HELD // (3 * 3 * width * height) or 1  # one batch under way and two ahead
    found = predictor.stream(
        pixels(),
        batch_size=1 if video.live else min(arguments.batch_size, fitting),
        score=score,
        **tiling_of(predictor, arguments.tiles),
    )
    for _, detections in found:
        yield waiting.popleft(), detections


@contextlib.contextmanager
def outputs(name: str, arguments: argparse.Namespace) -> Iterator[tuple[Path, Path | None]]:
    """Give the new files for rows and for the video (None: none is wanted), as --output has them."""
    from densedet.core.data.video import WRITTEN, is_camera
    from densedet.core.files import check_free

    given = Path(arguments.output or "")
    if given.suffix.lower() in (*WRITTEN, ".json"):
        file, clip = given.with_suffix(".json"), None if given.suffix.lower() == ".json" else given
        clip = None if arguments.no_pictures else clip
        check_free(file, *([clip] if clip else []))
        yield file, clip
        return
    with output_folder(arguments.output) as folder:
        stem = "camera" if is_camera(name) else Path(name).stem
        yield folder / "results.json", None if arguments.no_pictures else folder / f"{stem}.mp4"


@contextlib.contextmanager
def drawing(
    clip: Path | None, video: Video, predictor: Predictor
) -> Iterator[Callable[[Frame, Detections], None]]:
    """Give a function that adds a frame and its boxes to a new video; without one, it does nothing."""
    from PIL import Image

    from densedet.core.data.video import WRITTEN, VideoWriter
    from densedet.core.files import atomic_path
    from densedet.core.report.drawing import draw_boxes

    if clip is None:
        yield lambda frame, found: None
        return
    with atomic_path(clip, overwrite=False) as temporary:
        writer = VideoWriter(temporary, WRITTEN[clip.suffix.lower()], video.rate)

        def draw(frame: Frame, found: Detections) -> None:
            picture = draw_boxes(
                Image.fromarray(frame.pixels),
                found.boxes,
                found.labels,
                found.scores,
                predictor.classes,
                scale=1,
                min_score=found.shown_from,
                extra=found.extra,
                keypoints=found.keypoints,
            )
            writer.write(picture, frame.seconds)

        try:
            yield draw
        finally:
            writer.close()
