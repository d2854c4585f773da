from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, and no deadline: machines that run suites are slow at times.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# New examples on every run, for `HYPOTHESIS_PROFILE=explore pytest`.
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the committed listings of compiled programs instead of comparing with them",
    )
    parser.addoption(
        "--data",
        metavar="DIR",
        help="folder with mnist/, for the tests that want it (or the variable SILIGRAD_DATA)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs the suite in the background lets it, and all it starts, ignore Ctrl-C; some
    # tests are about Ctrl-C.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if folder := config.getoption("--data"):
        os.environ["SILIGRAD_DATA"] = str(Path(folder).resolve())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest first, so that no processor waits for one of them at the end.
    longest = {"test_readme.py", "test_packaging.py"}
    items.sort(key=lambda item: item.path.name not in longest)
