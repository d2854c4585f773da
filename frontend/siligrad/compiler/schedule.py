"""Order the operations, turn them into instructions, and start each as early as no hazard forbids.

Instructions overlap: while one drains, the next streams. Which operation comes next is decided
greedily, the one that could start first; of several, the one that comes first in the program. So a
bias gradient slips into the gap in which a mask still occupies a memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from siligrad.compiler.formats import Formats
from siligrad.compiler.ir import Kernel, Matrix, Operation, View
from siligrad.compiler.memories import product_of
from siligrad.compiler.place import Layout, words_of
from siligrad.compiler.target import Target
from siligrad.isa import (
    ADDRESS_BITS,
    SEGMENT_CYCLES,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Segment,
)
from siligrad.timing import Timeline

__all__ = ["assemble", "order_operations", "schedule"]


def assemble(operation: Operation, layout: Layout, formats: Formats, target: Target) -> Instruction:
    """Return the instruction that `operation` is, without a delay."""
    array, bases, memories = target.array, layout.bases, layout.memories
    d = operation.destination
    product = product_of(operation, memories)
    assert product is not None
    m_tiles, p_tiles = -(-d.rows // array), -(-d.columns // array)
    segments = []
    for index, term in enumerate(operation.terms):
        b_k, b_p = _strides(term.b, array)
        segment = Segment(
            k=term.b.rows,
            b_base=bases[term.b.matrix],
            b_k=b_k,
            b_p=b_p,
            b_column=int(term.b.transposed),
            b_moves=int(term.b.matrix in layout.moving),
        )
        if term.a is None:
            segment = replace(
                segment, ones=1, ones_shift=formats.ones[operation, index], a_column=0
            )
        else:
            a_m, a_k = _strides(term.a, array)
            segment = replace(
                segment,
                a_base=bases[term.a.matrix],
                a_m=a_m,
                a_k=a_k,
                a_column=int(not term.a.transposed),
                a_moves=int(term.a.matrix in layout.moving),
            )
        segments.append(replace(segment, pad=max(SEGMENT_CYCLES - segment.k, 0)))
    missing = array - sum(segment.cycles for segment in segments)
    if missing > 0:
        segments[-1] = replace(segments[-1], pad=segments[-1].pad + missing)
    d_m, d_p = _strides(View(d), array)
    instruction = Instruction(
        m_tiles=m_tiles,
        p_tiles=p_tiles,
        product=product,
        destination=memories[d],
        rows_last=d.rows - (m_tiles - 1) * array,
        d_base=bases[d],
        d_m=d_m,
        d_p=d_p,
        segments=tuple(segments),
        shift=formats.shifts[operation],
        rounding=target.update_rounding if operation.update else target.rounding,
        aux_mode=operation.aux_mode,
        gate=operation.gate,
        negate=int(operation.negate),
        d_moves=int(d in layout.moving),
    )
    if operation.aux is not None:
        aux_m, aux_p = _strides(operation.aux, array)
        instruction = replace(
            instruction,
            aux_base=bases[operation.aux.matrix],
            aux_m=aux_m,
            aux_p=aux_p,
            aux_column=int(operation.aux.transposed),
            aux_moves=int(operation.aux.matrix in layout.moving),
        )
    return instruction


def _strides(view: View, array: int) -> tuple[int, int]:
    """Return the distance in words from a tile to the one below it, and to the one right of it."""
    down, right = -(-view.matrix.columns // array) * array, array
    return (right, down) if view.transposed else (down, right)


def order_operations(
    kernel: Kernel, memories: Mapping[Matrix, Memory], formats: Formats, target: Target
) -> list[Operation]:
    """Return the operations in the order in which they are to run.

    Hazards are judged with every matrix at words of its own. Where these would not fit the address
    width, the program's order stays.
    """
    array = target.array
    bases: dict[Matrix, int] = {}
    tops = dict.fromkeys(Memory, 0)
    for matrix in kernel.matrices:
        bases[matrix] = tops[memories[matrix]]
        tops[memories[matrix]] += words_of(matrix, array)
    if max(tops.values()) > 1 << ADDRESS_BITS:
        return list(kernel.operations)
    layout = Layout(memories, bases)
    instructions = {
        operation: assemble(operation, layout, formats, target) for operation in kernel.operations
    }
    depth = {memory: max(top, array) for memory, top in tops.items()}
    timeline = Timeline(
        Geometry(
            array=array,
            x_depth=depth[Memory.X],
            w_depth=depth[Memory.W],
            e_depth=depth[Memory.E],
        )
    )
    needs = _dependences(kernel.operations)
    users: dict[Operation, list[Operation]] = {operation: [] for operation in needs}
    for operation, before in needs.items():
        for other in before:
            users[other].append(operation)
    # What is placed makes nobody wait less: a start found earlier is a bound of the one to come.
    bounds = dict.fromkeys(needs, 0)
    order: list[Operation] = []
    while needs:
        best, start = None, 0
        for operation, before in needs.items():
            if before or (best is not None and max(bounds[operation], timeline.ready) >= start):
                continue
            bounds[operation] = timeline.earliest(instructions[operation]).cycle
            if best is None or bounds[operation] < start:
                best, start = operation, bounds[operation]
        assert best is not None
        timeline.place(instructions[best], start)
        order.append(best)
        del needs[best]
        for operation in users[best]:
            needs[operation].discard(best)
    return order


def _dependences(operations: Sequence[Operation]) -> dict[Operation, set[Operation]]:
    """Return, for each operation in order, those that must run before it."""
    before: dict[Operation, set[Operation]] = {}
    writers: dict[Matrix, Operation] = {}
    readers: dict[Matrix, list[Operation]] = {}
    for operation in operations:
        needs = before.setdefault(operation, set())
        for matrix in operation.reads:
            if matrix in writers:
                needs.add(writers[matrix])
        d = operation.destination
        if d in writers:
            needs.add(writers[d])
        needs.update(readers.get(d, ()))
        for matrix in operation.reads:
            readers.setdefault(matrix, []).append(operation)
        writers[d] = operation
        readers[d] = []
    return before


def schedule(
    instructions: Sequence[Instruction], geometry: Geometry, loop: Loop
) -> list[Instruction]:
    """Return the instructions with the delays that keep them clear of every hazard.

    An instruction has the same delay in each step of a run. What the second one needs is enough for
    all that follow (see :func:`siligrad.checker.check_instructions`). A hazard is a least distance
    from what came before, so a delay that the second step adds breaks nothing in the first.
    """
    delays = [0] * len(instructions)
    timeline = Timeline(geometry)
    for step in range(min(loop.steps, 2)):
        for index, instruction in enumerate(instructions):
            placed = instruction.in_step(loop, step)
            hazard = timeline.earliest(placed)
            delays[index] = max(delays[index], hazard.cycle - timeline.ready)
            timeline.place(placed, timeline.ready + delays[index])
    return [replace(i, delay=d) for i, d in zip(instructions, delays, strict=True)]
