"""Faults of one line, put into a copy of the code: the tests that guard the line must fail.

Run them with ``python -m pytest tests/test_mutants.py -m long``.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from densedet.core.signals import start_helpers

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork server"),
]


class Mutant(NamedTuple):
    """A fault and the test that must notice it.

    Attributes:
        name: the effect of the fault.
        file: where it is.
        old: the text that it replaces.
        new: the faulty text.
        tests: a test file, and optionally "-k EXPRESSION".
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "best.pt is always the last",
        "plugins/hooks/checkpoint.py",
        'if run.best["step"] == run.step:',
        "if True:",
        "core/training/test_best.py",
    ),
    Mutant(
        "the best is the worst",
        "core/training/engine.py",
        "sign * value > sign * best)",
        "sign * value < sign * best)",
        "core/training/test_best.py",
    ),
    Mutant(
        "early stop waits for one evaluation more",
        "core/training/engine.py",
        "run.stale >= patience",
        "run.stale > patience",
        "core/training/test_best.py",
    ),
    Mutant(
        "validation losses are not weighted by the images of a batch",
        "core/training/evaluation.py",
        "float(v) * len(batch)",
        "float(v)",
        "core/training/test_evaluation.py",
    ),
    Mutant(
        "boxes are weighted by the score of the best class",
        "plugins/detectors/dense.py",
        "return scores.gather(1, labels.unsqueeze(1)).squeeze(1)",
        "return scores.amax(dim=1)",
        "plugins/detectors/test_dense.py",
    ),
    Mutant(
        "another input size keeps the old way back to the source",
        "core/data/loader.py",
        "batch.to_source[:, :2] / scale",
        "batch.to_source[:, :2]",
        "core/data/test_loader.py -k way_back",
    ),
    Mutant(
        "an anchor between two equal objects gets the later one",
        "plugins/matchers/iou.py",
        "vals, idxs = ious.transpose(1, 2)[image, anchor].max(dim=1)",
        "vals, idxs = ious.transpose(1, 2)[image, anchor].flip(1).max(dim=1)\n"
        "    idxs = ious.shape[1] - 1 - idxs",
        "plugins/matchers/test_iou.py",
    ),
    Mutant(
        "a box that repeats another is found only in the next row",
        "core/data/checking.py",
        "same = (rows[order[1:]] == rows[order[:-1]]).all(1)",
        "same = (rows[order[1:]] == rows[order[:-1]]).any(1)",
        "tools/test_data_commands.py -k check_data",
    ),
    Mutant(
        "a share without positives halves the loss",
        "core/distributed.py",
        "sum_over_processes(value.detach()).clamp(min=minimum) / world()[1]",
        "(sum_over_processes(value.detach()) / world()[1]).clamp(min=minimum)",
        "core/test_distributed.py",
    ),
    Mutant(
        "a position past the end of its epoch stays there",
        "core/data/sampling.py",
        "if batch < self.batches_per_epoch",
        "if batch <= self.batches_per_epoch",
        "core/data/test_sampling.py",
    ),
    Mutant(
        "processes take neighbouring images instead of every world-th",
        "core/data/sampling.py",
        "return self.indices[self.rank :: self.world]",
        "return self.indices[self.rank :]",
        "core/data/test_sampling.py",
    ),
    Mutant(
        "accumulated gradients are a sum",
        "core/training/engine.py",
        "run.scaler.scale(total / len(batches)).backward()",
        "run.scaler.scale(total).backward()",
        "core/training/test_engine.py -k accumulated_twice",
    ),
    Mutant(
        "clipping forgets the norm",
        "core/training/engine.py",
        "factor = limit / (norm + 1e-6)",
        "factor = limit",
        "core/training/test_engine.py -k gradients",
    ),
    Mutant(
        "a group of parameters starts a step too late",
        "core/training/engine.py",
        'if run.progress < group.get("start", 0.0):',
        'if run.progress <= group.get("start", 0.0):',
        "core/training/test_parameter_groups.py",
    ),
    Mutant(
        "layer decay counts from one stage further on",
        "core/training/parameter_groups.py",
        "max(stages[chosen_by].values()) -",
        "max(stages[chosen_by].values()) + 1 -",
        "core/training/test_parameter_groups.py",
    ),
    Mutant(
        "averaging has no ramp",
        "core/training/ema.py",
        "return self.decay * (1 - math.exp(-step / RAMP_STEPS))",
        "return self.decay",
        "core/training/test_engine.py -k averag",
    ),
    Mutant(
        "a resumed run cuts the line of its own checkpoint",
        "plugins/hooks/metrics.py",
        'row["step"] < step + (evaluated or row["event"] != "evaluation")',
        'row["step"] < step',
        "core/training/test_engine.py -k resumed",
    ),
    Mutant(
        "an evaluation that the checkpoint does not count keeps its line",
        "plugins/hooks/metrics.py",
        '(evaluated or row["event"] != "evaluation")',
        "1",
        "core/training/test_kept.py -k killed",
    ),
    Mutant(
        "a step that is not finite is taken",
        "core/training/engine.py",
        "if math.isfinite(numbers.grad_norm):",
        "if True:",
        "core/training/test_not_finite.py",
    ),
    Mutant(
        "a changed checkpoint is read",
        "core/sealed_file.py",
        "if tail != _tail(digest):",
        "if False:",
        "core/test_sealed_file.py",
    ),
    Mutant(
        "an ignored object becomes one of the last class",
        "core/class_table.py",
        "[*labels, -1]",
        "[*labels, labels[-1]]",
        "core/test_class_table.py",
    ),
    Mutant(
        "empty slots of a batch have class 0",
        "core/data/loader.py",
        "labels = torch.full(valid.shape, -1, dtype=torch.int64)",
        "labels = torch.full(valid.shape, 0, dtype=torch.int64)",
        "core/data/test_loader.py",
    ),
    Mutant(
        "boxes that a transform squeezed flat are kept",
        "core/data/dataset.py",
        "((boxes[:, 2:] > boxes[:, :2]).all(1))",
        "((boxes[:, 2:] >= boxes[:, :2]).all(1))",
        "core/data/test_dataset.py",
    ),
    Mutant(
        "boxes are clipped to height by width",
        "core/boxes.py",
        "torch.stack([width, height, width, height], dim=-1)",
        "torch.stack([height, width, height, width], dim=-1)",
        "plugins/detectors/test_dense.py -k boxes_functions",
    ),
    Mutant(
        "a seed forgets whether a part was a number or a text",
        "core/seeding.py",
        'f"{type(part).__name__}:{part}"',
        'f"{part}"',
        "core/test_seeding.py",
    ),
    Mutant(
        "background anchors beside ignored objects are ignored, those on them not",
        "plugins/detectors/_targets.py",
        "(cover >= IGNORED_COVER)",
        "(cover < IGNORED_COVER)",
        "plugins/detectors/test_dense.py -k ignored",
    ),
    Mutant(
        "training and validation share the held-out images",
        "core/annotations/views.py",
        "return Subset(source, sorted(order[count:])), Subset",
        "return Subset(source, sorted(order)), Subset",
        "core/training/test_engine.py -k held_out",
    ),
    Mutant(
        "a checkpoint's box of another detector is loaded where it fits",
        "core/training/checkpoint.py",
        '    if problem:\n        raise CheckpointError(\n            f"the weights do not fit',
        '    if False:\n        raise CheckpointError(\n            f"the weights do not fit',
        "core/training/test_engine.py -k weights_that_do_not_fit",
    ),
)


