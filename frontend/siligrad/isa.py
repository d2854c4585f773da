"""The instruction: its fields, its encoding and its timing.

There is one instruction, ``D = epilogue(sum over segments of A_s @ B_s)``, and this module is the
only place that says where its bits are and in which cycle it does what. The compiler encodes with
it, the hardware decodes with it, the reference executes it, and ``docs/spec/isa.md`` explains it.

>>> k = next(item for item in SEGMENT_LINE if item.name == "k")
>>> k.width
16
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

from siligrad.errors import SiligradError

__all__ = [
    "ADDRESS_BITS",
    "ARRAY_SIZES",
    "AuxMode",
    "DRAW_BITS",
    "EncodingError",
    "Field",
    "Gate",
    "Geometry",
    "HEADER_LINES",
    "HEADER_LINE_0",
    "HEADER_LINE_1",
    "INSTRUCTION_CYCLES",
    "Instruction",
    "LINE_BITS",
    "Loop",
    "Memory",
    "ONE_STEP",
    "PROGRAM_LINES",
    "Product",
    "Rounding",
    "SEGMENTS_MAX",
    "SEGMENT_CYCLES",
    "SEGMENT_LINE",
    "SHIFT_MAX",
    "STEPS_MAX",
    "Segment",
    "Timing",
    "WORD_BITS",
    "decode_program",
    "encode_program",
]

ARRAY_SIZES = range(2, 17)
"""Array sizes N that exist: from 2x2 to 16x16, not only powers of two."""

ADDRESS_BITS = 16
"""Bits of a word address inside one bank."""

WORD_BITS = range(4, 17)
"""Widths of a word of X, W and E that exist."""

PROGRAM_LINES = range(4, (1 << 14) + 1)
"""Depths of a program memory that exist."""

LINE_BITS = 128
"""Bits of one line of the program memory."""

HEADER_LINES = 2
"""Lines of an instruction before its segments."""

SEGMENTS_MAX = 64
"""Most segments an instruction may sum."""

SHIFT_MAX = 47
"""Largest right shift of the epilogue."""

DRAW_BITS = 16
"""Random bits that stochastic rounding draws for one element."""

STEPS_MAX = (1 << 16) - 1
"""Most steps of a run."""

SEGMENT_CYCLES = 2
"""Fewest cycles from the start of one segment to the start of the next."""

INSTRUCTION_CYCLES = 6
"""Fewest cycles from the start of an instruction's last segment to the start of the next
instruction."""


class EncodingError(SiligradError, ValueError):
    """A value does not fit its field, or bits are no instruction."""


class Memory(IntEnum):
    """The three memories."""

    X = 0
    W = 1
    E = 2


class Product(IntEnum):
    """Which memories feed the array; the epilogue's auxiliary operand comes from the third."""

    XW = 0
    EW = 1
    XE = 2

    @property
    def a(self) -> Memory:
        """The memory that A is read from."""
        return (Memory.X, Memory.E, Memory.X)[self]

    @property
    def b(self) -> Memory:
        """The memory that B is read from."""
        return (Memory.W, Memory.W, Memory.E)[self]

    @property
    def aux(self) -> Memory:
        """The memory that the auxiliary operand is read from."""
        return (Memory.E, Memory.X, Memory.W)[self]


class AuxMode(IntEnum):
    """What the auxiliary operand adds to the sum."""

    NONE = 0
    ADD = 1
    SUBTRACT = 2


class Gate(IntEnum):
    """The ReLU family: which results survive, the others become zero."""

    NONE = 0
    RELU = 1  # results above zero
    MASK = 2  # results whose auxiliary operand is above zero
    HINGE = (
        3  # results whose sign differs from that of the auxiliary operand (zero counts as minus)
    )


