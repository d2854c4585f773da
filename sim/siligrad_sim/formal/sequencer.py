"""Proof of when the sequencer does what: the section *Time* of ``docs/spec/isa.md``.

It is bounded: the whole sequencer runs a program whose words are variables, of a :class:`Shape`,
and every cycle of the run is compared with the formulas of that page, which are written here once
more. That a segment takes as many cycles as it says whatever its numbers is an induction, in
:mod:`siligrad_sim.formal.stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import z3
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal

from siligrad.isa import (
    HEADER_LINE_0,
    HEADER_LINE_1,
    LINE_BITS,
    SEGMENT_LINE,
    AuxMode,
    Field,
    Gate,
    Memory,
    Product,
    Timing,
)
from siligrad_hdl import sequencer as sequencer_module
from siligrad_hdl.sequencer import Sequencer
from siligrad_sim.formal.proof import Check, Proof, Verdict
from siligrad_sim.formal.tools import ProverError
from siligrad_sim.formal.unrolled import Unrolled, counterexample

__all__ = ["RUN_CYCLES", "Shape", "check_run"]

Build = Callable[..., Sequencer]

_BITS = 12
"""Bits that hold any number of a cycle here."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A program but for the values of its fields, and how large those may be.

    Parameters
    ----------
    instructions
        Rows of tiles, columns of tiles and segments of each.
    steps
        Steps of the run.
    k, pad, delay
        The most of each.
    exact
        Whether these are their numbers instead, of all segments and instructions.
    """

    instructions: tuple[tuple[int, int, int], ...]
    steps: int = 1
    k: int = 3
    pad: int = 2
    delay: int = 2
    exact: bool = False

    def __str__(self) -> str:
        sizes = ", ".join(f"{m}x{p} tiles of {s}" for m, p, s in self.instructions)
        numbers = f", k {self.k}, pad {self.pad}, delay {self.delay}" if self.exact else ""
        return f"{sizes} segments, {self.steps} steps{numbers}"


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile of a run: in which cycle it begins, in which it ends, and its instruction."""

    begin: z3.BitVecRef
    end: z3.BitVecRef
    instruction: int


def _bench(array: int, lines: int, build: Build) -> str:
    """Return a sequencer whose program memory is a choice among input ports, as RTLIL."""
    m = Module()
    m.submodules.sequencer = sequencer = build(
        array=array, operand_bits=4, address_bits=4, program_depth=lines
    )
    words = [Signal(LINE_BITS, name=f"line_{number}") for number in range(lines)]
    start, busy = Signal(name="start"), Signal(name="busy")
    steps = Signal.like(sequencer.steps, name="steps")
    writes = Signal.like(sequencer.write_enable, name="writes")
    # Two registers, as in siligrad_hdl.block_memory.
    read, output = Signal(LINE_BITS), Signal(LINE_BITS)
    with m.If(sequencer.line_enable), m.Switch(sequencer.line_address):
        for number, word in enumerate(words):
            with m.Case(number):
                m.d.sync += read.eq(word)
    with m.If(sequencer.line_enable):
        m.d.sync += output.eq(read)
    m.d.comb += [
        sequencer.line.eq(output),
        sequencer.start.eq(start),
        sequencer.steps.eq(steps),
        busy.eq(sequencer.busy),
        writes.eq(sequencer.write_enable),
    ]
    text: str = rtlil.convert(m, name="bench", ports=[start, busy, steps, writes, *words])
    return text


_ISSUED = "sequencer.stream.issued"
_READS_ROW = {memory: f"sequencer.reads_row_{memory.name.lower()}" for memory in Memory}


def _widened(value: z3.BitVecRef) -> z3.BitVecRef:
    if value.size() >= _BITS:
        return z3.Extract(_BITS - 1, 0, value)
    return z3.ZeroExt(_BITS - value.size(), value)


