"""``where``: the images and boxes of a source that an SQL expression means. No torch here."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from densedet.core.annotations.source import table_of
from densedet.core.annotations.sql import (
    COLUMNS,
    FUNCTIONS,
    MAX_SQL,
    MAX_VALUE,
    Guarded,
    harmless,
    memory_database,
)
from densedet.core.annotations.table import AnnotationTable
from densedet.core.errors import DataError, DensedetError
from densedet.core.text import counted
from densedet.registry import suggest

if TYPE_CHECKING:
    from densedet.core.contracts import Source

NONE = {name: f"(SELECT * FROM {name} LIMIT 0) AS {name}" for name in COLUMNS}
"""A table without rows: joined from the left, all its columns are NULL."""

BOXED = "classes JOIN boxes USING (label) LEFT JOIN images ON images.image = boxes.image_row"
"""Boxes. USING makes ``label`` mean one thing; a left join is left out by SQLite where nothing reads
images."""

SCANNED = "boxes CROSS JOIN classes USING (label) LEFT JOIN images ON images.image = boxes.image_row"
"""The same in the order of table boxes. SQLite would look for them class by class, which is five to fifteen
times as slow where their other columns are wanted and most classes are."""

OF_CLASSES = f"classes LEFT JOIN {NONE['boxes']} USING (label) LEFT JOIN {NONE['images']}"
OF_IMAGES = f"images LEFT JOIN {NONE['classes']} LEFT JOIN {NONE['boxes']} USING (label)"
OF_NOTHING = (
    f"(SELECT 1) LEFT JOIN {NONE['images']} LEFT JOIN {NONE['classes']} LEFT JOIN "
    f"{NONE['boxes']} USING (label)"
)

MAX_LENGTH = MAX_SQL - 1000
"""Characters of a where."""

MAX_WORDS = 200
MAX_SELECTS = 3
"""Names (texts and numbers do not count) and subqueries of a where. Before it looks at any budget, SQLite
copies what a name of a subquery stands for to each place where it is used, so that subqueries within
subqueries, which are refused, would grow as a power."""

TOKEN = re.compile(
    r"""(?P<skip>'(?:[^']|'')*'|--[^\n]*|/\*.*?(?:\*/|\Z)|\s+|\d\w*)|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|\w+|.""",
    re.S,
)

PIECE = re.compile(
    r"""'(?:[^']|'')*'|--[^\n]*|/\*.*?(?:\*/|\Z)|\s+|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|\w+|.""", re.S
)


class WhereError(DensedetError, ValueError):
    """A wrong ``where``."""

    exit_code = 2


class RowIds(NamedTuple):
    """A database's row numbers, int64 and distinct, in the order of an `AnnotationTable`."""

    classes: np.ndarray  # (C,)
    images: np.ndarray  # (I,)
    boxes: np.ndarray  # (M,)


