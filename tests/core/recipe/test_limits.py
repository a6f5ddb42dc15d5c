"""What is legal YAML and would cost the machine: bases without end, numbers without measure, odd names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from densedet.core.errors import UsageError
from densedet.core.files import name_fault
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training.fit import check_fit
from densedet.core.training.folders import new_folder


def chain(folder: Path, depth: int) -> Path:
    """Files of which each names the next one twice; the last has the quick start below it."""
    for number in range(depth):
        (folder / f"{number}.yaml").write_text(f"base: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (folder / f"{depth}.yaml").write_text("base: quickstart_ssd\ntrain: {seed: 7}\n")
    return folder / "0.yaml"


def test_bases_that_double_are_refused_and_few_are_merged(tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    assert load_recipe(chain(few, 4)).train.seed == 7
    start = time.monotonic()
    with pytest.raises(RecipeError, match="more than 1,000 bases are merged"):
        load_recipe(chain(tmp_path, 16))
    assert time.monotonic() - start < 60  # 65,536 merges took minutes


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.threads=100000", "at most 1024"),
        ("data.workers=100000", "at most 512"),
        ("train.batch_size=1000000000", "at most 65536"),
        ("evaluate.batch_size=1000000000", "at most 65536"),
        ("data.train.count=1000000000", "at most 1000000"),
        ("data.input_size_wh=[1000000, 64]", "at most 32768"),
        ("data.working_size_wh=[64, 1000000]", "at most 32768"),
        ("data.pad_to=1000000", "at most 32768"),
        ("data.resize={name: short_side, max: 1000000000}", "at most 32768"),
        ("train.accumulate=1000000000", "at most 65536"),
        ("model.backbone.widths=[8, 8, 1000000000]", "at most 16384"),
        ("model.neck={name: fpn, channels: 1000000000}", "at most 16384"),
        ("model.neck={name: pan, channels: 1000000000}", "at most 16384"),
        ("model.neck.stages=[{out_channels: 1000000000}]", "less than or equal to 16384"),
        ("model.head={name: retinanet, channels: 1000000000}", "at most 16384"),
        ("model.head={name: fcos, channels: 1000000000}", "at most 16384"),
        ("model.coder={name: distribution, bins: 1000000000}", "at most 16384"),
        ("train.seed=9007199254740993", "at most 9007199254740992"),
        ("model.postprocess.max_detections=9223372036854775808", "has more than 64 bits"),
        ("data.filter.limit=99999999999999999999999999", "has more than 64 bits"),
    ],
)
def test_numbers_have_a_measure(override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe("quickstart_ssd", [override])
    assert len(caught.value.faults) == 1


def test_numbers_of_python_have_a_measure_too() -> None:
    with pytest.raises(RecipeError, match="data.filter.limit: the number has more than 64 bits"):
        load_recipe("quickstart_ssd", {"data.filter.limit": 2**63})


@pytest.mark.parametrize(
    "name", ["..", ".", "...", "", " ", "a/b", "con", "NUL.x", "x.", " x", "a\x1b", "\udcff", "x" * 300]
)
def test_names_that_no_folder_should_have(name: str, tmp_path: Path) -> None:
    assert name_fault(name)
    with pytest.raises(UsageError, match="a run needs a name that a folder may have"):
        new_folder(tmp_path / "runs", name)
    assert not (tmp_path / "runs").exists()


def test_names_that_folders_have(tmp_path: Path) -> None:
    for name in ("quickstart_ssd", "ssd 2.1", ".yaml", "螺母", "content"):
        assert name_fault(name) == ""
    file = tmp_path / "...yaml"
    file.write_text("base: quickstart_ssd\n")
    with pytest.raises(RecipeError, match=r"the run's folder is called as the recipe, and '\.\.' is no name"):
        load_recipe(file)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.batch_size=1"], "batch norm neck.extras.3.1.1 sees one cell of 320x320 images"),
        (["train.batch_size=2"], ""),
        (["train.batch_size=1", "data.input_size_wh=[640, 640]"], ""),
        (["train.batch_size=1", "data.input_size_wh=[640, 640]", "data.input_sizes_wh=[[9, 9]]"], "9x9"),
    ],
)  # fmt: skip
def test_batch_norm_of_a_single_value_is_refused(overrides: list[str], said: str) -> None:
    recipe = load_recipe("ssdlite320_mobilenet_v3", overrides)
    if said:
        with pytest.raises(RecipeError, match=rf"command line:1:18: .*{said}.*batch_size=2 or more"):
            check_fit(recipe)
    else:
        check_fit(recipe)


def test_group_norm_of_a_single_value_is_refused() -> None:
    given = ["model.head.norm=group", "data.input_sizes_wh=[[128, 64], [32, 32]]"]
    with pytest.raises(RecipeError, match="group norm .* sees one cell of 32x32 images, and has one"):
        check_fit(load_recipe("quickstart_retinanet", given))
