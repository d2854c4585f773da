"""Proof that no bank is asked for two reads, or two writes, in a cycle.

Each bank has one read port and one write port. While a program runs, three things ask for them:
terms of A and B and rows of aux read, rows of D are written. The proof has three parts.

1. *For all numbers*, by SMT over the integers: if a program keeps rules 1 and 3 of
   ``docs/spec/isa.md``, what its section *Time* says of terms, aux and D never meets. For aux of an
   instruction and a term of a later one this is rule 3; for all other pairs it follows from the
   order of tiles and rule 1, or from the three memories of a product being three.
2. *What the compiler's checker accepts keeps rule 3*: every pair of small instructions, next to the
   first cycle that the checker allows, is laid down cycle by cycle.
3. *The hardware does it in these cycles*: :mod:`siligrad_sim.formal.sequencer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product as pairs_of

import z3

from siligrad.checker import CheckError, check_instructions
from siligrad.isa import AuxMode, Geometry, Instruction, Memory, Product, Segment
from siligrad.timing import Timeline
from siligrad_sim.formal.proof import Check, Proof, Verdict
from siligrad_sim.formal.tools import ProverError

__all__ = ["PORTS", "check_all_numbers", "check_checker"]


def check_all_numbers(slack: int = 0) -> Verdict:
    """Prove part 1, with rule 3 weakened by `slack` cycles."""
    n, aux, write = z3.Ints("n aux write")  # N, and cycles from a tile's end to aux and D
    end, end_2 = z3.Ints("end end_2")  # of two tiles, the one that ends first first
    row, row_2 = z3.Ints("row row_2")
    # The last tile of the instruction that reads aux, the first of a later one, and where in that
    # a segment begins that reads the same memory, and the term in it.
    last_end, start, offset, term = z3.Ints("last_end start offset term")
    solver = z3.Solver()
    solver.add(n >= 2, aux >= 0, write >= aux, row >= 0, row < n, row_2 >= 0, row_2 < n)
    solver.add(end >= 0, last_end >= end, start > last_end, offset >= 0, term >= 0)
    rule_1 = end_2 >= end + n  # the later tile takes N cycles or more
    rule_3 = start + offset >= last_end + aux + n - slack
    claims = {
        "two rows of aux": z3.Implies(rule_1, end + aux + row != end_2 + aux + row_2),
        "two rows of D": z3.Implies(rule_1, end + write + row != end_2 + write + row_2),
        "aux and a later term": z3.Implies(rule_3, end + aux + row < start + offset + term),
        # An earlier term is issued when its tile ends or before, aux of a later tile after that.
        "aux and an earlier term": z3.Implies(
            z3.And(rule_1, aux >= 1), end - term < end_2 + aux + row_2
        ),
    }
    for name, claim in claims.items():
        solver.push()
        if solver.check() != z3.sat:
            raise ProverError(f"{name}: the premises contradict each other")
        solver.add(z3.Not(claim))
        answer = solver.check()
        if answer != z3.unsat:
            found = solver.model() if answer == z3.sat else solver.reason_unknown()
            return Verdict(False, f"{name} in one cycle: {found}".replace("\n", ""))
        solver.pop()
    for item in Product:
        if len({item.a, item.b, item.aux}) != len(Memory):
            return Verdict(False, f"{item.name} reads two of its operands from one memory")
    return Verdict(True, f"{len(claims)} pairs of windows, for all numbers")


def check_checker(array: int, slack: int = 0) -> Verdict:
    """Check part 2, with a checker that lets an instruction start `slack` cycles too early."""
    geometry = Geometry(array=array, x_depth=64 * array, w_depth=64 * array, e_depth=64 * array)
    accepted = close = 0
    for first, second in _pairs(array):
        timeline = Timeline(geometry)
        timeline.place(first, timeline.ready)
        hazard = timeline.earliest(second)
        least = hazard.cycle - timeline.ready
        if hazard.reason not in {"pipeline", "port"}:
            raise ProverError(f"a pair was to wait for a port, not for {hazard.reason}")
        for delay in {0, max(least - slack - 1, 0), max(least - slack, 0), least, least + 1}:
            program = [first, replace(second, delay=delay)]
            if slack == 0:
                try:
                    check_instructions(program, geometry)
                except CheckError:
                    continue
            elif delay < least - slack:
                continue
            accepted += 1
            close += delay == least > 0
            memory = _asked_twice(program, array)
            if memory is not None:
                return Verdict(False, f"N = {array}: {memory}: {_shown(program)}")
    if not close:
        raise ProverError("no pair of instructions had to wait for a port")
    return Verdict(True, f"N = {array}: {accepted} pairs, {close} of them as early as allowed")


def _pairs(array: int) -> Iterator[tuple[Instruction, Instruction]]:
    """Yield small instructions whose operands and results are different tiles of each memory."""
    n = array
    shapes: Sequence[tuple[Segment, ...]] = (
        (Segment(k=n, a_base=0, b_base=0),),
        (Segment(k=1, pad=n - 1),),
        (Segment(k=2), Segment(k=n, a_base=n, b_base=n)),
        (Segment(k=1, pad=1, ones=1), Segment(k=n - 1, pad=1)),
        (Segment(k=2, pad=n), Segment(k=2, ones=1)),
    )

    def instruction(item: Product, segments: tuple[Segment, ...], columns: int) -> Instruction:
        # Everything that is read lies in the first sixteen tiles, and D behind.
        return Instruction(
            m_tiles=1,
            p_tiles=columns,
            product=item,
            destination=item.aux,
            rows_last=n,
            d_base=32 * n,
            d_m=0,
            d_p=n,
            segments=segments,
            aux_base=4 * n,
            aux_p=n,
            aux_mode=AuxMode.ADD,
        )

    for one, two in pairs_of(Product, Product):
        for before, after, columns in pairs_of(shapes, shapes, (1, 2)):
            yield instruction(one, before, columns), instruction(two, after, 3 - columns)


def _asked_twice(program: Sequence[Instruction], array: int) -> str | None:
    """Lay the cycles of a program down by isa.md and return what is asked for twice in one."""
    n = array
    rotate = ((n - 1).bit_length() + 1) // 2
    read = 4 + rotate
    drain = read + (n - 1) + 5
    write = drain + 6 + (n - 1) + rotate
    asked: Counter[tuple[str, Memory, int]] = Counter()
    cycle, last = 6, 6
    for instruction in program:
        cycle += max(6 - last, 0) + instruction.delay
        for _ in range(instruction.m_tiles * instruction.p_tiles):
            for segment in instruction.segments:
                for term in range(segment.k):
                    asked["reads", instruction.product.b, cycle + term] += 1
                    if not segment.ones:
                        asked["reads", instruction.product.a, cycle + term] += 1
                last = segment.k + segment.pad
                cycle += last
            end = cycle - 1
            for row in range(n):
                asked["writes", instruction.destination, end + write + row] += 1
                if instruction.uses_aux:
                    asked["reads", instruction.product.aux, end + drain - read + row] += 1
    (what, memory, when), times = max(asked.items(), key=lambda item: item[1])
    return f"{times} {what} of {memory.name} (cycle {when})" if times > 1 else None


def _shown(program: Sequence[Instruction]) -> str:
    return ", then ".join(
        f"{item.product.name} after {item.delay}, {item.tiles} tiles of "
        + " and ".join(f"{segment.k} + {segment.pad}" for segment in item.segments)
        for item in program
    )


def _check(array: int) -> Verdict:
    verdicts = [check_all_numbers(), check_checker(array)]
    failed = next((verdict for verdict in verdicts if not verdict.holds), None)
    return failed or Verdict(True, "; ".join(verdict.reason for verdict in verdicts))


def _all_numbers_weakened(array: int) -> Verdict:
    del array
    return check_all_numbers(slack=1)


def _checker_weakened(array: int) -> Verdict:
    return check_checker(array, slack=1)


_CONTROLS: dict[str, Check] = {
    "rule 3 allows one cycle less, in the formula": _all_numbers_weakened,
    "rule 3 allows one cycle less, in the checker": _checker_weakened,
}

PORTS = Proof(
    name="ports",
    scope=(
        "no bank is asked for two reads or two writes in a cycle: for all programs that keep rules "
        "1 and 3, of any size and for any N, in the cycles of docs/spec/isa.md, by SMT; that the "
        "checker's rule 3 is this one, for 450 pairs of small instructions of all products, "
        "next to the first cycle it allows; that the hardware keeps these cycles is run-cycles"
    ),
    check=_check,
    controls=_CONTROLS,
    per_array=True,
)
"""No bank is asked twice in a cycle."""
