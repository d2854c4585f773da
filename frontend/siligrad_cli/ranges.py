"""The picture of a quantization: where values are, and where a format can hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siligrad.quantize import QuantizationReport, TensorQuantization
from siligrad_cli.plotting import plotting, save_figure

__all__ = ["draw_ranges"]

_WORD = "#d9e4ef"
_OPERAND = "#a9c3dd"
_VALUES = "#444444"
_BEYOND = "#d62728"


def draw_ranges(reports: Sequence[QuantizationReport], path: Path) -> Path:
    """Draw a column for each report, a row for each tensor; the same reports give the same bytes.

    A row shows the magnitudes that the format has, from the smallest step of a word to the largest
    value, those of the operands that are made of the words darker, and how often the values are in
    each power of two; beyond the largest value they are red.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    rows = max(len(report.tensors) for report in reports)
    with plotting(9) as pyplot:
        figure, columns = pyplot.subplots(
            1,
            len(reports),
            figsize=(1.6 + 4.2 * len(reports), 1.5 + 0.5 * rows),
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for axes, report in zip(columns[0], reports, strict=True):
            _draw(axes, report)
        handles = [
            pyplot.Rectangle((0, 0), 1, 1, color=color)
            for color in (_WORD, _OPERAND, _VALUES, _BEYOND)
        ]
        labels = (
            "a word can hold",
            "an operand can hold",
            "values, by power of two",
            "values that are clipped",
        )
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return save_figure(figure, path)


def _draw(axes: Any, report: QuantizationReport) -> None:
    geometry = report.program.geometry
    for row, tensor in enumerate(report.tensors):
        _draw_row(axes, -row, tensor)
    axes.set_yticks(
        [0.4 - row for row in range(len(report.tensors))],
        [tensor.name.partition(" (")[0] for tensor in report.tensors],
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(0.8 - len(report.tensors), 1.0)
    axes.set_xlabel("magnitude")
    axes.xaxis.set_major_locator(_powers())
    axes.xaxis.set_major_formatter(lambda exponent, _: f"$2^{{{exponent:.0f}}}$")
    axes.set_title(
        f"operands of {geometry.operand_bits} bits, words of {geometry.word_bits}", loc="left"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)


def _powers() -> Any:
    from matplotlib.ticker import MultipleLocator  # noqa: PLC0415  optional

    return MultipleLocator(4)


def _draw_row(axes: Any, bottom: float, tensor: TensorQuantization) -> None:
    low, high = math.log2(tensor.resolution), math.log2(tensor.largest)
    axes.add_patch(_bar(low, high, bottom, _WORD))
    if tensor.operand_bits is not None:
        dropped = tensor.format.bits - tensor.operand_bits
        axes.add_patch(_bar(low + dropped, high, bottom, _OPERAND))
    axes.update_datalim([(low, bottom), (high, bottom)])
    octaves = tensor.magnitudes.octaves
    most = max(octaves.values(), default=1)
    for exponent, count in octaves.items():
        # what is below half a step is zero: it would only squeeze what matters
        if exponent >= low - 2:
            beyond = 2.0**exponent > tensor.largest
            axes.bar(
                exponent,
                0.8 * count / most,
                width=0.94,
                bottom=bottom,
                align="edge",
                color=_BEYOND if beyond else _VALUES,
                linewidth=0,
            )


def _bar(low: float, high: float, bottom: float, color: str) -> Any:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  optional

    return Rectangle((low, bottom), high - low, 0.8, color=color, linewidth=0, zorder=0)
