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


LONGEST = (
    "test_campaign.py",
    "test_benches.py",
    "test_accelerator.py",
    "test_verify.py",
    "test_compiled.py",
    "test_control_benches.py",
    "test_networks.py",
    "test_readme.py",
    "test_packaging.py",
    "test_demo.py",
    "test_coverage.py",
    "test_formal_proofs.py",
    "test_bus_benches.py",
    "test_soc.py",
)
"""Files that take most of a minute or more. None of them may be left over at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What the tests of a file share, such as a simulator that is built for them, is made by one
    # process and waited for by none. Some files share it with others, and say so themselves.
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
