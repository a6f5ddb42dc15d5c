"""Errors in one line, with the place in an author's file."""

from __future__ import annotations

import pytest

from densedet.core.errors import OURS, ConvertedError, PartError, author_place, sentence


def raised(code: str, error: type[Exception]) -> Exception:
    """What ``code`` raises as a file of a user's."""
    with pytest.raises(error) as caught:
        exec(compile(code, "/home/u/my_part.py", "exec"), {"__name__": "my_part"})
    return caught.value


def test_the_type_stands_where_the_text_alone_would_not_tell() -> None:
    assert sentence(raised("1 / 0", ZeroDivisionError)) == (
        "ZeroDivisionError: division by zero (my_part.py line 1)"
    )
    assert sentence(raised("\nraise ValueError('too \\n small')", ValueError)) == (
        "too small (my_part.py line 2)"
    )
    assert sentence(ValueError()) == "ValueError"
    assert sentence(PartError("write 3")) == "write 3"


def test_an_error_of_memory_is_told_without_torchs_words() -> None:
    text = (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    )
    for error in (RuntimeError(text), MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate")):
        assert sentence(error) == "it needs more memory than there is: use smaller sizes"


def test_lines_of_libraries_are_not_an_authors() -> None:
    assert author_place(raised("import json\njson.loads('{')", ValueError)) == " (my_part.py line 2)"
    error = raised("import json\njson.loads('{')", ValueError)
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    assert author_place(error) == ""


def test_an_error_in_a_worker_is_one_line() -> None:
    """torch puts the worker's traceback into the text."""
    text = (
        "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        f'  File "{OURS[0]}data/dataset.py", line 280, in _transformed\n    image = transform(image)\n'
        '  File "/home/u/my_part.py", line 7, in __call__\n    return target["x"]\nKeyError: \'x\'\n'
    )
    told = text.replace("KeyError: 'x'", "densedet.core.errors.ConvertedError: Mine: 'x' (my_part.py line 7)")
    assert sentence(ConvertedError(told)) == "Mine: 'x' (my_part.py line 7)"
    assert sentence(ValueError(text.replace("KeyError:", "ValueError:"))) == "'x' (my_part.py line 7)"
    assert sentence(RuntimeError(text)) == "KeyError: 'x' (my_part.py line 7)"
