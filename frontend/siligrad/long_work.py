"""What long work owes to whoever waits for it: a bar that moves, and Ctrl-C at a good moment."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

__all__ = ["progress", "progress_bar", "stopping"]

_Item = TypeVar("_Item")


@contextmanager
def progress_bar(
    total: int, *, what: str = "", done: int = 0, show: bool = True
) -> Iterator[Callable[[int, str], None]]:
    """Give a function that moves a bar on, by so many steps and with a text if there is one.

    The bar is on stderr. Where nobody watches, or the package tqdm is not installed, nothing is
    shown.

    Parameters
    ----------
    total, done
        Steps in all, and those that are done already.
    what
        What stands before the bar.
    show
        Whether there is to be one at all.
    """
    bar: Any = None
    if show:
        try:
            from tqdm import tqdm  # noqa: PLC0415  # optional
        except ImportError:
            pass
        else:
            bar = tqdm(
                desc=what or None,
                total=total,
                initial=done,
                unit="step",
                file=sys.stderr,
                disable=None,
                leave=False,
            )

    def advance(steps: int, text: str = "") -> None:
        if bar is None:
            return
        if text:
            bar.set_description(text)
        bar.update(steps)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()


def progress(items: Iterable[_Item], what: str, total: int) -> Iterator[_Item]:
    """Yield the items, and move a bar on with each; see :func:`progress_bar`."""
    with progress_bar(total, what=what) as advance:
        for item in items:
            yield item
            advance(1, "")


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C was pressed, instead of stopping in mid-work.

    A second Ctrl-C stops at once. Only the main thread may ask for signals: in another one nothing
    changes.
    """
    seen = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)
