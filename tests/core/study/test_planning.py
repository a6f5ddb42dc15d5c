"""Which runs a command line asks for, how arms are called, and where runs lie."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from densedet.core.errors import UsageError
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.study.places import digest_of, frozen, places_of
from densedet.core.study.planning import plan_study, split_values


def names(*given: str, **options: object) -> list[str]:
    return [arm.name for arm in plan_study(given, **options).study.arms]  # type: ignore[arg-type]


def test_seeds_take_turns() -> None:
    plan = plan_study(["quickstart_ssd", "quickstart_retinanet"], seeds=2)
    # Seed 0 of each arm comes before seed 1 of any.
    assert [(run.arm, run.seed) for run in plan.study.runs] == [
        ("quickstart_ssd", 0),
        ("quickstart_retinanet", 0),
        ("quickstart_ssd", 1),
        ("quickstart_retinanet", 1),
    ]
    assert plan.study.seeds == [0, 1]
    assert [run.seed for run in plan_study(["quickstart_ssd"], ["train.seed=7"]).study.runs] == [7]


def test_a_grid_has_each_combination_and_its_arms_are_called_by_what_varies() -> None:
    vary = ["train.optimizer.lr=0.01,0.02", "model.box_loss.beta=0.1,0.2"]
    assert names("quickstart_ssd", vary=vary) == [
        "lr=0.01, beta=0.1",
        "lr=0.01, beta=0.2",
        "lr=0.02, beta=0.1",
        "lr=0.02, beta=0.2",
    ]
    plan = plan_study(["quickstart_ssd"], vary=vary)
    assert plan.recipes["lr=0.02, beta=0.1", ""].values["train"]["optimizer"]["lr"] == 0.02
    assert plan.study.arms[2].varies == {"train.optimizer.lr": 0.02, "model.box_loss.beta": 0.1}
    # Where two paths end alike, as many keys are shown as tell them apart.
    assert names("quickstart_ssd", vary=["data.train.count=8,9", "data.val.count=4"])[0] == (
        "train.count=8, val.count=4"
    )
    both = names("quickstart_ssd", "quickstart_retinanet", vary=["train.batch_size=4,8"])
    assert both[1] == "quickstart_ssd batch_size=8"
    assert len(both) == 4


def test_values_are_split_outside_of_brackets_and_quotation_marks() -> None:
    assert split_values("1,2") == ["1", "2"]
    assert split_values("[128, 64],[64, 32]") == ["[128, 64]", "[64, 32]"]
    assert split_values("{name: fpn, channels: 8},identity") == ["{name: fpn, channels: 8}", "identity"]
    assert split_values("'a,b',c") == ["'a,b'", "c"]


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        (["quickstart_ssd"], {"vary": ["train.batch_size"]}, "write the path and its values"),
        (["quickstart_ssd"], {"vary": ["train.batch_size=4,"]}, "write the path and its values"),
        (["quickstart_ssd"], {"vary": ["train.batch_size=4,4"]}, "the value 4 twice"),
        (["quickstart_ssd"], {"vary": ["train.seed=0,1"]}, "write --seeds N"),
        (["quickstart_ssd"], {"vary": ["run.folder=a,b"]}, "nothing below run"),
        (["quickstart_ssd"], {"vary": ["train.batch_size=4,4.0"]}, "batch_size"),
        (["quickstart_ssd", "quickstart_ssd"], {}, "named twice"),
        (["quickstart_ssd", "densedet:quickstart_ssd.yaml"], {}, "train the same"),
        (["quickstart_ssd"], {"overrides": ["train.device=cuda:1"]}, "CUDA_VISIBLE_DEVICES=1"),
        (["."], {}, "is not a run"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    given: list[str], options: dict[str, list[str]], sentence: str
) -> None:
    with pytest.raises((UsageError, RecipeError), match=sentence):
        plan_study(given, **options)  # type: ignore[arg-type]


def test_a_faulty_value_of_a_grid_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match="model.matcher.positive"):
        plan_study(["quickstart_ssd"], vary=["model.matcher.positive=0.5,2"])
    with pytest.raises(RecipeError, match="shared by all levels"):  # each part is right, and they do not fit
        plan_study(["quickstart_retinanet"], vary=["model.neck=fpn,identity"])


def test_all_seeds_hold_out_the_same_images() -> None:
    plan = plan_study(["quickstart_ssd"], ["data.val=null", "data.holdout=0.1"], seeds=3)
    assert plan.recipes["quickstart_ssd", ""].data.holdout_seed == 0


def test_the_digest_is_of_what_is_trained(tmp_path: Path) -> None:
    plain = load_recipe("quickstart_ssd")
    for change in ("train.seed=3", "run.folder=elsewhere", "description=other words"):
        assert digest_of(load_recipe("quickstart_ssd", [change])) == digest_of(plain), change
    for change in ("train.batch_size=3", "data.train.count=5", "evaluate.batch_size=3"):
        assert digest_of(load_recipe("quickstart_ssd", [change])) != digest_of(plain), change
    # The same recipe of another name, and one written down with all values.
    written = frozen(plain, tmp_path)
    assert digest_of(load_recipe(written)) == digest_of(plain)
    assert load_recipe(written).name == "quickstart_ssd"


def test_the_content_of_a_plugin_counts_and_not_its_place(tmp_path: Path) -> None:
    digests = []
    for folder, text in (("a", "X = 1\n"), ("b", "X = 1\n"), ("c", "X = 2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own_parts.py").write_text(text)
        file = tmp_path / folder / "own.yaml"
        file.write_text("base: densedet:quickstart_ssd.yaml\nplugins: [./own_parts.py]\n")
        digests.append(digest_of(load_recipe(file)))
    assert digests[0] == digests[1] != digests[2]


def test_what_a_plugin_imports_from_beside_it_counts(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("base: densedet:quickstart_ssd.yaml\nplugins: [./own_parts.py]\n")
    (tmp_path / "own_parts.py").write_text("def later():\n    from near_by import deep\n")
    (tmp_path / "near_by").mkdir()
    (tmp_path / "near_by" / "__init__.py").write_text("import farther\n")
    digests = []
    for name in ("unrelated.py", "near_by/deep.py", "farther.py", "farther.py"):
        digests.append(digest_of(load_recipe(tmp_path / "own.yaml")))
        (tmp_path / name).write_text(f"X = {len(digests)}\n")
    digests.append(digest_of(load_recipe(tmp_path / "own.yaml")))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_the_content_of_weights_counts_and_not_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(b"one")
    here = digest_of(load_recipe("quickstart_ssd", ["model.weights=a.pth"]))
    Path("b.pth").write_bytes(b"one")
    assert digest_of(load_recipe("quickstart_ssd", [f"model.weights={tmp_path}/b.pth"])) == here
    Path("a.pth").write_bytes(b"two")
    assert digest_of(load_recipe("quickstart_ssd", ["model.weights=a.pth"])) != here


def test_a_run_is_found_by_its_content_under_any_name(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart_ssd", ["train.seed=1"])
    first = next(places_of(recipe, tmp_path))
    assert first == tmp_path / "runs" / f"quickstart_ssd-{digest_of(recipe)}-seed1"
    other = tmp_path / "runs" / f"other-{digest_of(recipe)}-seed1"
    for folder in (other, tmp_path / "runs" / f"other-{digest_of(recipe)}-seed11"):
        folder.mkdir(parents=True)
    found = list(islice(places_of(recipe, tmp_path), 3))
    assert found == [other, first, first.with_name(f"{first.name}.2")]
