"""Traced values, the tape they are recorded on, and primitives, the functions that are recorded.

A transformation opens a :class:`Tape`, lifts the arguments of the user's function to
:class:`Tracer` and runs it. A primitive that meets a tracer computes its result by applying itself
to the *values* of the operands and appends the result to the tape. When transformations are
nested, the values of the innermost tape are tracers of the next one: applying the primitive to
them records it there too, and so on down to numpy. So the tapes form levels, a rule that is
applied to values is itself recorded by every enclosing transformation, and derivatives of
derivatives need no further mechanism.

The scheme is that of D. Maclaurin, D. Duvenaud, R. P. Adams, "Autograd: Effortless Gradients in
Numpy" (2015); the levels are those of JAX's "Autodidax".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NoReturn, TypeAlias

import numpy as np

from siligrad.autodiff.source import Source, at_caller, is_tracing, locate
from siligrad.errors import ShapeError, TraceError

__all__ = [
    "INPUT",
    "NAMESAKES",
    "Array",
    "Each",
    "Primitive",
    "Rule",
    "Tape",
    "Tracer",
    "primitives",
    "register",
]

Array: TypeAlias = Any
"""An ndarray outside of a transformation, a :class:`Tracer` inside: only the moment knows."""

Rule: TypeAlias = Callable[..., Any]
"""A vjp rule ``(g, out, *operands, **params)`` or a jvp rule ``(t, out, *operands, **params)``."""

_OPERANDS = frozenset({np.ndarray, float, int, bool, np.float64, np.float32})
_levels = count()


class Tape:
    """The primitives that one transformation has seen applied, in order.

    Levels are numbered as tapes are opened. A transformation inside another one opens its tape
    later, so among the operands of a primitive the innermost tape is the one with the greatest
    level.
    """

    __slots__ = ("is_open", "keeps_sources", "level", "records")

    def __init__(self) -> None:
        self.level = next(_levels)
        self.records: list[Tracer] = []
        self.keeps_sources = is_tracing()
        self.is_open = True

    def lift(self, value: Array) -> Tracer:
        """Return a new input of the traced function."""
        return self.record(INPUT, (), _NO_PARAMS, value)

    def record(
        self, primitive: Primitive, inputs: tuple[Any, ...], params: Mapping[str, Any], value: Array
    ) -> Tracer:
        """Append the application of ``primitive`` that gave ``value``."""
        source = None
        if self.keeps_sources:
            source = value.source if type(value) is Tracer and value.source else locate()
        tracer = Tracer(value, self, len(self.records), primitive, inputs, params, source)
        self.records.append(tracer)
        return tracer

    def close(self) -> list[Tracer]:
        """Refuse further records, the traced function has returned, and hand over those there are.

        The tape forgets them: a cycle of tape and tracers would keep every intermediate value until
        Python looks for cycles.
        """
        self.is_open = False
        records, self.records = self.records, []
        return records


class Tracer:
    """A value on its way through a transformation, and how it was made.

    It is used like an ndarray: operators, indexing, methods and the functions of
    :mod:`siligrad.numpy`. What would need its numbers (``if``, ``float``, ``print`` of elements)
    or would overwrite them is refused. :mod:`siligrad.numpy` gives it operators and methods.
    """

    __slots__ = ("index", "inputs", "params", "primitive", "source", "tape", "value")

    def __init__(
        self,
        value: Array,
        tape: Tape,
        index: int,
        primitive: Primitive,
        inputs: tuple[Any, ...],
        params: Mapping[str, Any],
        source: Source | None,
    ) -> None:
        self.value = value
        self.tape = tape
        self.index = index
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.source = source

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return self.value.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.value.dtype  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.size  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        sizes = ",".join(map(str, self.shape))
        return f"<traced {self.dtype}[{sizes}] from {self.primitive.name}>"

    def __format__(self, specification: str) -> str:
        return repr(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TraceError(f"a traced value without dimensions has no len(){at_caller()}")
        return self.shape[0]

    __hash__ = None  # type: ignore[assignment]  # == compares elements

    def __bool__(self) -> NoReturn:
        raise TraceError(
            f"the truth of a traced value of shape {self.shape} (from {self.primitive.name!r}) is "
            "not known while the function is traced: `if`, `while`, `and`, `or`, `not` cannot "
            "depend on it; write siligrad.numpy.where(condition, a, b) or maximum/minimum "
            f"instead{at_caller()}"
        )

    def _refuse_number(self) -> NoReturn:
        raise TraceError(
            f"a traced value of shape {self.shape} (from {self.primitive.name!r}) has no number "
            "yet: float(), int(), index use and item() need one; keep it an array, return it "
            "beside the result with has_aux=True, or take it out of the traced "
            f"function{at_caller()}"
        )

    def __float__(self) -> float:
        self._refuse_number()

    def __int__(self) -> int:
        self._refuse_number()

    def __complex__(self) -> complex:
        self._refuse_number()

    def __index__(self) -> int:  # noqa: PLE0305
        self._refuse_number()

    def item(self) -> NoReturn:
        """Refuse: the number is not known."""
        self._refuse_number()

    def __setitem__(self, index: object, value: object) -> NoReturn:
        raise TraceError(
            "a traced value cannot be written in place: its old value is needed for the "
            "derivative; build the new one with siligrad.numpy.where, concatenate or stack, or "
            f"index it after the computation{at_caller()}"
        )

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise TraceError(
            f"a traced value of shape {self.shape} (from {self.primitive.name!r}) cannot become a "
            "numpy array: inside a traced function use the functions of siligrad.numpy, and do "
            f"not store traced values in arrays made by numpy{at_caller()}"
        )

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *operands: Any, out: Any = None, **options: Any
    ) -> Any:
        if out is not None:
            raise TraceError(
                f"numpy.{ufunc.__name__}(..., out=...) or an in-place operator writes a traced "
                "value into an array that numpy owns; write `x = x + y`, not `x += y`"
                f"{at_caller()}"
            )
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        return _call_namesake(name, operands, options)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, options: Any
    ) -> Any:
        inside = "linalg." if function.__module__ == "numpy.linalg" else ""
        return _call_namesake(inside + function.__name__, args, options)


NAMESAKES: dict[str, Callable[..., Any]] = {}
"""What is called for a function of numpy that is given a traced value, by that function's name.

