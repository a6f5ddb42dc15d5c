import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from densedet.core import files
from densedet.core.errors import BusyError, CheckpointError, OutputError, UsageError
from densedet.core.training.folders import latest_folder, new_folder, write_together
from densedet.plugins.hooks.metrics import cut_back


def test_a_write_that_dies_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_text(path, "old")

    def die() -> None:
        with files.atomic_file(path) as file:
            file.write(b"half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"], "a temporary file was left"


def test_folders_are_made_and_a_path_can_be_written_by_others(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "a" / "b.bin") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a" / "b.bin").exists()
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"new"
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_place_where_nothing_can_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why, advice in (
        (tmp_path / "file", "Not a directory", "give another run.folder"),
        (tmp_path / "file" / "below", "Not a directory", "give another run.folder"),
        (tmp_path / ("n" * 300), "File name too long", "give another run.folder"),
    ):
        with pytest.raises(OutputError, match=rf"the folder {path}/ssd cannot be made \({why}\): {advice}"):
            new_folder(path, "ssd")
        assert _no_run(path)
    with pytest.raises(OutputError, match=r"\(File name too long\): give a shorter name"):
        files.write_text(tmp_path / ("n" * 300), "x")
    (tmp_path / "metrics.jsonl").mkdir()
    for write in (
        lambda path: files.LineFile(path),
        lambda path: files.write_text(path, "x"),
        lambda path: cut_back(path, 1, evaluated=True),
    ):
        with pytest.raises(OutputError, match=r"metrics\.jsonl cannot .*move the folder of this"):
            write(tmp_path / "metrics.jsonl")


def _no_run(path: Path) -> bool:
    with pytest.raises(CheckpointError, match="there is no run of 'ssd'"):
        latest_folder(path, "ssd")
    return True


def test_folders_of_other_names_are_no_runs(tmp_path: Path) -> None:
    for name in ("²", "3", "x"):
        (tmp_path / "ssd" / name).mkdir(parents=True)
    assert latest_folder(tmp_path, "ssd").name == "3"
    assert new_folder(tmp_path, "ssd").name == "4"
    assert write_together(tmp_path / "ssd" / "a", Path.touch, in_number=True) == tmp_path / "ssd" / "5" / "a"
    assert sorted(path.name for path in (tmp_path / "ssd").iterdir()) == ["3", "4", "5", "x", "²"]
    assert (tmp_path / "ssd" / "5" / "a").exists()


@pytest.mark.parametrize("links", [True, False])
def test_of_several_writers_of_one_new_file_the_first_to_end_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr("os.link", no_links)
    path = tmp_path / "x.json"

    def write_slowly() -> None:
        with files.atomic_file(path, overwrite=False) as slow:
            slow.write(b"slow")
            files.write_text(path, "fast", overwrite=False)

    with pytest.raises(UsageError, match="x.json is there already"):
        write_slowly()
    assert path.read_text() == "fast"
    assert path.stat().st_nlink == 1
    with pytest.raises(UsageError, match="x.json is there already"):
        files.write_text(path, "late", overwrite=False)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"], "a temporary file was left"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the holder is a fork")
def test_a_lock_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    """A process that holds the lock has started another, as a loader's worker is; then it is killed."""
    ready, tell = os.pipe()
    holder = os.fork()
    if not holder:
        with files.locked(tmp_path):
            worker = os.fork()
            if worker:
                os.write(tell, worker.to_bytes(4, "little"))
            time.sleep(60)
            os._exit(0)
    worker = int.from_bytes(os.read(ready, 4), "little")
    try:
        with pytest.raises(BusyError, match=rf"in use by process {holder} on "), files.locked(tmp_path):
            pass
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        with files.locked(tmp_path), files.locked(tmp_path):
            assert (tmp_path / ".holder").read_text().startswith(f"process {os.getpid()} on ")
        assert not (tmp_path / ".holder").exists()
    finally:
        os.kill(worker, signal.SIGKILL)


def test_temporary_files_of_killed_writers_are_removed(tmp_path, monkeypatch):
    """A child is killed while it writes; the file of this process, which lives, stays."""
    code = (
        "import sys, os; from pathlib import Path; from densedet.core.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file: os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "a.txt"
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == -9
    (left,) = tmp_path.glob(".a.txt.*.tmp")
    with files.atomic_file(target) as file:
        file.write(b"new")
        assert len(list(tmp_path.glob(".*.tmp"))) == 1
        monkeypatch.setattr(files, "_SWEPT", set())
        files.write_text(tmp_path / "b.txt", "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]
    assert not left.exists()


def test_the_files_of_a_folder_are_moved_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    with files.temporary_folder(tmp_path / "x") as made:
        for name in "abc":
            (made / name).write_text(name)
        with pytest.raises(UsageError, match="b is there already"):
            files.move_all(made)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    with files.temporary_folder(tmp_path / "x") as made:
        (made / "a").write_text("a")
        files.move_all(made)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "a", "b": "mine"}


@pytest.mark.parametrize(("killed_at", "left"), [(2, []), (3, ["a", "b"])])
def test_what_a_killed_process_has_moved_in_part_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, left: list[str]
) -> None:
    """It is killed before the second of two files is moved, or after that: then the files are complete."""
    code = (
        "import sys, os; from pathlib import Path; from densedet.core import files\n"
        "link, links = os.link, []\n"
        "def counted(*names):\n"
        "    links.append(names)\n"
        "    len(links) == int(sys.argv[2]) and os.kill(os.getpid(), 9)\n"
        "    link(*names)\n"
        "os.link = counted\n"
        "with files.temporary_folder(Path(sys.argv[1])) as made:\n"
        "    for name in 'ab': (made / name).touch()\n"
        "    files.move_all(made)\n"
        "    counted()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "x"), str(killed_at)]
    assert subprocess.run(words).returncode == -9
    assert len(list(tmp_path.glob(".x.*.tmp"))) == 1
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == left
