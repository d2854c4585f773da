"""Static execution on the host: a function planned once and run without allocating.

The same idea as the chip's, in float: every array has its place before anything runs. The plan
becomes a straight-line Python function over preallocated arrays, which can be read with ``str``.

>>> import numpy
>>> from siligrad import numpy as np
>>> program = static(lambda W, x: np.maximum(x @ W, 0))(numpy.ones((3, 2)), numpy.ones((4, 3)))
>>> program(numpy.eye(3, 2), numpy.ones((4, 3)))[0]
array([1., 1.])
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from siligrad import tree
from siligrad.autodiff.fusion import fuse
from siligrad.autodiff.graph import Graph, Written, kind, trace
from siligrad.autodiff.kernels import NAMESPACE, allocates
from siligrad.autodiff.plan import Plan, make_plan
from siligrad.autodiff.simplify import simplify
from siligrad.autodiff.transforms import name_of
from siligrad.errors import ShapeError, TraceError

__all__ = ["Static", "static"]


def static(
    function: Callable[..., Any], *, donate: int | Sequence[int] = ()
) -> Callable[..., Static]:
    """Return a planner: called with example arguments, it gives a program for their shapes.

    Parameters
    ----------
    function : callable
        A function of trees of arrays that can be traced, such as a whole training step.
    donate : :class:`int` or sequence of :class:`int`
        Positions of arguments whose arrays the program may overwrite with its results, as a
        training step does with its parameters. Use the results, not the arguments, after a run.
        None of these arrays may share memory with another argument.

    >>> import numpy
    >>> step = static(lambda w, g: w - 0.5 * g, donate=0)(numpy.ones(2), numpy.ones(2))
    >>> w = numpy.ones(2)
    >>> step(w, numpy.ones(2)) is w
    True
    """
    positions = (donate,) if isinstance(donate, int) else tuple(donate)

    def planner(*example: Any) -> Static:
        graph = fuse(simplify(trace(function, *example)))
        return Static(graph, positions)

    planner.__name__ = f"static({name_of(function)})"
    return planner


class Static:
    """A function with all of its memory.

    Calling it with arguments like the example's gives the function's result. Arrays in the result
    belong to the program: they are overwritten by the call after the next one, so that the results
    of one call can be the arguments of the next. Copy what is to be kept; numbers (arrays without
    dimensions) are copies. It is not safe to call from two threads at once.

    Parameters
    ----------
    graph : :class:`~siligrad.autodiff.graph.Graph`
        What is computed, simplified.
    donate : sequence of :class:`int`
        Positions of arguments that may be overwritten.
    """

    def __init__(self, graph: Graph, donate: Sequence[int] = ()) -> None:
        for position in donate:
            if not 0 <= position < len(graph.arguments):
                raise TraceError(
                    f"donate names argument {position} of {graph.name}, which has "
                    f"{len(graph.arguments)} arguments"
                )
        donated = [
            k
            for position in donate
            for k in range(
                graph.arguments[position].slice.start, graph.arguments[position].slice.stop
            )
        ]
        self.graph = graph
        self.allocating = tuple(sorted({node.primitive for node in graph.nodes if allocates(node)}))
        """Primitives that numpy cannot compute without allocating."""
        self._donated = frozenset(donated)
        plan = make_plan(graph, donated)
        self._source = write(plan)
        fixed = {**_allocate(plan), **plan.constants}
        owned = [
            (name, node)
            for name, node in zip(plan.outputs, graph.outputs, strict=True)
            if name not in plan.inputs
        ]
        self.nbytes = sum(plan.blocks) + sum(value.nbytes for value in plan.constants.values())
        """Bytes of all arrays that the program owns, for any number of runs."""
        self._runs: list[Callable[..., Any]] = []
        for _ in range(2 if owned else 1):
            results = {name: np.empty(node.shape, node.dtype) for name, node in owned}
            self.nbytes += sum(array.nbytes for array in results.values())
            self._runs.append(self._compile({**fixed, **results}))
        self._turn = 0

    def _compile(self, arrays: dict[str, Any]) -> Callable[..., Any]:
        scope: dict[str, Any] = {
            **NAMESPACE,
            "build": lambda *leaves: tree.unflatten(self.graph.out_tree, leaves),
            "dtype": np.dtype,
            "ndarray": np.ndarray,
            "slowly": self._slowly,
        }
        exec(compile(self._source, f"<static {self.graph.name}>", "exec"), scope)
        run: Callable[..., Any] = scope["make"](**arrays)
        return run

    def __call__(self, *args: Any) -> Any:
        runs = self._runs
        self._turn = turn = (self._turn + 1) % len(runs)
        return runs[turn](*args)

    def __str__(self) -> str:
        return self._source

    def _slowly(self, *args: Any) -> Any:
        """Run with arguments that are not yet arrays of the right types, or say what is wrong."""
        graph = self.graph
        leaves = []
        for k, (node, leaf) in enumerate(zip(graph.inputs, graph.flatten(*args), strict=True)):
            array = np.asarray(leaf)
            if array.shape != node.shape:
                raise ShapeError(f"{node.name} must have the shape {node.shape}, not {array.shape}")
            if k in self._donated and array is not leaf:
                raise TraceError(f"{node.name} is donated: it must be an array, not {leaf!r}")
            if k in self._donated and array.dtype != node.dtype:
                raise TraceError(
                    f"{node.name} is donated: it must be {kind(node)}, not {array.dtype}"
                )
            leaves.append(array.astype(node.dtype, casting="same_kind", copy=False))
        for a, b in _aliases(graph, self._donated):
            if leaves[a] is leaves[b]:
                names = f"{graph.inputs[a].name} and {graph.inputs[b].name}"
                raise TraceError(f"{names} are the same array, and it is donated: copy one of them")
        args = tuple(
            tree.unflatten(argument.structure, leaves[argument.slice])
            for argument in graph.arguments
        )
        return self._runs[self._turn](*args)


def _allocate(plan: Plan) -> dict[str, Any]:
    """Return the temporary arrays of a plan, in as few blocks as it found."""
    blocks = [np.zeros(size, np.uint8) for size in plan.blocks]
    arrays = {}
    for each in plan.buffers:
        count = int(np.prod(each.shape, dtype=np.int64)) * each.dtype.itemsize
        arrays[each.name] = blocks[each.block][:count].view(each.dtype).reshape(each.shape)
    return arrays


# --- the program as Python


def write(plan: Plan) -> str:
    """Return the source of ``make``: given its arrays, it returns the function that runs a plan."""
    graph = plan.graph
    owned = [name for name in plan.outputs if name not in plan.inputs]
    arrays = [each.name for each in plan.buffers] + list(plan.constants) + owned
    types = sorted({str(node.dtype) for node in graph.inputs})
    parameters, unpacking = _unpack(plan)
    call = f"slowly({', '.join(parameters)})"
    lines = [f"def make({', '.join(arrays)}):"]
    lines += [f"    {name} = dtype({name!r})" for name in types]
    lines += [f"    {view}" for view in plan.views]
    lines += [f"    known_{name} = None" for name in _donated(plan)]
    lines += [f"    def run({', '.join(parameters)}):"]
    lines += [f"        nonlocal known_{name}" for name in _donated(plan)]
    lines += ["        try:"]
    lines += [f"            {line}" for line in unpacking]
    lines += [f"            fits = {_checks(plan)}"]
    lines += ["        except (TypeError, ValueError, KeyError, AttributeError):"]
    lines += ["            fits = False", "        if not fits:", f"            return {call}"]
    lines += [f"        known_{name} = {name}" for name in _donated(plan)]
    lines += [f"        {line}" for line in [*_rescues(plan, owned), *plan.body]]
    lines += [f"        return {_result(plan)}", "    return run"]
    return "\n".join(lines)


def _unpack(plan: Plan) -> tuple[list[str], list[str]]:
    """Return the parameters of ``run`` and the statements that name the leaves of its arguments."""
    parameters: list[str] = []
    lines: list[str] = []
    for k, argument in enumerate(plan.graph.arguments):
        leaves = list(plan.inputs[argument.slice])
        if argument.structure.kind is None:
            parameters += leaves
        else:
            parameters.append(f"a{k}")
            lines += _destructure(argument.structure, f"a{k}", leaves)
    return parameters, lines


def _destructure(structure: tree.Structure, name: str, leaves: list[str]) -> list[str]:
    """Return statements that take the container called ``name`` apart; they use up ``leaves``."""
    assert structure.kind is not None
    targets, below = [], []
    for k, child in enumerate(structure.children):
        if child.kind is None:
            targets.append(leaves.pop(0))
        else:
            targets.append(f"{name}_{k}")
            below += _destructure(child, targets[-1], leaves)
    if structure.kind is type(None):
        return [f"if {name} is not None: raise TypeError"]
    if issubclass(structure.kind, (list, tuple)):
        lines = [f"{''.join(target + ', ' for target in targets) or '()'} = {name}"]
    elif issubclass(structure.kind, dict):
        lines = [f"if len({name}) != {len(targets)}: raise KeyError"]
        lines += [
            f"{target} = {name}[{key!r}]"
            for target, key in zip(targets, structure.keys, strict=True)
        ]
    else:
        lines = [
            f"{target} = {name}.{key}" for target, key in zip(targets, structure.keys, strict=True)
        ]
    return lines + below


def _checks(plan: Plan) -> str:
    """Return the condition that the arguments are arrays like the example's."""
    conditions = ["True"]
    donated = _donated(plan)
    for name, node in zip(plan.inputs, plan.graph.inputs, strict=True):
        fits = f"{name}.shape == {node.shape} and {name}.dtype == {node.dtype}"
        if node.shape or name in plan.outputs:
            fits += f" and type({name}) is ndarray"
        # What was donated comes back: an array that was checked before is known.
        conditions.append(f"({name} is known_{name} or {fits})" if name in donated else fits)
    conditions += [
        f"{plan.inputs[a]} is not {plan.inputs[b]}" for a, b in _aliases(plan.graph, plan.donated)
    ]
    return " and ".join(conditions)


