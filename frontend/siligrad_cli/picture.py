"""The demo's picture: the loss in floating point, in integers and on the hardware."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from siligrad_cli.plotting import plotting, save_figure

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
    with plotting() as pyplot:
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
        return save_figure(figure, path)