class _Line:
    """A line of program memory: some fields are numbers, the others variables."""

    def __init__(self, number: int, layout: Sequence[Field], numbers: Mapping[str, int]) -> None:
        self.fields: dict[str, z3.BitVecRef] = {}
        at = 0
        for field in layout:
            assert field.offset == at, f"{field.name} does not follow the field before"
            self.fields[field.name] = (
                z3.BitVecVal(numbers[field.name], field.width)
                if field.name in numbers
                else z3.BitVec(f"{field.name}_{number}", field.width)
            )
            at += field.width
        parts = list(self.fields.values())
        if at < LINE_BITS:
            parts.append(z3.BitVecVal(0, LINE_BITS - at))
        self.word = z3.Concat(*reversed(parts))


class _Run:
    """A run of a program of variables, by the formulas of isa.md."""

    def __init__(self, array: int, shape: Shape) -> None:
        self.array = array
        self.premises: list[z3.BoolRef] = []
        self.lines: list[z3.BitVecRef] = []
        self._headers: list[_Line] = []
        self._segments: list[list[tuple[z3.BitVecRef, z3.BitVecRef]]] = []  # k, k + pad
        for number in range(len(shape.instructions)):
            self._add_instruction(shape, number)
        self.tiles = list(self._tiles(shape))

    def _add(self, layout: Sequence[Field], **numbers: int) -> _Line:
        line = _Line(len(self.lines), layout, numbers)
        self.lines.append(line.word)
        return line

    def _add_instruction(self, shape: Shape, number: int) -> None:
        rows, columns, count = shape.instructions[number]
        final = int(number == len(shape.instructions) - 1)
        sizes = {"m_tiles": rows, "p_tiles": columns, "segments": count, "final": final}
        delay = {"delay": shape.delay} if shape.exact else {}
        self._headers.append(self._add(HEADER_LINE_0, **sizes, **delay))
        self._add(HEADER_LINE_1)
        self.premises.append(z3.ULE(self.field(number, "delay"), shape.delay))
        for name, kind in (("product", Product), ("destination", Memory), ("aux_mode", AuxMode)):
            self.premises.append(z3.ULE(self.field(number, name), int(max(kind))))
        segments = []
        for _ in range(count):
            exact = {"k": shape.k, "pad": shape.pad} if shape.exact else {}
            fields = self._add(SEGMENT_LINE, **exact).fields
            k, pad = fields["k"], fields["pad"]
            cycles = _widened(k) + _widened(pad)
            self.premises += [z3.UGE(k, 1), z3.ULE(k, shape.k), z3.ULE(pad, shape.pad)]
            self.premises.append(z3.UGE(cycles, 2))  # rule 1
            segments.append((_widened(k), cycles))
        self._segments.append(segments)
        self.premises.append(z3.UGE(self._tile_cycles(number), self.array))  # rule 1

    def field(self, instruction: int, name: str) -> z3.BitVecRef:
        """Return a field of an instruction's first header line."""
        return self._headers[instruction].fields[name]

    def _tile_cycles(self, instruction: int) -> z3.BitVecRef:
        cycles = [item for _, item in self._segments[instruction]]
        return sum(cycles[1:], cycles[0])

    def _tiles(self, shape: Shape) -> Iterator[_Tile]:
        six = z3.BitVecVal(6, _BITS)
        begin = z3.BitVecVal(0, _BITS)
        last = z3.BitVecVal(0, _BITS)  # cycles of the last segment before
        for _ in range(shape.steps):
            for number, (rows, columns, _) in enumerate(shape.instructions):
                begin += z3.If(z3.UGT(last, six), z3.BitVecVal(0, _BITS), six - last)
                begin += _widened(self.field(number, "delay"))
                for _ in range(rows * columns):
                    following = begin + self._tile_cycles(number)
                    yield _Tile(begin, following - 1, number)
                    begin = following
                _, last = self._segments[number][-1]

    def terms(self, tile: _Tile, cycle: z3.BitVecRef) -> z3.BoolRef:
        """Whether `tile` issues a term in a cycle."""
        begin = tile.begin
        found = []
        for k, cycles in self._segments[tile.instruction]:
            found.append(_within(cycle, begin, k))
            begin += cycles
        return z3.Or(found)

    def shown(self) -> dict[str, z3.BitVecRef]:
        """Return what tells a program of this shape from another, by names."""
        shown = {}
        for number, segments in enumerate(self._segments):
            for name in ("delay", "product", "destination", "aux_mode", "gate"):
                shown[f"{name} of {number}"] = self.field(number, name)
            for which, (k, cycles) in enumerate(segments):
                shown[f"k of {number}.{which}"] = k
                shown[f"cycles of {number}.{which}"] = cycles
        return shown

    def most_cycles(self, shape: Shape) -> int:
        """Return a number of cycles in which the last tile of every run of `shape` has ended."""
        each = [
            6 + shape.delay + rows * columns * count * (shape.k + shape.pad)
            for rows, columns, count in shape.instructions
        ]
        return shape.steps * sum(each)

    def uses_aux(self, instruction: int) -> z3.BoolRef:
        """Whether an instruction has an auxiliary operand."""
        gate = self.field(instruction, "gate")
        return z3.Or(
            self.field(instruction, "aux_mode") != int(AuxMode.NONE),
            gate == int(Gate.MASK),
            gate == int(Gate.HINGE),
        )


