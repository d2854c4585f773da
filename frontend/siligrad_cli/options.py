"""Types of options that several commands have."""

from __future__ import annotations

import argparse

__all__ = ["natural", "positive"]


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
    return value
