"""Functional coverage: what instructions can be, as tables of bins.

Fields and crosses of fields, epilogues, and the shapes at whose edges hardware goes wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from siligrad.isa import Instruction, Segment
from siligrad_sim.coverage.moment import Moment
from siligrad_sim.coverage.table import Axis, Bin, Group

__all__ = ["GROUPS"]


# Labels.


def _band(value: int, *edges: int) -> str:
    """Return the label of `value` among bands that begin at each of `edges`."""
    return _bands(*edges)[sum(value >= edge for edge in edges) - 1]


def _bands(*edges: int) -> tuple[str, ...]:
    labels = [
        str(begin) if end == begin + 1 else f"{begin} to {end - 1}"
        for begin, end in itertools.pairwise(edges)
    ]
    return (*labels, f"{edges[-1]} and more")


def _sizes(value: int) -> str:
    return _band(value, 1, 2, 3)


_SIZES = _bands(1, 2, 3)


def _rows(moment: Moment) -> str:
    rows, n = moment.instruction.rows_last, moment.geometry.array
    return "N" if rows == n else "1" if rows == 1 else "between"


_ROWS = ("1", "between", "N")


def _terms(k: int, n: int) -> str:
    if k == 1:
        return "1"
    if k < n:
        return "below N"
    if k % n == 0:
        return "N" if k == n else "multiple of N"
    return "N to 2N" if k < 2 * n else "above 2N"


_TERMS = ("1", "below N", "N", "N to 2N", "multiple of N", "above 2N")


def _place(value: int, most: int) -> str:
    return "0" if value == 0 else "largest" if value == most else "between"


_SHIFTS = ("0", "1", "2 to 15", "16", "17 to 31", "32 to 46", "47")


def _shift(value: int) -> str:
    edges = {0: "0", 1: "1", 16: "16", 47: "47"}
    return edges.get(value) or (
        "2 to 15" if value < 16 else "17 to 31" if value < 32 else "32 to 46"
    )


def _aux_use(moment: Moment) -> str:
    instruction = moment.instruction
    if not instruction.uses_aux:
        return "not read"
    return "in place of D" if moment.in_place else "elsewhere"


_ROUNDINGS = ("half_even", "stochastic", "floor", "half_up")
_GATES = ("none", "relu", "mask", "hinge")
_MODES = ("none", "add", "subtract")
_MEMORIES = ("X", "W", "E")
_PRODUCTS = ("XW", "EW", "XE")
_AUX_OF = {"XW": "E", "EW": "X", "XE": "W"}

_ROUNDING = Axis("rounding", _ROUNDINGS)
_GATE = Axis("gate", _GATES)
_MODE = Axis("aux mode", _MODES)
_NEGATE = Axis("negate", ("0", "1"))
_PRODUCT = Axis("product", _PRODUCTS)
_DESTINATION = Axis("destination", _MEMORIES)


def _name(value: object) -> str:
    return str(getattr(value, "name", value)).lower()


# What is counted.


def _epilogues(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    yield _name(item.rounding), _name(item.gate), _name(item.aux_mode), str(item.negate)


def _shifts(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    yield _name(item.rounding), _name(item.aux_mode), _shift(item.shift)


def _routes(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    yield item.product.name, item.destination.name, _aux_use(moment)


def _not_in_place(labels: Bin) -> str | None:
    product, destination, use = labels
    if use == "in place of D" and _AUX_OF[product] != destination:
        return f"aux of {product} is read from {_AUX_OF[product]}, D is written to {destination}"
    return None


def _transpositions(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    aux = str(item.aux_column) if item.uses_aux else "not read"
    for segment in item.segments:
        a = "ones" if segment.ones else str(segment.a_column)
        yield item.product.name, a, str(segment.b_column), str(item.d_column), aux


def _shapes(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    sizes = (item.m_tiles, item.p_tiles, len(item.segments))
    yield (*map(_sizes, sizes), _rows(moment))


def _edges(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    rows = "1" if item.m_tiles == 1 else "several"
    yield _name(item.gate), _name(item.aux_mode), _rows(moment), rows


def _drawing(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    tiles = "1" if item.tiles == 1 else "several"
    yield _name(item.rounding), _rows(moment), str(item.d_column), tiles


def _lengths(moment: Moment) -> Iterator[Bin]:
    for segment in moment.instruction.segments:
        terms = _terms(segment.k, moment.geometry.array)
        pad = segment.pad
        yield terms, _pad(pad), "1" if segment.ones else "0"


_PADS = ("0", "1", "2 to 30", "31")


def _pad(pad: int) -> str:
    return str(pad) if pad in (0, 1, 31) else "2 to 30"


def _too_short(labels: Bin) -> str | None:
    return "rule 1: a segment takes two cycles" if labels[:2] == ("1", "0") else None


def _places(moment: Moment) -> Iterator[Bin]:
    """Where among its instruction's segments each kind of segment is."""
    segments = moment.instruction.segments
    for number, segment in enumerate(segments):
        if len(segments) == 1:
            place = "alone"
        else:
            place = {0: "first", len(segments) - 1: "last"}.get(number, "between")
        padded = "0" if segment.pad == 0 else "1 and more"
        yield place, _terms(segment.k, moment.geometry.array), padded


