"""The command line on changed files: exit codes, and one sentence on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from pathlib import Path

from mutations import changes
from mutations.annotations import WRITTEN, AnnotationKind
from mutations.checkpoints import CheckpointKind
from mutations.images import ImageKind
from mutations.recipes import RecipeKind

from densedet.tools.main import main

FEW = "data.train.count=4 data.val.count=2 data.workers=0 train.batch_size=2 train.budget.steps=1".split()
HERE = "CASE_FOLDER"
"""Stands for a case's folder in its words."""

TARGETS = {"database": "x.db", "sqlite": "x.sqlite", "coco": "x.json", "voc": "voc", "yolo": "yolo"}


class CommandKind:
    """Files of the other kinds. corpus: where those are made."""

    seconds = 60.0  # it trains a step of what a recipe asks for

    def __init__(self, corpus: Path) -> None:
        os.environ["MPLCONFIGDIR"] = str(corpus / "matplotlib")
        import matplotlib.font_manager  # noqa: F401 looks for fonts once, by a program

        self.annotations = {}
        for name in WRITTEN:
            (corpus / "commands").mkdir(exist_ok=True)
            self.annotations[name] = AnnotationKind(name, corpus / "commands")
        self.images, self.recipes = ImageKind(corpus), RecipeKind(corpus)
        self.checkpoints = CheckpointKind(corpus)
        self.run = corpus / "run"
        self.commands = {
            "convert": self.convert,
            "check data": self.check_data,
            "train": self.train,
            "train --db": self.train_database,
            "check recipe": self.check_recipe,
            "predict": self.predict,
            "evaluate": self.evaluate,
            "resume": self.resume,
            "compare": self.compare,
        }

    def make(self, draw: random.Random, folder: Path) -> None:
        """Write the files of a command, and command.json, its words."""
        words = self.commands[draw.choice(sorted(self.commands))](draw, folder)
        (folder / "command.json").write_text(json.dumps(words).replace(str(folder), HERE))

    def use(self, draw: random.Random, folder: Path) -> str:
        """Run the command; return what came of it."""
        words = json.loads((folder / "command.json").read_text().replace(HERE, str(folder)))
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                code = main(words)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
        told = errors.getvalue()
        assert code in (0, 1, 2, 3), code
        assert "Traceback" not in told, told
        assert "fault of densedet" not in told, told
        assert "\x1b" not in told + out.getvalue(), "a control character reaches the terminal"
        assert code == 0 or (told + out.getvalue()).strip(), f"{code} without a sentence: {words}"
        return "refused" if code else "accepted"

    def _annotated(self, draw: random.Random, folder: Path) -> tuple[str, Path]:
        name = draw.choice(sorted(self.annotations))
        kind = self.annotations[name]
        kind.make(draw, folder)
        return name, folder / kind.file

    def convert(self, draw: random.Random, folder: Path) -> list[str]:
        _, path = self._annotated(draw, folder)
        target = draw.choice(sorted(TARGETS))
        more = ["--to", target] if target in ("voc", "yolo") else []
        more += draw.choice(([], ["--json"], ["--copy-images"], ["--where", "width > 3 and class = 'car'"]))
        return ["convert", str(path), str(folder / "out" / TARGETS[target]), *more]

    def check_data(self, draw: random.Random, folder: Path) -> list[str]:
        _, path = self._annotated(draw, folder)
        return ["check", "data", str(path), *draw.choice(([], ["--json"], ["--no-images"]))]

    def train(self, draw: random.Random, folder: Path) -> list[str]:
        self.recipes.make(draw, folder)
        overrides = [text for text in json.loads((folder / "overrides.json").read_text()) if "\0" not in text]
        return ["train", str(folder / "recipe.yaml"), *overrides, *FEW]

    def train_database(self, draw: random.Random, folder: Path) -> list[str]:
        _, path = self._annotated(draw, folder)
        images = [] if path.name in ("voc", "yolo") else ["--images", str(folder / "images")]
        more = draw.choice((["--plan"], ["--limit", "2"], ["--skip-broken"], ["--head", "retinanet"]))
        few = ["train.budget.steps=1", "data.workers=0", "train.device=cpu", "--batch-size", "2"]
        return ["train", "--db", str(path), *images, *more, *few]

    def check_recipe(self, draw: random.Random, folder: Path) -> list[str]:
        return ["check", "recipe", *self.train(draw, folder)[1:], "--no-data"]

    def predict(self, draw: random.Random, folder: Path) -> list[str]:
        for number in range(5):
            self.images.make(draw, folder)
            for path in folder.glob("*.*"):
                (folder / "images").mkdir(exist_ok=True)
                path.rename(folder / "images" / f"{number}_{path.name}")
        return ["predict", str(self.run), str(folder / "images"), "--output", str(folder / "out")]

    def evaluate(self, draw: random.Random, folder: Path) -> list[str]:
        self.checkpoints.make(draw, folder)
        (path,) = folder.glob("*.pt")
        return ["evaluate", str(path), *draw.choice(([], ["--json"], ["--output", str(folder / "out.json")]))]

    def resume(self, draw: random.Random, folder: Path) -> list[str]:
        shutil.copytree(self.run, folder / "run")
        path = folder / "run" / draw.choice(("last.pt", "recipe.yaml", "metrics.jsonl", "summary.json"))
        path.write_bytes(changes.changed_bytes(path.read_bytes() if path.exists() else b"", draw))
        return ["train", "--resume", str(folder / "run"), "train.budget.steps=4"]

    def compare(self, draw: random.Random, folder: Path) -> list[str]:
        for name in ("a", "b"):
            shutil.copytree(self.run, folder / name)
        for _ in range(draw.choice((1, 2))):
            path = folder / "a" / draw.choice(("recipe.yaml", "metrics.jsonl", "summary.json"))
            content = path.read_bytes() if path.exists() else b"{}\n"
            if path.suffix == ".json" and draw.random() < 0.7:
                try:
                    tree = changes.changed_tree(json.loads(content), draw, changes.JSON_RAWS)
                except ValueError:
                    tree = {}
                path.write_bytes(changes.as_json(tree))
            else:
                path.write_bytes(changes.changed_bytes(content, draw))
        return ["compare", str(folder / "a"), str(folder / "b"), "--output", str(folder / "report.html")]
