"""Plug-ins from files, modules and installed packages, each loaded on its own."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from densedet.core.errors import PluginError
from densedet.core.recipe.plugin_loading import PluginSet, load_plugins
from densedet.registry import Registry, UnknownComponent, components

HEAD = (
    "import densedet\n\n@densedet.register('head', 'mine')\nclass Mine:\n    '''{}'''\n    def "
    "__init__(self, *, depth: int = {}): ...\n"
)


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    load_plugins(registry=registry, builtins=False)
    return registry


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def summary(plugins: PluginSet) -> str:
    return plugins.components.get("head", "mine").summary


def test_builtins_enter_by_the_hook_and_once() -> None:
    registry = Registry()
    first = load_plugins(registry=registry)
    assert (first.plugins[0].name, first.plugins[0].status) == ("densedet", "loaded")
    assert first.plugins[0].hooks == ("densedet_register",)
    assert registry.get("head", "retinanet").origin.startswith("densedet ")
    rows = registry.snapshot()
    assert load_plugins(registry=registry).components.snapshot() == rows
    assert registry.snapshot() == rows


def test_bare_registration_in_a_file(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "head.py", HEAD.format("first", 1))
    before = components.snapshot()
    plugins = load_plugins([file], registry=registry)
    assert plugins.components.get("head", "mine").origin == str(file)
    assert registry.get("head", "mine").origin == str(file)
    assert components.snapshot() == before, "only the asked registry gets it"
    again = load_plugins([file, str(file)], registry=registry)
    assert again.components.names("head") == ["mine"]
    assert again.components.get("head", "mine").load() is plugins.components.get("head", "mine").load()


def test_a_changed_file_is_read_again(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "head.py", HEAD.format("first", 1))
    assert summary(load_plugins([file], registry=registry)) == "first"
    write(file, HEAD.format("later", 1))
    os.utime(file, ns=(1, 1))
    assert summary(load_plugins([file], registry=registry)) == "later"


def test_two_recipes_may_have_a_part_of_the_same_name(registry: Registry, tmp_path: Path) -> None:
    one = load_plugins([write(tmp_path / "one.py", HEAD.format("one", 1))], registry=registry)
    two = load_plugins([write(tmp_path / "two.py", HEAD.format("two", 2))], registry=registry)
    none = load_plugins(registry=registry)
    assert (summary(one), summary(two)) == ("one", "two")
    with pytest.raises(UnknownComponent):
        none.components.get("head", "mine")


def test_two_files_of_one_recipe_may_not(registry: Registry, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.py", HEAD.format(n, 1)) for n in ("one", "two")]
    with pytest.raises(
        PluginError,
        match=r"two\.py does not load: DuplicateComponent: head 'mine' is already registered by .*one\.py",
    ):
        load_plugins(files, registry=registry)


def test_a_failing_file_leaves_nothing_and_keeps_its_reason(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "bad.py", HEAD.format("x", 1) + "raise ValueError('boom')\n")
    before, modules = registry.snapshot(), set(sys.modules)
    plugins = load_plugins([file], registry=registry, strict=False)
    row = plugins.plugins[-1]
    assert (row.status, row.reason) == ("failed", "ValueError: boom (bad.py line 7)")
    assert isinstance(row.error, ValueError)
    assert registry.snapshot() == before
    assert not set(sys.modules) - modules
    with pytest.raises(PluginError) as caught:
        load_plugins([file], registry=registry)
    assert isinstance(caught.value.__cause__, ValueError)


def test_half_a_registration_is_undone(registry: Registry, tmp_path: Path) -> None:
    body = "    registry.add('head', 'mine', dict.fromkeys)\n    1 / 0\n"
    code = f"import densedet\n\n@densedet.hookimpl\ndef densedet_register(registry):\n{body}"
    plugins = load_plugins([write(tmp_path / "half.py", code)], registry=registry, strict=False)
    assert plugins.plugins[-1].status == "failed"
    assert registry.names("head") == []


def test_run_hooks_are_called_in_listed_order(registry: Registry, tmp_path: Path) -> None:
    code = "import densedet\n\n@densedet.hookimpl\ndef densedet_run_start(run):\n    run.append('{}')\n"
    files = [write(tmp_path / f"{n}.py", code.format(n)) for n in ("b", "a", "c")]
    plugins = load_plugins(files, registry=registry)
    calls: list[str] = []
    plugins.manager.hook.densedet_run_start(run=calls)
    assert calls == ["b", "a", "c"]
    assert plugins.plugins[-1].hooks == ("densedet_run_start",)


def test_parts_of_a_file_pickle(registry: Registry, tmp_path: Path) -> None:
    plugins = load_plugins([write(tmp_path / "head.py", HEAD.format("x", 1))], registry=registry)
    head = plugins.components.get("head", "mine").load()
    assert pickle.loads(pickle.dumps(head)) is head


def test_importable_modules(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "densedet_test_module.py", HEAD.format("from a module", 1))
    monkeypatch.syspath_prepend(tmp_path)
    assert summary(load_plugins(["densedet_test_module"], registry=registry)) == "from a module"
    other = Registry()
    load_plugins(registry=other, builtins=False)
    assert summary(load_plugins(["densedet_test_module"], registry=other)) == "from a module", (
        "imported once, registered twice"
    )
    with pytest.raises(PluginError, match=r"no module 'densedet_no_such'"):
        load_plugins(["densedet_no_such"], registry=registry)


def install(folder: Path, name: str, code: str) -> None:
    """A package with an entry point, as pip would leave it."""
    write(folder / f"{name}_module.py", code)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    write(info / "entry_points.txt", f"[densedet]\n{name} = {name}_module\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path, "ddgood", HEAD.format("good", 1).replace("'mine'", "'ddgood_head'"))
    install(tmp_path, "ddbad", "raise OSError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return tmp_path


def rows(registry: Registry) -> dict[str, tuple[str, str]]:
    return {p.name: (p.status, p.version) for p in load_plugins(registry=registry) if p.name.startswith("dd")}


def test_one_broken_package_does_not_stop_the_others(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DENSEDET_PLUGINS", raising=False)
    registry = Registry()
    assert rows(registry) == {"ddgood": ("loaded", "1.2"), "ddbad": ("failed", "1.2")}
    assert registry.get("head", "ddgood_head").origin == "ddgood 1.2"
    assert next(p for p in load_plugins(registry=registry) if p.name == "ddbad").reason.startswith(
        "OSError: broken"
    )


@pytest.mark.parametrize(("value", "loaded"), [("", []), ("ddgood", ["ddgood"]), (" ddgood , ", ["ddgood"])])
def test_the_variable_restricts_strangers_only(
    installed: Path, monkeypatch: pytest.MonkeyPatch, value: str, loaded: list[str]
) -> None:
    monkeypatch.setenv("DENSEDET_PLUGINS", value)
    registry = Registry()
    found = rows(registry)
    assert [n for n, (status, _) in found.items() if status == "loaded"] == loaded
    assert found["ddbad"][0] == "disabled"
    assert registry.names("head").count("retinanet") == 1


def test_the_variable_naming_nothing_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEDET_PLUGINS", "ddnowhere")
    assert rows(Registry()) == {"ddnowhere": ("failed", "")}


def test_loading_the_builtins_does_not_import_torch() -> None:
    code = (
        "import sys; from densedet.core.recipe.plugin_loading import load_plugins; load_plugins(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "DENSEDET_PLUGINS": ""},
    )
    assert done.stdout.strip() == "False", done.stderr


# -- files, helpers and Python imports --------------------


def test_a_file_imported_in_python_is_one_plugin(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "dd_imported.py", HEAD.format("one", 1))
    monkeypatch.syspath_prepend(tmp_path)
    before = components.snapshot()
    try:
        module = importlib.import_module("dd_imported")
        plugins = load_plugins([file], registry=registry)
        assert plugins.components.get("head", "mine").load() is module.Mine
        assert plugins.components.get("head", "mine").origin == str(file)
        # The file changes: it is read again, and the recipe gets the new class.
        write(file, HEAD.format("changed", 1))
        assert summary(load_plugins([file], registry=registry)) == "changed"
    finally:
        components.restore(before)


def test_a_recipes_part_does_not_take_a_name_from_python(registry: Registry, tmp_path: Path) -> None:
    load_plugins([write(tmp_path / "dd_of_recipe.py", HEAD.format("one", 1))], registry=registry)
    registry.add("head", "mine", Registry)  # as a script does
    assert load_plugins(registry=registry).components.get("head", "mine").load() is Registry


def test_a_loaded_file_can_be_imported_in_python(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "dd_loaded.py", HEAD.format("one", 1))
    head = load_plugins([file], registry=registry).components.get("head", "mine").load()
    assert importlib.import_module("dd_loaded").Mine is head


def test_what_python_imported_stays_known_to_other_recipes(tmp_path: Path) -> None:
    registry = Registry()
    load_plugins(registry=registry, builtins=False)
    registry.add("head", "mine", f"{__name__}:Registry")  # as `import my_head` in a notebook does
    file = write(
        tmp_path / "again.py",
        f"import densedet\n@densedet.hookimpl\ndef densedet_register(registry):\n"
        f"    registry.add('head', 'mine', '{__name__}:Registry')\n",
    )
    load_plugins([file], registry=registry)
    assert load_plugins(registry=registry).components.names("head") == ["mine"]


def test_files_of_one_recipe_import_each_other(registry: Registry, tmp_path: Path) -> None:
    first = write(tmp_path / "dd_first.py", HEAD.format("one", 1))
    second = write(tmp_path / "dd_second.py", "from dd_first import Mine\nfrom dd_help import NUMBER\n")
    write(tmp_path / "dd_help.py", "NUMBER = 3\n")
    for files in ((first, second), (second, first)):
        plugins = load_plugins(files, registry=registry)
        modules = {Path(p.origin).name: p.plugin for p in plugins}
        assert modules["dd_second.py"].Mine is plugins.components.get("head", "mine").load()
        assert modules["dd_second.py"].NUMBER == 3
    # The one that was imported by the other is a plug-in of its own as well.
    assert load_plugins([first], registry=registry).components.names("head") == ["mine"]


def test_the_order_of_imports_does_not_lose_a_part(registry: Registry, tmp_path: Path) -> None:
    first = write(tmp_path / "dd_late.py", HEAD.format("one", 1))
    second = write(tmp_path / "dd_early.py", "from dd_late import Mine\n")
    load_plugins([second], registry=registry)
    assert load_plugins([first], registry=registry).components.names("head") == ["mine"]


def test_a_file_keeps_its_parts_when_others_beside_it_are_loaded(registry: Registry, tmp_path: Path) -> None:
    """Both are importable and have imported a helper by then: neither makes the other look changed."""
    write(tmp_path / "dd_shared.py", "NUMBER = 1\n")
    code = "import dd_shared\n" + HEAD.format("one", 1)
    files = [write(tmp_path / f"dd_{name}.py", code.replace("'mine'", f"'{name}'")) for name in "xyz"]
    for file in (*files, *files[::-1], *files):
        plugins = load_plugins([file], registry=registry)
        assert plugins.components.names("head") == [file.stem[-1]]


def test_each_folder_has_its_own_helper(registry: Registry, tmp_path: Path) -> None:
    found = []
    for number in (1, 2, 1):
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        write(folder / "dd_helper.py", f"NUMBER = {number}\n")
        file = write(folder / "dd_user.py", f"from dd_helper import NUMBER  # {len(found)}\n")
        os.utime(file, ns=(len(found), len(found)))
        found.append(load_plugins([file], registry=registry).plugins[-1].plugin.NUMBER)
    assert found == [1, 2, 1]


def test_a_changed_helper_is_read_again(registry: Registry, tmp_path: Path) -> None:
    helper = write(tmp_path / "dd_changing.py", "NUMBER = 1\n")
    file = write(tmp_path / "dd_reader.py", "from dd_changing import NUMBER\n")
    assert load_plugins([file], registry=registry).plugins[-1].plugin.NUMBER == 1
    write(helper, "NUMBER = 22\n")
    assert load_plugins([file], registry=registry).plugins[-1].plugin.NUMBER == 22


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from . import dd_helper\n", "write 'import helper' for helper.py beside it"),
        ("from json import nothing\n", "give that file another name"),
    ],
)
def test_an_import_that_fails_says_how(registry: Registry, tmp_path: Path, code: str, said: str) -> None:
    write(tmp_path / "json.py", "nothing = 1\n")
    with pytest.raises(PluginError, match=said):
        load_plugins([write(tmp_path / "dd_lost.py", code)], registry=registry)


# -- hooks that would not be called --------------------


HOOK = (
    "import densedet\n\n@densedet.register('hook', 'mine')\nclass Mine:\n"
    "    def __init__(self): ...\n    {}\n"
)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "@densedet.hookimpl\n    def densedet_run_stepp(self, run): ...",
            r"no hook 'densedet_run_stepp' \(hooks.py line 6\). Did you mean 'densedet_run_step'",
        ),
        ("@densedet.hookimpl\n    def on_step(self, run): ...", "no hook 'on_step'"),
        ("def densedet_run_step(self, run): ...", "write @densedet.hookimpl above it"),
        (
            "@densedet.hookimpl\n    def densedet_run_step(self, run, batch): ...",
            r"takes batch \(hooks.py line 6\), .* write def densedet_run_step\(self, run, step\)",
        ),
        ("@densedet.hookimpl\n    def densedet_run_step(self, run, step=None): ...", "takes step=None"),
        ("@densedet.hookimpl\n    def densedet_run_step(self, **given): ...", r"takes \*\*given"),
        ("@densedet.hookimpl\n    def densedet_run_step(self, *, run): ...", "without defaults and stars"),
        ("@densedet.hookimpl\n    def densedet_commands(self, subparsers): ...", "function of the module"),
        ("def run_step(self, run): ...", "Mine has no hook"),
    ],
)
def test_a_hook_class_that_would_not_be_called_is_refused(
    registry: Registry, tmp_path: Path, method: str, said: str
) -> None:
    with pytest.raises(PluginError, match=f"hook 'mine': .*{said}"):
        load_plugins([write(tmp_path / "hooks.py", HOOK.format(method))], registry=registry)


def test_hook_classes_that_are_called_are_not_refused(registry: Registry, tmp_path: Path) -> None:
    methods = (
        "@densedet.hookimpl\n    def densedet_run_end(self, summary): ...\n"
        "    @densedet.hookimpl(specname='densedet_run_step')\n    def mine(self, step): ...\n"
        "    def helper(self, anything=1): ..."
    )
    plugins = load_plugins([write(tmp_path / "hooks.py", HOOK.format(methods))], registry=registry)
    assert plugins.components.names("hook") == ["mine"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def densedet_run_stepp(run): ...", "Did you mean 'densedet_run_step'"),
        ("def densedet_commands(parsers): ...", r"write def densedet_commands\(subparsers\)"),
    ],
)
def test_functions_of_a_module_are_held_to_the_same(
    registry: Registry, tmp_path: Path, code: str, said: str
) -> None:
    with pytest.raises(PluginError, match=said):
        load_plugins(
            [write(tmp_path / "hooks.py", f"import densedet\n@densedet.hookimpl\n{code}\n")],
            registry=registry,
        )


# -- one plug-in that fails at its hook --------------------


def test_a_failing_section_costs_only_itself(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import densedet\n\n@densedet.hookimpl\ndef densedet_report_section(comparison):\n    return {}\n"
    files = [
        write(tmp_path / f"{name}.py", code.format(value))
        for name, value in (("one", "'1'"), ("two", "1 / 0"), ("three", "'3'"))
    ]
    plugins = load_plugins(files, registry=registry)
    assert [text for _, text in plugins.call_each("densedet_report_section", comparison=[])] == ["1", "3"]
    said = capsys.readouterr().err
    assert (
        "two.py failed at densedet_report_section: ZeroDivisionError: division by zero (two.py line 5)"
        in said
    )