def _short_tile(labels: Bin) -> str | None:
    if labels[1:] == ("1", "0"):
        return "rule 1: a segment takes two cycles"
    return "rule 1: a tile takes N cycles" if labels == ("alone", "below N", "0") else None


def _ones(moment: Moment) -> Iterator[Bin]:
    rows = "1" if moment.instruction.m_tiles == 1 else "several"
    for segment in moment.instruction.segments:
        if segment.ones:
            shift = _place(segment.ones_shift, moment.geometry.operand_bits - 2)
            yield shift, _rows(moment), rows


def _moving(moment: Moment) -> Iterator[Bin]:
    steps = _sizes(moment.loop.steps)
    for operand, memory, moves, _ in moment.operands:
        yield operand, memory.name, "moves" if moves else "stays", steps


def _no_such_port(labels: Bin) -> str | None:
    operand, memory, *_ = labels
    if (operand, memory) == ("A", "W"):
        return "A is read from X or E"
    if (operand, memory) == ("B", "X"):
        return "B is read from W or E"
    return None


def _ends(moment: Moment) -> Iterator[Bin]:
    n = moment.geometry.array
    for operand, memory, _, tiles in moment.operands:
        last = moment.geometry.depth(memory) // n * n - n
        if (tiles == 0).any():
            yield operand, memory.name, "first"
        if (tiles == last).any():
            yield operand, memory.name, "last"


_STRIDES = ("a_m", "a_k", "b_p", "b_k", "d_m", "d_p", "aux_m", "aux_p")


def _strides(moment: Moment) -> Iterator[Bin]:
    item, n = moment.instruction, moment.geometry.array

    def bin_of(name: str, stride: int) -> Bin:
        if stride == 0:
            return name, "0"
        if stride >= 1 << 15:
            return name, "backwards"
        return name, "a tile" if stride == n else "several tiles"

    for segment in item.segments:
        yield from (bin_of(*each) for each in _used_strides(item, segment, n))
    for name, tiles in (("d_m", item.m_tiles), ("d_p", item.p_tiles)):
        if tiles > 1:
            yield bin_of(name, getattr(item, name))
    if item.uses_aux:
        for name, tiles in (("aux_m", item.m_tiles), ("aux_p", item.p_tiles)):
            if tiles > 1:
                yield bin_of(name, getattr(item, name))


def _used_strides(item: Instruction, segment: Segment, n: int) -> Iterator[tuple[str, int]]:
    if item.m_tiles > 1 and not segment.ones:
        yield "a_m", segment.a_m
    if item.p_tiles > 1:
        yield "b_p", segment.b_p
    if segment.k > n:
        yield "b_k", segment.b_k
        if not segment.ones:
            yield "a_k", segment.a_k


def _same_address(labels: Bin) -> str | None:
    if labels in (("d_m", "0"), ("d_p", "0")):
        return "two tiles of D would have one address"
    return None


def _waits(moment: Moment) -> Iterator[Bin]:
    memory = "none" if moment.hazard.memory is None else moment.hazard.memory.name
    if moment.slack == 0:
        yield moment.hazard.reason, memory


def _not_the_pipeline(labels: Bin) -> str | None:
    if (labels[0] == "pipeline") != (labels[1] == "none"):
        return "the order alone is of no memory, every other reason is"
    return None


def _neighbours(moment: Moment) -> Iterator[Bin]:
    before = moment.before
    last = "none" if before is None else _band(before.segments[-1].cycles, 2, 6, 7)
    yield last, _band(moment.instruction.delay, 0, 1, 2)


def _runs(moment: Moment) -> Iterator[Bin]:
    if moment.index == 0:
        steps, count = moment.loop.steps, moment.count
        yield _band(steps, 1, 2, 3, 4), _band(count, 1, 2, 3, 9)


def _arrays(moment: Moment) -> Iterator[Bin]:
    geometry = moment.geometry
    n = str(geometry.array) if geometry.array < 9 else "9 to 16"
    narrow = "narrower" if geometry.dropped_bits else "as words"
    words = "16" if geometry.word_bits == 16 else "fewer"
    yield n, words, narrow


_WIDE = {"m_tiles": 12, "p_tiles": 12, "segments": 7, "k": 16, "delay": 16}
"""Bits of what counts something."""


