"""Drawing for the page: SVG elements and charts, pixels as PNG. Colours are the page's classes."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Axis",
    "Curve",
    "confusion",
    "gray_png",
    "line_chart",
    "reliability",
    "signed_png",
]


# --- SVG


class _Svg:
    """Elements of one picture, in the order in which they are painted."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height, self.label = width, height, label
        self.parts: list[str] = []

    def add(self, tag: str, content: str = "", *, tip: str = "", **attributes: Any) -> None:
        """Append an element; ``content`` is text, ``tip`` what a pointer that rests on it reads."""
        written = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{_write(value)}"'
            for name, value in attributes.items()
        )
        inside = f"<title>{html.escape(tip)}</title>" if tip else ""
        inside += html.escape(content)
        self.parts.append(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")

    def box(self, x: float, y: float, width: float, height: float, **attributes: Any) -> None:
        self.add("rect", x=x, y=y, width=width, height=height, **attributes)

    def dot(self, x: float, y: float, r: float, class_: str, tip: str = "") -> None:
        self.add("circle", cx=x, cy=y, r=r, class_=class_, tip=tip)

    def text(self, x: float, y: float, content: str, class_: str = "", anchor: str = "") -> None:
        extra = {"text_anchor": anchor} if anchor else {}
        self.add("text", content, x=x, y=y, class_=class_ or "tick", **extra)

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> None:
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)

    def __str__(self) -> str:
        size = f'viewBox="0 0 {_write(self.width)} {_write(self.height)}"'
        wide = f'style="max-width:{_write(self.width)}px"'
        label = f'role="img" aria-label="{html.escape(self.label, quote=True)}"'
        return f"<svg {size} {wide} {label}>{''.join(self.parts)}</svg>"


def _write(value: Any) -> str:
    if isinstance(value, str):
        return html.escape(value, quote=True)
    text = f"{float(value):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# --- charts


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures: its name, how its numbers are written, and where it begins and ends.

    A limit that is None is chosen so that everything fits; ``whole`` allows whole numbers alone.
    """

    name: str
    write: Callable[[float], str] = str
    low: float | None = None
    high: float | None = None
    whole: bool = False

    def ticks(self, values: Sequence[float], count: int = 5) -> list[float]:
        """Return round numbers that cover the values, about ``count`` of them."""
        low = min(values) if self.low is None else self.low
        high = max(values) if self.high is None else self.high
        if not high > low:
            low, high = low - 0.5 * (self.low is None), high + 0.5
        rough = (high - low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        if self.whole:
            step = max(1.0, float(round(step)))
        first = math.floor(low / step + 1e-9) if self.low is None else math.ceil(low / step - 1e-9)
        last = (
            math.ceil(high / step - 1e-9) if self.high is None else math.floor(high / step + 1e-9)
        )
        return [round(k * step, 10) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points joined by a line: ``kind`` is its class on the page, tips belong to the points."""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    tips: Sequence[str] = field(default=())
    mark: int | None = None
    """The point to point out, and the text beside it."""

    marked: str = ""


class _Plot:
    """A frame with axes: the page's coordinates of a point are ``across(x), up(y)``."""

    def __init__(
        self,
        svg: _Svg,
        box: tuple[float, float, float, float],
        x: Axis,
        y: Axis,
        xs: Sequence[float],
        ys: Sequence[float],
    ) -> None:
        self.svg = svg
        self.left, self.top, self.right, self.bottom = box
        x_ticks, y_ticks = x.ticks(xs, 6), y.ticks(ys)
        self.x_range = _covering(x_ticks, x, xs)
        self.y_range = _covering(y_ticks, y, ys)
        for value in y_ticks:
            at = self.up(value)
            svg.line(self.left, at, self.right, at, "grid")
            svg.text(self.left - 8, at + 4, y.write(value), anchor="end")
        for value in x_ticks:
            svg.text(self.across(value), self.bottom + 18, x.write(value), anchor="middle")
        svg.line(self.left, self.bottom, self.right, self.bottom, "axis")
        svg.text((self.left + self.right) / 2, self.bottom + 38, x.name, "name", "middle")
        svg.text(self.left - 40, self.top - 14, y.name, "name")

    def across(self, x: float) -> float:
        low, high = self.x_range
        return self.left + (x - low) / (high - low) * (self.right - self.left)

    def up(self, y: float) -> float:
        low, high = self.y_range
        return self.bottom - (y - low) / (high - low) * (self.bottom - self.top)