def _within(cycle: z3.BitVecRef, begin: z3.BitVecRef, count: z3.BitVecRef | int) -> z3.BoolRef:
    """Whether `cycle` is one of the `count` cycles from `begin` on."""
    return z3.ULT(cycle - begin, count)


def check_run(array: int, shape: Shape, build: Build = Sequencer) -> Verdict:
    """Compare every cycle of every run of `shape` with isa.md, after a reset in any state."""
    rotate = ((array - 1).bit_length() + 1) // 2
    read = 4 + rotate
    drain = read + (array - 1) + 5
    write = drain + 6 + (array - 1) + rotate
    run = _Run(array, shape)
    edges = 2 + run.most_cycles(shape) + write + array + 2  # reset and start before
    bench = Unrolled(
        _bench(array, max(4, len(run.lines)), build),
        top="bench",
        cycles=edges,
        reset=True,
        keep=(_ISSUED, *_READS_ROW.values()),
    )
    premises = [*bench.formulas, *run.premises]
    for edge in range(edges + 1):
        premises += [
            bench.net("start", edge) == (edge == 1),
            bench.net("steps", edge) == shape.steps,
        ]
        premises += [bench.net(f"line_{i}", edge) == line for i, line in enumerate(run.lines)]
    busy_cycles = run.tiles[-1].end + write + (array - 1) + 2
    show = {"busy cycles that it should take": busy_cycles, **run.shown()}
    if counterexample(premises, z3.BoolVal(False), {}) is None:
        raise ProverError(f"no program has the shape {shape}")

    cycles = {edge: z3.BitVecVal(edge - 2, _BITS) for edge in range(2, edges + 1)}
    claims = {
        "busy": [
            bench.net("busy", edge) == z3.ULT(cycle, busy_cycles) for edge, cycle in cycles.items()
        ],
        "issue": [
            bench.net(_ISSUED, edge) == z3.Or([run.terms(tile, cycle) for tile in run.tiles])
            for edge, cycle in cycles.items()
        ],
    }
    for memory in Memory:
        (aux_of,) = [int(product) for product in Product if product.aux == memory]
        reads = [
            (
                tile,
                z3.And(
                    run.uses_aux(tile.instruction), run.field(tile.instruction, "product") == aux_of
                ),
            )
            for tile in run.tiles
        ]
        claims[f"aux of {memory.name}"] = [
            # The register that says so is the host's a cycle longer, and again a cycle later.
            bench.net(_READS_ROW[memory], edge)
            == z3.Or([
                cycle == 0,
                z3.UGT(cycle, busy_cycles),
                *(
                    z3.And(uses, _within(cycle, tile.end + drain - read, array))
                    for tile, uses in reads
                ),
            ])
            for edge, cycle in cycles.items()
        ]
        # A write is asked for `rotate` cycles before it is in the memory.
        claims[f"writes of {memory.name}"] = [
            (z3.Extract(int(memory), int(memory), bench.net("writes", edge)) == 1)
            == z3.Or([
                z3.And(
                    run.field(tile.instruction, "destination") == int(memory),
                    _within(cycle, tile.end + write - rotate, array),
                )
                for tile in run.tiles
            ])
            for edge, cycle in cycles.items()
        ]
    for what, claim in claims.items():
        found = counterexample(premises, z3.And(claim), show)
        if found is not None:
            return Verdict(False, f"N = {array}, {what}: {found}")
    return Verdict(True, f"N = {array}: {shape}")


