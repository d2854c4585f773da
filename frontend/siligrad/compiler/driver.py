"""``sg.compile``: from a Python function to a static program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.autodiff import Graph, Node, trace
from siligrad.checker import accumulator_bound, operand_limit
from siligrad.compiler.formats import Formats, choose_formats
from siligrad.compiler.ir import Kernel, Matrix, Operation
from siligrad.compiler.lower import LoweringError, lower
from siligrad.compiler.memories import choose_memories
from siligrad.compiler.place import Layout, place
from siligrad.compiler.schedule import assemble, order_operations, schedule
from siligrad.compiler.target import Target
from siligrad.fixed import QFormat
from siligrad.program import Argument, Program, Role, Tensor
from siligrad.quantize.calibration import Range, choose_ranges
from siligrad.quantize.fake import see_through

__all__ = ["compile"]

_SAYS_NOTHING = 2.0**-6
"""What starts smaller, a bias most often, does not tell where training takes it."""


def compile(  # noqa: A001  the public name, sg.compile
    function: Callable[..., Any],
    *args: Any,
    target: Target | None = None,
    donate: int | Sequence[int] = (),
    resident: int | Sequence[int] = (),
    calibration: Sequence[tuple[Any, ...]] = (),
    method: str = "max",
    percentile: float = 99.99,
    headroom: int = 1,
    formats: Mapping[str, QFormat] | None = None,
    round_factors: bool = False,
    steps: int = 1,
) -> Program:
    """Compile `function` to a static program.

    The function is traced once with `args`; nothing of it runs afterwards. Whatever it does (a
    training step calls :func:`siligrad.grad`) must come down to products of matrices, ReLUs and the
    scalar factors between.

    Parameters
    ----------
    function
        Takes arrays, or tuples, lists and dicts of arrays, and returns such.
    args
        Examples: their shapes are the program's, their values calibrate its formats.
    target
        The accelerator; an 8 x 8 array by default.
    donate
        Arguments, by position, whose memory receives the result of the same structure (new
        parameters take the place of the old). They stay in the device, and start as in `args`.
    resident
        Arguments that stay in the device, but are not replaced.
    calibration
        More examples of all arguments. The formats cover every value that occurs with any of them,
        unless `method` says otherwise.
    method, percentile
        How a range is chosen from the values in the examples: ``max``, ``percentile`` (of the
        values, %) or ``mse`` (:mod:`siligrad.quantize.calibration`). Inputs of a run are not
        clipped by any of them.
    headroom
        Bits kept free above the range chosen, for what is not an input of a run.
    formats
        Formats of arguments by name (``program.formats`` of another program), so that they agree.
    round_factors
        Round a learning rate that is no power of two instead of refusing it.
    steps
        Steps of a run. With more than one, arguments that do not stay in the device, and results
        that take no argument's place, lie in its memories for all of them: a run trains a whole
        epoch on its own.

    Raises
    ------
    LoweringError
        If the hardware cannot do something: with the primitive, the user's line, and the
        alternative.
    CapacityError
        If the program does not fit the target.
    """
    target = target or Target()
    donated = (donate,) if isinstance(donate, int) else tuple(donate)
    staying = set(donated) | set((resident,) if isinstance(resident, int) else resident)
    for index in staying:
        if not 0 <= index < len(args):
            raise LoweringError(
                f"donate and resident are positions of arguments, 0 to {len(args) - 1}, not {index}"
            )
    graph, declared = see_through(trace(function, *args))
    in_place = _match_donated(graph, donated)
    kernel = lower(
        graph,
        [i in staying for i, a in enumerate(graph.arguments) for _ in graph.inputs[a.slice]],
        in_place,
    )
    if not kernel.operations:
        raise LoweringError(
            f"{function.__name__} computes nothing: no product of matrices is left of it"
        )
    examples = [args, *calibration]
    found = _calibrate(graph, kernel, examples, target, method, percentile)
    seen = {matrix: each.seen for matrix, each in found.items()}
    ranges = _widen(graph, kernel, found, examples, headroom, target)
    ignored = _declare(ranges, found, declared, target)
    fixed = {
        matrix: formats[matrix.name].frac
        for matrix in kernel.arguments
        if formats is not None and matrix.name in formats
    }
    chosen = choose_formats(kernel, ranges, fixed, target, round_factors=round_factors)
    limits, overflowing = _limits(kernel, chosen, seen, target)
    while overflowing:  # a bit of fraction less halves the codes of an input, and its sums
        fixed |= {matrix: chosen.fractions[matrix] - 1 for matrix in overflowing}
        chosen = choose_formats(kernel, ranges, fixed, target, round_factors=round_factors)
        limits, overflowing = _limits(kernel, chosen, seen, target)
    chosen = replace(chosen, notes=chosen.notes + ignored)
    memories = choose_memories(kernel)
    order = order_operations(kernel, memories, chosen, target)
    layout = place(kernel, order, memories, target.array, steps)
    return _build(
        function.__name__, graph, kernel, args, staying, chosen, limits, layout, order, target
    )


def _build(
    name: str,
    graph: Graph,
    kernel: Kernel,
    args: Sequence[Any],
    staying: set[int],
    formats: Formats,
    limits: Mapping[Matrix, int],
    layout: Layout,
    order: Sequence[Operation],
    target: Target,
) -> Program:
    instructions = [assemble(operation, layout, formats, target) for operation in order]
    lines = sum(instruction.lines for instruction in instructions)
    geometry = target.geometry(layout, lines)

    kept = [matrix for matrix in kernel.matrices if matrix in layout.bases]
    index = {matrix: position for position, matrix in enumerate(kept)}
    made = set(kernel.results) - set(kernel.arguments)
    tensors = tuple(
        Tensor(
            name=matrix.name,
            role=Role.OUTPUT if matrix in made else matrix.role,
            memory=layout.memories[matrix],
            base=layout.bases[matrix],
            rows=matrix.rows,
            columns=matrix.columns,
            shape=matrix.shape,
            format=QFormat(target.word_bits, formats.fractions[matrix]),
            limit=limits[matrix],
            scale=kernel.readings[matrix].scale if matrix in kernel.readings else matrix.scale,
            sign=matrix in kernel.signs,
            magnitude=matrix in kernel.readings and kernel.readings[matrix].magnitude,
            moves=matrix in layout.moving,
        )
        for matrix in kept
    )
    arguments = []
    initial: dict[int, NDArray[np.int32]] = {}
    for position, (argument, value) in enumerate(zip(graph.arguments, args, strict=True)):
        inside = [index[matrix] for matrix in kernel.arguments[argument.slice]]
        arguments.append(
            Argument(argument.name, argument.structure, tuple(inside), position in staying)
        )
        for at, leaf in zip(inside, tree.flatten(value)[0], strict=True):
            codes = tensors[at].encode(leaf)
            if position in staying:
                initial[at] = codes
    for matrix in kept:
        if matrix.initial is not None:
            initial[index[matrix]] = tensors[index[matrix]].encode(matrix.initial)
    return Program(
        name=name,
        geometry=geometry,
        instructions=tuple(schedule(instructions, geometry, layout.loop)),
        tensors=tensors,
        arguments=tuple(arguments),
        result=Argument("result", graph.out_tree, tuple(index[m] for m in kernel.results)),
        initial=initial,
        macs=tuple(operation.macs for operation in order),
        sources=tuple(operation.source for operation in order),
        notes=formats.notes,
        loop=layout.loop,
    )


def _match_donated(graph: Graph, donated: Sequence[int]) -> dict[int, int]:
    """Return which output (by index) takes the place of which input, for the donated arguments."""
    candidates = [(graph.out_tree, 0)]
    if graph.out_tree.kind is tuple:
        at = 0
        for child in graph.out_tree.children:
            candidates.append((child, at))
            at += child.leaf_count
    in_place: dict[int, int] = {}
    for position in donated:
        argument = graph.arguments[position]
        inputs = graph.inputs[argument.slice]
        for structure, at in candidates:
            outputs = graph.outputs[at : at + len(inputs)]
            fits = structure == argument.structure and at not in in_place
            if fits and [o.shape for o in outputs] == [i.shape for i in inputs]:
                first = argument.slice.start
                in_place.update({at + i: first + i for i in range(len(inputs))})
                break
        else:
            raise LoweringError(
                f"argument {argument.name} is donated, but no result has its structure "
                f"{argument.structure} and its shapes; the function returns {graph.out_tree}"
            )
    return in_place


def _calibrate(
    graph: Graph,
    kernel: Kernel,
    examples: Sequence[Sequence[Any]],
    target: Target,
    method: str,
    percentile: float,
) -> dict[Matrix, Range]:
    """Return the range that each matrix takes in the examples, but for identities."""
    # Each matrix holds the values of some nodes, divided by a scale.
    holds: dict[Matrix, list[tuple[Node, float]]] = {
        matrix: [(matrix.node, matrix.scale)] if matrix.node is not None else []
        for matrix in kernel.matrices
    }
    for matrix, output in zip(kernel.results, graph.outputs, strict=True):
        reading = kernel.readings.get(matrix)
        holds[matrix].append((output, matrix.scale if reading is None else reading.scale))

    def observe() -> Iterator[tuple[Matrix, NDArray[np.float64]]]:
        for example in examples:
            values = _values(graph, example)
            for matrix, nodes in holds.items():
                for node, scale in nodes:
                    array = np.asarray(values[node], dtype=np.float64)
                    if not np.isfinite(array).all():
                        raise LoweringError(
                            f"{matrix.name} is not finite in a calibration example; "
                            "formats cannot be chosen"
                        )
                    yield matrix, array / scale

    operands = {
        matrix
        for operation in kernel.operations
        for term in operation.terms
        for matrix in ([term.b.matrix] if term.a is None else [term.a.matrix, term.b.matrix])
    }
    widths = {
        matrix: (target.word_bits, target.operand_bits if matrix in operands else target.word_bits)
        for matrix, nodes in holds.items()
        if nodes and matrix.role != Role.INPUT
    }
    return choose_ranges(observe, widths, method, percentile)


def _leaves(graph: Graph, example: Sequence[Any]) -> list[Any]:
    if len(example) != len(graph.arguments):
        raise LoweringError(
            f"a calibration example has {len(example)} arguments, but the function is compiled for "
            f"{len(graph.arguments)}: give all of them, those that stay in the device too"
        )
    leaves = []
    for argument, value in zip(graph.arguments, example, strict=True):
        flat, structure = tree.flatten(value)
        if structure != argument.structure:
            raise LoweringError(
                f"a calibration example has argument {argument.name} nested like {structure}, "
                f"not like {argument.structure}"
            )
        leaves += flat
    return leaves


def _widen(
    graph: Graph,
    kernel: Kernel,
    found: Mapping[Matrix, Range],
    examples: Sequence[Sequence[Any]],
    headroom: int,
    target: Target,
) -> dict[Matrix, float]:
    """Return the range to be covered, with room for what the examples do not show."""
    ranges = {
        matrix: each.covered * (1 if matrix.role in (Role.INPUT, Role.CONSTANT) else 2.0**headroom)
        for matrix, each in found.items()
    }
    starts = dict.fromkeys(kernel.arguments, 0.0)
    for example in examples:
        for matrix, leaf in zip(kernel.arguments, _leaves(graph, example), strict=True):
            starts[matrix] = max(starts[matrix], float(np.abs(leaf).max()))
    for matrix in {operation.destination for operation in kernel.operations if operation.update}:
        # A bit of a word is cheap; where operands are narrower, only what is about zero gets it.
        if not target.dropped_bits or starts[matrix] < _SAYS_NOTHING:
            ranges[matrix] = max(ranges[matrix], 1.0)
    return ranges


def _declare(
    ranges: dict[Matrix, float],
    found: Mapping[Matrix, Range],
    declared: Mapping[Node, QFormat],
    target: Target,
) -> tuple[str, ...]:
    """Give what is fake-quantized the range of its format; return a note for what has no word."""
    left = dict(declared)
    for matrix in found:
        if matrix.node is None or matrix.node not in declared:
            continue
        chosen = declared[matrix.node]
        left.pop(matrix.node, None)
        word = QFormat(target.word_bits, chosen.frac + target.word_bits - chosen.bits)
        ranges[matrix] = word.largest / abs(matrix.scale)
        if matrix.role == Role.INPUT:  # it never clips
            ranges[matrix] = max(ranges[matrix], found[matrix].seen)
    return tuple(
        f"{node.source or node.name}: fake_quantize to {chosen} has no effect: what it quantizes "
        "is not held in a memory"
        for node, chosen in left.items()
    )


def _limits(
    kernel: Kernel, formats: Formats, seen: Mapping[Matrix, float], target: Target
) -> tuple[dict[Matrix, int], set[Matrix]]:
    """Return the largest magnitude of a code that each matrix may hold.

    That is the format's own, unless a sum could overflow with it: then the inputs of that sum are
    held to the power of two that covers what was seen of them. Inputs with which one still could
    are returned too.
    """
    full = QFormat(target.word_bits, 0).limit
    limits = dict.fromkeys(kernel.matrices, full)
    most = (1 << (target.sum_bits - 1)) - 1

    def operand(matrix: Matrix) -> int:
        return operand_limit(limits[matrix], target.word_bits, target.operand_bits)

    def bound(operation: Operation) -> int:
        terms = []
        for index, term in enumerate(operation.terms):
            a = 1 << formats.ones.get((operation, index), 0)
            if term.a is not None:
                a = operand(term.a.matrix)
            terms.append((term.b.rows, a, operand(term.b.matrix)))
        return accumulator_bound(terms)

    overflowing: set[Matrix] = set()
    for operation in kernel.operations:
        if bound(operation) <= most:
            continue
        inputs = {m for m in operation.operands if m.role == Role.INPUT}
        for matrix in inputs:
            largest = int(np.rint(np.ldexp(seen[matrix], formats.fractions[matrix])))
            limits[matrix] = min(full, 1 << max(largest - 1, 0).bit_length())
        if bound(operation) > most:
            overflowing |= {matrix for matrix in inputs if limits[matrix] > 1}
    return limits, overflowing


def _values(graph: Graph, example: Sequence[Any]) -> Mapping[Node, NDArray[Any]]:
    """Return the values of all nodes; what is not finite is for the caller to refuse."""
    with np.errstate(over="ignore", invalid="ignore"):
        return graph.values(*_leaves(graph, example))
