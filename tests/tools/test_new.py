"""`densedet new plugin` writes packages that keep their contracts and train."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from densedet.core import assembly
from densedet.core.recipe.loading import load_recipe
from densedet.tools.main import main
from densedet.tools.new import IMPORTS


@pytest.mark.parametrize("kind", sorted(IMPORTS))
def test_a_new_package(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own tests pass, its recipe builds, and it is one entry point away from being published."""
    monkeypatch.chdir(tmp_path)
    name = f"my_{kind}"
    assert main(["new", "plugin", name, "--kind", kind]) == 0
    folder = tmp_path / f"densedet-{name.replace('_', '-')}"
    module = folder / f"densedet_{name}.py"
    ast.parse(module.read_text())
    assert f"{name} = densedet_{name}" in (folder / "setup.cfg").read_text()
    # As a file beside its recipe it works without being installed.
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"plugins: [./{module.name}]\n" + recipe.read_text())
    loaded = load_recipe(recipe, ["data.train.count=8", "data.val.count=2"])
    assert assembly.build_detector(loaded, 10) is not None
    if kind != "hook":
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "1 passed" in done.stdout


def test_nothing_is_overwritten_and_names_are_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "densedet-lite").mkdir()
    assert main(["new", "plugin", "lite"]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["new", "plugin", "../evil"]) == 2
    assert "cannot be a part's name" in capsys.readouterr().err
    assert list((tmp_path / "densedet-lite").iterdir()) == []
