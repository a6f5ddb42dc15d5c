"""A stranger's package: densedet and examples/densedet-lite-head, installed with pip into a fresh
environment, train."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "examples" / "densedet-lite-head"
SMALL = (
    "data.train.count=8",
    "data.val.count=2",
    "train.batch_size=4",
    "train.budget.steps=3",
    "train.evaluations=1",
    "train.threads=1",
)


class Environment:
    """A fresh virtual environment. torch and the like (gigabytes) are the running interpreter's; what pip
    installs is its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.EnvBuilder(symlinks=os.name != "nt").create(folder)
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        here = {"base": str(folder), "platbase": str(folder)}
        self.site = Path(
            sysconfig.get_path(
                "purelib", scheme="venv" if "venv" in sysconfig.get_scheme_names() else None, vars=here
            )
        )
        theirs = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        # Behind the environment's own packages. Their .pth files are not read there, so an editable densedet
        # of theirs stays unseen.
        (self.site / "torch_of_the_running_interpreter.pth").write_text(
            "".join(f"{path}\n" for path in theirs)
        )

    def run(self, program: str, *arguments: object, code: int = 0) -> str:
        """What one of its programs prints; it must end with ``code``, and where that is not 0, what it says
        on standard error."""
        outside = ("PYTHONPATH", "PYTHONHOME", "DENSEDET_PLUGINS", "VIRTUAL_ENV")
        variables = {name: value for name, value in os.environ.items() if name not in outside} | {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1"
        }
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, (
            f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stderr if code else done.stdout

    def install(self, folder: Path) -> None:
        """pip install, without the packages it depends on: those are there."""
        # Where setuptools is at hand nothing needs to be fetched to build with.
        offline = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
        self.run(
            "python", "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", *offline, folder
        )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("plugin_package")
    environment = Environment(folder / "environment")
    # Copies: building writes into the source tree.
    for part in ("core", "plugins", "configs", "tools"):
        shutil.copytree(ROOT / part, folder / "densedet" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (
        "__init__.py",
        "registry.py",
        "py.typed",
        "setup.cfg",
        "pyproject.toml",
        "LICENSE",
        "README.md",
    ):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, folder / "densedet" / file)
    shutil.copytree(
        PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    environment.install(folder / "densedet")
    environment.install(folder / "package")
    return environment


@pytest.mark.long
def test_it_trains_where_it_is_installed_and_is_missed_where_it_is_not(environment: Environment) -> None:
    *shown, first, second = environment.run("python", "-c", LOOK).splitlines()
    assert all(environment.folder in Path(file).parents for file in (first, second))
    assert "lite_head 0.1.0: loaded, from densedet-lite-head (entry point lite_head)" in shown
    assert any(line.startswith("  lite ") and line.endswith("[densedet-lite-head 0.1.0]") for line in shown)
    assert " passed" in environment.run(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", environment.folder.parent / "package"
    )

    recipe = environment.folder.parent / "package" / "recipe.yaml"
    environment.run("densedet", "train", recipe, *SMALL)
    run = environment.folder / "runs" / "recipe" / "1"
    assert json.loads((run / "summary.json").read_text())["steps"] == 3
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[0]["losses"].keys() == {"class", "box", "quality"}
    # The checkpoint of a package's head needs no --plugin: what is installed is loaded by itself.
    assert json.loads(environment.run("densedet", "evaluate", run, "--json").splitlines()[-1])["images"] == 2

    off = environment.run("python", "-c", SWITCHED_OFF, recipe)
    assert "disabled" in off
    assert "no head is called 'lite'" in off

    environment.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "densedet-lite-head")
    said = environment.run("densedet", "train", recipe, *SMALL, code=2)
    assert "recipe.yaml:4:16: model.head.name: no head is called 'lite'" in said
    assert "Registered: fcos, " in said
    assert "Traceback" not in said


@pytest.mark.long
def test_a_package_that_densedet_wrote_installs_and_appears(environment: Environment) -> None:
    environment.run("densedet", "new", "plugin", "photos", "--kind", "source")
    package = environment.folder / "densedet-photos"
    environment.install(package)
    assert "[densedet-photos 0.1.0]" in environment.run("densedet", "show", "components", "source")
    assert "1 passed" in environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", package)
    with pytest.raises(AssertionError, match="densedet-photos 0.1.0 has a source 'photos' already"):
        environment.run("densedet", "new", "plugin", "photos", "--kind", "source", "--output", "again")


LOOK = """
from densedet.tools.main import main
assert main(["show", "plugins"]) == main(["show", "components", "head"]) == 0
import densedet, densedet_lite_head
print(densedet.__file__, densedet_lite_head.__file__, sep="\\n")
"""

SWITCHED_OFF = """
import os, sys
sys.stderr = sys.stdout
os.environ["DENSEDET_PLUGINS"] = ""
from densedet.tools.main import main
main(["show", "plugins"])
assert main(["show", "recipe", sys.argv[1]]) == 2
"""


def test_its_build_files_name_what_there_is() -> None:
    """What a copy of the template must keep in step, without building anything."""
    import configparser

    config = configparser.ConfigParser()
    config.read(PACKAGE / "setup.cfg")
    module = config["options"]["py_modules"].strip()
    assert (PACKAGE / f"{module}.py").exists()
    assert config["options.entry_points"]["densedet"].split() == ["lite_head", "=", module]
    assert (PACKAGE / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()
