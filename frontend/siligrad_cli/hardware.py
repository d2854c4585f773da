"""Commands that need the hardware description, which is an extra of the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from siligrad.errors import SiligradError

__all__ = ["HardwareMissing", "needing_hardware"]


class HardwareMissing(SiligradError):
    """Amaranth is not installed."""


@contextmanager
def needing_hardware() -> Iterator[None]:
    """Turn the failing import of Amaranth into a sentence that says what to type.

    Raises
    ------
    HardwareMissing
        If a module imports Amaranth, and that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "amaranth":
            raise
        raise HardwareMissing(
            "Amaranth is missing, which the hardware is written in: type "
            "`pip install 'siligrad[boards]'`"
        ) from None
