"""Sealed files: what is written is read back, and every other byte is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core import sealed_file
from densedet.core.errors import PartError
from densedet.core.state_dict import read_state

VALUE = {"weights": {"a": torch.arange(40.0), "b": torch.zeros(2, dtype=torch.bfloat16)}, "step": 3}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    sealed_file.write(tmp_path / "a.pt", VALUE)
    return tmp_path / "a.pt"


def test_what_is_written_is_read_by_us_by_torch_and_by_zip(file: Path) -> None:
    for value in (sealed_file.read(file), torch.load(file, weights_only=True)):
        assert value["step"] == 3
        assert torch.equal(value["weights"]["a"], torch.arange(40.0))
    assert zipfile.ZipFile(file).testzip() is None


def test_every_changed_byte_is_refused(file: Path) -> None:
    """Each byte flipped, each byte cut away, each length kept, one byte added at each place, and blocks of
    zeros."""
    good = file.read_bytes()
    changed = [good + b"\0", b""]
    for at in range(len(good)):
        flipped = good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]
        changed += [flipped, good[:at] + good[at + 1 :], good[:at], good[:at] + b"\0" + good[at:]]
    changed += [good[:at] + bytes(64) + good[at + 64 :] for at in range(0, len(good) - 64, 64)]
    refused = 0
    with open(file, "r+b") as opened:
        for content in changed:
            if content == good:  # zeros where zeros were
                continue
            opened.seek(0)
            opened.write(content)
            opened.truncate()
            with pytest.raises(ValueError, match="checksum"):
                sealed_file.check_seal(opened)
            refused += 1
    assert refused > 4 * len(good)


@pytest.mark.parametrize("value", [Path("x"), {1}, bytearray(3), torch.zeros(2).to_sparse(), 1j])
def test_a_pickle_that_names_anything_but_tensors_is_refused(tmp_path: Path, value: Any) -> None:
    sealed_file.write(tmp_path / "a.pt", {"x": value})
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        sealed_file.read(tmp_path / "a.pt")


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    sealed_file.write(tmp_path / "a.pt", {"x": torch.zeros(1000)})
    small = tmp_path / "b.pt"
    with zipfile.ZipFile(tmp_path / "a.pt") as plain, zipfile.ZipFile(small, "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    reseal(small)
    with pytest.raises(ValueError, match="torch has not written it"):
        sealed_file.read(small)


def test_a_state_dict_of_anybody_is_read_by_its_checksums(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.save({"w": torch.ones(1000)}, path)
    assert torch.equal(read_state(str(path))["w"], torch.ones(1000))
    good = path.read_bytes()
    at = good.index(torch.ones(100).numpy().tobytes())
    path.write_bytes(good[:at] + bytes(400) + good[at + 400 :])
    with pytest.raises(PartError, match="the checksum of .* is wrong"):
        read_state(str(path))
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(str(path))["w"], torch.ones(3))


def reseal(path: Path) -> None:
    """Give a zip archive without a comment the right digest, as a stranger can."""
    content = path.read_bytes()
    digest = sealed_file.hashlib.sha256(content)
    path.write_bytes(content[:-2] + sealed_file._tail(digest))
