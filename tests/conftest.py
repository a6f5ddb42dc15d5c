import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory):
    """Decoded images of tests never reach the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENSEDET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