def where_masks(source: Source, expression: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the images and boxes that an SQL expression means.

    The expression is evaluated on an image joined with one of its boxes and the class of that box. A box is
    meant if it is true there, an image if it is true for any of its boxes. An image without boxes has NULL in
    all columns of boxes and classes, so ``width > 500`` means it and ``class = 'car'`` does not. Columns are
    those of `COLUMNS`, and any that were added to a .sqlite file.

    Returns:
        bool (I,) of images and bool (M,) of boxes, in the order of the source's table.

    Raises:
        WhereError: the expression is wrong.
    """
    own = getattr(source, "where_masks", None)
    if own is not None:
        return own(expression)  # type: ignore[no-any-return]
    check_where_syntax(expression)
    table = table_of(source)
    empty = memory_database(None)
    try:
        read = columns_read(empty, expression)
    finally:
        empty.close()
    if _asked_of(read) == "boxes":
        read.add(("boxes", "box"))
    subqueries = re.search(r"\bselect\b", expression, re.I) is not None
    connection = memory_database(table, read, indexed=subqueries)
    try:
        rows = RowIds(np.arange(len(table.classes)), np.arange(len(table)), np.arange(len(table.labels)))
        return matching(connection, expression, table, rows)
    finally:
        connection.close()


def _asked_of(read: set[tuple[str, str]]) -> str:
    """Return the table for whose rows an expression that reads these columns must be evaluated."""
    tables = {table for table, _ in read}
    return "classes" if tables <= {"classes"} else "images" if tables == {"images"} else "boxes"


def matching(
    connection: Guarded, expression: str, table: AnnotationTable, rows: RowIds
) -> tuple[np.ndarray, np.ndarray]:
    """Find the images and boxes that an expression means, in a database.

    An expression that reads only classes is evaluated once for each class, one that reads only images once
    for each image.

    Args:
        connection: the database; rows of it that are not in ``rows`` do not count.
        expression: has passed `check_where_syntax`.
        table: the annotations that it holds.
        rows: where it holds them.

    Returns:
        bool (I,) of images and bool (M,) of boxes.

    Raises:
        WhereError: the expression is wrong.
    """
    read = columns_read(connection, expression)
    check_class_values(expression, table, {column for _, column in read})
    owners = table.owners()
    if _asked_of(read) == "images":
        images = among(rows.images, _numbers(connection, "images.image", OF_IMAGES, expression, len(table)))
        return images, images[owners]
    if _asked_of(read) == "classes":
        known = among(
            rows.classes, _numbers(connection, "classes.label", OF_CLASSES, expression, len(table.classes))
        )
        boxes = np.append(known, False)[table.labels]  # the last for label -1, of no class
    else:
        tables = SCANNED if any(name == "boxes" for name, _ in read) else BOXED
        boxes = among(rows.boxes, _numbers(connection, "boxes.box", tables, expression, len(table.labels)))
    images = np.zeros(len(table), dtype=bool)
    images[owners[boxes]] = True
    alone = np.diff(table.offsets) == 0
    if alone.any():
        if any(name == "images" for name, _ in read):
            alone &= among(
                rows.images, _numbers(connection, "images.image", OF_IMAGES, expression, len(table))
            )
        else:
            alone &= len(_numbers(connection, "1", OF_NOTHING, expression, 1)) > 0
    return images | alone, boxes


def columns_read(connection: Guarded, expression: str) -> set[tuple[str, str]]:
    """Return every (table, column) that ``expression`` reads; the column is "" where only rows are counted.

    Raises:
        WhereError: the expression is wrong.
    """
    return set(_reads(connection, expression) - _reads(connection, "1"))


def _reads(connection: Guarded, expression: str) -> Counter[tuple[str, str]]:
    """Count how often a query of boxes with ``expression`` names each column."""
    found: Counter[tuple[str, str]] = Counter()

    def record(action: int, first: Any, second: Any, database: Any, trigger: Any) -> int:
        if action == sqlite3.SQLITE_READ:
            found[first, second] += 1
        return harmless(action, first, second, database, trigger)

    _authorized(connection, record, f"EXPLAIN SELECT 1 FROM {BOXED} WHERE (\n{expression}\n)", expression)
    return found


def _numbers(connection: Guarded, number: str, tables: str, expression: str, rows: int) -> np.ndarray:
    """Return int64 (N,), ``number`` for each row of ``tables`` for which ``expression`` is true.

    The expression must have passed `columns_read`. SQLite joins the numbers to one text, which NumPy reads
    several times as fast as Python reads rows.
    """

    def joining(action: int, first: Any, second: Any, database: Any, trigger: Any) -> int:
        if action == sqlite3.SQLITE_FUNCTION and second == "group_concat":
            return sqlite3.SQLITE_OK
        return harmless(action, first, second, database, trigger)

    longest = len(str(-(1 << 63))) + 1
    _limit_values(connection, max(MAX_VALUE, longest * rows))
    try:
        statement = f"SELECT group_concat({number}) FROM {tables} WHERE (\n{expression}\n)"
        [(text,)] = _authorized(connection, joining, statement, expression)
    finally:
        _limit_values(connection, MAX_VALUE)
    return np.fromstring(text, dtype=np.int64, sep=",") if text else np.zeros(0, np.int64)


def _limit_values(connection: Guarded, length: int) -> None:
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(length, (1 << 31) - 1))


def _authorized(
    connection: Guarded, authorizer: Callable[..., int], statement: str, expression: str
) -> list[Any]:
    """Return a statement's rows under another authorizer.

    SQLite asks it even if it knows the statement already. Raises WhereError.
    """
    connection.set_authorizer(authorizer)
    try:
        return connection.execute(statement).fetchall()
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, MemoryError, OverflowError) as error:
        raise _where_error(error, expression) from error
    finally:
        connection.set_authorizer(harmless)


def among(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return bool (N,): which of ``rows`` are in ``chosen``, both int64 in any order.

    Nothing is sorted where the numbers lie close together.
    """
    if not len(rows) or not len(chosen):
        return np.zeros(len(rows), dtype=bool)
    low, high = int(rows.min()), int(rows.max())
    if high - low > 8 * len(rows) + 1000:
        return np.isin(rows, chosen)
    marks = np.zeros(high - low + 1, dtype=bool)
    marks[chosen[(chosen >= low) & (chosen <= high)] - low] = True
    return marks[rows - low]


# -- the expression --------------------


def check_where_syntax(expression: str) -> None:
    """Raise WhereError where this cannot be an expression, whatever columns there may be."""
    _check_size(expression)
    connection = memory_database(None)
    try:
        # Alone it must be an expression too: "1) or (1" only makes sense between our parentheses.
        for form in ("SELECT {} FROM " + BOXED, "SELECT 1 FROM " + BOXED + " WHERE (\n{}\n) IS NOT NULL"):
            try:
                _authorized(connection, harmless, form.format(f"\n{expression}\n"), expression)
            except WhereError as error:
                if "has no column" not in str(error):
                    raise
    finally:
        connection.close()


def _check_size(expression: str) -> None:
    if len(expression) > MAX_LENGTH:
        raise WhereError(f"where has {len(expression)} characters, the limit is {MAX_LENGTH}")
    if not expression.strip() or "\0" in expression:
        raise WhereError(
            'where is empty or holds a NUL character: write an SQL expression, e.g. "class in '
            "('person', 'car')\""
        )
    tokens = [match[0].lower() for match in TOKEN.finditer(expression) if match["skip"] is None]
    words = sum(token[0] in '"`[' or token[0].isalpha() or token[0] == "_" for token in tokens)
    selects = tokens.count("select")
    if words > MAX_WORDS or selects > MAX_SELECTS:
        raise WhereError(
            f"where has {words} words and {counted(selects, 'subquery')}, the limits are {MAX_WORDS} and "
            f"{MAX_SELECTS}: texts and numbers are free, "
            "so write column in (1, 2, 3) for column = 1 or column = 2 or column = 3"
        )
    if "with" in tokens or _nested(tokens):
        raise WhereError(
            f"where {expression!r}: a subquery selects from images, boxes and classes and holds no "
            f"other subquery"
        )


def _nested(tokens: list[str]) -> bool:
    """Return whether a subquery stands in a subquery."""
    selecting: list[bool] = []
    for token in tokens:
        if token == "(":
            selecting.append(False)
        elif token == ")":
            del selecting[-1:]
        elif token == "select" and selecting:
            if any(selecting[:-1]):
                return True
            selecting[-1] = True
    return False


EQUAL = {("=",), ("=", "="), ("<", ">"), ("!", "="), ("is",), ("is", "not"), ("in",), ("not", "in")}
LIKE = {("like",), ("not", "like"), ("glob",), ("not", "glob")}
"""Comparisons of a column with the literals behind it."""

JOINING = frozenset("|+-*/%&")
"""Beside one of these the column or the literal is only a piece of what is compared."""


def check_class_values(expression: str, table: AnnotationTable, columns: Collection[str]) -> None:
    """Check the literals that ``class``, ``label`` and ``category_id`` are compared with.

    Args:
        expression: SQL.
        table: its classes are the known ones.
        columns: names of the columns that the expression reads. SQLite takes any other name in double quotes
            for a text.

    Raises:
        WhereError: no class has such a name, label or category id, so that the comparison decides nothing.
    """
    known: dict[str, Sequence[int | str]] = {
        "class": table.classes,
        "label": range(len(table.classes)),
        "category_id": table.category_ids,
    }
    tokens = []
    for match in PIECE.finditer(expression):
        token = match[0]
        if token[0] == '"' and token[1:-1] not in columns:
            token = "'" + token[1:-1].replace("'", "''") + "'"
        if not token.isspace() and token[:2] not in ("--", "/*"):
            tokens.append(token)
    for place, token in enumerate(tokens):
        column = token.lower().strip('"`[]')
        if column not in known or token[0] == "'":
            continue
        before, start = tokens[:place], place
        if before[-1:] == ["."]:
            if before[-2:-1] and before[-2].lower() == "images":
                continue
            start -= 2
        if start and tokens[start - 1] in JOINING:
            continue
        for operator, literals, nocase in _comparisons(tokens, start, place + 1):
            for literal in literals:
                if not _is_known(literal, operator, known[column], nocase):
                    raise _unknown_value(expression, column, literal, known[column])


def _comparisons(tokens: list[str], start: int, end: int) -> Iterator[tuple[str, list[str], bool]]:
    """Give (operator, literals, whether case does not count) of what stands around tokens[start:end]."""
    words = [token.lower() for token in tokens]
    for length in (2, 1):
        behind, before = tuple(words[end : end + length]), tuple(words[max(start - length, 0) : start])
        if behind in EQUAL | LIKE:
            first = end + length
            last = first
            if words[first : first + 1] == ["("]:
                first, last = first + 1, words.index(")", first) if ")" in words[first:] else first
            literals = [t for t in tokens[first : last + 1] if t[0] == "'" or t.isdigit()]
            rest = words[last + 1 : last + 3]
            plain = all(t[0] == "'" or t.isdigit() or t in ",)" for t in tokens[first : last + 1])
            if plain and not (rest and rest[0] in JOINING):
                yield behind[-1], literals, rest == ["collate", "nocase"]
            break
        if before in EQUAL and before[-1] != "in" and start > length:
            literal = tokens[start - length - 1]
            joined = start > length + 1 and tokens[start - length - 2] in JOINING
            if (literal[0] == "'" or literal.isdigit()) and not joined:
                yield "=", [literal], words[end : end + 2] == ["collate", "nocase"]
            break


def _is_known(literal: str, operator: str, known: Sequence[int | str], nocase: bool) -> bool:
    """Return whether one of the ``known`` values equals the literal, or is like it."""
    text, values = _text(literal), [str(value) for value in known]
    if operator in ("like", "glob"):
        connection = memory_database(None)
        try:
            statement = f"SELECT ? {operator} ?"
            return any(connection.execute(statement, (value, text)).fetchone()[0] for value in values)
        finally:
            connection.close()
    return text in values or (nocase and text.lower() in (value.lower() for value in values))


def _text(literal: str) -> str:
    """Return the text that a literal stands for; SQLite compares a number with a text as a text."""
    return literal[1:-1].replace("''", "'") if literal[0] == "'" else str(int(literal))


def _unknown_value(expression: str, column: str, literal: str, known: Sequence[int | str]) -> WhereError:
    names = [str(value) for value in known]
    what = {"class": "is called", "label": "has the label", "category_id": "has the category id"}[column]
    hint = ""
    if column == "class" and literal[0] != "'":
        hint = " Names are texts in quotes; numbers are compared with label or category_id."
    elif column == "class":
        other_case = [name for name in names if name.lower() == _text(literal).lower()]
        hint = f" Did you mean {other_case[0]!r}?" if other_case else suggest(_text(literal), names)
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return WhereError(f"where {expression!r}: no class {what} {literal}.{hint} There are: {listed}")


def _where_error(error: BaseException, expression: str) -> DensedetError:
    text = str(error)
    if isinstance(error, OverflowError) or "malformed" in text or "not a database" in text:
        return DataError(f"the annotation database is damaged: {text}; convert it anew")
    if match := re.search(r"no such column: (.+)", text):
        name = match[1].split(".")[-1].strip("\"'`[]")
        known = [c for columns in COLUMNS.values() for c in columns]
        return WhereError(
            f"where {expression!r}: the database has no column {match[1]!r}.{suggest(name, known)} "
            f"Columns: {', '.join(dict.fromkeys(known))}"
        )
    if match := re.search(r"ambiguous column name: (.+)", text):
        text = (
            f"several tables have a column {match[1]}: write images.{match[1]}, boxes.{match[1]} or "
            f"classes.{match[1]}"
        )
    elif "interrupted" in text:
        text = "it takes too many steps"
    elif "prohibited" in text or "not authorized" in text:
        text = f"only columns and the functions {', '.join(sorted(FUNCTIONS))} may be used ({text})"
    elif "one statement" in text:
        text = "it is more than one statement"
    elif "binding" in text or "parameter" in text:
        text = "'?' and ':name' have no values here"
    position = re.search(r'near "(.*?)"', text)
    near = (
        f" (character {expression.find(position[1]) + 1})" if position and position[1] in expression else ""
    )
    if position and not near:
        text = "it is no expression, or ends too early"
    return WhereError(f"where {expression!r}: {text}{near}")
