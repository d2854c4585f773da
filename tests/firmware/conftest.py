from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

# Tests share the driver in this process and models of its devices; their names are those that mypy
# knows them by, such as tests.firmware.c_driver.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.firmware.c_driver import build_library, load_library


@pytest.fixture(scope="session")
def library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the C driver is, as a shared library; it is built once."""
    return build_library(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def library(library_path: Path) -> ctypes.CDLL:
    """The C driver in this process."""
    return load_library(library_path)
