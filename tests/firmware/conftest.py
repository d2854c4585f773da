from __future__ import annotations

import sys
from pathlib import Path

# Tests share the driver in this process and models of its devices; their names are those that mypy
# knows them by, such as tests.firmware.c_driver.
sys.path.insert(0, str(Path(__file__).parents[2]))
