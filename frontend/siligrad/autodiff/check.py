"""Check derivative rules by two things that they cannot both get wrong by accident.

Along a random direction ``v`` the derivative ``J v`` must be the limit of finite differences, and
for a random cotangent ``g`` the two modes must agree: ``<g, J v> = <J.T g, v>``.

>>> from siligrad import numpy as np
>>> check_grads(lambda x: np.tanh(x) * x, (0.5,))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from siligrad import tree
from siligrad.autodiff.graph import Node, trace
from siligrad.autodiff.tracer import Tracer, primitives
from siligrad.autodiff.transforms import jvp, name_of, vjp
from siligrad.errors import GradientError, SiligradError

__all__ = ["check_grads"]


def check_grads(
    function: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    tolerance: float | None = None,
    step: float | None = None,
    seed: int = 0,
) -> None:
    """Check the derivatives of ``function`` at ``args``, up to ``order``, in each of ``modes``.

    Parameters
    ----------
    function : callable
        Returns any tree of arrays. It must be smooth around ``args``: finite differences across a
        corner, such as relu's at zero, differ from either side.
    args : sequence
        All of its arguments, trees of floating-point arrays.
    order : :class:`int`
        1 checks the derivative, 2 also the derivative of the derivative, and so on.
    modes : sequence of "fwd" and "rev"
        "fwd" checks forward mode by finite differences, "rev" reverse mode by the inner product.
    tolerance : :class:`float`, optional
        Greatest relative error; by default 1e-6 in float64 and 1e-2 in float32.
    step : :class:`float`, optional
        Half the distance of the two points of a finite difference.
    seed : :class:`int`
        Determines the directions.

    Raises
    ------
    GradientError
        If they disagree. The message names the first primitive whose own rules do.
    """
    unknown = set(modes) - {"fwd", "rev"}
    if unknown or not modes:
        raise ValueError(f"modes must be 'fwd', 'rev' or both, not {tuple(modes)}")
    if order < 1:
        raise ValueError(f"order must be at least 1, not {order}")
    rng = np.random.default_rng(seed)
    args = [tree.map(_as_array, arg) for arg in args]
    kinds = {leaf.dtype.itemsize for arg in args for leaf in tree.flatten(arg)[0]}
    double = min(kinds, default=8) == 8
    tolerance = (1e-6 if double else 1e-2) if tolerance is None else tolerance
    step = (1e-5 if double else 1e-2) if step is None else step
    try:
        _check(function, args, order, tuple(modes), tolerance, step, rng)
    except GradientError as error:
        culprit = _culprit(function, args, tuple(modes), tolerance, step, rng)
        raise GradientError(f"{name_of(function)}: {error}{culprit}") from None


def _as_array(leaf: Any) -> Any:
    return np.asarray(leaf)


def _check(
    function: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: tuple[str, ...],
    tolerance: float,
    step: float,
    rng: np.random.Generator,
) -> None:
    directions = [tree.map(lambda leaf: _random(rng, leaf), arg) for arg in args]
    result, pullback = vjp(function, *args)
    cotangent = tree.map(lambda leaf: _random(rng, leaf), result)
    if "fwd" in modes:
        _, tangent = jvp(function, args, directions)
        after = function(*_moved(args, directions, step))
        before = function(*_moved(args, directions, -step))
        slope = tree.map(lambda a, b: (a - b) / (2 * step), after, before)
        _compare("forward mode", "finite differences", cotangent, tangent, slope, tolerance)
    if "rev" in modes:
        if "fwd" not in modes:
            after = function(*_moved(args, directions, step))
            before = function(*_moved(args, directions, -step))
            tangent = tree.map(lambda a, b: (a - b) / (2 * step), after, before)
        forward = _dot(cotangent, tangent)
        backward = _dot(pullback(cotangent), tuple(directions))
        _require("reverse mode", "<g, J v>", backward, forward, tolerance)
    if order > 1:
        if "fwd" in modes:
            _check(
                lambda *at: jvp(function, at, directions)[1],
                *(args, order - 1, modes, tolerance, step, rng),
            )
        if "rev" in modes:
            _check(
                lambda *at: vjp(function, *at)[1](cotangent),
                *(args, order - 1, modes, tolerance, step, rng),
            )


def _random(rng: np.random.Generator, leaf: Any) -> Any:
    return rng.standard_normal(np.shape(leaf)).astype(np.asarray(leaf).dtype)


def _moved(args: Sequence[Any], directions: Sequence[Any], step: float) -> list[Any]:
    return [
        tree.map(lambda x, v: x + step * v, arg, direction)
        for arg, direction in zip(args, directions, strict=True)
    ]


def _dot(a: Any, b: Any) -> float:
    pairs = zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True)
    return float(sum(np.vdot(np.float64(x), np.float64(y)) for x, y in pairs))


def _compare(
    what: str, judge: str, cotangent: Any, found: Any, expected: Any, tolerance: float
) -> None:
    _require(what, judge, _dot(cotangent, found), _dot(cotangent, expected), tolerance)
    for x, y in zip(tree.flatten(found)[0], tree.flatten(expected)[0], strict=True):
        _require(what, judge, float(np.linalg.norm(x)), float(np.linalg.norm(y)), tolerance)


def _require(what: str, judge: str, found: float, expected: float, tolerance: float) -> None:
    if not abs(found - expected) <= tolerance * max(1.0, abs(found), abs(expected)):
        raise GradientError(f"{what} gives {found:.9g} where {judge} gives {expected:.9g}")


def _culprit(
    function: Callable[..., Any],
    args: Sequence[Any],
    modes: tuple[str, ...],
    tolerance: float,
    step: float,
    rng: np.random.Generator,
) -> str:
    """Find the first node whose primitive fails by itself, and say which."""
    try:
        graph = trace(function, *args)
        values = graph.values(*graph.flatten(*args))
    except SiligradError:
        return ""
    for node in graph.nodes:
        if not node.inputs or primitives[node.primitive].vjp is None:
            continue
        moving = [k for k, operand in enumerate(node.inputs) if operand.dtype.kind == "f"]
        operands = [values[operand] for operand in node.inputs]
        try:
            alone = _alone(node, moving, operands)
            _check(alone, [operands[k] for k in moving], 1, modes, tolerance, step, rng)
        except (GradientError, SiligradError, ValueError) as error:
            line = f"\n  at {node.source}: {node.source.code}" if node.source else ""
            shapes = ", ".join(str(operand.shape) for operand in node.inputs)
            return f"; the rules of {node.primitive!r} on shapes {shapes} are wrong: {error}{line}"
    return ""


def _alone(node: Node, moving: list[int], operands: list[Any]) -> Callable[..., Any]:
    """Return the node's primitive as a function of its floating-point operands."""

    def alone(*moved: Tracer) -> Any:
        full: list[Any] = list(operands)
        for k, operand in zip(moving, moved, strict=True):
            full[k] = operand
        return primitives[node.primitive](*full, **node.params)

    return alone
