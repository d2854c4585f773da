"""Draw a graph: boxes for operations, shapes on the edges, the backward pass in another colour.

Graphviz' ``dot`` computes the layout where it is installed. Otherwise nodes are put in layers by
their longest way from the inputs, long edges bend around what lies between, and each layer is
ordered by the mean position of its neighbours: K. Sugiyama, S. Tagawa, M. Toda, "Methods for
Visual Understanding of Hierarchical System Structures" (1981).
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from siligrad.autodiff.graph import Graph, Node
from siligrad.errors import SiligradError

__all__ = ["DrawingError", "to_dot", "to_svg"]

_FORWARD, _BACKWARD, _LEAF, _INK = "#dbe9f6", "#f9dcc4", "#eeeeee", "#333333"
_FORWARD_LINE, _BACKWARD_LINE = "#2b6ca3", "#c05621"
_FONT = "font-family='Helvetica, Arial, sans-serif'"
_SECONDS = 60  # for dot; the graph of a training step takes well below one


class DrawingError(SiligradError, RuntimeError):
    """``dot`` was asked for and is missing or failed."""


def to_svg(graph: Graph, layout: str = "auto") -> str:
    """Return the graph as the text of an SVG picture.

    Parameters
    ----------
    graph : :class:`~siligrad.autodiff.graph.Graph`
        What is drawn.
    layout : "auto", "dot" or "own"
        ``"auto"`` asks graphviz' ``dot`` if it is on the PATH and lays out by itself otherwise.

    Raises
    ------
    DrawingError
        If ``layout`` is ``"dot"`` and that is missing or fails.
    """
    if layout not in {"auto", "dot", "own"}:
        raise ValueError(f"layout must be 'auto', 'dot' or 'own', not {layout!r}")
    program = shutil.which("dot") if layout != "own" else None
    if program is not None:
        try:
            return _ask_dot(program, to_dot(graph))
        except (OSError, subprocess.SubprocessError) as error:
            if layout == "dot":
                raise DrawingError(f"{program} failed: {error}") from error
    elif layout == "dot":
        raise DrawingError("dot is not on the PATH: install graphviz, or use layout='own'")
    return _Drawing(graph).svg()


def _ask_dot(program: str, text: str) -> str:
    done = subprocess.run(
        [program, "-Tsvg"], input=text, capture_output=True, text=True, check=True, timeout=_SECONDS
    )
    return done.stdout[done.stdout.index("<svg") :]


# --- what is drawn: scalar constants are part of the operation's label


def _drawn(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if not _is_scalar(node) or node in graph.outputs]


def _is_scalar(node: Node) -> bool:
    return node.value is not None and node.value.ndim == 0


def _label(node: Node) -> str:
    if node.primitive == "input":
        return node.name
    if node.value is not None:
        return f"{node.value.item():g}" if node.value.ndim == 0 else "constant"
    scalars = [
        f"{operand.value.item():g}" if operand.value is not None and _is_scalar(operand) else "·"
        for operand in node.inputs
    ]
    params = []
    if "exponent" in node.params:
        params.append(f"{node.params['exponent']:g}")
    if isinstance(node.params.get("axis"), tuple):
        params.append("axis " + ", ".join(map(str, node.params["axis"])))
    inside = scalars if any(text != "·" for text in scalars) else []
    return f"{node.primitive}({', '.join(inside + params)})" if inside + params else node.primitive


def _sizes(node: Node) -> str:
    return "×".join(map(str, node.shape)) if node.shape else "1"


def _colours(node: Node) -> tuple[str, str]:
    """Return the colours of a node's area and of its lines."""
    if not node.inputs:
        return _LEAF, _FORWARD_LINE
    return (_BACKWARD, _BACKWARD_LINE) if node.backward else (_FORWARD, _FORWARD_LINE)


