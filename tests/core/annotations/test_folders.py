import os

import pytest

from densedet.core.annotations.folders import addition, is_free
from densedet.core.errors import DataError


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(folder, **files):
    for name, text in files.items():
        path = folder.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_is_free(tmp_path):
    assert is_free(tmp_path)
    assert is_free(tmp_path / "none")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    assert not is_free(tmp_path)
    assert not is_free(tmp_path / "dangling")


def test_an_addition_joins_what_is_there_and_replaces_only_the_last(tmp_path):
    fill(tmp_path, a__one="1", index="old")
    with addition(tmp_path, last="index") as folder:
        fill(folder, a__two="2", b__c__three="3", index="new")
        assert tree(tmp_path)["index"] == "old"
    assert tree(tmp_path) == {"a/one": "1", "a/two": "2", "b/c/three": "3", "index": "new"}


def test_an_addition_that_would_overwrite_changes_nothing(tmp_path):
    fill(tmp_path, a__one="1", index="old")
    with (
        pytest.raises(DataError, match="one is there already, and nothing is overwritten"),
        addition(tmp_path, last="index") as folder,
    ):
        fill(folder, a__two="2", a__one="other", index="new")
    with pytest.raises(DataError, match="a is there already"), addition(tmp_path, last="index") as folder:
        fill(folder, a="no folder", index="new")
    with pytest.raises(KeyError), addition(tmp_path, last="index") as folder:
        {}["no such key"]
    assert tree(tmp_path) == {"a/one": "1", "index": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "index"]


@pytest.mark.parametrize("works", [0, 1, 2, 3])
def test_an_addition_that_fails_half_way_is_taken_back(tmp_path, monkeypatch, works):
    fill(tmp_path, a__one="1", index="old")
    rename, replace, left = os.rename, os.replace, [works]

    def once_less(act):
        def acting(origin, target):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            act(origin, target)

        return acting

    monkeypatch.setattr(os, "rename", once_less(rename))
    monkeypatch.setattr(os, "replace", once_less(replace))
    with (
        pytest.raises(DataError, match="cannot be added to: No space left"),
        addition(tmp_path, last="index") as folder,
    ):
        fill(folder, a__two="2", b__three="3", index="new")
    assert tree(tmp_path) == {"a/one": "1", "index": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "index"]
