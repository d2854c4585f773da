"""Transformations of functions of trees of arrays: derivatives, in both modes and of any order.

Every transformation records one run of the function on a tape and walks that tape. Outside of a
transformation nothing is wrapped: arguments and results are numpy arrays.

>>> from siligrad import numpy as np
>>> def tanh(x):
...     return (1 - np.exp(-2 * x)) / (1 + np.exp(-2 * x))
>>> float(grad(tanh)(0.0)), float(grad(grad(grad(tanh)))(0.0))
(1.0, -2.0)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from siligrad import tree
from siligrad.autodiff import elementwise
from siligrad.autodiff.arrangement import concatenate, reshape, transpose
from siligrad.autodiff.elementwise import astype
from siligrad.autodiff.source import at_caller
from siligrad.autodiff.tracer import Array, Tape, Tracer
from siligrad.autodiff.walk import pull_back, push_forward
from siligrad.errors import ShapeError, TraceError

__all__ = [
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]


class Recording:
    """One run of a function with some of its arguments lifted to a new tape.

    Parameters
    ----------
    function : callable
        What is run.
    args : sequence
        Its positional arguments, trees of arrays.
    lifted : sequence of :class:`int`
        Positions of the arguments to differentiate; their leaves must be floating point.
    kwargs : dict
        Keyword arguments, passed on as they are.
    has_aux : :class:`bool`
        The function returns ``(result, aux)`` and only ``result`` is differentiated.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        lifted: Sequence[int],
        kwargs: dict[str, Any] | None = None,
        has_aux: bool = False,
    ) -> None:
        self.function = function
        self.tape = tape = Tape()
        self.structures: list[tree.Structure] = []
        self.leaves: list[list[Tracer]] = []
        actual = list(args)
        for position in lifted:
            leaves, structure = tree.flatten(args[position])
            tracers = [
                tape.lift(_floating(leaf, self, position, k)) for k, leaf in enumerate(leaves)
            ]
            self.structures.append(structure)
            self.leaves.append(tracers)
            actual[position] = tree.unflatten(structure, tracers)
        self.inputs = [tracer for tracers in self.leaves for tracer in tracers]
        try:
            result = function(*actual, **(kwargs or {}))
        finally:
            self.records = tape.close()
        self.aux: Any = None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise TraceError(f"with has_aux=True {name_of(function)} must return (result, aux)")
            result, aux = result
            self.aux = tree.map(self.lower, aux)
        self.results, self.out_structure = tree.flatten(result)
        self.values = [_result(self.lower(leaf), function) for leaf in self.results]

    def lower(self, leaf: Any) -> Any:
        """Return the value of a tracer of this tape, and anything else as it is."""
        return leaf.value if type(leaf) is Tracer and leaf.tape is self.tape else leaf

    def unflatten_each(self, flat: Sequence[Any]) -> list[Any]:
        """Build one tree for each lifted argument from all their leaves."""
        trees, start = [], 0
        for structure, tracers in zip(self.structures, self.leaves, strict=True):
            trees.append(tree.unflatten(structure, flat[start : start + len(tracers)]))
            start += len(tracers)
        return trees

    def pull_back(self, cotangents: Sequence[Array | None]) -> list[Array]:
        """Return the cotangent of every input leaf, in arrays that nobody else holds."""
        pulled = pull_back(
            self.tape, self.records, list(zip(self.results, cotangents, strict=True)), self.inputs
        )
        held = {id(g) for g in cotangents}
        return [_own(g, tracer, held) for g, tracer in zip(pulled, self.inputs, strict=True)]

    def push_forward(self, tangents: Sequence[Array | None]) -> list[Array]:
        """Return the tangent of every result leaf."""
        pushed = push_forward(
            self.tape, self.records, list(zip(self.inputs, tangents, strict=True)), self.results
        )
        held = {id(t) for t in tangents}
        return [_own(t, value, held) for t, value in zip(pushed, self.values, strict=True)]


def _own(derivative: Array | None, like: Array, held: set[int]) -> Array:
    """Give a derivative its own memory: a rule may pass on what it was given, or a view."""
    if derivative is None:
        return np.zeros(like.shape, like.dtype)
    if type(derivative) is np.ndarray:
        if derivative.base is not None or id(derivative) in held:
            derivative = derivative.copy()
        held.add(id(derivative))
    return derivative


def name_of(function: Callable[..., Any]) -> str:
    """Return how messages call ``function``."""
    return getattr(function, "__name__", type(function).__name__)


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names that ``function`` gives to its first ``count`` positional arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{k}]" for k in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return (names + [f"arg{k}" for k in range(len(names), count)])[:count]


def _floating(leaf: Any, recording: Recording, position: int, index: int) -> Array:
    if type(leaf) is not Tracer:
        try:
            leaf = np.asarray(leaf)
        except TraceError:
            raise TraceError("an array holds traced values; build it with siligrad.numpy") from None
    if leaf.dtype.kind != "f":
        function = recording.function
        name = argument_names(function, position + 1)[position]
        raise TraceError(
            f"cannot differentiate {name_of(function)} with respect to {name} (leaf {index}): it "
            f"has the type {leaf.dtype} and derivatives need floating point; pass 1.0 instead of "
            "1, or convert it with .astype(float), or choose other arguments with "
            f"argnums{at_caller()}"
        )
    return leaf


