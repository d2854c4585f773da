from __future__ import annotations

import sys
from pathlib import Path

# Benchmarks are not installed: they are run, and tested, from the root of the repository.
sys.path.insert(0, str(Path(__file__).parents[2]))
