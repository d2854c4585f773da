"""What can go wrong, as exceptions that a program can catch.

Every error of siligrad is a :class:`SiligradError`; where Python has a class for the kind of
mistake, the error is one of that class too, so that ``except ValueError`` keeps its meaning.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "GradientError",
    "GraphError",
    "ShapeError",
    "SiligradError",
    "TraceError",
    "TrainingError",
]


class SiligradError(Exception):
    """Anything that siligrad refuses or finds wrong."""


class ShapeError(SiligradError, ValueError):
    """Shapes that do not fit the operation."""


class TraceError(SiligradError, TypeError):
    """What cannot be done with a traced value, or a function that cannot be transformed."""


class GraphError(SiligradError, RuntimeError):
    """A graph that breaks its own rules: a bug in the pass that made it."""


class GradientError(SiligradError, AssertionError):
    """A derivative rule that disagrees with the function."""


class DataError(SiligradError, ValueError):
    """A data file or a checkpoint that is damaged, foreign or of other sizes."""


class TrainingError(SiligradError, ArithmeticError):
    """A training run that cannot go on, such as one whose loss is not a number."""