_SCHEDULE = "Timing"
"""What the sequencer's module calls the schedule that it is built to."""


@contextmanager
def _built_to(timing: type[Timing]) -> Iterator[None]:
    """Let sequencers be built to another schedule."""
    before = getattr(sequencer_module, _SCHEDULE)
    setattr(sequencer_module, _SCHEDULE, timing)
    try:
        yield
    finally:
        setattr(sequencer_module, _SCHEDULE, before)


class _AuxLate(Timing):
    @property
    def aux(self) -> int:
        return super().aux + 1


class _DoneEarly(Timing):
    @property
    def rotate(self) -> int:
        return super().rotate - 1

    @property
    def read(self) -> int:
        return super().read + 1


class _ReadsAuxLate(Sequencer):
    """Reads auxiliary rows a cycle late."""

    def elaborate(self, platform: object) -> Module:
        with _built_to(_AuxLate):
            return super().elaborate(platform)


class _EndsEarly(Sequencer):
    """Is busy a cycle less than it should be."""

    def elaborate(self, platform: object) -> Module:
        with _built_to(_DoneEarly):
            return super().elaborate(platform)


_NUMBERS = ((2, 0, 0), (1, 1, 1), (3, 2, 0), (7, 0, 2))
"""k, pad and delay, where they are not variables: a segment of 2, of 5, and of more than 6 cycles,
which is what an instruction takes that follows another at once."""

_SHAPES = (
    Shape(((1, 2, 1),)),
    Shape(((2, 1, 2),), k=2, pad=1, delay=1),
    *(
        Shape(instructions, steps, k, pad, delay, exact=True)
        for instructions, steps in ((((1, 1, 1), (1, 2, 2)), 1), (((1, 1, 2),), 2))
        for k, pad, delay in _NUMBERS
    ),
)
_SIZES = {2: _SHAPES, 3: _SHAPES[:1], 4: _SHAPES[:1]}
"""What is looked at for each N."""


def _check(array: int) -> Verdict:
    del array
    proved = []
    for n, shapes in _SIZES.items():
        for shape in shapes:
            # A tile takes n cycles at least.
            verdict = check_run(n, replace(shape, pad=max(shape.pad, n - shape.k)))
            if not verdict.holds:
                return verdict
            proved.append(verdict.reason)
    return Verdict(True, "; ".join(proved))


def _control(build: Build) -> Check:
    return lambda array: check_run(2, _SHAPES[0], build)


RUN_CYCLES = Proof(
    name="run-cycles",
    scope=(
        "bounded: after a reset in any state, the sequencer is busy, issues terms, reads aux and "
        "writes D in exactly the cycles of docs/spec/isa.md, and ends when they say, for every "
        "program of 1x2 tiles of one segment (N = 2, 3, 4; k to 3) or 2x1 tiles "
        "of two (N = 2; k to 2), and, for four choices of k, pad and delay, of two instructions or "
        "of two steps (N = 2); all other fields are free"
    ),
    check=_check,
    controls={
        "aux is read a cycle late": _control(_ReadsAuxLate),
        "a run ends a cycle early": _control(_EndsEarly),
    },
)
"""The sequencer does everything in its cycle, and ends."""
