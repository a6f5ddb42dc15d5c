"""How the bootstrap finds a torch that is there already, and in which order it installs."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from densedet.tools import bootstrap

WANTED = {"torch": "2.4", "torchvision": "0.19"}


def packages(folder: Path, **versions: str) -> str:
    """Write what pip notes of packages of these versions into ``folder``."""
    for name, version in versions.items():
        notes = folder / f"{name}-{version}.dist-info"
        notes.mkdir(parents=True)
        (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(folder)


def test_requirements_are_those_of_setup_cfg() -> None:
    assert bootstrap.requirements() == WANTED


def test_a_torch_that_fits_is_found(tmp_path: Path) -> None:
    old = packages(tmp_path / "old", torch="2.3.1", torchvision="0.19.0")
    alone = packages(tmp_path / "alone", torch="2.14.1")
    fits = packages(tmp_path / "fits", torch="2.14.1+cpu", torchvision="0.29.0a0", other="1")
    assert bootstrap.installed_torch([old, str(tmp_path / "none"), alone], WANTED) is None
    # 2.14 is newer than 2.4, though "2.14" < "2.4" as text.
    assert bootstrap.installed_torch([old, alone, fits], WANTED) == Path(fits)


def test_an_environment_sees_what_it_borrows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "borrowed_module.py").write_text("")
    create = venv.create
    monkeypatch.setattr(venv, "create", lambda folder, with_pip: create(folder))  # pip alone takes seconds
    bootstrap.make_environment(tmp_path / "env", tmp_path / "there")
    python = bootstrap.python_of(tmp_path / "env")
    found = subprocess.run(
        [python, "-c", "import borrowed_module, torch"], capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in found.stderr, sys.path


def test_steps_of_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    made: list[Path | None] = []
    monkeypatch.setattr(bootstrap, "run", lambda *command, **_: ran.append(tuple(map(str, command[1:]))))
    monkeypatch.setattr(bootstrap, "make_environment", lambda folder, borrowed: made.append(borrowed))
    monkeypatch.setattr(sys, "path", [packages(tmp_path / "fits", torch="2.4", torchvision="0.19")])
    bootstrap.prepare(tmp_path, None)
    assert made == [tmp_path / "fits"]
    assert [command[-2:] for command in ran] == [("-e", str(bootstrap.ROOT)), ("-c", bootstrap.TELL_TORCH)]
    (tmp_path / "densedet-installed").unlink()
    ran.clear()
    bootstrap.prepare(tmp_path, "INDEX", "dev")
    assert made[1] is None
    assert ran[0] == ("-m", "pip", "install", "--index-url", "INDEX", "torch>=2.4", "torchvision>=0.19")
    assert ran[1][-1] == f"{bootstrap.ROOT}[dev]"
    ran.clear()
    bootstrap.python_of(tmp_path).parent.mkdir()
    bootstrap.python_of(tmp_path).touch()
    bootstrap.prepare(tmp_path, None, "dev")
    assert not ran, "installed for this setup.cfg already"


def test_faults_that_the_type_checker_finds_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs beside the tests, whose success does not hide its own failure."""
    ran: list[str] = []
    monkeypatch.setattr(bootstrap, "run", lambda python, _, program, *rest: ran.append(program))
    monkeypatch.setattr(bootstrap, "type_check", lambda python: sys.exit(7))
    with pytest.raises(SystemExit) as ended:
        bootstrap.test(Path("python"), ["-x"])
    assert ended.value.code == 7
    assert ran == ["ruff", "ruff", "pytest"]