def _edges(graph: Graph) -> list[tuple[Node, Node]]:
    drawn = set(_drawn(graph))
    return [
        (operand, node)
        for node in graph.nodes
        for operand in dict.fromkeys(node.inputs)
        if operand in drawn
    ]


def _tooltip(node: Node) -> str:
    return f"{node.source}: {node.source.code}" if node.source else ""


# --- dot


def to_dot(graph: Graph) -> str:
    """Return the graph in graphviz' language."""
    names = {node: f"n{k}" for k, node in enumerate(_drawn(graph))}
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        '  node [shape=box style="rounded,filled" fontname=Helvetica fontsize=11];',
        "  edge [fontname=Helvetica fontsize=9];",
    ]
    for node, name in names.items():
        area, line = _colours(node)
        width = 3 if node in graph.outputs else 1
        lines.append(
            f"  {name} [label={_quoted(_label(node))} fillcolor={_quoted(area)} "
            f"color={_quoted(line)} penwidth={width} tooltip={_quoted(_tooltip(node))}];"
        )
    for operand, node in _edges(graph):
        lines.append(
            f"  {names[operand]} -> {names[node]} [label={_quoted(_sizes(operand))} "
            f"color={_quoted(_colours(node)[1])}];"
        )
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- our own layout

_ROW, _GAP, _HEIGHT, _MARGIN, _LETTER = 64, 26, 26, 20, 6.6


@dataclass(eq=False, slots=True)
class _Box:
    """A node in its layer, or a bend of an edge that passes through it."""

    node: Node | None
    layer: int
    width: float
    x: float = 0.0
    above: list[_Box] = field(default_factory=list)
    below: list[_Box] = field(default_factory=list)

    @property
    def y(self) -> float:
        return _MARGIN + _HEIGHT / 2 + self.layer * _ROW


