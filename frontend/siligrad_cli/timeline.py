"""The array over time: what streams, what drains, which memory port is read or written when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siligrad.explain import Explanation, InstructionRecord, Phase
from siligrad.isa import Instruction, Memory, Product, Timing
from siligrad.timing import segment_offsets
from siligrad_cli.plotting import plotting, save_figure

__all__ = ["Bar", "bars_of", "draw_timeline"]

INSTRUCTIONS_A_BAND = 10
"""The picture is cut into bands, like music, so that an instruction stays wide enough to read."""

COLOURS = {Phase.FORWARD: "#2f6db3", Phase.BACKWARD: "#d9730d", Phase.UPDATE: "#2e8b57"}
LIGHTNESS = {Product.XW: 0.25, Product.EW: 0.45, Product.XE: 0.6}
"""How far a product's colour is mixed with white."""

AUXILIARY = "#b48bd0"
STALL = "#c62828"
FETCH = "#bdbdbd"
ROWS = ("array", "drain", *(f"{memory.name} read" for memory in Memory), "write")

WIDTH = 12.0
"""Of the picture, in inches."""

BAND = 2.3
"""Height of a band, in inches."""

_LABEL_SIZE = 7.0
_CHARACTER = 0.6 * _LABEL_SIZE / 72
"""Width of a character of a label in inches, on average."""

_RESOLUTION = 1500
"""Pieces that a band is at most drawn in: gaps narrower than one are closed."""

Span = tuple[int, int]
"""First cycle, and how many."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Spans of cycles in a row of the picture.

    Parameters
    ----------
    row
        Which of :data:`ROWS`.
    spans
        First cycle and number of cycles of each, in order.
    colour, low, high, hatch
        How it is drawn: `low` and `high` are parts of the row's height; a hatched bar has no other
        filling.
    labels
        What may be written on it, the longest first; the first that fits is.
    """

    row: int
    spans: tuple[Span, ...]
    colour: str
    low: float = 0.1
    high: float = 0.9
    hatch: str = ""
    labels: tuple[str, ...] = ()