def _result(value: Any, function: Callable[..., Any]) -> Array:
    if type(value) is Tracer:
        return value
    if value is None or isinstance(value, str):
        raise TraceError(f"{name_of(function)} must return arrays, not {value!r}{at_caller()}")
    return value if isinstance(value, (np.ndarray, np.generic)) else np.asarray(value)


def _positions(argnums: int | Sequence[int], args: Sequence[Any], function: Any) -> tuple[int, ...]:
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for position in positions:
        if not -len(args) <= position < len(args):
            raise TraceError(
                f"argnums names argument {position} of {name_of(function)}, which was called with "
                f"{len(args)} positional arguments{at_caller()}"
            )
    return tuple(position % len(args) for position in positions)


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that computes the value of ``function`` and its gradient in one go.

    Parameters
    ----------
    function : callable
        Returns a scalar, or ``(scalar, aux)`` with ``has_aux``.
    argnums : :class:`int` or sequence of :class:`int`
        Which positional arguments to differentiate: any trees of floating-point arrays. The
        gradient is a tree like the argument, or a tuple of such trees for a sequence.
    has_aux : :class:`bool`
        The value is then ``(scalar, aux)``.

    Raises
    ------
    ShapeError
        If the result is not a scalar.
    TraceError
        If an argument is not floating point, or ``function`` does what cannot be traced.

    >>> value_and_grad(lambda x: x**2)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """

    @functools.wraps(function)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        recording = Recording(function, args, _positions(argnums, args, function), kwargs, has_aux)
        value = _scalar(recording, function)
        flat = recording.pull_back([np.ones((), value.dtype)])
        gradients = recording.unflatten_each(flat)
        gradient = gradients[0] if isinstance(argnums, int) else tuple(gradients)
        return ((value, recording.aux) if has_aux else value), gradient

    value_and_gradient.__name__ = f"value_and_grad({name_of(function)})"
    return value_and_gradient


def _scalar(recording: Recording, function: Callable[..., Any]) -> Array:
    if recording.out_structure is not tree.LEAF:
        raise ShapeError(
            f"grad needs a scalar, but {name_of(function)} returns {recording.out_structure}: "
            "return one number (has_aux=True for (number, anything)), or use jacobian or "
            f"vjp{at_caller()}"
        )
    value = recording.values[0]
    if value.shape != ():
        raise ShapeError(
            f"grad needs a scalar, but {name_of(function)} returns an array of shape "
            f"{value.shape}: reduce it with siligrad.numpy.sum or mean, or use jacobian or "
            f"vjp{at_caller()}"
        )
    if value.dtype.kind != "f":
        raise TraceError(
            f"grad needs a floating-point scalar, but {name_of(function)} returns {value.dtype}"
            f"{at_caller()}"
        )
    return value


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the gradient of ``function``, as a function of the same arguments.

    As :func:`value_and_grad` without the value; with ``has_aux`` it returns ``(gradient, aux)``.

    >>> cube = grad(lambda params: params["a"] ** 3)
    >>> cube({"a": 2.0})
    {'a': np.float64(12.0)}
    """
    both = value_and_grad(function, argnums, has_aux=has_aux)

    @functools.wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    gradient.__name__ = f"grad({name_of(function)})"
    return gradient


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Run ``function`` and return its result and the map from cotangents back to the arguments.

    Returns ``(result, pullback)``, or ``(result, pullback, aux)`` with ``has_aux``.
    ``pullback(g)`` takes a tree like the result and returns a tuple of trees, one for each of
    ``primals``. It may be called any number of times; the intermediate values stay alive as long
    as it does.

    >>> result, pullback = vjp(lambda a, b: a * b, 2.0, 5.0)
    >>> pullback(1.0)
    (np.float64(5.0), np.float64(2.0))
    """
    recording = Recording(function, primals, range(len(primals)), None, has_aux)
    result = tree.unflatten(recording.out_structure, recording.values)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        cotangents = _like(recording.out_structure, recording.values, cotangent, "cotangent")
        return tuple(recording.unflatten_each(recording.pull_back(cotangents)))

    return (result, pullback, recording.aux) if has_aux else (result, pullback)


def jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """Run ``function`` and its derivative along ``tangents`` (forward mode).

    Returns the result and its tangent, a tree like it: the change of the result when the arguments
    move by a small multiple of ``tangents``, divided by that multiple.

    Raises
    ------
    ShapeError
        If a tangent is not like its primal.

    >>> jvp(lambda a, b: a * b, (2.0, 5.0), (1.0, 0.0))
    (np.float64(10.0), np.float64(5.0))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TraceError("jvp takes a tuple of arguments and a tuple of tangents")
    if len(primals) != len(tangents):
        raise ShapeError(f"jvp of {len(primals)} arguments got {len(tangents)} tangents")
    recording = Recording(function, primals, range(len(primals)))
    flat: list[Array] = []
    for structure, tracers, tangent in zip(
        recording.structures, recording.leaves, tangents, strict=True
    ):
        flat += _like(structure, tracers, tangent, "tangent")
    pushed = recording.push_forward(flat)
    return (
        tree.unflatten(recording.out_structure, recording.values),
        tree.unflatten(recording.out_structure, pushed),
    )


