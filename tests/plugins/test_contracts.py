"""mypy reads `densedet.plugins._contracts`; here: nothing is missing in it."""

import ast
import importlib
from pathlib import Path

from densedet.core import contracts
from densedet.plugins import FAMILIES

FILE = Path(__file__).resolve().parents[2] / "plugins" / "_contracts.py"


def test_every_built_in_part_is_checked_against_the_contract_of_its_kind():
    checked = {}
    for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.AnnAssign):
            protocol = ast.unparse(node.annotation).split("contracts.")[1].rstrip("]")
            assert hasattr(contracts, protocol)
            assert protocol.lower() == node.target.id.replace("_", "")
            checked[node.target.id] = {part.attr for part in node.value.elts}
    registered = {}
    for family in FAMILIES:
        for kind, _, target, _ in importlib.import_module(f"densedet.plugins.{family}").COMPONENTS:
            module, name = target.split(":")
            if module.startswith("densedet.") and kind != "hook":  # a hook has no required method
                registered.setdefault(kind, set()).add(name)
    assert checked == registered


def test_the_file_imports_no_part_at_run_time():
    body = ast.parse(FILE.read_text(encoding="utf-8")).body
    assert [type(node).__name__ for node in body] == ["Expr", "ImportFrom", "ImportFrom", "If"]
    assert ast.unparse(body[-1].test) == "TYPE_CHECKING"