def _covering(ticks: list[float], axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    low = ticks[0] if axis.low is None else axis.low
    high = ticks[-1] if axis.high is None else axis.high
    return low, high if high > low else max(low + 1, *values)


def line_chart(curves: Sequence[Curve], x: Axis, y: Axis, *, label: str) -> str:
    """Draw curves over a common axis; more than one are named where they end."""
    several = len(curves) > 1
    svg = _Svg(500, 300, label)
    xs = [value for curve in curves for value in curve.x]
    ys = [value for curve in curves for value in curve.y]
    plot = _Plot(svg, (52, 30, 390 if several else 480, 248), x, y, xs, ys)
    for curve in curves:
        points = [(plot.across(a), plot.up(b)) for a, b in zip(curve.x, curve.y, strict=True)]
        path = "M" + "L".join(f"{_write(a)} {_write(b)}" for a, b in points)
        if len(points) > 1:
            svg.add("path", d=path, class_=f"line {curve.kind}")
        for k, (a, b) in enumerate(points):
            if len(points) <= 40:
                svg.dot(a, b, 3, f"point {curve.kind}")
            svg.dot(a, b, 9, "touch", curve.tips[k] if curve.tips else "")
        if curve.mark is not None:
            a, b = points[curve.mark]
            svg.dot(a, b, 6, f"ring {curve.kind}")
            near_end = a > (plot.left + plot.right) / 2
            below = b < plot.top + 24
            svg.text(
                a, b + (24 if below else -14), curve.marked, "mark", "end" if near_end else "start"
            )
        if several:
            a, b = points[-1]
            lines = curve.name.split("\n")
            b = min(b, plot.bottom - 15 * len(lines))  # clear of the numbers below
            for k, words in enumerate(lines):
                svg.text(a + 12, b + 4 + 15 * k, words, "mark")
    return str(svg)


def reliability(
    confidence: NDArray[np.float64], accuracy: NDArray[np.float64], count: NDArray[np.int64]
) -> str:
    """Draw accuracy over confidence, and below how many images there are in each bin."""
    svg = _Svg(500, 420, "accuracy over confidence, and the number of images at each")
    percent = Axis("confidence", lambda v: f"{v:.0%}", 0.0, 1.0)
    there = np.flatnonzero(count)
    xs, ys = [float(confidence[k]) for k in there], [float(accuracy[k]) for k in there]
    plot = _Plot(
        svg, (52, 30, 480, 290), percent, Axis("accuracy", percent.write, 0.0, 1.0), xs, ys
    )
    svg.line(plot.left, plot.bottom, plot.right, plot.top, "ideal")
    points = [(plot.across(a), plot.up(b)) for a, b in zip(xs, ys, strict=True)]
    if len(points) > 1:
        path = "M" + "L".join(f"{_write(a)} {_write(b)}" for a, b in points)
        svg.add("path", d=path, class_="line first")
    top, bottom = 344.0, 404.0
    svg.line(plot.left, bottom, plot.right, bottom, "axis")
    svg.text(plot.left - 8, top + 8, "images", "tick", "end")
    width = (plot.right - plot.left) / len(count)
    for (a, b), k in zip(points, there, strict=True):
        tip = f"{count[k]} images: {confidence[k]:.1%} sure, {accuracy[k]:.1%} of them right"
        svg.dot(a, b, 4, "point first")
        svg.dot(a, b, 10, "touch", tip)
        height = max((bottom - top - 12) * count[k] / count.max(), 1.5)
        left = plot.left + k * width
        svg.box(left + 1, bottom - height, width - 2, height, class_="bar first", tip=tip)
        svg.text(left + width / 2, bottom - height - 4, f"{count[k]}", "tick", "middle")
    return str(svg)


def confusion(counts: NDArray[np.int64], accuracy: NDArray[np.float64]) -> str:
    """Draw what each class was taken for, and beside each row how much of it is recognised."""
    classes = len(counts)
    cell = min(max(400 / classes, 8.0), 44.0)
    left, top, gap = 64.0, 64.0, 30.0
    side = cell * classes
    dots, dots_width = left + side + gap, 230.0
    svg = _Svg(dots + dots_width + 66, top + side + 30, "confusion matrix and accuracy by class")
    wrong = counts - np.diag(np.diag(counts))
    most = max(int(wrong.max()), 1)
    written = cell >= 20
    svg.text(left + side / 2, 22, "taken for", "name", "middle")
    svg.text(left - 10, top - 10, "class", "name", "end")
    for k in range(classes):
        middle = (k + 0.5) * cell
        if written or k % 5 == 0:
            svg.text(left + middle, top - 10, f"{k}", "tick strong", "middle")
            svg.text(left - 12, top + middle + 4, f"{k}", "tick strong", "end")
    for row in range(classes):
        for column in range(classes):
            count = int(counts[row, column])
            right = row == column
            strength = 0.12 + 0.88 * count / most if count and not right else 0.0
            x, y = left + column * cell, top + row * cell
            svg.box(
                *(x + 1, y + 1, cell - 2, cell - 2),
                rx=3,
                class_="right" if right else "wrong" if count else "none",
                tip=f"{count} of class {row} {'recognised' if right else f'taken for {column}'}",
                **({} if right else {"fill_opacity": strength}),
            )
            if written and count:
                ink = "cell own" if right else "cell on" if strength > 0.6 else "cell"
                svg.text(x + cell / 2, y + cell / 2 + 4, f"{count}", ink, "middle")
    _class_dots(svg, accuracy, (dots, top, dots_width, cell))
    return str(svg)


def _class_dots(
    svg: _Svg, accuracy: NDArray[np.float64], box: tuple[float, float, float, float]
) -> None:
    left, top, width, cell = box
    bottom = top + cell * len(accuracy)
    known = [float(value) for value in accuracy if not math.isnan(value)]
    axis = Axis("recognised", lambda v: f"{v:.4g}%", None, 100.0)
    lowest = min(100 * min(known, default=0.0), 99.0)
    ticks = axis.ticks([lowest, 100.0], 3)
    low = ticks[0]

    def across(value: float) -> float:
        return left + (100 * value - low) / (100.0 - low) * width

    for tick in ticks:
        at = across(tick / 100)
        svg.line(at, top, at, bottom, "grid")
        svg.text(at, top - 10, axis.write(tick), anchor="middle")
    svg.text(left + width / 2, 22, axis.name, "name", "middle")
    for k, value in enumerate(accuracy):
        y = top + (k + 0.5) * cell
        if math.isnan(value):
            svg.text(left, y + 4, "no examples")
            continue
        svg.line(left, y, across(float(value)), y, "stem")
        svg.dot(across(float(value)), y, 5, "point first", f"class {k}: {value:.2%}")
        if cell >= 14:
            svg.text(left + width + 12, y + 4, f"{value:.1%}", "tick strong")


# --- pixels


def gray_png(image: NDArray[Any], limits: tuple[float, float]) -> str:
    """Return the address of an image that is dark where its numbers are high: ``data:``."""
    low, high = limits
    light = 1 - (np.asarray(image, np.float64) - low) / ((high - low) or 1)
    pixels = np.rint(255 * np.clip(light, 0, 1)).astype(np.uint8)
    return _png(pixels[:, :, None], 0)


def signed_png(
    image: NDArray[Any], positive: tuple[int, int, int], negative: tuple[int, int, int]
) -> str:
    """Return the address of an image in two colours, the clearer the nearer to zero."""
    values = np.asarray(image, np.float64)
    strength = np.abs(values) / (np.abs(values).max() or 1)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, positive, negative)
    pixels[..., 3] = np.rint(255 * strength)
    return _png(pixels, 6)


def _png(pixels: NDArray[np.uint8], colour: int) -> str:
    """Encode rows of 8-bit samples; uncompressed, for the same bytes with every zlib.

    W3C, "Portable Network Graphics (PNG) Specification (Second Edition)", sections 5 and 11.
    """
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
