"""The judge: what is still to write, right solutions, and each mistake by its name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torchvision.ops import box_iou, nms, sigmoid_focal_loss

from densedet.core.errors import UsageError
from densedet.core.lessons.judging import Verdict, diagnosis, judge
from densedet.core.lessons.names import NAMES, file_name, text_of
from densedet.core.lessons.solution import Slip, is_hole, read, same
from densedet.core.lessons.task import RIGHT, Task, lesson


def beside(name: str) -> ModuleType:
    """A module in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"lessons_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_solution = beside("solutions").write_solution
MISTAKES = beside("mistakes")
TASKS = [(name, task) for name in NAMES for task in lesson(name).tasks]
each_task = pytest.mark.parametrize(("name", "task"), TASKS, ids=[task.function for _, task in TASKS])


def judged(file: Path, **options: Any) -> Verdict:
    return judge(file, train=False, **options)


# -- the lessons themselves --------------------


@each_task
def test_the_answers_by_hand_are_right(name: str, task: Task) -> None:
    for case in (*task.by_hand, *task.edges):
        torch.testing.assert_close(task.answer(RIGHT, *case.given), case.expected, rtol=1e-5, atol=1e-6)


def test_the_answers_are_those_of_torchvision() -> None:
    generator = torch.Generator().manual_seed(1)
    answers = {task.function: task for _, task in TASKS}
    for _ in range(20):
        first, second = answers["iou"].draw(generator)
        expected = box_iou(first, second).diagonal()
        torch.testing.assert_close(answers["iou"].answer(RIGHT, first, second), expected)
        logits, truth, alpha, gamma = answers["focal"].draw(generator)
        expected = sigmoid_focal_loss(logits, truth, alpha=alpha, gamma=gamma).sum(-1)
        torch.testing.assert_close(answers["focal"].answer(RIGHT, logits, truth, alpha, gamma), expected)
        boxes, scores, _, threshold = answers["nms"].draw(generator)
        same_class = torch.zeros(len(boxes), dtype=torch.int64)
        kept = answers["nms"].answer(RIGHT, boxes, scores, same_class, threshold)
        assert kept.tolist() == nms(boxes, scores, threshold).tolist()


@each_task
def test_each_mistake_is_told_from_all_others(name: str, task: Task) -> None:
    generator = torch.Generator().manual_seed(0)
    given = [case.given for case in task.by_hand] + [task.draw(generator) for _ in range(8)]
    right = [task.answer(RIGHT, *arguments) for arguments in given]
    assert diagnosis(task, given, [torch.zeros(())] * len(given)) == ()
    for mistake in task.mistakes:
        outcomes: list[Any] = []
        for arguments in given:
            try:
                outcomes.append(task.answer(frozenset({mistake}), *arguments))
            except IndexError as error:
                outcomes.append(Slip("IndexError", str(error)))
        assert not all(map(same, outcomes, right)), mistake
        assert diagnosis(task, given, outcomes) == (mistake,)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_tells_its_task(name: str) -> None:
    text = text_of(name)
    assert max(map(len, text.splitlines())) <= 110
    assert f'LESSON = "{name}"' in text
    assert f"densedet check lesson {file_name(name)}" in text
    assert "By hand" in text
    assert "et al." in text
    assert f'@densedet.register("{lesson(name).kind}", "mine")' in text


