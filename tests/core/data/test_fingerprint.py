"""What tells that images have changed, and what does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from densedet.core.data import fingerprint as module
from densedet.core.data.fingerprint import differences, fingerprint


class Files:
    """A source of four image files of ten bytes, named by their numbers."""

    classes = ("thing",)
    category_ids = (1,)

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / f"{number}.png" for number in range(4)]
        for path in self.paths:
            path.write_bytes(b"0123456789")
            os.utime(path, (1, 1))

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Path:
        return self.paths[index]

    def fingerprint(self) -> str:
        return "same boxes"


@pytest.mark.parametrize("read_at_most", [40, 20])  # bytes: all four files, or every second
def test_pixels_are_the_same_on_another_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_at_most: int
) -> None:
    monkeypatch.setattr(module, "READ_AT_MOST", read_at_most)
    source: Any = Files(tmp_path)
    before = fingerprint(source)
    os.utime(source.paths[1], (2, 2))
    moved = fingerprint(source)
    assert moved["pixels"] == before["pixels"]
    assert differences(before, moved, "training") == (
        [] if read_at_most == 40 else ["the image files of the training images have changed"]
    )
    source.paths[2].write_bytes(b"0123456780")
    assert fingerprint(source)["pixels"] != before["pixels"]
    source.paths[2].write_bytes(b"0123456789")
    source.paths[1].write_bytes(b"01234567890")  # longer, whether it is read or not
    assert fingerprint(source)["pixels"] != before["pixels"]
    source.paths[1].unlink()
    assert differences(before, fingerprint(source), "training") == ["gone: 1 of 4 training image files"]
