"""The compiler: from a graph to a static program, one pass a file.

``driver`` calls them in order: ``lower`` (nodes to values, with ``algebra``; values to operations,
with ``emit``), ``formats``, ``memories``, ``schedule`` (order), ``place`` (words), ``schedule``
(delays).
They hand each other what ``ir`` defines.
"""

from __future__ import annotations

from siligrad.compiler.driver import compile  # noqa: A004  the public name, sg.compile
from siligrad.compiler.lower import LoweringError
from siligrad.compiler.place import CapacityError
from siligrad.compiler.target import Target

__all__ = ["CapacityError", "LoweringError", "Target", "compile"]