def _donated(plan: Plan) -> list[str]:
    return [plan.inputs[position] for position in sorted(plan.donated)]


def _aliases(graph: Graph, donated: Iterable[int]) -> list[tuple[int, int]]:
    """Return the pairs of inputs that could be one array, and of which one is overwritten."""
    kinds = [kind(node) for node in graph.inputs]
    pairs = itertools.product(donated, range(len(kinds)))
    return sorted({(min(p), max(p)) for p in pairs if p[0] != p[1] and kinds[p[0]] == kinds[p[1]]})


def _rescues(plan: Plan, owned: list[str]) -> list[str]:
    """Return statements that copy an input which is the very array that this run will write."""
    kinds = dict(zip(plan.outputs, map(kind, plan.graph.outputs), strict=True))
    lines = []
    for name, node in zip(plan.inputs, plan.graph.inputs, strict=True):
        same = [f"{name} is {own}" for own in owned if kinds[own] == kind(node) and node.shape]
        if same:
            lines.append(f"if {' or '.join(same)}: {name} = {name}.copy()")
    return lines


def _result(plan: Plan) -> str:
    graph = plan.graph
    leaves = [
        name if node.shape or name in plan.inputs else f"{name}[()]"
        for name, node in zip(plan.outputs, graph.outputs, strict=True)
    ]
    if _is_plain(graph.out_tree):
        return str(tree.unflatten(graph.out_tree, map(Written, leaves)))
    return f"build({', '.join(leaves)})"


def _is_plain(structure: tree.Structure) -> bool:
    """Whether Python writes the container as a literal of its children."""
    plain = structure.kind in {None, list, tuple, type(None)} or (
        structure.kind is dict and all(isinstance(key, (str, int)) for key in structure.keys)
    )
    return plain and all(map(_is_plain, structure.children))
