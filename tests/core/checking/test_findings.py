"""densedet check data on a small data set with faults: findings, exit codes, page, and the heir."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from densedet.core.recipe.loading import load_recipe
from densedet.tools.main import main


@pytest.fixture(scope="module")
def told(
    recipe_overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder with page and heir, and the numbers."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("told")
    files = ["--output", str(folder / "data.html"), "--apply", str(folder / "heir.yaml")]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(["check", "data", "quickstart_ssd", *recipe_overrides, "--json", "--strict", *files])
    assert code == 1  # a warning
    return folder, json.loads(out.getvalue())


def test_findings_are_told_the_worst_first(told: tuple[Path, dict[str, Any]]) -> None:
    found = told[1]["findings"]
    order = [finding["severity"] for finding in found]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    by_kind = {finding["kind"]: finding for finding in found}
    assert by_kind["near_copies"]["sentence"].startswith("1 image of val in train too, encoded anew or at")
    assert by_kind["near_copies"]["examples"] == ["val val_100.png is train train_7.png"]
    assert by_kind["near_copies"]["images"] == [["val", 0], ["train", 7]]
    assert by_kind["unfit"]["severity"] == "warning"
    assert by_kind["absent_classes"]["examples"] == ["none"]
    assert (told[1]["shared_images"], told[1]["problems"]) == (0, 0)


def test_the_proposal_is_in_numbers_and_in_the_heir(told: tuple[Path, dict[str, Any]]) -> None:
    folder, numbers = told
    coverage = numbers["coverage"]
    assert coverage["all"]["objects"] == 48
    assert [row["objects"] for row in coverage["classes"].values()] == [24, 24, 0]
    assert coverage["proposal"]["all"]["fitting"] > coverage["all"]["fitting"] + 0.2
    heir = load_recipe(folder / "heir.yaml")
    for text in coverage["proposal"]["overrides"]:
        path, _, value = text.partition("=")
        assert heir.values["model"]["anchors"][path.rpartition(".")[2]] == json.loads(value)


def test_the_page_shows_each_finding_and_needs_no_other_file(told: tuple[Path, dict[str, Any]]) -> None:
    page = (told[0] / "data.html").read_text()
    for finding in told[1]["findings"]:
        assert finding["sentence"].split("'")[0] in page
    assert page.count("<img ") >= 6
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "without an anchor that fits" in page


def test_files_that_are_there_are_not_written_over(
    told: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    heir = told[0] / "heir.yaml"
    before = heir.read_text()
    assert main(["check", "data", "quickstart_ssd", "--apply", str(heir)]) == 2
    assert heir.read_text() == before
    other = told[0] / "other.yaml"
    assert main(["check", "data", str(told[0].parent), "--apply", str(other)]) != 0
    assert main(["check", "data", "quickstart_ssd", "--no-images", "--apply", str(other)]) == 2
    assert "give a recipe, and let it see its images" in capsys.readouterr().err
    assert not other.exists()


def test_strict_without_a_warning_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["data.train.count=24", "data.val.count=8"]
    code = main(["check", "data", "quickstart_ssd", *given, "--strict", "--augmented", "0"])
    out = capsys.readouterr().out
    assert (code, "warning" in out) in ((0, False), (1, True))
    assert main(["check", "data", "quickstart_ssd", *given, "--no-images"]) == 0
