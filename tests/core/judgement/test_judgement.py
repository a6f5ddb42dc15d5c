"""The file of a judgement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densedet.core.judgement.judgement import Judgement, load, save

Make = Callable[..., Judgement]


def one(judged: Make, **changes: Any) -> Judgement:
    made = judged([(1, [0, 0, 10, 10], 1)], [(0, [0, 0, 5, 5], 0.5, 0)], images=2, **changes)
    made.found.extra["ink"] = np.array([7])
    return made


def test_it_is_the_same_when_read_again(judged: Make, tmp_path: Path) -> None:
    made = one(judged, image_ids=("a", 5), metrics={"AP": -1.0, "classes": {"cat": {"AP": 0.25}}})
    save(tmp_path / "x" / "j.npz", made)
    read = load(tmp_path / "x" / "j.npz")
    for field in fields(Judgement):
        value, again = getattr(made, field.name), getattr(read, field.name)
        if field.name in ("truth", "found", "evidence"):
            for column in fields(value):
                if column.name != "extra":
                    np.testing.assert_array_equal(getattr(value, column.name), getattr(again, column.name))
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, again)
        else:
            assert value == again
    assert read.found.extra["ink"].tolist() == [7]


def test_every_changed_byte_is_noticed(judged: Make, tmp_path: Path) -> None:
    file = tmp_path / "j.npz"
    save(file, one(judged))
    content = file.read_bytes()
    for position in range(0, len(content), 97):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            load(file)
    file.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="checksum"):
        load(file)


def test_metrics_that_json_cannot_hold_are_not_written(judged: Make, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path / "j.npz", one(judged, metrics={"AP": {1, 2}}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_ids": (1,)}, "another length than image_ids"),
        ({"thresholds": (0.5,)}, "another length than classes"),
        ({"positives": np.zeros(2)}, r"evidence\.positives has 2 rows, not 1"),
        ({"classes": ("cat",), "thresholds": (0.3,)}, "out of range"),
    ],
)
def test_columns_of_different_lengths_are_refused(judged: Make, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one(judged, **changes)