class Rounding(IntEnum):
    """What happens to the bits that the epilogue's shift drops."""

    HALF_EVEN = 0
    STOCHASTIC = 1
    FLOOR = 2
    HALF_UP = 3


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a built accelerator is: everything that a program must agree with.

    Parameters
    ----------
    array
        N: rows and columns of the array, banks of each memory.
    operand_bits
        Width of an operand of the array. Words are rounded to their top bits on the way to it.
    sum_bits
        Width of an accumulator.
    x_depth, w_depth, e_depth
        Words in each bank of X, W and E; a memory holds ``N * depth`` elements.
    program_depth
        Lines of program memory.
    word_bits
        Width of an element of X, W and E, from `operand_bits` to 16.
    """

    array: int = 8
    operand_bits: int = 16
    sum_bits: int = 40
    x_depth: int = 1024
    w_depth: int = 1024
    e_depth: int = 1024
    program_depth: int = 256
    word_bits: int = 16

    def __post_init__(self) -> None:
        if self.array not in ARRAY_SIZES:
            raise EncodingError(
                f"array must be from {ARRAY_SIZES.start} to {ARRAY_SIZES.stop - 1}, "
                f"not {self.array}"
            )
        if self.word_bits not in WORD_BITS:
            raise EncodingError(
                f"word_bits must be from {WORD_BITS.start} to {WORD_BITS.stop - 1}, "
                f"not {self.word_bits}"
            )
        if not 4 <= self.operand_bits <= self.word_bits:
            raise EncodingError(
                f"operand_bits must be from 4 to word_bits ({self.word_bits}), "
                f"not {self.operand_bits}"
            )
        least = max(2 * self.operand_bits, self.word_bits)
        most = 48 - self.dropped_bits
        if not least <= self.sum_bits <= most:
            raise EncodingError(
                f"sum_bits must be at least {least}, to hold a product of two "
                f"{self.operand_bits}-bit operands and a word of {self.word_bits} bits, and at "
                f"most {most}, not {self.sum_bits}"
            )
        for name in ("x_depth", "w_depth", "e_depth"):
            depth = getattr(self, name)
            if not self.array <= depth <= 1 << ADDRESS_BITS:
                raise EncodingError(
                    f"{name} must be from {self.array} (one tile) to {1 << ADDRESS_BITS}, "
                    f"not {depth}"
                )
        if self.program_depth not in PROGRAM_LINES:
            raise EncodingError(
                f"program_depth must be from {PROGRAM_LINES.start} to {PROGRAM_LINES.stop - 1} "
                f"lines, not {self.program_depth}"
            )

    def depth(self, memory: Memory) -> int:
        """Words in each bank of `memory`."""
        return (self.x_depth, self.w_depth, self.e_depth)[memory]

    @property
    def dropped_bits(self) -> int:
        """Low bits of a word that an operand of the array is rounded by."""
        return self.word_bits - self.operand_bits


@dataclass(frozen=True, slots=True)
class Loop:
    """How often a run executes its program, and how far operands move from a step to the next.

    Parameters
    ----------
    steps
        Times that the program is executed, 1 to :data:`STEPS_MAX`.
    x_stride, w_stride, e_stride
        Words by which the operands that move are further in X, W and E in each step.
    """

    steps: int = 1
    x_stride: int = 0
    w_stride: int = 0
    e_stride: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= STEPS_MAX:
            raise EncodingError(f"steps must be from 1 to {STEPS_MAX}, not {self.steps}")
        for name in ("x_stride", "w_stride", "e_stride"):
            stride = getattr(self, name)
            if not 0 <= stride < 1 << ADDRESS_BITS:
                raise EncodingError(
                    f"{name} must be from 0 to {(1 << ADDRESS_BITS) - 1}, not {stride}"
                )

    def stride(self, memory: Memory) -> int:
        """Words from a step's moving operands in `memory` to those of the next step."""
        return (self.x_stride, self.w_stride, self.e_stride)[memory]


ONE_STEP = Loop()
"""A run that executes its program once."""


