"""What prediction and evaluation take beyond the network and decoding, which are timed in the same rounds."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from densedet.core.machine import sleep_while_waiting
from densedet.tools.benchmark_step import ratio

Seconds = tuple[float, float]
"""By the clock, and of all cores."""


def timed(act: Callable[[], Any]) -> Seconds:
    """Return the seconds that ``act`` takes."""
    begin = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


class Watch:
    """Adds up the seconds of parts by their names, one row a round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Seconds]] = []

    def add(self, name: str, act: Callable[[], Any]) -> None:
        """Time ``act`` and add its seconds to those of ``name`` in the last round."""
        seconds, before = timed(act), self.rounds[-1].get(name, (0.0, 0.0))
        self.rounds[-1][name] = before[0] + seconds[0], before[1] + seconds[1]

    def clock(self, name: str) -> list[float]:
        """Return the seconds by the clock of each round but the first, which does not count."""
        return [row[name][0] for row in self.rounds[1:]]

    def cores(self, name: str) -> list[float]:
        """Return the seconds of all cores of each round but the first."""
        return [row[name][1] for row in self.rounds[1:]]

    def per_image(self, count: int) -> dict[str, float]:
        """Return the median milliseconds an image of each part, by the clock and of all cores."""
        kinds = {"ms": self.clock, "ms of all cores": self.cores}
        return {
            f"{name} {kind}": round(1e3 * median(seconds(name)) / count, 3)
            for name in self.rounds[-1]
            for kind, seconds in kinds.items()
        }


def prediction(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds an image of `densedet predict` on a folder, in turns in one process: decoding alone, the
    network alone, each with all threads, then the command's work without pictures and with them.

    On a CPU, decoding and the network share the cores: the shortest time for both is that of the slower one
    or, where that is more, the seconds of all cores that both take, divided by the threads. All of them are
    timed as the command works, with threads that sleep while they wait; ``OMP_WAIT_POLICY=ACTIVE`` in the
    environment shows the others.
    """
    sleep_while_waiting()
    import torch

    from densedet.core.annotations.images import find_images
    from densedet.core.data.ahead import made_ahead
    from densedet.core.data.loader import collate
    from densedet.core.results import coco_results
    from densedet.core.training.memory import keep_freed_memory
    from densedet.core.training.prediction import load
    from densedet.tools.predict_output import Pictures, results_file

    keep_freed_memory()
    predictor: Any = load(arguments.checkpoint, device=arguments.device)
    found, _ = find_images([arguments.folder])
    files = [found[number % len(found)] for number in range(arguments.images)]
    size, watch = arguments.batch_size, Watch()

    @torch.no_grad()
    def network(batch: Any) -> None:
        predictor.detector.run_network(batch.to(predictor.device)).logits.sum().item()

    def command(pictures: bool) -> None:
        with TemporaryDirectory() as name, results_file(Path(name) / "results.json") as write:

            def written() -> Iterator[tuple[int, Any]]:
                for index, one in predictor.stream(files, batch_size=size, score=arguments.score):
                    write(coco_results(one, index, predictor.category_ids))
                    yield index, one

            drawing = Pictures(Path(name), files, predictor.decoding)
            for _ in drawing.drawn(written()) if pictures else written():
                pass

    for _ in range(arguments.rounds + 1):
        watch.rounds.append({})
        for start in range(0, len(files), size):
            part = list(enumerate(files[start : start + size]))
            samples: list[Any] = []

            def decode(part: list[Any] = part, samples: list[Any] = samples) -> None:
                numbered = ((index, image, None) for index, image in part)
                made = made_ahead(
                    predictor.samples, numbered, threads=torch.get_num_threads(), count=2 * size
                )
                samples.extend(one for _, several in made for one in several)

            watch.add("decoding", decode)
            batch = collate(samples, pad_to=predictor.recipe.data.pad_to)
            watch.add("network", lambda batch=batch: network(batch))  # type: ignore[misc]
        watch.add("predict", lambda: command(False))
        watch.add("predict with pictures", lambda: command(True))
    both = list(zip(watch.clock("network"), watch.clock("decoding")))
    work = [one + other for one, other in zip(watch.cores("network"), watch.cores("decoding"))]
    threads = torch.get_num_threads()
    share = [seconds / threads if predictor.device.type == "cpu" else 0.0 for seconds in work]
    return {
        "images": len(files),
        "threads": threads,
        "device": str(predictor.device),
        **watch.per_image(len(files)),
        "predict / the slower of network and decoding": round(
            ratio(watch.clock("predict"), [max(pair) for pair in both]), 3
        ),
        "predict / the shortest time for both": round(
            ratio(watch.clock("predict"), [max(*pair, least) for pair, least in zip(both, share)]), 3
        ),
        "predict / network and decoding": round(
            ratio(watch.clock("predict"), [sum(pair) for pair in both]), 3
        ),
        "predict / network and decoding, seconds of all cores": round(ratio(watch.cores("predict"), work), 3),
    }


def evaluation(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds an image of an evaluation, in turns in one process: reading the batches alone, one forward
    pass alone, and the evaluation with its losses, matching, suppression and AP; with the cache of decoded
    images and without."""
    import torch

    from densedet.core import assembly
    from densedet.core.training.judging import Evaluation
    from densedet.core.training.memory import keep_freed_memory

    keep_freed_memory()
    rows: dict[str, Any] = {"threads": torch.get_num_threads()}
    for label, changes in (("cached", []), ("uncached", ["data.cache_gb=0"])):
        one = Evaluation(arguments.checkpoint, [*arguments.overrides, *changes], device=arguments.device)
        detector: Any = one.predictor.detector
        watch = Watch()

        @torch.no_grad()
        def network(batch: Any, detector: Any = detector, device: Any = one.predictor.device) -> None:
            detector.run_network(batch.to(device)).logits.sum().item()

        for _ in range(arguments.rounds + 1):
            watch.rounds.append({})
            batches: list[Any] = []
            loader = assembly.make_eval_loader(one.recipe, one.dataset)
            watch.add("reading", lambda: batches.extend(loader))  # noqa: B023
            watch.add("network", lambda: [network(batch) for batch in batches])  # noqa: B023
            watch.add("evaluation", one.run)
        rows["images"] = len(one.source)
        rows |= {f"{label}: {key}": value for key, value in watch.per_image(len(one.source)).items()}
        for of, seconds in (("", watch.clock), (", seconds of all cores", watch.cores)):
            least = [sum(pair) for pair in zip(seconds("network"), seconds("reading"))]
            rows[f"{label}: evaluation / forward pass and decoding{of}"] = round(
                ratio(seconds("evaluation"), least), 3
            )
    return rows
