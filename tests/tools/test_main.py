"""What plug-ins do wrong costs only themselves: commands go on, and the author's line is named."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import densedet
from densedet.core.recipe import plugin_loading
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.recipe.plugin_loading import Plugin, PluginSet, load_plugins
from densedet.core.training import session
from densedet.core.training.checkpoint import load, recipe_of
from densedet.registry import Registry
from densedet.tools.main import add_plugin_commands, build_parser, main

COMMAND = "import densedet\n\n@densedet.hookimpl\ndef densedet_commands(subparsers):\n    {}\n"
ADD = "subparsers.add_parser('{}', help='x').set_defaults(run=lambda arguments: 7)"
QUICK = {
    "data.input_size_wh": [64, 32],
    "data.val.count": 4,
    "data.cache_gb": 0,
    "train.budget": {"steps": 1},
    "train.batch_size": 4,
    "train.threads": 1,
}


def plugins_of(folder: Path, **codes: str) -> PluginSet:
    """Plug-ins as if they were installed."""
    registry = Registry()
    load_plugins(registry=registry, builtins=False)
    files = []
    for name, code in codes.items():
        files.append(folder / f"{name}.py")
        files[-1].write_text(code)
    return load_plugins(files, registry=registry, strict=False)


def parser_with(plugins: PluginSet, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    monkeypatch.setattr(plugin_loading, "load_plugins", lambda: plugins)
    parser = build_parser(["train", "show"])
    add_plugin_commands(parser)
    return parser


def test_commands_of_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = plugins_of(
        tmp_path,
        dd_good=COMMAND.format(ADD.format("mine")),
        dd_raises=COMMAND.format(ADD.format("half") + "; 1 / 0"),
        dd_taken=COMMAND.format(ADD.format("other") + "; " + ADD.format("train")),
        dd_again=COMMAND.format(ADD.format("mine")),
        dd_broken="import nowhere_at_all",
        dd_idle=COMMAND.format("subparsers.add_parser('idle')"),
    )
    parser = parser_with(plugins, monkeypatch)
    warnings = capsys.readouterr().err.splitlines()
    assert ["dd_broken" in warnings[0], "dd_raises" in warnings[1]] == [True, True]
    assert (
        "failed at densedet_commands: ZeroDivisionError: division by zero (dd_raises.py line 5)"
        in warnings[1]
    )
    assert "dd_taken.py is left out: 'train' is a command of densedet" in warnings[2]
    assert "dd_again.py is left out: 'mine' is a command" in warnings[3]
    assert len(warnings) == 4
    text = parser.format_help()
    assert "mine" in text
    assert "half" not in text
    assert "other" not in text
    assert parser.parse_args(["mine"]).run(None) == 7
    assert parser.parse_args(["train", "quickstart_ssd"]).recipe == "quickstart_ssd"


def test_a_command_that_runs_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = plugins_of(tmp_path, dd_idle=COMMAND.format("subparsers.add_parser('idle')"))
    monkeypatch.setattr(plugin_loading, "load_plugins", lambda: plugins)
    assert main(["idle"]) == 2
    assert "gave it no set_defaults(run=function)" in capsys.readouterr().err


# -- errors inside parts --------------------

HEAD = """import densedet
from torch import nn

