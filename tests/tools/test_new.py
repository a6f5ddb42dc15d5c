"""`densedet new plugin` writes packages that keep their contracts and train."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest

from densedet.core import assembly
from densedet.core.recipe.loading import load_recipe
from densedet.registry import KINDS
from densedet.tools.main import main

SMALL = ("data.train.count=8", "data.val.count=2", "data.input_size_wh=[64, 32]")


def run_tests(file: Path, tmp_path: Path) -> int:
    """Run the test functions of a package's test file here, without a process of its own; how many."""
    spec = importlib.util.spec_from_file_location(f"new_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tests = [f for name, f in vars(module).items() if name.startswith("test_")]
    for number, test in enumerate(tests):
        folder = tmp_path / f"test{number}"
        folder.mkdir()
        known: dict[str, Any] = {"tmp_path": folder}
        test(**{name: known[name] for name in inspect.signature(test).parameters})
    return len(tests)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_new_package(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own tests pass, its recipe builds, and it is one entry point away from being published."""
    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", f"own-{kind}", "--kind", kind]) == 0
    name, folder = f"own_{kind}", tmp_path / f"densedet-own-{kind.replace('_', '-')}"
    module = folder / f"densedet_{name}.py"
    assert max(map(len, module.read_text().splitlines())) <= 110
    assert f"{name} = densedet_{name}" in (folder / "setup.cfg").read_text()
    # As a file beside its recipe it works without being installed.
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"plugins: [./{module.name}]\n" + recipe.read_text())
    loaded = load_recipe(recipe, () if kind == "source" else SMALL)
    row = loaded.plugins.components.get(kind, name)
    assert row.summary.endswith(".")
    assert run_tests(folder / f"test_{name}.py", tmp_path) == 1
    if kind in assembly_kinds():
        assert assembly.build_detector(loaded, 10) is not None


def assembly_kinds() -> set[str]:
    """Kinds whose part may change the detector that the recipe builds."""
    return set(KINDS) - {
        "source",
        "sampler",
        "resize",
        "transform",
        "batch_transform",
        "optimizer",
        "schedule",
        "launcher",
    }


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "densedet-lite").mkdir()
    assert main(["new", "plugin", "lite"]) == 2
    assert "there already" in capsys.readouterr().err
    assert list((tmp_path / "densedet-lite").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil", "cannot be a part's name"),
        ("a/b", "cannot be a part's name"),
        ("1st", "cannot be a part's name"),
        ("_hidden", "cannot be a part's name"),
        ("größe", "cannot be a part's name"),
        ("class", "a word of Python's own language"),
        ("Match", "a word of Python's own language"),
        ("json", "a module of Python's"),
        ("RetinaNet", "has a head 'retinanet' already: give another name, e.g. my_retinanet"),
    ],
)
def test_a_name_that_is_taken_or_unusable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", name]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