# -- solutions --------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_unsolved_file_says_what_to_fill_in(name: str, tmp_path: Path) -> None:
    file = tmp_path / file_name(name)
    file.write_text(text_of(name))
    verdict = judged(file, output=tmp_path)
    assert verdict.state == "unsolved"
    assert verdict.picture is None
    for line, task in zip(verdict.lines, lesson(name).tasks, strict=True):
        assert (
            f"fill in the body of {task.function}({', '.join(task.arguments)}). Co" in line
            or "Choose" in line
        )
        number = int(line.split(" line ")[1].split(":")[0])
        assert "raise NotImplementedError" in file.read_text().splitlines()[number - 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_right_solution_is_right_and_drawn(name: str, tmp_path: Path) -> None:
    verdict = judged(write_solution(tmp_path, name), output=tmp_path / "out")
    assert verdict.state == "right", verdict.lines
    assert verdict.picture == str(tmp_path / "out" / f"my_{name}.png")
    assert Path(verdict.picture).stat().st_size > 10_000
    with pytest.raises(UsageError, match="there already"):
        judged(tmp_path / file_name(name), output=tmp_path / "out")


WRONG = [
    *((name, changes, {}, words) for name, rows in MISTAKES.WRONG.items() for changes, words in rows),
    *((name, (), {function: body}, words) for name, function, body, words in MISTAKES.BODIES),
]


@pytest.mark.parametrize(
    ("name", "changes", "bodies", "words"), WRONG, ids=[f"{name}-{words}" for name, _, _, words in WRONG]
)
def test_a_mistake_is_named(
    name: str, changes: list[tuple[str, str]], bodies: dict[str, str], words: str, tmp_path: Path
) -> None:
    verdict = judged(write_solution(tmp_path, name, *changes, **bodies))
    assert verdict.state == "wrong"
    [named] = [line for line in verdict.lines if words in line]
    assert named.startswith(f"my_{name}.py line ")
    assert any(line.partition(": ")[2].startswith("for example ") for line in verdict.lines)


def test_an_unknown_mistake_shows_the_smallest_case_with_its_numbers(tmp_path: Path) -> None:
    file = write_solution(tmp_path, "iou", ("return shared /", "return 0.9 * shared /"))
    assert judged(file).lines == [
        "my_iou.py line 32: the smallest case that fails: iou(first=[[0, 0, 4, 4]], second=[[2, 1, 6, 5]]) "
        "(shared 2 * 3 = 6, union 16 + 16 - 6 = 26): expected [0.2308], got [0.2077]",
        "iou: 4 of 7 cases by hand are right",
    ]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        (
            "iou",
            "    return first.nothing\n",
            "line 43 raises AttributeError: 'Tensor' object has",
        ),
        (
            "iou",
            "    first[..., 0] = 0\n    return first[..., 0]\n",
            "line 43: iou changes its input first",
        ),
        (
            "iou",
            "    first += 1\n    return first[..., 0]\n",
            "line 43: iou changes its input first",
        ),
        ("iou", "    result = first\n", "returns nothing: is the line with return missing?"),
        ("iou", "    return 0.5\n", "returns float instead of a tensor"),
        ("iou", "    return first\n", "expected the shape (1,), [0.2308], got (1, 4), [[0, 0, 4, 4]]"),
        ("iou", "    return first[..., 0] * torch.nan\n", "expected [0.2308], got [nan]"),
        ("iou", "    raise SystemExit(3)\n", "line 43 raises SystemExit: 3"),
        ("iou", "    x = 1\n    raise NotImplementedError\n", "there is still something to fill in"),
        (
            "nms",
            "    return torch.zeros(len(boxes))\n",
            "the numbers are right, but not their type: expected torch.int64",
        ),
    ],
)
def test_what_else_goes_wrong_gets_a_sentence_with_its_line(
    name: str, body: str, words: str, tmp_path: Path
) -> None:
    function = lesson(name).tasks[0].function
    verdict = judged(write_solution(tmp_path, name, **{function: body}))
    assert verdict.state == "wrong"
    assert words in verdict.lines[0]
    assert f"my_{name}.py line " in verdict.lines[0]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("iou", [(".clamp(min=1e-9)", "")], "0 / 0 must give 0"),
        (
            "iou",
            [("first[..., 2] - first[..., 0]", "first[:, 2] - first[:, 0]")],
            "take the coordinates",
        ),
        (
            "focal",
            [("functional.logsigmoid(signed)", "torch.log(torch.sigmoid(signed))")],
            "functional.logsigmoid is not",
        ),
        ("nms", [("kept, dtype=torch.int64)", "kept)")], "no boxes at all"),
    ],
)
def test_the_edges_have_sentences_of_their_own(
    name: str, changes: list[tuple[str, str]], words: str, tmp_path: Path
) -> None:
    verdict = judged(write_solution(tmp_path, name, *changes))
    assert verdict.state == "wrong"
    assert words in verdict.lines[0]


def test_one_function_of_two_is_judged_although_the_other_is_missing(tmp_path: Path) -> None:
    hole = "    raise NotImplementedError\n"
    verdict = judged(write_solution(tmp_path, "coder", encode=hole))
    assert verdict.state == "unsolved"
    assert "fill in the body of encode" in verdict.lines[0]
    assert verdict.lines[1] == "decode: all 6 cases by hand and 20 random ones are right"


def test_a_class_that_was_changed_is_found_beside_the_built_in_part(tmp_path: Path) -> None:
    file = write_solution(tmp_path, "nms", ("> self.score", "> self.score + 0.1"))
    [*_, last] = judged(file).lines
    assert "the functions are right, but the postprocess as a whole gives other detections' boxes" in last
    file = write_solution(
        tmp_path, "matcher", ('"mine"', '"mine"'), ("return Assignment(matched)", "return matched")
    )
    [*_, last] = judged(file).lines
    assert "the functions are right, but the matcher as a whole is not: a matcher gives an Assignment" in last


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "is no lesson's file: it has no line LESSON = 'iou'"),
        ("def f(:\n", "my_iou.py line 1: invalid syntax"),
    ],
)
def test_other_files_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "my_iou.py").write_text(text)
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "my_iou.py")
    assert words in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "import torch\n",
            "import torch, nothing_of_this_name\n",
            "does not load: ModuleNotFoundError",
        ),
        ("def iou(", "def my_own(", "has no function iou: keep the name"),
        ('("box_loss", "mine")', '("class_loss", "mine")', "registers no box_loss: keep the line"),
    ],
)
def test_a_file_that_is_no_part_any_more_gets_a_sentence(
    old: str, new: str, words: str, tmp_path: Path
) -> None:
    verdict = judged(write_solution(tmp_path, "iou", (old, new)))
    assert (verdict.state, len(verdict.lines)) == ("wrong", 1)
    assert words in verdict.lines[0]


def test_what_counts_as_a_hole() -> None:
    import ast

    for body in ("...", "pass", "raise NotImplementedError", "raise NotImplementedError('x')", '"""Doc."""'):
        [function] = ast.parse(f"def f():\n    {body}\n").body
        assert isinstance(function, ast.FunctionDef)
        assert is_hole(function)
    [function] = ast.parse("def f():\n    return 1\n").body
    assert isinstance(function, ast.FunctionDef)
    assert not is_hole(function)


def test_an_exception_in_the_class_gets_its_line(tmp_path: Path) -> None:
    file = write_solution(
        tmp_path, "matcher", ("        self.positive, self.negative = positive, negative", "        pass")
    )
    [*_, last] = judged(file).lines
    assert "the matcher as a whole is not: this matcher raised AttributeError" in last
    assert "my_matcher.py, line 9" in last