@densedet.register("head", "mine")
class Mine(nn.Module):
    '''A head.'''
    def __init__(self, *, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        {}
    def forward(self, features):
        return features[9]
"""


def head_recipe(folder: Path, constructor: str) -> Path:
    (folder / "my_head.py").write_text(HEAD.format(constructor))
    recipe = folder / "r.yaml"
    recipe.write_text(
        "base: densedet:quickstart_retinanet.yaml\nplugins: [./my_head.py]\nmodel: {head: mine}\n"
    )
    return recipe


@pytest.mark.parametrize(
    ("constructor", "said"),
    [
        ("len(3)", r"head 'mine': TypeError: object of type 'int' has no len\(\) \(my_head.py line 9\)"),
        ("self.branches = {}", r"the head cannot take .*list index out of range \(my_head.py line 11\)"),
        (
            "self.branches = {}; self.forward = lambda maps: maps[0] @ maps[0]",  # 16x32 times 16x32
            r"the head cannot take .* size .* \(my_head.py line 9\)$",  # and no guess that the image is small
        ),
        ("pass", "has no dict `branches`: write self.branches = {} in its constructor"),
    ],
)
def test_an_error_inside_a_part_names_its_line(tmp_path: Path, constructor: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        densedet.build(load_recipe(head_recipe(tmp_path, constructor)), num_classes=3)


def test_a_forgotten_plugins_line_is_told(tmp_path: Path) -> None:
    recipe = head_recipe(tmp_path, "self.branches = {}")
    recipe.write_text("base: densedet:quickstart_retinanet.yaml\nmodel: {head: mine}\n")
    with pytest.raises(RecipeError, match=r"\./my_head.py beside the recipe registers it: write plugins:"):
        load_recipe(recipe)


# -- what predicting needs --------------------

EXTRAS = """import densedet
from densedet.plugins.sources.digits import DigitsSource

@densedet.register("hook", "note")
class Note:
    '''Fails in the end.'''
    def __init__(self): ...
    @densedet.hookimpl
    def densedet_run_{}

@densedet.register("transform", "same")
class Same:
    '''Nothing.'''
    def __init__(self): ...
    def __call__(self, image, target): return image, target

@densedet.register("source", "mine")
def mine(*, count: int = 8):
    '''Digits.'''
    return DigitsSource(count=count)
"""


def extras_recipe(folder: Path, hook: str) -> Path:
    (folder / "extras.py").write_text(EXTRAS.format(hook))
    recipe = folder / "r.yaml"
    recipe.write_text(
        "base: densedet:quickstart_ssd.yaml\nplugins: [./extras.py]\n"
        "data: {train: mine, transforms: [same]}\nmodel: {backbone: {widths: [8, 8, 8]}}\n"
        f"run: {{folder: {folder}/runs, hooks: [note, checkpoint]}}\n"
    )
    return recipe


def test_predicting_asks_only_for_the_plugins_that_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(extras_recipe(tmp_path, "end(self): 1 / 0"), QUICK)
    broken = Plugin("broken", "1.0", "a package", status="failed", reason="no such module")
    recipe.plugins.plugins.append(broken)  # as if it were installed
    run = session.train(recipe)  # a hook that fails in the end costs only itself
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: plug-in broken does not load, so what it brings is missing: no such module"
    )
    assert (
        "hook Note#1 failed at densedet_run_end: ZeroDivisionError: division by zero (extras.py line 9)"
        in said
    )
    assert (run.folder / "best.pt").exists()
    predictor = densedet.load(run.folder)
    assert len(predictor.predict([run.val_set.source.image(0)])) == 1  # type: ignore[union-attr]
    assert densedet.evaluate(run.folder)["images"] == 4
    with pytest.raises(RecipeError, match="pass --plugin .*extras.py"):
        densedet.evaluate(run.folder, split="train")
    with pytest.raises(RecipeError, match=r"no hook is called 'note'[^$]*pass --plugin .*extras.py"):
        recipe_of(load(run.folder / "last.pt"))


def test_a_hook_that_fails_while_training_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = extras_recipe(tmp_path, "step(self, run): 1 / 0")
    given = [f"{key}={value}" for key, value in QUICK.items() if key != "train.budget"]
    assert main(["train", str(recipe), *given, "train.budget.steps=1"]) == 1
    assert "ZeroDivisionError: division by zero (extras.py line 9); --debug" in capsys.readouterr().err


# -- the order of arguments --------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("evaluate RUN --output r.json data.root=D", {"checkpoint": "RUN", "overrides": ["data.root=D"]}),
        ("evaluate --json RUN a.b=1 --split val c.d=2", {"overrides": ["a.b=1", "c.d=2"]}),
        ("train R --plan a.b=1", {"recipe": "R", "plan": True, "overrides": ["a.b=1"]}),
        ("train R --resume a.b=1", {"recipe": "R", "resume": "", "overrides": ["a.b=1"]}),
        ("train --resume RUN a.b=1", {"recipe": "a.b=1", "resume": "RUN"}),
        ("train --classes cat dog a.b=1 --db F", {"classes": ["cat", "dog"], "recipe": "a.b=1", "db": "F"}),
        ("train --where a.width=5 --db F", {"where": "a.width=5", "recipe": None}),
        ("predict RUN --score 0.5 a.png data.root=D", {"score": 0.5, "images": ["a.png", "data.root=D"]}),
        ("predict RUN a.png --json b.png", {"images": ["a.png", "b.png"]}),
        ("compare A --budget steps=4 B a.b=1", {"what": ["A", "B", "a.b=1"], "budget": "steps=4"}),
        ("convert A --to voc B", {"source": "A", "target": "B", "target_format": "voc"}),
        ("show recipe --plain R a.b=1", {"recipe": "R", "overrides": ["a.b=1"]}),
        ("show components head --json ret*", {"kind": "head", "name": "ret*"}),
        ("check recipe R --no-data a.b=1", {"recipe": "R", "overrides": ["a.b=1"]}),
        ("check data R --resize 8 8 a.b=1", {"what": "R", "resize": [8, 8], "overrides": ["a.b=1"]}),
        ("check plugin F --json head.x.y=3", {"what": "F", "arguments": ["head.x.y=3"]}),
        ("benchmark plan R --set a.b=1 c.d=2 --json", {"recipes": ["R"], "set": ["a.b=1", "c.d=2"]}),
        ("benchmark inference --set a.b=1 -- RUN", {"detectors": ["RUN"], "overrides": ["a.b=1"]}),
        ("new plugin --kind neck lite", {"topic": "plugin", "name": "lite", "kind": "neck"}),
    ],
)  # fmt: skip
def test_options_stand_anywhere(line: str, expected: dict[str, object]) -> None:
    assert vars(build_parser().parse_args(line.split())).items() >= expected.items()


def test_options_of_a_plugins_command_stand_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = "p = subparsers.add_parser('mine'); p.add_argument('x'); p.add_argument('--y'); p.add_argument('z')"
    parser = parser_with(plugins_of(tmp_path, dd_mine=COMMAND.format(add)), monkeypatch)
    found = parser.parse_args(["mine", "1", "--y", "2", "3"])
    assert (found.x, found.y, found.z) == ("1", "2", "3")


def test_a_refused_argument_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["show", "schema", "a\x1b[2J"])
    assert r"unrecognized arguments: a\x1b[2J" in capsys.readouterr().err