@dataclass(frozen=True, slots=True)
class Timing:
    """In which cycle an array of size N does what, counted from the issue of a tile.

    A term (one column of A, one row of B) is *issued* when the sequencer presents its address. A
    tile *ends* in the cycle in which the last cycle of its last segment is issued. Every number
    here is a constant of the built hardware; the hardware's own latencies are checked against them
    when it is elaborated.
    """

    array: int

    @property
    def rotate(self) -> int:
        """Registers in a rotator: one every two levels of multiplexers."""
        levels = (self.array - 1).bit_length()
        return (levels + 1) // 2

    @property
    def read(self) -> int:
        """Cycles from issue to the operand at the edge of the array.

        Bank address, memory, memory output, rotator, port multiplexer.
        """
        return 3 + self.rotate + 1

    @property
    def cell(self) -> int:
        """Cycles from an operand at a cell's input to its product in that cell's sum.

        Operand, two registers in the multiplier, one before the adder; a tile's sum is taken as its
        last product is added.
        """
        return 4

    @property
    def epilogue(self) -> int:
        """Cycles from a sum at an epilogue lane's input to its result."""
        return 6

    @property
    def aux(self) -> int:
        """Cycles from the end of a tile to the issue of its first auxiliary row (row N - 1)."""
        return self.drain - self.read

    @property
    def drain(self) -> int:
        """Cycles from the end of a tile to its bottom row at the input of epilogue lane 0."""
        return self.read + (self.array - 1) + self.cell + 1

    @property
    def write(self) -> int:
        """Cycles from the end of a tile to the memory write of its first row (row N - 1)."""
        return self.drain + self.epilogue + (self.array - 1) + self.rotate

    @property
    def written(self) -> int:
        """Cycles from the end of a tile to the first cycle in which it may be issued as an operand.

        The last row is written ``write + N - 1`` cycles after the end; an issue reaches the memory
        one cycle later, and reads what was written before that cycle.
        """
        return self.write + self.array - 1

    @property
    def tail(self) -> int:
        """Cycles from the end of a program's last tile to the end of the run, both included."""
        return self.written + 2


@dataclass(frozen=True, slots=True)
class Field:
    """Bits ``offset`` to ``offset + width - 1`` of a program line.

    Bit 0 is the lowest of word 0.
    """

    name: str
    offset: int
    width: int


def _layout(*widths: tuple[str, int]) -> tuple[Field, ...]:
    offset = 0
    result = []
    for name, width in widths:
        result.append(Field(name, offset, width))
        offset += width
    assert offset <= LINE_BITS, f"{offset} bits do not fit a line"
    return tuple(result)


