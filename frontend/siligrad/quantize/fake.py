"""Fake quantization: floating point that has only the values of a format, for training.

A network that is trained with its weights and activations rounded learns to live with it. The
rounding has no useful derivative, so the backward pass goes straight through: Y. Bengio, N.
Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation" (2013), section 4; B. Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (2018), section 3.

>>> from siligrad import grad
>>> from siligrad.fixed import QFormat
>>> q = QFormat(bits=4, frac=2)  # -1.75 to 1.75 in steps of 0.25
>>> [float(fake_quantize(x, q)) for x in (0.3, 0.375, 5.0)]
[0.25, 0.5, 1.75]
>>> [float(grad(fake_quantize)(x, q)) for x in (0.3, 1.75, 5.0)]
[1.0, 1.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.autodiff import Graph, Node, Primitive, register, simplify
from siligrad.autodiff.graph import constant
from siligrad.autodiff.simplify import Rewriter, rewrite
from siligrad.autodiff.tracer import Array
from siligrad.fixed import QFormat

__all__ = ["fake_quantize", "see_through"]


def fake_quantize(x: Array, format: QFormat) -> Array:  # noqa: A002  what it is
    """Return `x` with each element replaced by the nearest value of `format`.

    Rounding and saturation are those of :meth:`siligrad.fixed.QFormat.encode`; shape and type are
    those of `x`, which is floating point. The derivative is 1 within the largest value of the
    format, ends included, and 0 outside, where the result does not move.

    A compiled program computes it by holding `x` in that format, with more fraction bits if its
    words have more: see :func:`siligrad.compile`.
    """
    return _fake_quantize(x, bits=format.bits, frac=format.frac)


def _floating(x: NDArray[Any]) -> np.dtype[Any]:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)


def _quantize(x: Any, *, bits: int, frac: int) -> NDArray[Any]:
    chosen = QFormat(bits, frac)
    array = np.asarray(x)
    return np.asarray(chosen.decode(chosen.encode(array)), dtype=_floating(array))


def _within(x: Any, *, bits: int, frac: int) -> NDArray[np.bool_]:
    return np.asarray(np.abs(x) <= QFormat(bits, frac).largest)


def _straight_through(g: Array, out: Array, x: Array, *, bits: int, frac: int) -> Array:
    # d fake_quantize(x) := [|x| <= largest] dx, by definition and not by calculus
    return g * _is_within(x, bits=bits, frac=frac)


_is_within: Primitive = register("is_within", _within, elementwise=True)
_fake_quantize: Primitive = register(
    "fake_quantize",
    _quantize,
    vjp=_straight_through,
    jvp=_straight_through,
    elementwise=True,
)


def see_through(graph: Graph) -> tuple[Graph, Mapping[Node, QFormat]]:
    """Return `graph`, simplified, without fake quantization, and the format of what had it.

    That is what a device needs: a word that is held in a format has been quantized to it, and is
    within its range. A node that was quantized to several formats has the narrowest.
    """
    if not any(node.primitive in (_is_within.name, _fake_quantize.name) for node in graph.nodes):
        return simplify(graph), {}

    def one(
        work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
    ) -> Node:
        filler = work.share(constant(True, like.dtype, like.source))
        return work.move("broadcast_to", filler, like, shape=like.shape)

    formats: dict[Node, QFormat] = {}

    def operand(
        work: Rewriter, operands: tuple[Node, ...], params: Mapping[str, Any], like: Node
    ) -> Node | None:
        (x,) = operands
        if (x.shape, x.dtype) != (like.shape, like.dtype):
            return None
        found = QFormat(params["bits"], params["frac"])
        formats[x] = min(formats.get(x, found), found, key=_narrowness)
        return x

    graph = rewrite(simplify(rewrite(graph, {"is_within": one})), {"fake_quantize": operand})
    return graph, formats


def _narrowness(format: QFormat) -> tuple[float, int]:  # noqa: A002
    return format.largest, format.frac
