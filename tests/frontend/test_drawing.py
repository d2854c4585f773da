"""Pictures of graphs: everything is on them, nothing overlaps, and they are well-formed."""

from __future__ import annotations

import itertools
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad.numpy as np
from siligrad.autodiff import Graph, grad, simplify, trace
from siligrad.autodiff.drawing import DrawingError, to_dot, to_svg

SVG = "{http://www.w3.org/2000/svg}"


def loss(W: Any, x: Any, y: Any) -> Any:
    return np.mean((np.maximum(x @ W, 0) - y) ** 2)


@pytest.fixture
def graph() -> Graph:
    step = lambda W, x, y: W - 0.5 * grad(loss)(W, x, y)  # noqa: E731
    return simplify(trace(step, numpy.ones((3, 2)), numpy.ones((4, 3)), numpy.ones((4, 2))))


def boxes(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the label and the attributes of every box of our own layout."""
    found = []
    for group in ET.fromstring(text).iter(f"{SVG}g"):
        rect, label = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None
        assert label is not None
        found.append((label.text or "", dict(rect.attrib)))
    return found


def test_our_layout_shows_every_operation_with_its_scalars(graph: Graph) -> None:
    labels = sorted(label for label, _ in boxes(to_svg(graph, "own")))
    assert labels == sorted(
        [
            "W", "x", "y", "matmul", "maximum(·, 0)", "subtract", "greater(·, 0)",
            "multiply(2, ·)", "multiply(0.125, ·)", "multiply", "transpose", "matmul",
            "multiply(0.5, ·)", "subtract",
        ]
    )  # fmt: skip


def test_backward_has_another_colour_than_forward(graph: Graph) -> None:
    colours: dict[str, set[str]] = {}
    for label, rect in boxes(to_svg(graph, "own")):
        colours.setdefault(rect["fill"], set()).add(label)
    forward, backward, leaf = (
        next(fill for fill, labels in colours.items() if label in labels)
        for label in ("maximum(·, 0)", "greater(·, 0)", "x")
    )
    assert len({forward, backward, leaf}) == 3
    assert "transpose" in colours[backward]
    assert colours[leaf] == {"W", "x", "y"}


def test_edges_carry_shapes_and_boxes_lines(graph: Graph) -> None:
    root = ET.fromstring(to_svg(graph, "own"))
    texts = [element.text for element in root.findall(f"{SVG}text")]
    edges = sum(
        len([x for x in set(node.inputs) if x.value is None or x.shape]) for node in graph.nodes
    )
    assert len(texts) == edges
    assert {"3×2", "4×3", "4×2", "3×4"} == set(texts)
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert any("test_drawing.py" in text and "np.maximum(x @ W, 0)" in text for text in titles)


def test_results_have_a_thick_frame(graph: Graph) -> None:
    thick = [label for label, rect in boxes(to_svg(graph, "own")) if rect["stroke-width"] == "3"]
    assert thick == ["subtract"]


def test_the_same_graph_gives_the_same_picture(graph: Graph) -> None:
    assert to_svg(graph, "own") == to_svg(graph, "own")
    assert to_dot(graph) == to_dot(graph)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25))
def test_boxes_never_overlap(picks: list[tuple[int, int]]) -> None:
    def function(x: Any, y: Any) -> Any:
        values = [x, y]
        for i, j in picks:
            values.append(np.tanh(values[i % len(values)] + values[j % len(values)]))
        return values[-1]

    rows: dict[str, list[tuple[float, float]]] = {}
    for _, rect in boxes(to_svg(trace(function, 1.0, 2.0), "own")):
        left = float(rect["x"])
        rows.setdefault(rect["y"], []).append((left, left + float(rect["width"])))
    for row in rows.values():
        for (_, right), (left, _) in itertools.pairwise(sorted(row)):
            assert right < left


def test_names_are_escaped() -> None:
    graph = trace(lambda d: d["<&'\">"] + 1, {"<&'\">": 1.0})
    labels = [label for label, _ in boxes(to_svg(graph, "own"))]
    assert "d['<&\\'\">']" in labels
    assert '\\"' in to_dot(graph)


def test_an_empty_graph_is_drawn() -> None:
    assert boxes(to_svg(trace(lambda x: x, 1.0), "own"))[0][0] == "x"


def test_dots_language_has_every_node_and_edge(graph: Graph) -> None:
    text = to_dot(graph)
    assert text.startswith('digraph "<lambda>" {')
    assert len(re.findall(r"^  n\d+ \[label=", text, re.MULTILINE)) == 14
    assert re.search(r'n\d+ -> n\d+ \[label="4×3"', text)


def test_dot_is_asked_when_it_is_there(graph: Graph, tmp_path: Path, monkeypatch: Any) -> None:
    program = tmp_path / "dot"
    program.write_text(
        "#!/bin/sh\ncat > /dev/null\necho '<?xml?><!-- by dot --><svg>drawn</svg>'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert to_svg(graph) == "<svg>drawn</svg>\n"


def test_our_layout_stands_in_for_a_dot_that_fails(
    graph: Graph, tmp_path: Path, monkeypatch: Any
) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert to_svg(graph) == to_svg(graph, "own")
    with pytest.raises(DrawingError, match="dot failed"):
        to_svg(graph, "dot")


def test_a_missing_dot(graph: Graph, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert to_svg(graph) == to_svg(graph, "own")
    with pytest.raises(DrawingError, match="dot is not on the PATH: install graphviz, or use"):
        to_svg(graph, "dot")
    with pytest.raises(ValueError, match="layout must be 'auto', 'dot' or 'own', not 'neato'"):
        to_svg(graph, "neato")


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_understands_us(graph: Graph) -> None:
    root = ET.fromstring(to_svg(graph, "dot"))
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {"W", "x", "y", "maximum(·, 0)", "4×3"} <= texts
