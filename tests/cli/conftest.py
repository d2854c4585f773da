from __future__ import annotations

import sys
from pathlib import Path

# Tests share the bugs of the hardware; their name is the one that mypy knows them by:
# tests.cli.hardware_bugs.
sys.path.insert(0, str(Path(__file__).parents[2]))
