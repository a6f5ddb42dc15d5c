import os
import signal

import pytest

from densedet.core.recipe.plugin_loading import load_plugins
from densedet.registry import components

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores; subprocesses of tests inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory):
    """Decoded images of tests never reach the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENSEDET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def installed_parts():
    """The built-in and the installed parts are in the registry before the first test."""
    load_plugins()


@pytest.fixture(autouse=True)
def parts_of_a_test_end_with_it(installed_parts):
    """What a test or a notebook registers is not there for the next one of this process."""
    before = components.snapshot()
    yield
    components.restore(before)


@pytest.fixture(autouse=True, scope="session")
def stopping_signals_are_heard():
    """A shell's background job ignores SIGINT, and nohup SIGHUP; programs that a test starts would, too."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
