"""Proof that a segment takes as many cycles as it says, for all its numbers, by induction.

What the sequencer's second stage does is compared with three counters that are not in it: cycles
left of a segment, terms left of it, and cycles to wait. An invariant says what its registers hold
in terms of these; it holds after a reset, each cycle leads from it to itself, and what is claimed
of the ports follows from it. So the time of a tile is the sum over its segments, and that of an
instruction the sum over its tiles, for any number of either.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3
from amaranth.back import rtlil

from siligrad_hdl.fetch import PreparedSegment
from siligrad_hdl.stream import Stream
from siligrad_sim.formal.faults import edited
from siligrad_sim.formal.proof import Proof, Verdict
from siligrad_sim.formal.unrolled import Unrolled, counterexample

__all__ = ["SEGMENT_CYCLES", "check_stream"]

_BITS = 18
"""Bits of the counters, which hold at most 65535 + 31."""

_ADDRESS_BITS = 4
_REGISTERS = ("active", "issued", "free", "cycles", "terms", "delay_left", "last_of_tile")


@dataclass(frozen=True, slots=True)
class _Ghost:
    """Cycles and terms left of the segment that is issued, this cycle included, and to wait."""

    cycles: z3.BitVecRef
    terms: z3.BitVecRef
    wait: z3.BitVecRef


def _netlist() -> str:
    text: str = rtlil.convert(Stream(array=4, address_bits=_ADDRESS_BITS), name="stream")
    return text


def _number(value: int) -> z3.BitVecRef:
    return z3.BitVecVal(value, _BITS)


def _low(value: z3.BitVecRef, bits: int) -> z3.BitVecRef:
    return z3.Extract(bits - 1, 0, value)


def _invariant(stream: Unrolled, cycle: int, ghost: _Ghost) -> z3.BoolRef:
    active, issued, free, cycles, terms, delay_left = (
        stream.net(name, cycle) for name in _REGISTERS[:-1]
    )
    pad = ghost.cycles - ghost.terms
    return z3.And(
        z3.ULE(ghost.terms, ghost.cycles),
        z3.ULE(ghost.terms, 65535),
        z3.ULE(pad, 31),
        z3.ULE(ghost.wait, 65535),
        active == (ghost.cycles != 0),
        issued == (ghost.terms != 0),
        free == z3.ULE(ghost.cycles, 1),
        z3.Implies(issued, terms == _low(ghost.terms - 2, 17)),
        z3.Implies(active, cycles == ghost.cycles - 3),
        delay_left == _low(ghost.wait - 1, 17),
    )


def check_stream(rtlil_text: str | None = None) -> Verdict:
    """Prove the claim of the stage as it is, or as it is in another netlist."""
    text = _netlist() if rtlil_text is None else rtlil_text
    layout = PreparedSegment(address_bits=_ADDRESS_BITS)

    def unrolled(*, reset: bool) -> Unrolled:
        return Unrolled(text, top="stream", cycles=1, reset=reset, keep=_REGISTERS)

    # After a reset, with any delay: its counter has none, fetch sets it before a segment is valid.
    wait = z3.BitVec("wait", _BITS)
    zero = _Ghost(_number(0), _number(0), wait)
    first = unrolled(reset=True)
    loaded = [z3.ULE(wait, 65535), first.net("delay_left", 1) == _low(wait - 1, 17)]
    found = counterexample([*first.formulas, *loaded], _invariant(first, 1, zero), {})
    if found is not None:
        return Verdict(False, "the invariant does not hold after a reset")

    # A cycle.
    stream = unrolled(reset=False)
    segment = stream.net("segment", 0)

    def field(name: str) -> z3.BitVecRef:
        item = layout[name]
        return z3.Extract(item.offset + item.width - 1, item.offset, segment)

    k, pad, delay = z3.BitVec("k", 16), z3.BitVec("pad", 5), z3.BitVec("delay", 16)
    wide_k, wide_pad = z3.ZeroExt(_BITS - 16, k), z3.ZeroExt(_BITS - 5, pad)
    wide_delay = z3.ZeroExt(_BITS - 16, delay)
    ghost = _Ghost(*(z3.BitVec(name, _BITS) for name in ("cycles", "terms_left", "wait")))
    prepared = z3.And(
        field("terms") == _low(wide_k - 2, 17),
        field("cycles") == wide_k + wide_pad - 3,
        stream.net("delay", 0) == _low(wide_delay - 1, 17),
    )
    premises = [*stream.formulas, prepared, k != 0, z3.UGE(wide_k + wide_pad, 2)]
    premises.append(_invariant(stream, 0, ghost))
    take, valid = stream.net("take", 0), stream.net("valid", 0)
    could = z3.And(valid, z3.ULE(ghost.cycles, 1))
    following = _Ghost(
        z3.If(take, wide_k + wide_pad, _less_one(ghost.cycles)),
        z3.If(take, wide_k, _less_one(ghost.terms)),
        z3.If(
            stream.net("delay_load", 0),
            wide_delay,
            z3.If(could, _less_one(ghost.wait), ghost.wait),
        ),
    )
    ends = ghost.cycles == 1
    claims = {
        "a segment is taken when it waited its time and the one before ends": take
        == z3.And(could, ghost.wait == 0),
        "as many terms as it has are issued": stream.net("issued", 0) == (ghost.terms != 0),
        "a tile ends with its last segment": stream.net("last", 0)
        == z3.And(ends, stream.net("last_of_tile", 0)),
        "the invariant": _invariant(stream, 1, following),
    }
    show = {"k": k, "pad": pad, "cycles left": ghost.cycles, "terms left": ghost.terms}
    for name, claim in claims.items():
        found = counterexample(premises, claim, show)
        if found is not None:
            return Verdict(False, f"{name}: {found}")
    possible = counterexample([*premises, take, ghost.cycles == 1], z3.BoolVal(False), show)
    assert possible is not None, "no segment ever follows another"
    return Verdict(True, f"{len(claims)} claims, by induction over cycles")


def _less_one(value: z3.BitVecRef) -> z3.BitVecRef:
    return z3.If(value == 0, value, value - 1)


def _counts_by_two(array: int) -> Verdict:
    del array
    counter = (
        r"(parameter \\B_WIDTH )1(\n\s+parameter \\Y_WIDTH 18\n\s+connect \\A \\terms \[16:0\]\n"
        r"\s+connect \\B )1'1"
    )
    return check_stream(edited(_netlist(), counter, r"\g<1>2\g<2>2'10"))


SEGMENT_CYCLES = Proof(
    name="segment-cycles",
    scope=(
        "a segment of k terms and pad issues them in k cycles one after the other and is followed "
        "by the next, or its tile ends, after exactly k + pad, for every k from 1 to 65535, pad "
        "from 0 to 31 that are two cycles or more, and delay from 0 to 65535, in runs of any "
        "length; by induction over cycles, by SMT on the netlist of the stage, given prepared "
        "segments, and a delay before the first, as fetch documents them"
    ),
    check=lambda array: check_stream(),
    controls={"terms are counted two at a time": _counts_by_two},
)
"""A segment takes k + pad cycles."""