def run_tests(package: Path, tests: str) -> tuple[int, str]:
    """Run tests of the project on the copy of the code below ``package``.

    Returns:
        pytest's exit code, and what it printed.
    """
    file, *options = tests.split(" ", 1)
    chosen = ["-k", options[0].removeprefix("-k ")] if options else []
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", str(ROOT / "tests" / file), *chosen]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision", "pytest"])  # importing torch takes longer than most tests
    start_helpers("forkserver")
    process = context.Process(target=run_pytest, args=(package, arguments, package / "said.txt"))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, (package / "said.txt").read_text(encoding="utf-8", errors="replace")


def run_pytest(package: Path, arguments: list[str], said: Path) -> None:
    """Run pytest in a process of its own."""
    with said.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    os.environ |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] == "densedet"]:
        del sys.modules[name]  # this file imports the real one
    sys.path.insert(0, str(package))
    os.chdir(ROOT)
    code = int(pytest.main(arguments))
    found = Path(sys.modules["densedet"].__file__ or "")
    assert found.is_relative_to(package), f"the tests ran on {found}"
    sys.exit(code)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_mutant_is_killed(mutant: Mutant, tmp_path: Path) -> None:
    copy = tmp_path / "densedet"
    for name in ("core", "plugins", "tools", "configs"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("__init__.py", "registry.py"):
        shutil.copy(ROOT / name, copy)
    text = (copy / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, (
        f"{mutant.old!r} stands {text.count(mutant.old)} times in {mutant.file}"
    )
    (copy / mutant.file).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    code, said = run_tests(tmp_path, mutant.tests)
    assert code == 1, said[-3000:]
    assert "failed" in said.splitlines()[-1], said[-3000:]
