"""Set up every test run: shared test code, marks, a fixed hypothesis profile, text goldens."""

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Test processes share the machine: BLAS threads that wait for a busy core cost ten times what they
# save. Read when numpy is loaded, so it comes first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests see what this checkout compiles, and leave nothing in the user's cache.
os.environ["TEFLON_CACHE"] = "off"

import pytest
from hypothesis import settings

# `tests.paths` and `tests.oracle` serve the drivers' tests too. Last on the path: the checkout
# must never shadow the installed packages.
_ROOT = str(Path(__file__).parent)
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")


def pytest_configure(config: pytest.Config) -> None:
    """Register our marks; refuse a run that must have the shared data and does not."""
    from tests import paths

    config.addinivalue_line("markers", "needs_shared: reads the optional folder of shared data")
    if paths.REQUIRED and paths.MISSING:
        raise pytest.UsageError(paths.MISSING)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs shared data where there is none."""
    from tests import paths

    if paths.MISSING and item.get_closest_marker("needs_shared"):
        pytest.skip(paths.MISSING)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    parser.addoption(
        "--update-golden", action="store_true", help="write the texts that `golden` compares with"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare a text with the file golden/TEST.txt beside the test."""
    path = request.path.parent / "golden" / f"{request.node.name}.txt"

    def compare(text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n")
            return
        if not path.exists():
            pytest.fail(f"{path}: does not exist (write it with pytest --update-golden)")
        want = path.read_text().splitlines()
        have = text.splitlines()
        if have != want:
            lines = difflib.unified_diff(want, have, path.name, "now", lineterm="", n=1)
            pytest.fail("\n".join(lines), pytrace=False)

    return compare
