"""The demo's picture: the loss in floating point, in integers and on the hardware."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from siligrad.files import replacing

__all__ = ["draw_losses"]


class _Losses(Protocol):
    array: int
    device: str
    float_loss: list[float]
    integer_loss: list[float]
    rtl_loss: list[float]


def draw_losses(report: _Losses, path: Path) -> Path:
    """Draw the three curves of `report` to an SVG file; the same report gives the same bytes.

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
        "font.size": 10,
    }):
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        curves: Sequence[tuple[str, list[float], dict[str, Any]]] = (
            ("float64 on the host", report.float_loss, {"color": "#bbbbbb", "linewidth": 5}),
            ("integers, reference", report.integer_loss, {"color": "#1f77b4", "linewidth": 2.5}),
            (
                f"hardware, {report.device}",
                report.rtl_loss,
                {"color": "#d62728", "linewidth": 1, "linestyle": (0, (5, 3))},
            ),
        )
        for label, values, style in curves:
            steps = range(1, len(values) + 1)
            axes.plot(steps, values, label=label, marker="o" if len(values) < 10 else "", **style)
        axes.set_xlabel("training step")
        axes.set_ylabel("squared hinge, 512 training images")
        axes.set_title(f"Training on the {report.array} x {report.array} array", loc="left")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        with replacing(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return path
