"""Which value of a function each tensor of its compiled program holds.

A program remembers names, not the graph that it was made of. The graph is made again from the
function, lowered the same way, and its matrices are found in the program by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from siligrad.autodiff import Graph, Node, trace
from siligrad.compiler.ir import Kernel, Matrix
from siligrad.compiler.lower import lower
from siligrad.errors import DataError
from siligrad.isa import Instruction, Memory
from siligrad.program import Program, Role
from siligrad.quantize.fake import see_through

__all__ = ["Correspondence", "correspond"]


@dataclass(frozen=True, eq=False, slots=True)
class Correspondence:
    """A program beside the graph that it computes.

    Parameters
    ----------
    graph
        The function's, without fake quantization.
    nodes
        For each tensor, the node whose values it holds after a run; None for an identity matrix.
    multiplied
        For each tensor, whether it is an operand of a product (or of a sum with ones), so that the
        array reads its top bits.
    writers
        For each instruction, the index of the tensor that it writes.
    """

    graph: Graph
    nodes: tuple[Node | None, ...]
    multiplied: tuple[bool, ...]
    writers: tuple[int, ...]


def correspond(program: Program, function: Callable[..., Any], *args: Any) -> Correspondence:
    """Find the values of `function` in `program`, which was compiled from it.

    Parameters
    ----------
    program
        As it was compiled or loaded.
    function, args
        What :func:`siligrad.compile` was given; of `args`, only structure and shapes matter.

    Raises
    ------
    DataError
        If the program is of another function, or of other shapes.
    """
    graph, _ = see_through(trace(function, *args))
    if [a.structure for a in graph.arguments] != [a.structure for a in program.arguments]:
        raise _foreign(program, function, "the arguments are nested in another way")
    inputs = [tensor for argument in program.arguments for tensor in argument.tensors]
    if len(graph.outputs) != len(program.result.tensors):
        raise _foreign(program, function, "it returns another number of arrays")
    in_place = {
        position: inputs.index(tensor)
        for position, tensor in enumerate(program.result.tensors)
        if tensor in inputs
    }
    resident = [argument.resident for argument in program.arguments for _ in argument.tensors]
    kernel = lower(graph, resident, in_place)
    matrices = _match(program, function, kernel)
    held = {matrix: matrix.node for matrix in kernel.matrices}
    held.update(zip(kernel.results, graph.outputs, strict=True))
    multiplied = {
        matrix
        for operation in kernel.operations
        for term in operation.terms
        for matrix in ([] if term.a is None else [term.a.matrix]) + [term.b.matrix]
    }
    return Correspondence(
        graph,
        tuple(held[matrix] for matrix in matrices),
        tuple(matrix in multiplied for matrix in matrices),
        _writers(program, function, kernel, matrices),
    )


def _foreign(program: Program, function: Callable[..., Any], why: str) -> DataError:
    name = getattr(function, "__name__", repr(function))
    return DataError(
        f"program {program.name!r} was not compiled from {name} with such arguments: {why}; hand "
        "in what siligrad.compile was given"
    )


def _match(program: Program, function: Callable[..., Any], kernel: Kernel) -> tuple[Matrix, ...]:
    """Return the matrix of each tensor of the program."""
    known = {_label(matrix.name): matrix for matrix in kernel.matrices}
    found = []
    for tensor in program.tensors:
        matrix = known.get(_label(tensor.name))
        if matrix is None:
            raise _foreign(program, function, f"it has no {_label(tensor.name)}")
        if (matrix.rows, matrix.columns) != (tensor.rows, tensor.columns):
            raise _foreign(
                program,
                function,
                f"{tensor.name} would be {matrix.rows} x {matrix.columns}, not {tensor.rows} x "
                f"{tensor.columns}",
            )
        found.append(matrix)
    return tuple(found)


def _label(name: str) -> str:
    """Return the name without the line in brackets, which may be that of the caller."""
    return name.partition(" (")[0]


def _writers(
    program: Program, function: Callable[..., Any], kernel: Kernel, matrices: Sequence[Matrix]
) -> tuple[int, ...]:
    """Return the tensor that each instruction writes.

    Words are reused, so an address does not tell; what an instruction reads does. The instructions
    are replayed with the operations that they may be, each one used once.
    """
    index = {matrix: position for position, matrix in enumerate(matrices)}
    left = list(kernel.operations)
    owner: dict[tuple[Memory, int], Matrix] = {
        (tensor.memory, tensor.base): matrix
        for tensor, matrix in zip(program.tensors, matrices, strict=True)
        if tensor.role in (Role.INPUT, Role.RESIDENT, Role.CONSTANT)
    }
    writers: list[int] = []
    for instruction in program.instructions:
        place = instruction.destination, instruction.d_base
        read = [owner.get(each) for each in _reads(instruction)]
        operation = next(
            (
                operation
                for operation in left
                if _place(program, index[operation.destination]) == place
                and list(operation.reads) == read
            ),
            None,
        )
        if operation is None:
            raise _foreign(program, function, f"instruction {len(writers)} computes something else")
        left.remove(operation)
        owner[place] = operation.destination
        writers.append(index[operation.destination])
    return tuple(writers)


def _place(program: Program, tensor: int) -> tuple[Memory, int]:
    return program.tensors[tensor].memory, program.tensors[tensor].base


def _reads(instruction: Instruction) -> list[tuple[Memory, int]]:
    """Return memory and first word of what an instruction reads, in the order of an operation."""
    product = instruction.product
    places = []
    for segment in instruction.segments:
        if not segment.ones:
            places.append((product.a, segment.a_base))
        places.append((product.b, segment.b_base))
    if instruction.uses_aux:
        places.append((product.aux, instruction.aux_base))
    return places