def _like(
    structure: tree.Structure, primals: Sequence[Array], derivative: Any, name: str
) -> list[Array]:
    """Flatten a tangent or a cotangent and give each leaf the type of its primal."""
    leaves = tree.flatten_like(structure, derivative, name)
    result = []
    for primal, leaf, path in zip(primals, leaves, tree.paths(structure, name), strict=True):
        array = leaf if type(leaf) is Tracer else np.asarray(leaf)
        if array.shape != primal.shape:
            raise ShapeError(f"{path} must have the shape {primal.shape}, not {array.shape}")
        same = array.dtype == primal.dtype
        result.append(array if same else astype(array, dtype=str(primal.dtype)))
    return result


def jacobian(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, mode: str = "rev"
) -> Callable[..., Any]:
    """Return the derivative of every element of the result by every element of an argument.

    For an argument of shape ``a`` and a result of shape ``r`` it is an array of shape ``r + a``;
    for trees it is a tree like the result whose leaves are trees like the argument.

    Parameters
    ----------
    function : callable
        Returns any tree of arrays.
    argnums : :class:`int` or sequence of :class:`int`
        Which arguments to differentiate by; a sequence gives a tuple of trees.
    mode : "rev" or "fwd"
        Walk backward once for each element of the result, or forward once for each element of the
        argument: choose the smaller number.

    >>> jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    if mode not in ("rev", "fwd"):
        raise ValueError(f"mode must be 'rev' or 'fwd', not {mode!r}")

    @functools.wraps(function)
    def jacobian_of_function(*args: Any, **kwargs: Any) -> Any:
        recording = Recording(function, args, _positions(argnums, args, function), kwargs)
        blocks = _rows(recording) if mode == "rev" else _columns(recording)
        trees = []
        for row in blocks:
            each = recording.unflatten_each(row)
            trees.append(each[0] if isinstance(argnums, int) else tuple(each))
        return tree.unflatten(recording.out_structure, trees)

    jacobian_of_function.__name__ = f"jacobian({name_of(function)})"
    return jacobian_of_function


def _basis(like: Array) -> list[Array]:
    """Return the unit vectors of the space that ``like`` is in, in its shape."""
    unit = np.eye(like.size, dtype=like.dtype)
    return [row.reshape(like.shape) for row in unit]


def _stack(rows: list[Array], shape: tuple[int, ...]) -> Array:
    if not rows:
        return np.zeros(shape)
    flat = [reshape(row, shape=(1, *row.shape)) for row in rows]
    return reshape(concatenate(*flat, axis=0), shape=shape)


def _rows(recording: Recording) -> list[list[Array]]:
    """Return one list for each result leaf of one array for each input leaf, by reverse mode."""
    blocks = []
    for k, value in enumerate(recording.values):
        before, after = [None] * k, [None] * (len(recording.values) - k - 1)
        pulled = [recording.pull_back([*before, unit, *after]) for unit in _basis(value)]
        blocks.append([
            _stack([each[j] for each in pulled], value.shape + tracer.shape)
            for j, tracer in enumerate(recording.inputs)
        ])
    return blocks


def _columns(recording: Recording) -> list[list[Array]]:
    """Return what :func:`_rows` does, by forward mode."""
    blocks: list[list[Array]] = [[] for _ in recording.values]
    for j, tracer in enumerate(recording.inputs):
        before, after = [None] * j, [None] * (len(recording.inputs) - j - 1)
        pushed = [recording.push_forward([*before, unit, *after]) for unit in _basis(tracer)]
        for k, value in enumerate(recording.values):
            stacked = _stack([each[k] for each in pushed], tracer.shape + value.shape)
            order = (*range(len(tracer.shape), len(stacked.shape)), *range(len(tracer.shape)))
            blocks[k].append(transpose(stacked, axes=order))
    return blocks


def hessian(function: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Return the matrix of second derivatives of a scalar function, forward over reverse.

    For an argument of shape ``a`` it has the shape ``a + a``; for a tree, a tree of trees.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(function, argnums), argnums, mode="fwd")


def hvp(function: Callable[..., Any], primal: Any, tangent: Any) -> Any:
    """Return the product of the Hessian of a scalar function of one argument with ``tangent``.

    Forward over reverse: its cost is a small multiple of the cost of ``function``, and no Hessian
    is formed.

    >>> hvp(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([4., 2.])
    """
    return jvp(grad(function), (primal,), (tangent,))[1]


def stop_gradient(values: Any) -> Any:
    """Return ``values`` (a tree of arrays) as constants: their derivative is zero.

    >>> float(grad(lambda x: x * stop_gradient(x))(3.0))
    3.0
    """
    return tree.map(elementwise.stop_gradient, values)
