"""Proof that a lane of the epilogue computes what ``docs/spec/numerics.md`` says, for all inputs.

The lane is unrolled over its six cycles from any state, with any inputs before and after, so that
elements which follow each other are covered too. The specification is written here in integers that
are wide enough for every intermediate result, after the section *Epilogue* of that page, and has
nothing of how the lane does it. There is one query for each shift; everything else is a variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import z3
from amaranth.back import rtlil

from siligrad.isa import DRAW_BITS, SHIFT_MAX, AuxMode, Gate, Rounding
from siligrad_hdl.epilogue import EPILOGUE_FIELDS, EpilogueControl, EpilogueLane
from siligrad_sim.formal.faults import edited
from siligrad_sim.formal.proof import Check, Proof, Verdict
from siligrad_sim.formal.tools import ProverError
from siligrad_sim.formal.unrolled import Unrolled, counterexample

__all__ = ["EPILOGUE", "Fault", "check_lane", "specification"]

Fault = Callable[[str], str]
"""Puts a fault into a netlist."""

_WIDTHS = ((4, 8), (4, 12), (8, 24), (16, 40), (16, 48))
"""Bits of a code and of a sum. 48 are what a sum of 40 and operands of 8 bits make."""

_DRAWN = 3
"""Cycles after its element in which a draw is in the state of the shift register."""


def specification(
    *,
    total: z3.BitVecRef,
    aux: z3.BitVecRef,
    shift: z3.BitVecRef,
    rounding: z3.BitVecRef,
    aux_mode: z3.BitVecRef,
    gate: z3.BitVecRef,
    negate: z3.BoolRef,
    draw: z3.BitVecRef,
) -> tuple[z3.BitVecRef, z3.BoolRef]:
    """Return the result and whether it counts as saturated, as terms of Z3.

    `total` is the sum, with the zeros that narrow operands put below it; names are those of
    ``docs/spec/numerics.md``.
    """
    bits = aux.size()
    # No intermediate result is as large as 2**(width - 1).
    width = max(total.size(), bits + SHIFT_MAX + 1, DRAW_BITS + SHIFT_MAX + 1) + 3

    def constant(value: int) -> z3.BitVecRef:
        return z3.BitVecVal(value, width)

    s = z3.ZeroExt(width - shift.size(), shift)
    wide_total = z3.SignExt(width - total.size(), total)
    shifted_aux = z3.SignExt(width - bits, aux) << s
    v = z3.If(negate, -wide_total, wide_total)
    u = z3.If(
        aux_mode == int(AuxMode.ADD),
        v + shifted_aux,
        z3.If(aux_mode == int(AuxMode.SUBTRACT), v - shifted_aux, v),
    )
    half = constant(1) << (s - 1)
    drawn = z3.LShR(z3.ZeroExt(width - DRAW_BITS, draw) << s, constant(DRAW_BITS))
    addend = _choose(
        rounding,
        {
            Rounding.HALF_EVEN: half - 1 + ((u >> s) & 1),
            Rounding.STOCHASTIC: drawn,
            Rounding.FLOOR: constant(0),
            Rounding.HALF_UP: half,
        },
    )
    r = (u + z3.If(shift == 0, constant(0), addend)) >> s
    limit = (1 << (bits - 1)) - 1
    y = z3.If(r > limit, constant(limit), z3.If(r < -limit, constant(-limit), r))
    zero = constant(0)
    highest_zero = z3.If(y < 0, y, zero)
    lowest_zero = z3.If(y > 0, y, zero)
    result = _choose(
        gate,
        {
            Gate.NONE: y,
            Gate.RELU: lowest_zero,
            Gate.MASK: z3.If(aux > 0, y, zero),
            Gate.HINGE: z3.If(aux > 0, highest_zero, lowest_zero),
        },
    )
    return z3.Extract(bits - 1, 0, result), z3.And(r != y, result != 0)


def _choose(
    field: z3.BitVecRef, values: dict[Rounding, z3.BitVecRef] | dict[Gate, z3.BitVecRef]
) -> z3.BitVecRef:
    *others, (_, chosen) = values.items()
    for number, value in others:
        chosen = z3.If(field == int(number), value, chosen)
    return chosen


def _field(control: z3.BitVecRef, name: str) -> z3.BitVecRef:
    field = EpilogueControl()[name]
    return z3.Extract(field.offset + field.width - 1, field.offset, control)


def _after_draw(state: z3.BitVecRef) -> z3.BitVecRef:
    """Return the state of a shift register sixteen steps on: section *Draws*."""
    for _ in range(DRAW_BITS):
        taps = [z3.Extract(bit, bit, state) for bit in (31, 30, 29, 9)]
        new = taps[0] ^ taps[1] ^ taps[2] ^ taps[3]
        state = z3.Concat(z3.Extract(30, 0, state), new)
    return state


def check_lane(
    word_bits: int,
    sum_bits: int,
    *,
    shifts: Iterable[int] = range(SHIFT_MAX + 1),
    fault: Fault | None = None,
) -> Verdict:
    """Compare a lane with the specification for some shifts, and everything else."""
    text = rtlil.convert(EpilogueLane(word_bits=word_bits, sum_bits=sum_bits), name="lane")
    if fault is not None:
        text = fault(text)
    last = EpilogueLane.latency
    lane = Unrolled(text, top="lane", cycles=last)

    # The element that enters in cycle 0, and the draw that belongs to it if it takes one.
    control = {name: _field(lane.net("control_west", 0), name) for name in EPILOGUE_FIELDS}
    control["negate"] = control["negate"] == 1
    valid = _field(lane.net("control_west", 0), "valid") == 1
    total, aux = lane.net("sum", 0), lane.net("aux", 0)
    drawn = lane.net("state", _DRAWN)
    result, saturated = specification(
        total=total, aux=aux, draw=z3.Extract(DRAW_BITS - 1, 0, drawn), **control
    )
    before = lane.net("state", _DRAWN - 1)
    takes = z3.And(valid, control["rounding"] == int(Rounding.STOCHASTIC))
    state = z3.If(
        lane.net("load", _DRAWN - 1),
        lane.net("load_state", _DRAWN - 1),
        z3.If(takes, _after_draw(before), before),
    )
    claim = z3.And(
        lane.net("result", last) == result,
        lane.net("saturated", last) == z3.And(valid, saturated),
        drawn == state,
    )
    signed = {"sum": total, "aux": aux, "result": lane.net("result", last), "not": result}
    show = {name: z3.BV2Int(term, is_signed=True) for name, term in signed.items()} | control
    show |= {"saturated": lane.net("saturated", last), "which should be": z3.And(valid, saturated)}
    which = f"codes of {word_bits} bits and sums of {sum_bits}"
    exists = control["aux_mode"] != max(AuxMode) + 1  # what no program encodes
    count = 0
    for shift in shifts:
        premises = [*lane.formulas, control["shift"] == shift, exists]
        if count == 0 and counterexample(premises, z3.BoolVal(False), {}) is None:
            raise ProverError(f"{which}: the premises contradict each other")
        found = counterexample(premises, claim, show)
        if found is not None:
            return Verdict(False, f"{which}: {found}")
        count += 1
    return Verdict(True, f"{which}, {count} shifts")


def _check(array: int) -> Verdict:
    del array  # a lane is one column, whatever N
    verdicts = [check_lane(word_bits, sum_bits) for word_bits, sum_bits in _WIDTHS]
    failed = next((verdict for verdict in verdicts if not verdict.holds), None)
    return failed or Verdict(True, "; ".join(verdict.reason for verdict in verdicts))


def _rounds_off_by_one(text: str) -> str:
    """Take half less two for half less one."""
    half_less_one = f"{DRAW_BITS}'0{'1' * (DRAW_BITS - 1)}"
    return edited(text, re.escape(half_less_one), f"{half_less_one[:-1]}0")


def _wraps(text: str) -> str:
    """Take the low bits where the largest code should be taken."""
    return edited(
        text,
        r"(cell \$mux \S+\n\s+parameter \\WIDTH 15\n(?:\s+connect \\[AB] .*\n)*\s+connect \\S ).*",
        r"\g<1>1'0",
    )


def _control(fault: Fault) -> Check:
    return lambda array: check_lane(16, 40, shifts=(4,), fault=fault)


EPILOGUE = Proof(
    name="epilogue",
    scope=(
        "in the netlist of a lane, from any state and with any elements before and after, result, "
        "saturation and the next draw are those of docs/spec/numerics.md for every sum, aux, shift "
        "from 0 to 47, rounding, gate, aux mode, negation and draw; complete by SMT for codes and "
        "sums of 4 and 8, 4 and 12, 8 and 24, 16 and 40, 16 and 48 bits"
    ),
    check=_check,
    controls={
        "half-even rounds with a constant that is off by one": _control(_rounds_off_by_one),
        "the result wraps instead of saturating": _control(_wraps),
    },
)
"""The epilogue equals its specification."""