HEADER_LINE_0 = _layout(
    ("m_tiles", 12),
    ("p_tiles", 12),
    ("segments", 8),
    ("delay", 16),
    ("shift", 6),
    ("rows_last", 5),
    ("product", 2),
    ("destination", 2),
    ("rounding", 2),
    ("aux_mode", 2),
    ("gate", 2),
    ("negate", 1),
    ("d_column", 1),
    ("aux_column", 1),
    ("final", 1),
    ("d_moves", 1),
    ("aux_moves", 1),
)
HEADER_LINE_1 = _layout(
    ("d_base", ADDRESS_BITS),
    ("d_m", ADDRESS_BITS),
    ("d_p", ADDRESS_BITS),
    ("aux_base", ADDRESS_BITS),
    ("aux_m", ADDRESS_BITS),
    ("aux_p", ADDRESS_BITS),
)
SEGMENT_LINE = _layout(
    ("a_base", ADDRESS_BITS),
    ("a_m", ADDRESS_BITS),
    ("a_k", ADDRESS_BITS),
    ("b_base", ADDRESS_BITS),
    ("b_p", ADDRESS_BITS),
    ("b_k", ADDRESS_BITS),
    ("k", 16),
    ("pad", 5),
    ("ones_shift", 4),
    ("ones", 1),
    ("a_column", 1),
    ("b_column", 1),
    ("a_moves", 1),
    ("b_moves", 1),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One product ``A @ B`` that an instruction sums; A is ``(m, k)``, B is ``(k, p)``.

    Addresses are words inside a bank, always of a tile's first row. Row tile ``i`` of A begins at
    ``a_base + i * a_m``, its next tile along k is ``a_k`` further; B likewise with ``b_p`` and
    ``b_k``. A tile is stored as it stands or transposed, so a term of A is a column of stored tiles
    (``a_column``) or a row of them; a term of B is a row of stored tiles, or a column
    (``b_column``). With ``ones``, A is not read: it is a matrix of ones, each the code
    ``2**ones_shift``.

    An operand that *moves* is found ``stride`` words further in each step of a run that has several
    (:class:`Loop`).

    After its ``k`` terms a segment idles for ``pad`` cycles.
    """

    k: int
    a_base: int = 0
    a_m: int = 0
    a_k: int = 0
    b_base: int = 0
    b_p: int = 0
    b_k: int = 0
    pad: int = 0
    ones_shift: int = 0
    ones: int = 0
    a_column: int = 1
    b_column: int = 0
    a_moves: int = 0
    b_moves: int = 0

    @property
    def cycles(self) -> int:
        """Cycles that this segment takes in each tile."""
        return self.k + self.pad


@dataclass(frozen=True, slots=True)
class Instruction:
    """``D = epilogue(sum of A_s @ B_s, aux)``, a tile after the other, rows of tiles outermost.

    Tile ``(i, j)`` of D begins at ``d_base + i * d_m + j * d_p``; it is written row by row, or as
    columns (``d_column``), which stores it transposed. The auxiliary operand is addressed the same
    way. ``rows_last`` is the number of rows of the last row of tiles that belong to D: ones are fed
    to these only, so that what lies outside a matrix stays zero. ``delay`` cycles pass before the
    first issue.
    """

    m_tiles: int
    p_tiles: int
    product: Product
    destination: Memory
    rows_last: int
    d_base: int
    d_m: int
    d_p: int
    segments: tuple[Segment, ...]
    aux_base: int = 0
    aux_m: int = 0
    aux_p: int = 0
    shift: int = 0
    rounding: Rounding = Rounding.HALF_EVEN
    aux_mode: AuxMode = AuxMode.NONE
    gate: Gate = Gate.NONE
    negate: int = 0
    d_column: int = 0
    aux_column: int = 0
    d_moves: int = 0
    aux_moves: int = 0
    delay: int = 0

    @property
    def uses_aux(self) -> bool:
        """Whether the epilogue reads its auxiliary operand."""
        return self.aux_mode != AuxMode.NONE or self.gate in (Gate.MASK, Gate.HINGE)

    @property
    def tiles(self) -> int:
        """Tiles of D."""
        return self.m_tiles * self.p_tiles

    @property
    def moves(self) -> bool:
        """Whether an operand is elsewhere in each step of a run."""
        return bool(
            self.d_moves
            or self.aux_moves
            or any(segment.a_moves or segment.b_moves for segment in self.segments)
        )

    def in_step(self, loop: Loop, step: int) -> Instruction:
        """Return the instruction with the addresses that it has in a step of a run, from 0 on."""
        if step == 0 or not self.moves:
            return self

        def offset(moves: int, memory: Memory) -> int:
            return step * loop.stride(memory) if moves else 0

        def wrapped(address: int) -> int:
            return address % (1 << ADDRESS_BITS)

        product = self.product
        return replace(
            self,
            d_base=wrapped(self.d_base + offset(self.d_moves, self.destination)),
            aux_base=wrapped(self.aux_base + offset(self.aux_moves, product.aux)),
            segments=tuple(
                replace(
                    segment,
                    a_base=wrapped(segment.a_base + offset(segment.a_moves, product.a)),
                    b_base=wrapped(segment.b_base + offset(segment.b_moves, product.b)),
                )
                for segment in self.segments
            ),
        )

    @property
    def tile_cycles(self) -> int:
        """Cycles from one tile to the next."""
        return sum(segment.cycles for segment in self.segments)

    @property
    def lines(self) -> int:
        """Lines of program memory that the instruction takes."""
        return HEADER_LINES + len(self.segments)


def _pack(layout: Iterable[Field], values: Mapping[str, int], where: str) -> int:
    line = 0
    for item in layout:
        value = int(values[item.name])
        if not 0 <= value < 1 << item.width:
            raise EncodingError(
                f"{where}: {item.name} must be from 0 to {(1 << item.width) - 1}, not {value}"
            )
        line |= value << item.offset
    return line


def _unpack(layout: Iterable[Field], line: int, where: str) -> dict[str, int]:
    values = {}
    used = 0
    for item in layout:
        values[item.name] = (line >> item.offset) & ((1 << item.width) - 1)
        used |= ((1 << item.width) - 1) << item.offset
    if line & ~used:
        raise EncodingError(f"{where}: reserved bits are set ({line & ~used:#x})")
    return values


def encode_program(instructions: Sequence[Instruction]) -> list[int]:
    """Encode `instructions` as lines of :data:`LINE_BITS` bits; the last one is marked final.

    Raises
    ------
    EncodingError
        If a value does not fit its field, or there is no instruction.
    """
    if not instructions:
        raise EncodingError("a program needs at least one instruction")
    lines = []
    for index, instruction in enumerate(instructions):
        where = f"instruction {index}"
        if not 1 <= len(instruction.segments) <= SEGMENTS_MAX:
            raise EncodingError(
                f"{where}: segments must be from 1 to {SEGMENTS_MAX}, "
                f"not {len(instruction.segments)}"
            )
        values = {item.name: getattr(instruction, item.name) for item in fields(instruction)}
        values["segments"] = len(instruction.segments)
        values["final"] = int(index == len(instructions) - 1)
        lines.append(_pack(HEADER_LINE_0, values, where))
        lines.append(_pack(HEADER_LINE_1, values, where))
        for number, segment in enumerate(instruction.segments):
            values = {item.name: getattr(segment, item.name) for item in fields(segment)}
            lines.append(_pack(SEGMENT_LINE, values, f"{where}, segment {number}"))
    return lines


def decode_program(lines: Sequence[int]) -> list[Instruction]:
    """Decode the lines of a program, up to and including its final instruction.

    Raises
    ------
    EncodingError
        If reserved bits are set, an enumeration has no such member, or the lines end too early.
    """
    instructions: list[Instruction] = []
    at = 0
    while True:
        where = f"instruction {len(instructions)} (line {at})"
        if at + HEADER_LINES > len(lines):
            raise EncodingError(f"{where}: the program ends without a final instruction")
        values = _unpack(HEADER_LINE_0, lines[at], where)
        values |= _unpack(HEADER_LINE_1, lines[at + 1], where)
        count, final = values.pop("segments"), values.pop("final")
        first = at + HEADER_LINES
        at = first + count
        if not 1 <= count <= SEGMENTS_MAX or at > len(lines):
            raise EncodingError(f"{where}: {count} segments, with {len(lines) - first} lines left")
        segments = tuple(
            Segment(**_unpack(SEGMENT_LINE, line, f"{where}, segment {number}"))
            for number, line in enumerate(lines[first:at])
        )
        enums: dict[str, type[IntEnum]] = {
            "product": Product,
            "destination": Memory,
            "rounding": Rounding,
            "aux_mode": AuxMode,
            "gate": Gate,
        }
        typed: dict[str, int] = dict(values)
        for name, enum in enums.items():
            try:
                typed[name] = enum(values[name])
            except ValueError:
                raise EncodingError(f"{where}: {name} {values[name]} does not exist") from None
        instructions.append(Instruction(segments=segments, **typed))  # type: ignore[arg-type]
        if final:
            return instructions
