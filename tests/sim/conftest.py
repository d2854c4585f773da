from __future__ import annotations

import sys
from pathlib import Path

# Tests share the model of the specification; its name is the one that mypy knows it by:
# tests.hdl.model.
sys.path.insert(0, str(Path(__file__).parents[2]))
