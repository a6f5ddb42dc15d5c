"""Tiles in densedet predict and densedet evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densedet.tests.quick_run import train_quickly
from densedet.tools.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_quickly(tmp_path_factory.mktemp("runs"))


def test_tiles_are_found_as_pictures_of_their_own(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two scenes of 128 x 64 far apart in one picture, which tiles of 128 x 64 take apart again. What lies
    inside of a scene, away from the seams, is where the scene alone has it."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    left, right = (random.integers(0, 255, (64, 128), dtype=np.uint8) for _ in range(2))
    Image.fromarray(np.concatenate([left, right], axis=1)).save("both.png")
    Image.fromarray(left).save("left.png")
    Image.fromarray(right).save("right.png")
    given = ["predict", run, "--score", "0", "--no-pictures", "--output"]
    # without overlap there are two tiles, and nothing to merge
    assert main([*given, "both", "both.png", "--tiles", "auto+0"]) == 0
    assert main([*given, "one", "left.png", "right.png", "--tiles", "auto"]) == 0
    assert main([*given, "plain", "left.png", "right.png"]) == 0

    def boxes(folder: str) -> np.ndarray:
        rows = json.loads(Path(folder, "results.json").read_text())
        shift = {"right.png": 128.0}
        found = [(row["score"], shift.get(row["file_name"], 0.0), *row["bbox"]) for row in rows]
        return np.array([(x + moved, *rest, score) for score, moved, x, *rest in sorted(found)])

    assert np.array_equal(boxes("one"), boxes("plain"))
    assert boxes("both") == pytest.approx(boxes("plain"), abs=2e-3)  # pixels have three digits
    assert (boxes("both")[:, 0] > 128).any()


def test_evaluation_with_tiles(run: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Scenes as large as a tile give the numbers of the evaluation without tiles, and no losses."""
    capsys.readouterr()
    assert main(["evaluate", run, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["evaluate", run, "--json", "--tiles", "128x64", "--output", str(tmp_path / "r.json")]) == 0
    tiled = json.loads(capsys.readouterr().out)
    assert plain.pop("losses")
    assert tiled == plain
    assert main(["evaluate", run, "--tiles", "64x64"]) == 0
    assert main(["evaluate", run, "--tiles", "64x64", "--thresholds", "f1"]) == 2
    assert "leave out --tiles" in capsys.readouterr().err