:mod:`siligrad.numpy` enters its functions here.
"""


def _call_namesake(name: str, args: Any, options: Mapping[str, Any]) -> Any:
    """Call the function of :mod:`siligrad.numpy` that has the name of a numpy function."""
    function = NAMESAKES.get(name)
    if function is None:
        raise TraceError(
            f"numpy.{name} cannot take a traced value and siligrad.numpy has no {name}: compose it "
            "from functions of siligrad.numpy, or register it as a primitive with its rule"
            f"{at_caller()}"
        )
    if options and not isinstance(function, Primitive):
        try:
            inspect.signature(function).bind(*args, **options)
        except TypeError as error:
            raise TraceError(f"siligrad.numpy.{name}: {error}{at_caller()}") from None
    return function(*args, **options)


class Primitive:
    """A function of arrays that is recorded as one node, with its derivative rules.

    Operands are positional; keyword parameters are static and hashable. Called with plain arrays
    it is the numpy implementation and nothing else.

    Parameters
    ----------
    name : :class:`str`
        The node's name, and the key in :data:`primitives`.
    implementation : callable
        ``(*arrays, **params) -> array``.
    vjp : iterable of rules, or None
        One rule for each operand: ``(g, out, *operands, **params)`` gives the cotangent of that
        operand when ``g`` is the cotangent of ``out``. None in the place of a rule means "no
        contribution"; None for all of them, that the primitive is piecewise constant: derivatives
        stop here.
    jvp : iterable of rules, or None
        One rule for each operand: ``(t, out, *operands, **params)`` gives the tangent of ``out``
        when the operand moves along ``t`` and the others rest. None: derived from ``vjp``, which
        is linear in ``g``, by transposing it once more.
    elementwise : :class:`bool`
        The result has the broadcast shape of the operands and each element depends on the elements
        in its place. Rules may then return cotangents of the result's shape; they are summed to
        the operand's.
    shape_rule : :class:`str` or None
        What the shapes must satisfy; empty to say what numpy says. None: the implementation may
        raise a ValueError for other reasons than shapes, and it is left as it is.
    """

    __slots__ = ("elementwise", "implementation", "jvp", "name", "shape_rule", "vjp")

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Any],
        *,
        vjp: Iterable[Rule | None] | None = None,
        jvp: Iterable[Rule | None] | None = None,
        elementwise: bool = False,
        shape_rule: str | None = None,
    ) -> None:
        self.name = name
        self.implementation = implementation
        self.vjp = vjp
        self.jvp = jvp
        self.elementwise = elementwise
        self.shape_rule = shape_rule

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *operands: Any, **params: Any) -> Any:
        tape: Tape | None = None
        for operand in operands:
            if type(operand) is Tracer and (tape is None or operand.tape.level > tape.level):
                tape = operand.tape
        if tape is None:
            try:
                return self.implementation(*operands, **params)
            except (ValueError, IndexError, TypeError) as error:
                self._explain(error, operands)
        if not tape.is_open:
            self._refuse_escaped(tape, operands)
        values = []
        nested = False
        for operand in operands:
            value = operand
            if type(operand) is Tracer:
                if operand.tape is tape:
                    value = operand.value
                nested = nested or type(value) is Tracer
            elif type(operand) not in _OPERANDS:
                return self(*map(_operand, operands), **params)
            values.append(value)
        if nested:
            return tape.record(self, operands, params, self(*values, **params))
        try:
            value = self.implementation(*values, **params)
        except (ValueError, IndexError, TypeError) as error:
            self._explain(error, operands)
        return tape.record(self, operands, params, value)

    def _explain(self, error: Exception, operands: tuple[Any, ...]) -> NoReturn:
        shapes = "shapes " if len(operands) > 1 else "shape "
        shapes += " and ".join(str(np.shape(operand)) for operand in operands)
        if self.shape_rule is not None and type(error) in {ValueError, IndexError}:
            rule = self.shape_rule or error
            raise ShapeError(f"{self.name} of {shapes}: {rule}{at_caller()}") from error
        error.add_note(f"in {self.name} of {shapes}{at_caller()}")
        raise error

    def _refuse_escaped(self, tape: Tape, operands: tuple[Any, ...]) -> NoReturn:
        escaped = next(x for x in operands if type(x) is Tracer and x.tape is tape)
        made = f", made at {escaped.source}" if escaped.source else ""
        raise TraceError(
            f"a traced value ({escaped!r}{made}) escaped from the function it was traced in: it "
            "was stored somewhere and used after that function had returned; return it instead "
            f"(with has_aux=True beside a scalar result){at_caller()}"
        )


def _operand(value: Any) -> Any:
    """Convert what numpy takes for an array (lists, numpy scalars) to a plain ndarray."""
    if type(value) is Tracer or type(value) in _OPERANDS:
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TraceError(
            f"{value!r} ({type(value).__name__}) is not an array of real numbers{at_caller()}"
        )
    return array


_NO_PARAMS: Mapping[str, Any] = {}
INPUT = Primitive("input", _operand, vjp=())
"""The primitive of a tape's inputs: it has no operands."""

