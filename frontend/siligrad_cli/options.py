"""Options that several commands have, and types of options."""

from __future__ import annotations

import argparse

import siligrad as sg
from siligrad.isa import ARRAY_SIZES

__all__ = ["add_function", "add_target", "natural", "positive"]


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _at_least(1, text)


def add_function(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a function of the user's file, and the batch of its arguments."""
    parser.add_argument(
        "--function", default="step", metavar="NAME", help="what to compile (default step)"
    )
    parser.add_argument(
        "--batch", type=positive, metavar="B", help="passed to arguments(batch=...) of the file"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a :class:`siligrad.Target`, but for its memories: the array and widths."""
    default = sg.Target()
    parser.add_argument(
        "--array",
        type=int,
        default=default.array,
        choices=ARRAY_SIZES,
        metavar="N",
        help=f"size of the array, N x N: {ARRAY_SIZES.start} to {ARRAY_SIZES.stop - 1} "
        f"(default {default.array})",
    )
    for name, meaning in (
        ("operand-bits", "of an operand"),
        ("sum-bits", "of an accumulator"),
        ("word-bits", "of what the memories hold"),
    ):
        value = getattr(default, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}",
            type=int,
            default=value,
            metavar="B",
            help=f"width {meaning} (default {value})",
        )


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
    return value
