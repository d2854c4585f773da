"""Automatic differentiation of Python functions of arrays, eager and as graphs."""

from __future__ import annotations

from siligrad.autodiff.check import check_grads
from siligrad.autodiff.drawing import to_svg
from siligrad.autodiff.graph import Argument, Graph, Node, trace
from siligrad.autodiff.simplify import simplify
from siligrad.autodiff.source import Source
from siligrad.autodiff.static import Static, static
from siligrad.autodiff.tracer import Primitive, Tracer, primitives, register
from siligrad.autodiff.transforms import (
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)

__all__ = [
    "Argument",
    "Graph",
    "Node",
    "Primitive",
    "Source",
    "Static",
    "Tracer",
    "check_grads",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "primitives",
    "register",
    "simplify",
    "static",
    "stop_gradient",
    "to_svg",
    "trace",
    "value_and_grad",
    "vjp",
]
