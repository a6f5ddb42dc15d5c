"""Faulty recipes: each gives the place, a sentence that says what to write, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from densedet.core.recipe.loading import RecipeError, load_recipe

GOOD = """\
model:
  backbone: {name: convnet}
  neck: {name: fpn, channels: 32}
  anchors: {name: octave}
  head: {name: retinanet, depth: 2}
  matcher: {name: iou, positive: 0.5, negative: 0.4}
  coder: {name: delta}
  class_loss: {name: focal, gamma: 2.0}
  box_loss: [{name: giou, weight: 2.0}, {name: smooth_l1}]
  postprocess: {name: nms}
data:
  train: {name: digits}
  input_size_wh: [128, 64]
train:
  budget: {epochs: 1}
  batch_size: 8
  optimizer: {name: adamw, lr: 1e-3}
run:
  hooks: [{name: progress}]
"""

# (what, text in GOOD, text instead, line:column, dotted path, phrase)
EDITS = [
    ("section misspelt", "train:\n  budget", "trian:\n  budget", "14:1", "trian", "Did you mean 'train'?"),
    (
        "section missing",
        "train:\n  budget",
        "trian:\n  budget",
        "1:1",
        "train",
        "the section 'train' is missing",
    ),
    ("kind misspelt", "  neck:", "  nekc:", "3:3", "model.nekc", "Did you mean 'neck'?"),
    (
        "part missing",
        "  coder: {name: delta}\n",
        "",
        "1:1",
        "model",
        "'coder' is missing: detector 'dense' needs one; registered: delta",
    ),
    ("part null", "{name: delta}", "null", "7:3", "model.coder", "cannot be null"),
    (
        "part without a name",
        "{name: delta}",
        "{}",
        "7:10",
        "model.coder",
        "write name: ...; registered: delta",
    ),
    (
        "part is a number",
        "{name: delta}",
        "3",
        "7:10",
        "model.coder",
        "a coder is written {name: ..., argument: ...}",
    ),
    ("name is a number", "name: delta", "name: 3", "7:17", "model.coder.name", "given 3"),
    (
        "name misspelt",
        "name: retinanet",
        "name: retinanett",
        "5:16",
        "model.head.name",
        "Did you mean 'retinanet'?",
    ),
    (
        "name nothing like it",
        "name: fpn",
        "name: zzz",
        "3:16",
        "model.neck.name",
        "Registered: fpn, identity",
    ),
    (
        "argument misspelt",
        "depth: 2",
        "depht: 2",
        "5:27",
        "model.head.depht",
        "Did you mean 'depth'?\n    depth: int, at least 0, at most 200 (default 4)",
    ),
    (
        "argument says its plug-in",
        "depth: 2",
        "depht: 2",
        "5:27",
        "model.head.depht",
        "(from densedet 0.1.0)",
    ),
    (
        "argument of another part",
        "gamma: 2.0",
        "positive: 2",
        "8:29",
        "model.class_loss.positive",
        "has no argument 'positive'",
    ),
    (
        "argument in a list",
        "name: smooth_l1",
        "name: smooth_l1, betta: 1",
        "9:59",
        "model.box_loss.1.betta",
        "Did you mean 'beta'?",
    ),
    (
        "wired argument",
        "depth: 2",
        "in_channels: 3",
        "5:27",
        "model.head.in_channels",
        "in_channels is wired from the neck: delete this line",
    ),
    (
        "wired, other kind",
        "name: convnet",
        "name: convnet, in_channels: 1",
        "2:29",
        "model.backbone.in_channels",
        "wired from data.color",
    ),
    (
        "word for a number",
        "depth: 2",
        "depth: deep",
        "5:34",
        "model.head.depth",
        'should be a valid integer, given "deep"',
    ),
    ("quoted number", "depth: 2", 'depth: "2"', "5:34", "model.head.depth", 'given "2"'),
    ("fraction for a count", "depth: 2", "depth: 2.5", "5:34", "model.head.depth", "given 2.5"),
    ("2.0 for a count", "depth: 2", "depth: 2.0", "5:34", "model.head.depth", "should be a valid integer"),
    ("true for a count", "depth: 2", "depth: true", "5:34", "model.head.depth", "given true"),
    (
        "no is a string",
        "depth: 2",
        "share: no",
        "5:34",
        "model.head.share",
        'should be a valid boolean, given "no"',
    ),
    ("null for a count", "depth: 2", "depth: null", "5:34", "model.head.depth", "given null"),
    (
        "below its range",
        "depth: 2",
        "depth: -1",
        "5:34",
        "model.head.depth",
        "head 'retinanet' takes depth: int, at least 0, at most 200 (default 4)",
    ),
    (
        "above its range",
        "positive: 0.5",
        "positive: 1.5",
        "6:34",
        "model.matcher.positive",
        "less than or equal to 1",
    ),
    (
        "weight below 0",
        "weight: 2.0",
        "weight: -2",
        "9:35",
        "model.box_loss.0.weight",
        "greater than or equal to 0",
    ),
    (
        "item of a list",
        "name: octave",
        "name: octave, ratios: [1, x]",
        "4:39",
        "model.anchors.ratios.1",
        'given "x"',
    ),
    ("not one of the words", "depth: 2", "norm: nrom", "5:33", "model.head.norm", "'none'"),
    (
        "empty list of losses",
        "[{name: giou, weight: 2.0}, {name: smooth_l1}]",
        "[]",
        "9:13",
        "model.box_loss",
        "name at least one box_loss",
    ),
    (
        "list where one part goes",
        "{name: delta}",
        "[{name: delta}]",
        "7:10",
        "model.coder",
        "a coder is written",
    ),
    (
        "one where a list goes",
        "[{name: progress}]",
        "{name: progress}",
        "19:10",
        "run.hooks",
        "put it in [ ]",
    ),
    ("null list", "[{name: progress}]", "null", "19:10", "run.hooks", "write [] for none"),
    (
        "misspelt in a list",
        "name: progress",
        "name: progres",
        "19:18",
        "run.hooks.0.name",
        "Did you mean 'progress'?",
    ),
    (
        "field misspelt",
        "batch_size: 8",
        "batchsize: 8",
        "16:3",
        "train.batchsize",
        "Did you mean 'batch_size'?",
    ),
    (
        "field out of range",
        "batch_size: 8",
        "batch_size: 0",
        "16:15",
        "train.batch_size",
        "greater than 0 or 'auto', given 0",
    ),
    (
        "two budgets",
        "{epochs: 1}",
        "{epochs: 1, steps: 5}",
        "15:11",
        "train.budget",
        "give exactly one of steps, epochs, minutes",
    ),
    ("budget misspelt", "{epochs: 1}", "{epoch: 1}", "15:12", "train.budget.epoch", "Did you mean 'epochs'?"),
    (
        "budget is a number",
        "{epochs: 1}",
        "5",
        "15:11",
        "train.budget",
        "is a mapping of steps, epochs, minutes, given 5",
    ),
    ("no budget", "  budget: {epochs: 1}\n", "", "14:1", "train", "'budget' is missing"),
    ("no source", "{name: digits}", "null", "12:10", "data.train", "cannot be null"),
    (
        "1e-4 where a count goes",
        "batch_size: 8",
        "batch_size: 1e-4",
        "16:15",
        "train.batch_size",
        "given 0.0001",
    ),
    ("number too large", "lr: 1e-3", "lr: 1e999", "17:32", "train.optimizer.lr", "1e999 is too large"),
    (
        "optimizer null",
        "{name: adamw, lr: 1e-3}",
        "null",
        "17:14",
        "train.optimizer",
        "cannot be null: name one; registered: adamw",
    ),
    (
        "duplicate key",
        "  batch_size: 8\n",
        "  batch_size: 8\n  batch_size: 9\n",
        "17:3",
        "train.batch_size",
        "on line 16 and on line 17",
    ),
    ("duplicate in flow", "depth: 2", "depth: 2, depth: 3", "5:37", "model.head.depth", "stands twice"),
    (
        "tag that runs code",
        "depth: 2",
        'depth: !!python/object/apply:os.system ["true"]',
        "5:34",
        "model.head.depth",
        "would run code",
    ),
    ("unknown tag", "depth: 2", "depth: !depth 2", "5:34", "model.head.depth", "the tag !depth is not known"),
    (
        "date tag",
        "depth: 2",
        "depth: !!timestamp 2024-01-01",
        "5:34",
        "model.head.depth",
        "the tag !!timestamp",
    ),
    (
        "merge key",
        "  coder: {name: delta}",
        "  <<: {coder: delta}",
        "7:3",
        "model",
        "merge keys (<<) are not YAML 1.2",
    ),
    (
        "undefined alias",
        "depth: 2",
        "depth: *deep",
        "5:34",
        "model.head.depth",
        "the alias *deep has no anchor",
    ),
    (
        "alias to itself",
        "name: octave",
        "name: octave, ratios: &r [*r]",
        "4:39",
        "model.anchors.ratios.0",
        "stands inside its own anchor",
    ),
    ("tab", "  coder:", "\tcoder:", "7:1", "", "a tab stands where YAML wants spaces"),
    ("bracket left open", "{name: delta}", "{name: delta", "8:", "", "this is not YAML"),
    ("colon in a value", "name: delta", "name: a: b", "", "", "this is not YAML"),
    ("missing base", "model:\n", "base: nowhere.yaml\nmodel:\n", "1:7", "base", "there is no file"),
    (
        "class listed twice",
        "  input_size_wh:",
        "  classes: [cat, dog, cat]\n  input_size_wh:",
        "13:12",
        "data.classes",
        "a class is listed twice",
    ),
    (
        "no class that has a name",
        "  input_size_wh:",
        "  classes: [null]\n  input_size_wh:",
        "13:12",
        "data.classes",
        "name at least one class",
    ),
    (
        "other ids than classes",
        "  input_size_wh:",
        "  classes: [cat]\n  category_ids: [3, 4]\n  input_size_wh:",
        "14:17",
        "data.category_ids",
        "has 2 ids for 1 class:",
    ),
    (
        "held out beside val",
        "  input_size_wh:",
        "  val: {name: digits}\n  holdout: 0.1\n  input_size_wh:",
        "14:12",
        "data.holdout",
        "there is a data.val already: delete one of the two",
    ),
    (
        "misspelt shipped base",
        "model:\n",
        "base: quikstart_ssd\nmodel:\n",
        "1:7",
        "base",
        "Did you mean 'quickstart_ssd'?",
    ),
    (
        "base is a number",
        "model:\n",
        "base: [3]\nmodel:\n",
        "1:8",
        "base",
        "is a file, or a list of files, given 3",
    ),
    (
        "base of no package",
        "model:\n",
        "base: 'nopackage:x.yaml'\nmodel:\n",
        "1:7",
        "base",
        "'nopackage', which is not installed",
    ),
    (
        "missing plug-in file",
        "model:\n",
        "plugins: [./gone.py]\nmodel:\n",
        "1:11",
        "plugins",
        "there is no file",
    ),
    (
        "missing plug-in module",
        "model:\n",
        "plugins: [gone_module]\nmodel:\n",
        "1:11",
        "plugins",
        "a file is written with its ending, ./gone_module.py",
    ),
    (
        "description is a list",
        "model:\n",
        "description: [x]\nmodel:\n",
        "1:14",
        "description",
        "should be a valid string",
    ),
]

RAW = [
    ("empty", b"", "1:1", "the file is empty"),
    ("only a comment", b"# nothing\n", "1:1", "the file is empty"),
    ("a list", b"- model\n- data\n", "1:1", "a recipe is a mapping (model: ..., data: ...), this is a list"),
    ("a word", b"model\n", "1:1", "this is a single value"),
    ("binary junk", b"model:\n  \x00\x01\x02", "2:3", "U+0000 may not stand in YAML"),
    ("not UTF-8", "model: \u00e9".encode("latin-1"), "1:8", "byte 0xe9 is no UTF-8"),
    ("UTF-16", "model: 1".encode("utf-16"), "1:1", "is no UTF-8"),
    ("two documents", b"model: 1\n---\nmodel: 2\n", "2:1", "a second document starts here"),
    ("too large", b"#" * 300_000, "1:1", "is larger than"),
    ("too deep", b"model: " + b"[" * 500, "1:48", "nested more than 40 levels deep"),
    (
        "billion laughs",
        b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (k, k, b",".join([b"*%c" % (k - 1)] * 10)) for k in range(98, 108)),
        "5:29",
        "more than 100,000 values",
    ),
]

OVERRIDES = [
    ("unknown path", "model.heda.depth=3", "1:1", "model.heda", "Did you mean 'head'?"),
    ("unknown argument", "model.head.depht=3", "1:1", "model.head.depht", "Did you mean 'depth'?"),
    (
        "unknown default's argument",
        "train.schedule.finall=3",
        "1:1",
        "train.schedule.finall",
        "Did you mean 'final'?",
    ),
    ("wrong type", "model.head.depth=deep", "1:18", "model.head.depth", 'given "deep"'),
    ("below a scalar", "train.batch_size.x=1", "1:1", "train.batch_size", 'given {"x": 1}'),
    (
        "past the end of a list",
        "model.box_loss.5.weight=1",
        "1:1",
        "model.box_loss.5",
        "its items are 0 to 1",
    ),
    ("past the end of a default list", "data.transforms.0.p=1", "1:1", "data.transforms.0", "it is empty"),
    ("no value", "train.batch_size", "1:1", "", "write path=value, e.g. train.batch_size=8"),
    ("hole in the path", "train..batch_size=1", "1:1", "", "is no override"),
    ("broken YAML", "data.input_size_wh=[1, 2", "1:", "data.input_size_wh", "this is not YAML"),
    ("plug-ins", "plugins=[x.py]", "1:1", "plugins", "cannot be overridden"),
    ("code", "data.root=!!python/name:os.system x", "1:11", "", "would run code"),
    ("NUL", 'data.root="a\\0b"', "1:11", "data.root", "the text holds a NUL character"),
    ("more layers than anybody wants", "model.head.depth=201", "1:18", "model.head.depth", "200"),
]


def _fault(error: RecipeError, file: str, place: str, path: str, phrase: str) -> bool:
    return any(
        str(f).startswith(f"{file}:{place}")
        and (not path or f.path == path)
        and phrase.replace("\n    ", "\n") in f.message
        for f in error.faults
    )


@pytest.mark.parametrize(
    ("old", "new", "place", "path", "phrase"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS]
)
def test_fault_in_a_file(tmp_path: Path, old: str, new: str, place: str, path: str, phrase: str) -> None:
    assert GOOD.count(old) == 1, "the case must change the recipe"
    file = tmp_path / "r.yaml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert caught.value.exit_code == 2
    assert _fault(caught.value, str(file), place, path, phrase), str(caught.value)


@pytest.mark.parametrize(("content", "place", "phrase"), [r[1:] for r in RAW], ids=[r[0] for r in RAW])
def test_file_that_is_no_recipe(tmp_path: Path, content: bytes, place: str, phrase: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert caught.value.exit_code == 2
    assert _fault(caught.value, str(file), place, "", phrase), str(caught.value)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("override", "place", "path", "phrase"), [o[1:] for o in OVERRIDES], ids=[o[0] for o in OVERRIDES]
)
def test_fault_in_an_override(tmp_path: Path, override: str, place: str, path: str, phrase: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(GOOD)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, [override])
    assert caught.value.exit_code == 2
    assert _fault(caught.value, "command line", place, path, phrase), str(caught.value)


def test_the_recipe_that_the_faults_are_made_from_is_good(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(GOOD)
    assert load_recipe(tmp_path / "r.yaml").values["train"]["optimizer"]["lr"] == 0.001


def test_the_only_fault_is_the_one_made(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(GOOD.replace("depth: 2", "depht: 2"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert len(caught.value.faults) == 1


def test_all_faults_come_in_one_report_sorted_by_line(tmp_path: Path) -> None:
    text = (
        GOOD.replace("depth: 2", "depht: 2, norm: 3")
        .replace("batch_size: 8", "batch_size: 0")
        .replace("name: delta", "name: dleta")
    )
    text = text.replace("lr: 1e-3", "lr: 1e-3, lr: 2").replace(
        "name: convnet", "name: convnet, in_channels: 3"
    )
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml", ["train.seed=x"])
    assert [(f.line, f.path) for f in caught.value.faults if f.file != "command line"] == [
        (2, "model.backbone.in_channels"),
        (5, "model.head.depht"),
        (5, "model.head.norm"),
        (7, "model.coder.name"),
        (16, "train.batch_size"),
        (17, "train.optimizer.lr"),
    ]
    assert [f.path for f in caught.value.faults if f.file == "command line"] == ["train.seed"]
    lines = str(caught.value).splitlines()
    assert sum(not line.startswith("    ") for line in lines) == 7


def test_part_that_the_detector_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "points.py").write_text(
        "import densedet\n\n\n@densedet.register('detector', 'points_test')\nclass Points:\n"
        "    def __init__(self, *, num_classes: int, backbone, neck=None, top: int = 3): ...\n"
    )
    text = (
        "plugins: [./points.py]\nmodel:\n  detector: {name: points_test, backbone: x}\n  backbone: "
        "convnet\n  anchors: octave\n  top: 3\n"
    )
    (tmp_path / "r.yaml").write_text(text + "data: null\ntrain: null\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert [(f.line, f.column, f.path, f.message) for f in caught.value.faults] == [
        (3, 33, "model.detector.backbone", "backbone is wired from model.backbone: delete this line"),
        (
            5,
            3,
            "model.anchors",
            "detector 'points_test' takes no anchors: delete this section; it takes backbone, neck",
        ),
        (6, 3, "model.top", "is an argument of detector 'points_test': write it as model.detector.top"),
    ]


def test_base_cycle_names_the_chain(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n" + GOOD)
    (tmp_path / "b.yaml").write_text("description: x\nbase: [c.yaml]\n")
    (tmp_path / "c.yaml").write_text("base: a.yaml\n")
    with pytest.raises(RecipeError, match=r"c\.yaml:1:7: base: .*a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml"):
        load_recipe(tmp_path / "a.yaml")


def test_fault_in_a_base_stands_in_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD.replace("depth: 2", "depth: x"))
    (tmp_path / "r.yaml").write_text("base: base.yaml\ntrain:\n  seed: y\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert [(Path(f.file).name, f.line, f.column) for f in caught.value.faults] == [
        ("base.yaml", 5, 34),
        ("r.yaml", 3, 9),
    ]


def test_file_that_is_not_there_names_the_shipped_ones() -> None:
    with pytest.raises(
        RecipeError, match=r"no_such_recipe: there is no such recipe file\..*Shipped recipes: "
    ) as caught:
        load_recipe("no_such_recipe")
    assert caught.value.exit_code == 2


def test_a_name_too_long_for_the_system_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    name = "n" * 300  # file systems take 255 bytes
    with pytest.raises(RecipeError, match=r"there is no such recipe file"):
        load_recipe(name)
    (tmp_path / "r.yaml").write_text(f"base: {name}\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:1:7: base: "):
        load_recipe(tmp_path / "r.yaml")


def test_a_base_is_a_yaml_file_and_no_other_is_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("model: [\n")  # a fault of its own, were it read
    (tmp_path / "r.yaml").write_text("base: secret\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:1:7: base: \S+secret is not a \.yaml file") as caught:
        load_recipe(tmp_path / "r.yaml")
    assert not any("secret" in fault.file for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("code", "phrase"),
    [
        ("x = 1\nraise ValueError('boom')\n", r"ValueError: boom \(bad\.py line 2\)"),
        ("def x(:\n", r"SyntaxError: .*\(bad\.py line 1\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(bad\.py line 2\)"),
        (
            "import no_such_library\n",
            r"ModuleNotFoundError: No module named 'no_such_library' \(bad\.py line 1\)",
        ),
        (
            "import densedet\n\n@densedet.register('haed', 'x')\nclass X: ...\n",
            r"unknown kind 'haed'\. Did you mean 'head'",
        ),
        (
            "import densedet\n\n@densedet.register('head', 'ssd')\nclass X: ...\n",
            r"head 'ssd' is already registered by densedet",
        ),
        (
            "import densedet\n\n@densedet.register('head', 'x')\nclass X:\n    def __init__(self, "
            "**k): ...\n",
            r"takes \*\*k, which hides",
        ),
        (
            "import densedet\n\n@densedet.hookimpl\ndef densedet_run_strat(run): ...\n",
            r"no hook 'densedet_run_strat' \(bad.py line 3\)\. Did you mean 'densedet_run_start'",
        ),
        (
            "def densedet_register(registry): ...\n",
            r"would never be called \(bad.py line 1\): write @densedet\.hookimpl",
        ),
        (
            "import densedet\n\n@densedet.hookimpl\ndef densedet_register(registry, extra): ...\n",
            r"densedet_register takes extra \(bad.py line 3\)",
        ),
    ],
)
def test_plugin_that_fails(tmp_path: Path, code: str, phrase: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    (tmp_path / "r.yaml").write_text("plugins: [./bad.py]\n" + GOOD.replace("name: retinanet", "name: mine"))
    with pytest.raises(
        RecipeError, match=rf"r\.yaml:1:11: plugins: plug-in \./bad\.py does not load: .*{phrase}"
    ) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert caught.value.__cause__ is not None
    unknown = next(f for f in caught.value.faults if f.path == "model.head.name")
    assert "plug-ins that did not load: " in unknown.message


def test_component_that_does_not_import_gives_the_real_error(tmp_path: Path) -> None:
    code = (
        "import densedet\n\n@densedet.hookimpl\ndef densedet_register(registry):\n    "
        "registry.add('head', 'lost', 'no_such_module:Head')\n"
    )
    (tmp_path / "lazy.py").write_text(code)
    (tmp_path / "r.yaml").write_text(
        "plugins: [./lazy.py]\n" + GOOD.replace("name: retinanet, depth: 2", "name: lost")
    )
    with pytest.raises(
        RecipeError, match=r"r\.yaml:6:16: model\.head\.name: .*No module named 'no_such_module'"
    ):
        load_recipe(tmp_path / "r.yaml")
