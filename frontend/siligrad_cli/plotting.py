"""How every picture is drawn with matplotlib: the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siligrad.files import replacing

__all__ = ["plotting", "save_figure"]

DOTS_PER_INCH = 150
"""Of a PNG."""


@contextmanager
def plotting(font_size: float = 10) -> Iterator[Any]:
    """Give pyplot, set so that it opens no window and writes text as text.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    import matplotlib  # noqa: PLC0415  optional

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415  optional, and only after the backend is chosen

    with matplotlib.rc_context({
        "svg.hashsalt": "siligrad",
        "svg.fonttype": "none",
        "hatch.linewidth": 0.6,
        "font.size": font_size,
    }):
        try:
            yield pyplot
        finally:
            pyplot.close("all")


def save_figure(figure: Any, path: Path) -> Path:
    """Write `figure` as what the end of `path` says, .svg or .png: beside it, then renamed."""
    kind = path.suffix.removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with replacing(path) as beside:
        figure.savefig(beside, format=kind, metadata=metadata, dpi=DOTS_PER_INCH)
    return path
