import os

import pytest

from densedet.core.annotations import folders
from densedet.core.annotations.folders import addition, is_free
from densedet.core.errors import DataError, DensedetError


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
    rename, replace, link, left = os.rename, os.replace, os.link, [works]

    def once_less(act):
        def acting(origin, target):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            act(origin, target)

        return acting

    monkeypatch.setattr(os, "rename", once_less(rename))
    monkeypatch.setattr(os, "replace", once_less(replace))
    monkeypatch.setattr(os, "link", once_less(link))
    with (
        pytest.raises(DataError, match="cannot be added to: No space left"),
        addition(tmp_path, last="index") as folder,
    ):
        fill(folder, a__two="2", b__three="3", index="new")
    assert tree(tmp_path) == {"a/one": "1", "index": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "index"]


def test_of_two_additions_at_once_the_first_to_end_counts(tmp_path):
    """Both read the index; the second would drop the first one's entry, or replace its file."""
    fill(tmp_path, index="old")

    def add(entry, **files):
        with addition(tmp_path, last="index") as folder:
            text = (tmp_path / "index").read_text()
            yield
            fill(folder, index=f"{text} {entry}", **files)

    first, second, third = add("one", a__one="1"), add("two", b__two="2"), add("three", a__one="other")
    for one in (first, second, third):
        next(one)
    assert next(first, None) is None
    for one, sentence in ((second, "index was changed by another process"), (third, "one is there already")):
        with pytest.raises(DataError, match=sentence):
            next(one)
    assert tree(tmp_path) == {"a/one": "1", "index": "old one"}


def test_a_file_that_comes_between_the_look_and_the_move_is_kept(tmp_path, monkeypatch):
    fill(tmp_path, index="old")
    moves = folders._moves

    def late(*arguments):
        found = moves(*arguments)
        fill(tmp_path, two="theirs")
        return found

    monkeypatch.setattr(folders, "_moves", late)
    with (
        pytest.raises(DensedetError, match="two is there already"),
        addition(tmp_path, last="index") as folder,
    ):
        fill(folder, two="ours", index="new")
    assert tree(tmp_path) == {"two": "theirs", "index": "old"}
