"""Which line of the user's program is being executed.

A graph node remembers the line that asked for it. A node of a backward pass was asked for by
nobody: it carries the line of the forward operation that it is the derivative of.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "at_caller", "derived_from", "is_tracing", "locate", "tracing"]

_PACKAGE = str(Path(__file__).parents[1]) + "/"


@dataclass(frozen=True, slots=True)
class Source:
    """A line of the user's program, and whether it is the line itself or a derivative of it."""

    file: str
    line: int
    function: str
    backward: bool = False

    @property
    def code(self) -> str:
        """The text of the line; empty where Python cannot find it."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class _State(threading.local):
    traces = 0  # graphs being recorded in this thread
    backward: Source | None = None  # the forward line whose derivative is being computed


_state = _State()


def is_tracing() -> bool:
    """Whether a graph is being recorded in this thread, so that lines are worth their time."""
    return _state.traces > 0


@contextmanager
def tracing() -> Iterator[None]:
    """Record the lines of everything that is executed inside."""
    _state.traces += 1
    try:
        yield
    finally:
        _state.traces -= 1


@contextmanager
def derived_from(source: Source | None) -> Iterator[None]:
    """Give everything that is executed inside the line ``source``, as a derivative of it."""
    held = _state.backward
    if source is not None:
        _state.backward = Source(source.file, source.line, source.function, backward=True)
    try:
        yield
    finally:
        _state.backward = held


def locate() -> Source | None:
    """Return the line to put on a node that is made now."""
    return _state.backward or locate_caller()


def locate_caller() -> Source | None:
    """Return the innermost line outside of this package that is being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            return Source(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def at_caller() -> str:
    """Return the end of an error message: the line of :func:`locate_caller`, and its text."""
    source = locate_caller()
    if source is None:
        return ""
    return f"\n  at {source}" + (f": {source.code}" if source.code else "")