class _Drawing:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        layers = _layers(graph)
        self.boxes = {
            node: _Box(node, layer, _LETTER * len(_label(node)) + 18)
            for node, layer in layers.items()
        }
        self.rows: list[list[_Box]] = [[] for _ in range(max(layers.values(), default=0) + 1)]
        for box in self.boxes.values():
            self.rows[box.layer].append(box)
        self.edges = [(operand, node, self._bend(operand, node)) for operand, node in _edges(graph)]
        self._order()
        self._spread()

    def _bend(self, operand: Node, node: Node) -> list[_Box]:
        """Return the boxes that an edge goes through, one in each layer."""
        first, last = self.boxes[operand], self.boxes[node]
        way = [first]
        for layer in range(first.layer + 1, last.layer):
            way.append(_Box(None, layer, 8))
            self.rows[layer].append(way[-1])
        way.append(last)
        for upper, lower in itertools.pairwise(way):
            upper.below.append(lower)
            lower.above.append(upper)
        return way

    def _order(self) -> None:
        """Order each layer by the mean place of its boxes' neighbours, down and up again."""
        for sweep in range(8):
            down = sweep % 2 == 0
            for row in self.rows if down else self.rows[::-1]:
                places = {
                    box: (_mean_place(box.above if down else box.below, k), k)
                    for k, box in enumerate(row)
                }
                row.sort(key=places.__getitem__)
                for k, box in enumerate(row):
                    box.x = float(k)

    def _spread(self) -> None:
        """Give every box an x: near its neighbours, and apart from the boxes beside it."""
        for row in self.rows:
            _push_apart(row, [0.0] * len(row))
        for sweep in range(12):
            down = sweep % 2 == 0
            for row in self.rows if down else self.rows[::-1]:
                wishes = [_mean_x(box.above if down else box.below, box.x) for box in row]
                _push_apart(row, wishes)
        every = [box for row in self.rows for box in row]
        left = min((box.x - box.width / 2 for box in every), default=0.0)
        for box in every:
            box.x += _MARGIN - left

    def svg(self) -> str:
        every = [box for row in self.rows for box in row]
        width = max((box.x + box.width / 2 for box in every), default=0.0) + _MARGIN
        height = 2 * _MARGIN + _HEIGHT + (len(self.rows) - 1) * _ROW
        size = f"viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' height='{height:.0f}'"
        parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' {size}>",
            f"<title>{escape(self.graph.name)}</title>",
            "<rect width='100%' height='100%' fill='white'/>",
        ]
        parts += [self._edge(operand, node, way) for operand, node, way in self.edges]
        parts += [self._box(node, box) for node, box in self.boxes.items()]
        return "\n".join([*parts, "</svg>"])

    def _box(self, node: Node, box: _Box) -> str:
        area, line = _colours(node)
        thick = 3 if node in self.graph.outputs else 1
        return (
            f"<g><title>{escape(_tooltip(node))}</title>"
            f"<rect x='{box.x - box.width / 2:.1f}' y='{box.y - _HEIGHT / 2:.1f}' "
            f"width='{box.width:.1f}' height='{_HEIGHT}' rx='6' fill='{area}' stroke='{line}' "
            f"stroke-width='{thick}'/>"
            f"<text x='{box.x:.1f}' y='{box.y + 4:.1f}' {_FONT} font-size='11' fill='{_INK}' "
            f"text-anchor='middle'>{escape(_label(node))}</text></g>"
        )

    def _edge(self, operand: Node, node: Node, way: Sequence[_Box]) -> str:
        colour = _colours(node)[1]
        x, y = way[0].x, way[0].y + _HEIGHT / 2
        path = [f"M{x:.1f},{y:.1f}"]
        for box in way[1:]:
            end = box.y - (_HEIGHT / 2 if box.node is not None else 0)
            half = (y + end) / 2
            path.append(f"C{x:.1f},{half:.1f} {box.x:.1f},{half:.1f} {box.x:.1f},{end:.1f}")
            x, y = box.x, end
        text_x, text_y = (way[0].x + way[1].x) / 2, (way[0].y + way[1].y) / 2 + 3
        return (
            f"<path d='{' '.join(path)}' fill='none' stroke='{colour}'/>"
            f"<path d='M{x - 3:.1f},{y - 6:.1f} L{x:.1f},{y:.1f} L{x + 3:.1f},{y - 6:.1f} Z' "
            f"fill='{colour}'/>"
            f"<text x='{text_x + 4:.1f}' y='{text_y:.1f}' {_FONT} font-size='9' "
            f"fill='{colour}'>{_sizes(operand)}</text>"
        )


def _layers(graph: Graph) -> Mapping[Node, int]:
    """Return how far down each node is; a leaf stands right above its first use."""
    drawn = _drawn(graph)
    edges = _edges(graph)
    depth = dict.fromkeys(drawn, 0)
    for operand, node in edges:  # in the order of the nodes: an operand's depth is final
        depth[node] = max(depth[node], depth[operand] + 1)
    for node in drawn:
        if not node.inputs:
            uses = [depth[user] for operand, user in edges if operand is node]
            depth[node] = max(min(uses, default=1) - 1, 0)
    return depth


def _mean_place(neighbours: Sequence[_Box], own: int) -> float:
    return sum(box.x for box in neighbours) / len(neighbours) if neighbours else float(own)


def _mean_x(neighbours: Sequence[_Box], own: float) -> float:
    return sum(box.x for box in neighbours) / len(neighbours) if neighbours else own


def _push_apart(row: list[_Box], wishes: list[float]) -> None:
    """Put boxes where they wish to be, as far as their order and their widths allow."""
    if not row:
        return
    place, bounds = wishes[0], []
    for k, (box, wish) in enumerate(zip(row, wishes, strict=True)):
        if k:
            least = place + (row[k - 1].width + box.width) / 2 + _GAP
            place = max(wish, least)
        bounds.append(place)
    shift = sum(w - b for w, b in zip(wishes, bounds, strict=True)) / len(row)
    for box, bound in zip(row, bounds, strict=True):
        box.x = bound + shift