primitives: dict[str, Primitive] = {}
"""Every primitive by its name."""


class Each:
    """The rules of a primitive that takes any number of operands, such as ``concatenate``.

    ``rule(position, g, out, *operands, **params)`` is the rule of the operand at ``position``.
    """

    def __init__(self, rule: Callable[..., Any]) -> None:
        self.rule = rule

    def __iter__(self) -> Iterator[Rule]:
        return (self._at(position) for position in count())

    def _at(self, position: int) -> Rule:
        return lambda *args, **params: self.rule(position, *args, **params)


def register(
    name: str,
    implementation: Callable[..., Any],
    *,
    vjp: Rule | Sequence[Rule | None] | Each | None = None,
    jvp: Rule | Sequence[Rule | None] | Each | None = None,
    elementwise: bool = False,
    shape_rule: str | None = None,
) -> Primitive:
    """Make a primitive, enter it in :data:`primitives` and return it.

    A primitive of one operand may give its rule bare instead of in a sequence. Rules are written
    with operators, other primitives and the functions of :mod:`siligrad.numpy`: then they are
    differentiable themselves.

    Raises
    ------
    ValueError
        If the name is taken.

    >>> import numpy
    >>> from siligrad import numpy as np
    >>> softplus = register("softplus", lambda x: numpy.logaddexp(x, 0.0), elementwise=True,
    ...                     vjp=lambda g, out, x: g / (1 + np.exp(-x)))
    >>> from siligrad.autodiff import grad
    >>> float(grad(grad(softplus))(0.0))
    0.25
    >>> del primitives["softplus"]
    """
    if name in primitives or name in ("input", "constant"):
        raise ValueError(f"there is a primitive {name!r} already; choose another name")
    primitive = Primitive(
        name,
        implementation,
        vjp=(vjp,) if callable(vjp) else vjp,
        jvp=(jvp,) if callable(jvp) else jvp,
        elementwise=elementwise,
        shape_rule=shape_rule,
    )
    primitives[name] = primitive
    return primitive
