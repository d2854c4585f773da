"""What a traced value can do: its operators and methods, by the functions that they call.

The functions are those of :mod:`siligrad.numpy`, which calls :func:`attach` when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from siligrad.autodiff.indexing import getitem
from siligrad.autodiff.tracer import NAMESAKES, Array, Tracer

__all__ = ["attach"]

_BINARY = {
    "add": "add",
    "and": "logical_and",
    "matmul": "matmul",
    "mul": "multiply",
    "or": "logical_or",
    "pow": "power",
    "sub": "subtract",
    "truediv": "divide",
}
_OTHERS = {
    "abs": "absolute",
    "eq": "equal",
    "ge": "greater_equal",
    "gt": "greater",
    "invert": "logical_not",
    "le": "less_equal",
    "lt": "less",
    "ne": "not_equal",
    "neg": "negative",
}
_METHODS = {
    "argmax": "argmax",
    "argmin": "argmin",
    "astype": "astype",
    "clip": "clip",
    "dot": "dot",
    "flatten": "ravel",
    "max": "max",
    "mean": "mean",
    "min": "min",
    "ravel": "ravel",
    "reshape": "reshape",
    "squeeze": "squeeze",
    "std": "std",
    "sum": "sum",
    "swapaxes": "swapaxes",
    "transpose": "transpose",
    "var": "var",
}


def attach(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Give :class:`~siligrad.autodiff.tracer.Tracer` its operators and methods.

    The functions are also what numpy's functions of the same names become when they are given a
    traced value.
    """
    NAMESAKES.update(functions)
    for name, function in _BINARY.items():
        setattr(Tracer, f"__{name}__", _method(functions[function]))
        setattr(Tracer, f"__r{name}__", _reflected(functions[function]))
    for name, function in _OTHERS.items():
        setattr(Tracer, f"__{name}__", _method(functions[function]))
    for name, function in _METHODS.items():
        setattr(Tracer, name, _method(functions[function]))
    special: dict[str, Any] = {
        "T": property(functions["transpose"]),
        "__getitem__": _method(getitem),
        "__iter__": lambda self: (self[k] for k in range(len(self))),
        "__pos__": lambda self: self,
    }
    for name, attribute in special.items():
        setattr(Tracer, name, attribute)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    # A primitive is no Python function: as an attribute of a class it would not be bound.
    def bound(self: Tracer, *args: Any, **kwargs: Any) -> Array:
        return function(self, *args, **kwargs)

    return bound


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    def bound(self: Tracer, other: Any) -> Array:
        return function(other, self)

    return bound