def draw_timeline(explanation: Explanation, path: Path) -> Path:
    """Draw the first step of a run to an SVG or PNG file; the same program gives the same bytes.

    Every row is a part of the machine. An instruction keeps its colour in all of them, so its drain
    and its writes are found below the stream of those that follow.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    program = explanation.program
    records = explanation.records
    cycles = records[-1].drained + 2
    count = -(-len(records) // INSTRUCTIONS_A_BAND)
    length = -(-cycles // count)
    bars = list(bars_of(explanation, max(1, length // _RESOLUTION)))
    with plotting(9) as pyplot:
        figure, all_axes = pyplot.subplots(
            count, 1, figsize=(WIDTH, 0.9 + BAND * count), layout="constrained", squeeze=False
        )
        for band, axes in enumerate(all_axes[:, 0]):
            span = band * length, min((band + 1) * length, cycles)
            _draw_band(axes, bars, span, length)
        all_axes[-1, 0].set_xlabel("cycle")
        several = f", the first of {program.loop.steps} steps" if program.loop.steps > 1 else ""
        all_axes[0, 0].set_title(
            f"{program.name}: {len(records)} instructions, {cycles} cycles{several} on the "
            f"{program.geometry.array} x {program.geometry.array} array, "
            f"{program.utilisation:.1%} of the multipliers' time",
            loc="left",
        )
        _legend(pyplot, figure, records)
        return save_figure(figure, path)


def _draw_band(axes: Any, bars: Sequence[Bar], span: Span, length: int) -> None:
    """Draw what lies in the cycles from ``span[0]`` up to ``span[1]``."""
    low, high = span
    inches = (WIDTH - 1.0) / length
    for bar in bars:
        inside = [
            (start, width) for start, width in bar.spans if start < high and start + width > low
        ]
        if not inside:
            continue
        axes.add_patch(_patch(inside, bar))
        begin, end = max(inside[0][0], low), min(inside[-1][0] + inside[-1][1], high)
        room = (end - begin) * inches
        label = next((text for text in bar.labels if len(text) * _CHARACTER < room), "")
        if bar.hatch and bar.labels and room > _CHARACTER / 2:  # what costs time is told
            label = label or bar.labels[-1]
        if label:
            on_white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
            axes.text(
                (begin + end) / 2,
                bar.row + (bar.low + bar.high) / 2,
                label,
                ha="center",
                va="center",
                fontsize=_LABEL_SIZE,
                color=bar.colour if bar.hatch else "black",
                bbox=on_white if bar.hatch or len(inside) > 1 else None,
            )
    axes.set_xlim(low, low + length)
    axes.set_ylim(len(ROWS), 0)
    axes.set_yticks([row + 0.5 for row in range(len(ROWS))], ROWS)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for row in range(1, len(ROWS)):
        axes.axhline(row, color="#dddddd", linewidth=0.5, zorder=0)


def _patch(spans: Sequence[Span], bar: Bar) -> Any:
    """Return rectangles at `spans` as one path, which makes a small file."""
    from matplotlib.patches import PathPatch  # noqa: PLC0415  optional
    from matplotlib.path import Path as Outline  # noqa: PLC0415  optional

    low, high = bar.row + bar.low, bar.row + bar.high
    corners = []
    for start, width in spans:
        end = start + width
        corners += [(start, low), (end, low), (end, high), (start, high), (start, low)]
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    return PathPatch(
        Outline(corners, codes * len(spans)),
        facecolor="none" if bar.hatch else bar.colour,
        edgecolor=bar.colour if bar.hatch else "white",
        hatch=bar.hatch or None,
        linewidth=0.0 if bar.hatch or len(spans) > 1 else 0.3,
    )


def bars_of(explanation: Explanation, resolution: int) -> Iterator[Bar]:
    """Yield everything that is drawn; gaps of fewer than `resolution` cycles are closed."""
    program = explanation.program
    timing = Timing(program.geometry.array)
    n = program.geometry.array
    for instruction, record in zip(program.instructions, explanation.records, strict=True):
        colour = _colour(record)
        index, name = f"{record.index}", record.destination.name
        full = f"{index} {record.product.name} {name}"
        stream = (record.start, record.cycles)
        yield Bar(0, (stream,), colour, labels=(full, f"{index} {name}", index))
        yield from _waits(record)
        # Two drains may overlap; they take turns in the halves of the row.
        half = record.index % 2 / 2
        drain = (record.end + 1, record.drained - record.end)
        yield Bar(
            1, (drain,), colour, 0.08 + 0.84 * half, 0.5 + 0.84 * half - 0.08, labels=(index,)
        )
        for memory in Memory:
            terms = tuple(_closed(_term_reads(instruction, record, memory), resolution))
            if terms:
                yield Bar(2 + memory, terms, colour, labels=(index,))
        ends = [record.start + (t + 1) * record.tile_cycles - 1 for t in range(record.tiles)]
        if instruction.uses_aux:
            rows = tuple(_closed(((end + timing.aux, n) for end in ends), resolution))
            yield Bar(
                2 + instruction.product.aux, rows, AUXILIARY, 0.25, 0.75, labels=(f"aux {index}",)
            )
        written = tuple(_closed(((end + timing.write, n) for end in ends), resolution))
        to = f"{index} to {instruction.destination.name}"
        yield Bar(len(ROWS) - 1, written, colour, labels=(to, index))


def _waits(record: InstructionRecord) -> Iterator[Bar]:
    """Yield what the array waits for before an instruction: a hazard, or the sequencer."""
    start = record.start - record.stalled
    if record.fetch:
        yield Bar(0, ((start - record.fetch, record.fetch),), FETCH)
    for stall in record.stalls:
        memory = f" {stall.memory.name}" if stall.memory is not None else ""
        cause = stall.use.name.lower()
        labels = (f"wait {stall.cycles}: {cause}{memory}", f"{cause}{memory}", f"{stall.cycles}")
        yield Bar(0, ((start, stall.cycles),), STALL, hatch="////", labels=labels)
        start += stall.cycles


def _term_reads(
    instruction: Instruction, record: InstructionRecord, memory: Memory
) -> Iterator[Span]:
    """Yield when terms are issued from `memory`, tile by tile."""
    reads = [
        (offset, segment.k)
        for offset, segment in segment_offsets(instruction)
        if instruction.product.b == memory or (instruction.product.a == memory and not segment.ones)
    ]
    for tile in range(instruction.tiles):
        for offset, terms in reads:
            yield record.start + tile * record.tile_cycles + offset, terms


def _closed(spans: Iterator[Span], resolution: int) -> Iterator[Span]:
    """Join spans, in order, with fewer than `resolution` cycles between; none is narrower."""
    begin = end = -1
    for start, width in spans:
        if begin >= 0 and start - end < resolution:
            end = start + width
            continue
        if begin >= 0:
            yield begin, max(end - begin, resolution)
        begin, end = start, start + width
    if begin >= 0:
        yield begin, max(end - begin, resolution)


def _colour(record: InstructionRecord) -> str:
    """Return the phase's hue in the product's lightness."""
    white = LIGHTNESS[record.product]
    hue = COLOURS[record.phase]
    channels = (int(hue[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(value + (255 - value) * white):02x}" for value in channels)


def _legend(pyplot: Any, figure: Any, records: Sequence[InstructionRecord]) -> None:
    entries: list[tuple[Any, str]] = []
    for record in records:
        label = f"{record.phase.value}, {record.product.name}"
        if label not in (text for _, text in entries):
            entries.append((pyplot.Rectangle((0, 0), 1, 1, facecolor=_colour(record)), label))
    if any(record.auxiliary is not None for record in records):
        entries.append((pyplot.Rectangle((0, 0), 1, 1, facecolor=AUXILIARY), "auxiliary rows"))
    if any(record.stalls for record in records):
        handle = pyplot.Rectangle((0, 0), 1, 1, facecolor="none", edgecolor=STALL, hatch="////")
        entries.append((handle, "waiting for a hazard"))
    entries.append((pyplot.Rectangle((0, 0), 1, 1, facecolor=FETCH), "fetching"))
    handles, labels = zip(*entries, strict=True)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=8
    )