def _wide(moment: Moment) -> Iterator[Bin]:
    item = moment.instruction
    for name, value in (
        ("m_tiles", item.m_tiles),
        ("p_tiles", item.p_tiles),
        ("segments", len(item.segments)),
        ("delay", item.delay),
        *(("k", segment.k) for segment in item.segments),
    ):
        yield name, _WIDTHS[(max(value.bit_length(), 1) - 1) // 4]


_WIDTHS = ("0 to 15", "16 to 255", "256 to 4095", "4096 to 65535")


def _no_such_width(labels: Bin) -> str | None:
    name, width = labels
    if 4 * _WIDTHS.index(width) >= _WIDE[name]:
        return f"{name} has no more bits"
    return None


_OPERAND = Axis("operand", ("A", "B", "aux", "D"))
_MEMORY = Axis("memory", _MEMORIES)
_FLAG = ("0", "1")

GROUPS: Mapping[str, Group] = {
    group.name: group
    for group in (
        Group("epilogue", (_ROUNDING, _GATE, _MODE, _NEGATE), _epilogues),
        Group("shift", (_ROUNDING, _MODE, Axis("shift", _SHIFTS)), _shifts),
        Group(
            "epilogue at edges",
            (_GATE, _MODE, Axis("rows_last", _ROWS), Axis("m_tiles", ("1", "several"))),
            _edges,
        ),
        Group(
            "rounding at edges",
            (
                _ROUNDING,
                Axis("rows_last", _ROWS),
                Axis("d_column", _FLAG),
                Axis("tiles", ("1", "several")),
            ),
            _drawing,
        ),
        Group(
            "route",
            (_PRODUCT, _DESTINATION, Axis("aux", ("not read", "elsewhere", "in place of D"))),
            _routes,
            _not_in_place,
        ),
        Group(
            "transposition",
            (
                _PRODUCT,
                Axis("a_column", (*_FLAG, "ones")),
                Axis("b_column", _FLAG),
                Axis("d_column", _FLAG),
                Axis("aux_column", (*_FLAG, "not read")),
            ),
            _transpositions,
        ),
        Group(
            "shape",
            (
                Axis("m_tiles", _SIZES),
                Axis("p_tiles", _SIZES),
                Axis("segments", _SIZES),
                Axis("rows_last", _ROWS),
            ),
            _shapes,
        ),
        Group(
            "segment",
            (Axis("k", _TERMS), Axis("pad", _PADS), Axis("ones", _FLAG)),
            _lengths,
            _too_short,
        ),
        Group(
            "segment of several",
            (
                Axis("place", ("alone", "first", "between", "last")),
                Axis("k", _TERMS),
                Axis("pad", ("0", "1 and more")),
            ),
            _places,
            _short_tile,
        ),
        Group(
            "ones",
            (
                Axis("ones_shift", ("0", "between", "largest")),
                Axis("rows_last", _ROWS),
                Axis("m_tiles", ("1", "several")),
            ),
            _ones,
        ),
        Group(
            "what moves",
            (_OPERAND, _MEMORY, Axis("between steps", ("stays", "moves")), Axis("steps", _SIZES)),
            _moving,
            _no_such_port,
        ),
        Group(
            "tile of its memory",
            (_OPERAND, _MEMORY, Axis("tile", ("first", "last"))),
            _ends,
            _no_such_port,
        ),
        Group(
            "from tile to tile",
            (
                Axis("field", _STRIDES),
                Axis("stride", ("0", "a tile", "several tiles", "backwards")),
            ),
            _strides,
            _same_address,
        ),
        Group(
            "what a start waits for",
            (
                Axis("reason", ("pipeline", "operand", "auxiliary", "port")),
                Axis("memory", (*_MEMORIES, "none")),
            ),
            _waits,
            _not_the_pipeline,
        ),
        Group(
            "one after the other",
            (
                Axis("cycles of the segment before", (*_bands(2, 6, 7), "none")),
                Axis("delay", _bands(0, 1, 2)),
            ),
            _neighbours,
        ),
        Group(
            "run",
            (Axis("steps", _bands(1, 2, 3, 4)), Axis("instructions", _bands(1, 2, 3, 9))),
            _runs,
        ),
        Group(
            "array",
            (
                Axis("N", (*map(str, range(2, 9)), "9 to 16")),
                Axis("word_bits", ("16", "fewer")),
                Axis("operands", ("as words", "narrower")),
            ),
            _arrays,
        ),
        Group(
            "size of a field",
            (Axis("field", tuple(_WIDE)), Axis("value", _WIDTHS)),
            _wide,
            _no_such_width,
        ),
    )
}
"""All groups by name."""
