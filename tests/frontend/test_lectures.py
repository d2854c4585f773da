"""What lectures on automatic differentiation run: their programs, and the network done by hand."""

from __future__ import annotations

import doctest
import importlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest

import siligrad.numpy as np
from siligrad.autodiff import grad, simplify, to_svg, trace

DOCS = Path(__file__).parents[2] / "docs"

PROGRAM = """
def predict(params, inputs):
    for W, b in params:
        outputs = jnp.dot(inputs, W) + b
        inputs = jnp.tanh(outputs)
    return outputs

def loss_fun(params, inputs, targets):
    preds = predict(params, inputs)
    return jnp.mean((preds - targets) ** 2)

grad_fun = grad(loss_fun)

def tanh(x):
    y = jnp.exp(-2.0 * x)
    return (1.0 - y) / (1.0 + y)

def train(params, inputs, targets, steps, rate):
    losses = []
    for _ in range(steps):
        losses.append(loss_fun(params, inputs, targets))
        grads = grad_fun(params, inputs, targets)
        params = [(W - rate * dW, b - rate * db)
                  for (W, b), (dW, db) in zip(params, grads)]
    return params, losses
"""


def run(imports: str) -> dict[str, Any]:
    """Execute the lecture's program with these imports before it."""
    scope: dict[str, Any] = {}
    exec(imports + PROGRAM, scope)
    return scope


def data() -> tuple[Any, Any, Any]:
    rng = numpy.random.default_rng(0)
    sizes = [(3, 8), (8, 8), (8, 2)]
    params = [(rng.standard_normal(size) / 2, numpy.zeros(size[1])) for size in sizes]
    return params, rng.standard_normal((16, 3)), rng.standard_normal((16, 2))


def test_the_lectures_program_trains() -> None:
    scope = run("import siligrad.numpy as jnp\nfrom siligrad import grad\n")
    params, inputs, targets = data()
    _, losses = scope["train"](params, inputs, targets, 200, 0.1)
    assert losses[-1] < losses[0] / 3


def test_the_lectures_program_does_what_it_does_with_jax() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax = pytest.importorskip(
            "jax", reason="jax is not installed: pip install siligrad[oracle]"
        )
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        theirs = run("import jax.numpy as jnp\nfrom jax import grad\n")
        ours = run("import siligrad.numpy as jnp\nfrom siligrad import grad\n")
        expected, _ = theirs["train"](*data(), 3, 0.1)
        params, _ = ours["train"](*data(), 3, 0.1)
        for mine, judged in zip(params, expected, strict=True):
            for a, b in zip(mine, judged, strict=True):
                numpy.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
        x = 0.7
        for _ in range(4):
            a, b = ours["tanh"], theirs["tanh"]
            numpy.testing.assert_allclose(a(x), b(x), rtol=1e-9)
            ours["tanh"], theirs["tanh"] = ours["grad"](a), theirs["grad"](b)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_the_lectures_program_runs_on_autograd_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("autograd")
        except ImportError:
            pytest.skip("autograd is not installed: pip install siligrad[oracle]")
    theirs = run("import autograd.numpy as jnp\nfrom autograd import grad\n")
    ours = run("import siligrad.numpy as jnp\nfrom siligrad import grad\n")
    expected, losses = theirs["train"](*data(), 3, 0.1)
    params, mine = ours["train"](*data(), 3, 0.1)
    assert mine == pytest.approx(losses, rel=1e-12)
    numpy.testing.assert_allclose(params[0][0], expected[0][0], rtol=1e-10)


def test_relu_has_the_derivative_of_the_lecture() -> None:
    relu = grad(lambda x: np.maximum(x, 0))
    assert [float(relu(x)) for x in (-1.0, -0.0, 0.0, 1e-300, 2.0)] == [0, 0, 0, 1, 1]


# --- the chain network


def chain(params: Any, x: Any) -> Any:
    for w, b in params:
        x = np.tanh(w * x + b)
    return x


def cost(params: Any, x: Any, y: Any) -> Any:
    return (chain(params, x) - y) ** 2


@pytest.mark.parametrize("seed", range(50))
def test_the_formulas_by_hand_agree_to_the_last_digit(seed: int) -> None:
    w1, b1, w2, b2, w3, b3, x, y = numpy.random.default_rng(seed).uniform(-2, 2, 8)
    a1 = numpy.tanh(w1 * x + b1)
    a2 = numpy.tanh(w2 * a1 + b2)
    a3 = numpy.tanh(w3 * a2 + b3)
    d3 = 2 * (a3 - y) * (1 - a3**2)
    d2 = d3 * w3 * (1 - a2**2)
    d1 = d2 * w2 * (1 - a1**2)
    gradient = grad(cost)([(w1, b1), (w2, b2), (w3, b3)], x, y)
    assert gradient == [(d1 * x, d1), (d2 * a1, d2), (d3 * a2, d3)]


def test_the_page_about_it_is_true() -> None:
    blocks = re.findall(
        r"^```pycon\n(.*?)^```",
        (DOCS / "chain-network.md").read_text(encoding="utf-8"),
        re.M | re.S,
    )
    assert len(blocks) == 6
    # An expected result ends at an empty line or at the next prompt, not at a fence.
    page = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "chain-network.md", None, 0)
    results = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(page)
    assert results.attempted > 25
    assert results.failed == 0


def test_the_picture_on_the_page_is_this_graph() -> None:
    params = [(0.5, 0.1), (-1.25, 0.2), (2.0, -0.3)]
    text = to_svg(simplify(trace(grad(cost), params, 1.5, 1.0)), "own")
    # the tooltips name files, which differ from place to place
    drawn = re.sub(r"<title>[^<]*</title>", "", text)
    committed = (DOCS / "pictures" / "chain-network.svg").read_text(encoding="utf-8")
    assert drawn == committed
