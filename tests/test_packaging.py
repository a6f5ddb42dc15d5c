"""What gets installed: the list of packages, and the wheel built from a clean export."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from densedet.core.lessons.names import NAMES

ROOT = Path(__file__).resolve().parent.parent


def listed() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return set(config["options"]["packages"].split())


def folders() -> set[str]:
    """Every folder with an __init__.py under the package's own folders, as a package name."""
    found = {"densedet"}
    for area in ("core", "plugins", "configs", "tools"):
        for file in (ROOT / area).rglob("__init__.py"):
            found.add(".".join(["densedet", *file.parent.relative_to(ROOT).parts]))
    return found


def test_setup_cfg_lists_every_package() -> None:
    assert listed() == folders()


def test_every_folder_with_code_is_a_package() -> None:
    """A forgotten __init__.py would leave the folder out of the wheel."""
    bare = {
        f.parent
        for area in ("core", "plugins", "tools")
        for f in (ROOT / area).rglob("*.py")
        if not (f.parent / "__init__.py").exists()
    }
    assert not bare


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from what git tracks, not from what happens to lie in the folder."""
    folder = tmp_path_factory.mktemp("export")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if names.returncode:
        pytest.skip("not a git checkout: there is nothing to export")
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--wheel-dir",
        str(folder / "dist"),
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    [built] = (folder / "dist").glob("densedet-*.whl")
    return zipfile.ZipFile(built)


@pytest.mark.long
def test_the_wheel_holds_recipes_templates_and_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    tracked = {p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").rglob("*.yaml")}
    assert {f"densedet/{name}" for name in tracked} <= names
    assert {f"densedet/core/lessons/templates/{name}.txt" for name in NAMES} <= names
    assert {
        "densedet/core/report/templates/compare.html",
        "densedet/plugins/sources/digits.npz",
        "densedet/py.typed",
        "densedet/registry.py",
    } <= names
    assert any(name.endswith("digits_LICENSE.txt") for name in names)


@pytest.mark.long
def test_the_wheel_holds_no_tests_and_no_second_top_level(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert not [name for name in names if "/tests/" in name or "/examples/" in name]
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"densedet"}
    [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
    assert "densedet = densedet.tools.main:main" in wheel.read(entry_points).decode()
