"""Where the cycles of a program go, instruction by instruction: numbers, no pictures.

A program says what each instruction does and when; this module reads it back in the user's terms:
which tensors an instruction reads, how long the array is busy with it, how long it waits and for
what. Everything is derived from the program alone, so it holds for one loaded from an image too.

The unit of the account is the *multiplier cycle*: one of the N * N multipliers in one cycle. A run
offers ``N * N * program.cycles`` of them, and every one is in exactly one :class:`Use`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import (
    INSTRUCTION_CYCLES,
    AuxMode,
    Gate,
    Instruction,
    Memory,
    Product,
    Segment,
    Timing,
)
from siligrad.program import Program, Role
from siligrad.timing import (
    Timeline,
    a_tiles,
    aux_tiles,
    b_tiles,
    destination_tiles,
    schedule_of,
)

__all__ = [
    "Explanation",
    "InstructionRecord",
    "Lifetime",
    "Operand",
    "Phase",
    "Stall",
    "Term",
    "Use",
    "explain",
    "short_name",
]


class Phase(Enum):
    """What part of a step an instruction belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


class Use(Enum):
    """What a multiplier cycle goes into; the value is how a table names it."""

    PRODUCTS = "products"
    SUMS = "biases, sums and copies (products with ones or an identity)"
    FILLING = "filling of tiles at the edge of a matrix"
    PADDING = "idle: a segment takes at least 2 cycles, a tile at least N"
    OPERAND = "waiting for a result that is an operand"
    AUXILIARY = "waiting for a result that is an auxiliary operand"
    PORT = "waiting for a memory that auxiliary rows are read from"
    STEPS = "waiting for the step before"
    DELAY = "waiting for nothing"
    SEQUENCER = "fetching the next instruction after a short last segment"
    START = "fetching the first instruction"
    DRAIN = "draining the last tile"


_USE_OF_REASON = {"operand": Use.OPERAND, "auxiliary": Use.AUXILIARY, "port": Use.PORT}


@dataclass(frozen=True, slots=True)
class Operand:
    """A matrix as an instruction reads or writes it.

    Parameters
    ----------
    tensor
        Index of the tensor that holds it when the instruction runs; None if no tensor does.
    name
        That tensor's name, or the memory and word.
    memory, address
        Where its first tile begins.
    rows, columns
        Size as it enters the product.
    transposed
        Whether it is stored as its transpose.
    """

    tensor: int | None
    name: str
    memory: Memory
    address: int
    rows: int
    columns: int
    transposed: bool

    def __str__(self) -> str:
        return f"{self.name}{'.T' if self.transposed else ''} ({self.rows} x {self.columns})"


@dataclass(frozen=True, slots=True)
class Term:
    """A segment: ``a @ b``; where `a` is None, a matrix of ones takes its place."""

    a: Operand | None
    b: Operand
    cycles: int
    pad: int

    def __str__(self) -> str:
        return f"ones @ {self.b}" if self.a is None else f"{self.a} @ {self.b}"


@dataclass(frozen=True, slots=True)
class Stall:
    """Cycles in which the stream waits before an instruction.

    Parameters
    ----------
    cycles
        How many.
    use
        What they are counted as.
    memory
        The memory in which the instruction waits for something.
    instruction
        Index of the instruction that it waits for, if it is one; of the step before, if `use` says
        so.
    """

    cycles: int
    use: Use
    memory: Memory | None = None
    instruction: int | None = None

    def __str__(self) -> str:
        of = f"instruction {self.instruction}"
        what = {
            Use.OPERAND: f"until {of} has written its operand to {self._memory}",
            Use.AUXILIARY: f"until {of} has written its auxiliary operand to {self._memory}",
            Use.PORT: f"until {of} has read its auxiliary operand from {self._memory}",
            Use.STEPS: f"until {of} of the step before is done with {self._memory}",
        }.get(self.use, self.use.value)
        return f"{self.cycles} {what}"

    @property
    def _memory(self) -> str:
        return self.memory.name if self.memory is not None else "a memory"


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """What one instruction does, and when, in the first step of a run.

    Parameters
    ----------
    index
        Its number in the program.
    source
        The user's line.
    phase
        What part of a step it is.
    product
        Which memories feed the array.
    terms
        Its segments.
    destination, auxiliary
        What it writes, and what its epilogue reads.
    epilogue
        Shift, rounding, gate and auxiliary operand in words.
    tiles, tile_cycles
        Tiles of D, and cycles of each.
    start, end
        First cycle of its stream and cycle in which its last tile ends.
    drained
        Last cycle in which it writes.
    macs
        Multiply-accumulates of the mathematics.
    busy
        The cycles that the array would need for these alone: ``macs / N**2``.
    stalls
        Why it does not start earlier.
    fetch
        Cycles before it in which the sequencer fetches: :data:`INSTRUCTION_CYCLES` before the first
        instruction, and what is missing to as many after a last segment that is shorter.
    """

    index: int
    source: str
    phase: Phase
    product: Product
    terms: tuple[Term, ...]
    destination: Operand
    auxiliary: Operand | None
    epilogue: str
    tiles: int
    tile_cycles: int
    start: int
    end: int
    drained: int
    macs: int
    busy: float
    stalls: tuple[Stall, ...]
    fetch: int

    @property
    def cycles(self) -> int:
        """Cycles of its stream."""
        return self.end + 1 - self.start

    @property
    def stalled(self) -> int:
        """Cycles that it waits for anything but the sequencer."""
        return sum(stall.cycles for stall in self.stalls)

    def __str__(self) -> str:
        waits = "; waits " + ", ".join(map(str, self.stalls)) if self.stalls else ""
        return (
            f"{self.index:3d}  {self.destination} in {self.destination.memory.name} = "
            f"{' + '.join(map(str, self.terms))}\n"
            f"     line      {self.source}\n"
            f"     epilogue  {self.epilogue}\n"
            f"     cycles    {self.start} to {self.end}: {self.cycles} in {self.tiles} "
            f"tile{'s' * (self.tiles > 1)} of {self.tile_cycles}, {self.busy:.1f} of them busy "
            f"({self.busy / self.cycles:.1%}){waits}"
        )


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Which words a tensor owns, and from which instruction to which.

    Parameters
    ----------
    tensor
        Its index.
    first, last
        First and last instruction, both included, during which its words are its own. What a host
        writes is there from before the first instruction (-1) on, what it reads stays until after
        the last (the number of instructions).
    """

    tensor: int
    first: int
    last: int


@dataclass(frozen=True)
class Explanation:
    """A program in the user's terms.

    Parameters
    ----------
    program
        What is explained.
    records
        One for each instruction.
    account
        Multiplier cycles of a run by what they go into; they add up to ``N**2 * program.cycles``.
    lifetimes
        One for each tensor.
    """

    program: Program
    records: tuple[InstructionRecord, ...]
    account: Mapping[Use, int]
    lifetimes: tuple[Lifetime, ...]

    def summary(self) -> str:
        """Return a table of what the multiplier cycles go into, adding up to the program's."""
        n = self.program.geometry.array
        total = n * n * self.program.cycles
        rows = [(use.value, spent) for use, spent in self.account.items() if spent]
        rows.append(("all", total))
        width = max(len(name) for name, _ in rows)
        lines = [f"{'':{width}}  {'cycles':>10}  {'share':>6}  multiplier cycles"]
        lines += [
            f"{name:{width}}  {spent / (n * n):>10.1f}  {spent / total:>6.1%}  {spent:>17}"
            for name, spent in rows
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.records), "", self.summary()])

    def as_json(self) -> dict[str, Any]:
        """Return everything as what :mod:`json` writes."""
        program = self.program
        return {
            "program": program.name,
            "array": program.geometry.array,
            "cycles": program.cycles,
            "utilisation": program.utilisation,
            "multiplier_cycles": {use.name.lower(): spent for use, spent in self.account.items()},
            "instructions": [_record_as_json(record) for record in self.records],
            "lifetimes": [
                {
                    "tensor": program.tensors[life.tensor].name,
                    "first": life.first,
                    "last": life.last,
                }
                for life in self.lifetimes
            ],
            "notes": list(program.notes),
        }


def short_name(name: str) -> str:
    """Return a tensor's name without the line that computes it, which instructions show anyway."""
    return name.partition(" (")[0]


def explain(program: Program) -> Explanation:
    """Read `program` back in the user's terms; exact, and without running anything."""
    owners = _Owners(program)
    schedule = schedule_of(program.instructions)
    stalls = _stalls(program)
    n = program.geometry.array
    timing = Timing(n)
    records = []
    fetch = INSTRUCTION_CYCLES
    for index, (instruction, at) in enumerate(zip(program.instructions, schedule, strict=True)):
        terms, auxiliary = owners.reads(index)
        destination = owners.write(index)
        macs = sum(_size(instruction, term, destination) for term in terms)
        if program.macs:
            macs = program.macs[index]
        source = program.sources[index] if program.sources else ""
        records.append(
            InstructionRecord(
                index=index,
                source=source,
                phase=_phase(program, destination, source),
                product=instruction.product,
                terms=terms,
                destination=destination,
                auxiliary=auxiliary,
                epilogue=_epilogue(instruction, auxiliary),
                tiles=instruction.tiles,
                tile_cycles=instruction.tile_cycles,
                start=at.start,
                end=at.end,
                drained=at.end + timing.write + n - 1,
                macs=macs,
                busy=macs / n**2,
                stalls=stalls[index],
                fetch=fetch,
            )
        )
        fetch = _fetch_after(instruction)
    return Explanation(
        program, tuple(records), _account(program, records, fetch), owners.lifetimes()
    )


def _fetch_after(instruction: Instruction) -> int:
    return max(INSTRUCTION_CYCLES - instruction.segments[-1].cycles, 0)


def _size(instruction: Instruction, term: Term, destination: Operand) -> int:
    """Multiply-accumulates of a segment as a product of matrices, 0 for ones."""
    return 0 if term.a is None else destination.rows * destination.columns * term.b.rows


def _account(
    program: Program, records: Sequence[InstructionRecord], last_fetch: int
) -> dict[Use, int]:
    """Return the multiplier cycles of a run by use; `last_fetch` is between two steps."""
    n = program.geometry.array
    steps = program.loop.steps
    spent = dict.fromkeys(Use, 0)
    for instruction, record in zip(program.instructions, records, strict=True):
        sizes = [_size(instruction, term, record.destination) for term in record.terms]
        for term, size in zip(record.terms, sizes, strict=True):
            streamed = record.tiles * term.cycles * n * n
            spent[Use.PADDING] += steps * record.tiles * term.pad * n * n
            spent[Use.SUMS if term.a is None else Use.FILLING] += steps * (streamed - size)
        spent[Use.PRODUCTS] += steps * record.macs
        spent[Use.SUMS] += steps * (sum(sizes) - record.macs)
        for stall in record.stalls:
            spent[stall.use] += steps * stall.cycles * n * n
        if record.index:
            spent[Use.SEQUENCER] += steps * record.fetch * n * n
    spent[Use.SEQUENCER] += (steps - 1) * last_fetch * n * n
    spent[Use.START] = INSTRUCTION_CYCLES * n * n
    spent[Use.DRAIN] = (Timing(n).tail - 1) * n * n
    return spent


def _stalls(program: Program) -> list[tuple[Stall, ...]]:
    """Return what each instruction waits for: its whole delay, with the hazard that ends last.

    A delay is the same in every step. One that the first step does not need is due to the second.
    """
    count = len(program.instructions)
    sequence = [
        instruction.in_step(program.loop, step)
        for step in range(min(program.loop.steps, 2))
        for instruction in program.instructions
    ]
    timeline = Timeline(program.geometry)
    found: list[list[Stall]] = [[] for _ in program.instructions]
    for position, instruction in enumerate(sequence):
        stalls = found[position % count]
        rest = instruction.delay - sum(stall.cycles for stall in stalls)
        hazard = timeline.earliest(instruction)
        if rest > 0 and hazard.memory is not None:
            use = _USE_OF_REASON[hazard.reason]
            cause = _cause(sequence[: position + 1], program.geometry.array, hazard.memory, use)
            if position < count:
                cycles = min(hazard.cycle - timeline.ready, rest)
                stalls.append(Stall(cycles, use, hazard.memory, cause))
            elif cause is not None and cause < count:
                stalls.append(Stall(rest, Use.STEPS, hazard.memory, cause))
        timeline.place(instruction, timeline.ready + instruction.delay)
    for instruction, stalls in zip(program.instructions, found, strict=True):
        rest = instruction.delay - sum(stall.cycles for stall in stalls)
        if rest > 0:
            stalls.append(Stall(rest, Use.DELAY))
    return [tuple(stalls) for stalls in found]


def _cause(sequence: Sequence[Instruction], array: int, memory: Memory, use: Use) -> int | None:
    """Return which instruction the last one of `sequence` waits for in `memory`, the latest."""
    *earlier, instruction = sequence
    if use == Use.PORT:
        needed: list[NDArray[np.int64]] = []
    elif use == Use.AUXILIARY:
        needed = [aux_tiles(instruction)]
    else:
        needed = _operand_tiles(instruction, memory, array)
    for position in reversed(range(len(earlier))):
        before = earlier[position]
        if use == Use.PORT:
            if before.uses_aux and before.product.aux == memory:
                return position
        elif before.destination == memory:
            written = destination_tiles(before)
            if any(np.intersect1d(tiles, written).size for tiles in needed):
                return position
    return None


def _operand_tiles(instruction: Instruction, memory: Memory, array: int) -> list[NDArray[np.int64]]:
    """Return the addresses of the tiles of A and B that are read from `memory`."""
    tiles = []
    for segment in instruction.segments:
        if instruction.product.b == memory:
            tiles.append(b_tiles(instruction, segment, array))
        if instruction.product.a == memory and not segment.ones:
            tiles.append(a_tiles(instruction, segment, array))
    return tiles


class _Owners:
    """Which tensor each word belongs to, while the instructions are gone through in order."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._array = program.geometry.array
        self._now = {
            memory: np.full(program.geometry.depth(memory), -1, dtype=np.int64) for memory in Memory
        }
        self._spans: dict[int, tuple[int, int]] = {}
        self._unwritten = set()
        end = len(program.instructions)
        for index, tensor in enumerate(program.tensors):
            if tensor.role in (Role.TEMPORARY, Role.OUTPUT):
                self._unwritten.add(index)
            else:
                self._claim(index)
                self._spans[index] = (-1, end)

    def _claim(self, index: int) -> None:
        tensor = self._program.tensors[index]
        self._now[tensor.memory][tensor.base : tensor.base + tensor.words(self._array)] = index

    def _touch(self, index: int, at: int) -> None:
        first, last = self._spans.get(index, (at, at))
        self._spans[index] = (first, max(last, at))

    def _operand(
        self, at: int, memory: Memory, address: int, rows: int, columns: int, *, transposed: bool
    ) -> Operand:
        owner = int(self._now[memory][address])
        if owner < 0:
            name = f"{memory.name}[{address}]"
            return Operand(None, name, memory, address, rows, columns, transposed)
        self._touch(owner, at)
        name = short_name(self._program.tensors[owner].name)
        return Operand(owner, name, memory, address, rows, columns, transposed)

    def reads(self, at: int) -> tuple[tuple[Term, ...], Operand | None]:
        """Return the segments and the auxiliary operand of instruction `at`."""
        instruction = self._program.instructions[at]
        rows, columns = self._size(at)
        terms = tuple(self._term(at, segment, rows, columns) for segment in instruction.segments)
        auxiliary = None
        if instruction.uses_aux:
            auxiliary = self._operand(
                at,
                instruction.product.aux,
                instruction.aux_base,
                rows,
                columns,
                transposed=bool(instruction.aux_column),
            )
        return terms, auxiliary

    def _term(self, at: int, segment: Segment, rows: int, columns: int) -> Term:
        product = self._program.instructions[at].product
        b = self._operand(
            at,
            product.b,
            segment.b_base,
            segment.k,
            columns,
            transposed=bool(segment.b_column),
        )
        a = None
        if not segment.ones:
            a = self._operand(
                at,
                product.a,
                segment.a_base,
                rows,
                segment.k,
                transposed=not segment.a_column,
            )
        return Term(a, b, segment.k, segment.pad)

    def _written(self, at: int) -> int | None:
        """Return the tensor that instruction `at` writes."""
        instruction = self._program.instructions[at]
        tensors = self._program.tensors
        rows = (instruction.m_tiles - 1) * self._array + instruction.rows_last
        source = self._program.sources[at] if self._program.sources else ""

        def fits(index: int) -> bool:
            tensor = tensors[index]
            tiles = tensor.tiles(self._array)
            if instruction.d_column:
                tiles = tiles[::-1]
            return (
                (tensor.memory, tensor.base) == (instruction.destination, instruction.d_base)
                and tiles == (instruction.m_tiles, instruction.p_tiles)
                and rows == (tensor.columns if instruction.d_column else tensor.rows)
            )

        # Several temporaries may have the same words, one after the other; each is written once.
        fitting = [index for index in sorted(self._unwritten) if fits(index)]
        named = [index for index in fitting if f"({source})" in tensors[index].name]
        if named or fitting:
            return (named or fitting)[0]
        owner = int(self._now[instruction.destination][instruction.d_base])
        return owner if owner >= 0 else None

    def _size(self, at: int) -> tuple[int, int]:
        """Return rows and columns of D of instruction `at`."""
        instruction = self._program.instructions[at]
        rows = (instruction.m_tiles - 1) * self._array + instruction.rows_last
        columns = instruction.p_tiles * self._array
        written = self._written(at)
        if written is not None:
            tensor = self._program.tensors[written]
            columns = min(columns, tensor.rows if instruction.d_column else tensor.columns)
        return rows, columns

    def write(self, at: int) -> Operand:
        """Return what instruction `at` writes; from here on its words are that tensor's."""
        instruction = self._program.instructions[at]
        rows, columns = self._size(at)
        written = self._written(at)
        if written is not None:
            if written in self._unwritten:
                self._unwritten.discard(written)
                last = at
                if self._program.tensors[written].role == Role.OUTPUT:
                    last = len(self._program.instructions)
                self._spans[written] = (at, last)
            self._claim(written)
        return self._operand(
            at,
            instruction.destination,
            instruction.d_base,
            rows,
            columns,
            transposed=bool(instruction.d_column),
        )

    def lifetimes(self) -> tuple[Lifetime, ...]:
        """Return how long each tensor has its words, after the last instruction."""
        end = len(self._program.instructions)
        return tuple(
            Lifetime(index, *self._spans.get(index, (-1, end)))
            for index in range(len(self._program.tensors))
        )


def _phase(program: Program, destination: Operand, source: str) -> Phase:
    written = destination.tensor
    if written is not None and program.tensors[written].role == Role.RESIDENT:
        return Phase.UPDATE
    return Phase.BACKWARD if source.endswith(", backward") else Phase.FORWARD


def _epilogue(instruction: Instruction, auxiliary: Operand | None) -> str:
    """Return in words what happens to a sum."""
    total = "-sum" if instruction.negate else "sum"
    if instruction.aux_mode != AuxMode.NONE:
        sign = "+" if instruction.aux_mode == AuxMode.ADD else "-"
        total = f"{total} {sign} {auxiliary} << {instruction.shift}"
    rounding = instruction.rounding.name.lower().replace("_", "-")
    parts = [total]
    if instruction.shift:
        total = f"({total})" if " " in total else total
        parts = [f"{total} >> {instruction.shift}", rounding]
    if instruction.gate == Gate.RELU:
        parts.append("kept where it is above zero")
    elif instruction.gate == Gate.MASK:
        parts.append(f"kept where {auxiliary} is above zero")
    elif instruction.gate == Gate.HINGE:
        parts.append(f"kept where its sign is not that of {auxiliary}")
    return ", ".join(parts)


def _record_as_json(record: InstructionRecord) -> dict[str, Any]:
    return {
        "index": record.index,
        "source": record.source,
        "phase": record.phase.value,
        "product": record.product.name,
        "destination": _operand_as_json(record.destination),
        "auxiliary": _operand_as_json(record.auxiliary),
        "terms": [
            {
                "a": _operand_as_json(term.a),
                "b": _operand_as_json(term.b),
                "cycles": term.cycles,
                "pad": term.pad,
            }
            for term in record.terms
        ],
        "epilogue": record.epilogue,
        "tiles": record.tiles,
        "tile_cycles": record.tile_cycles,
        "start": record.start,
        "end": record.end,
        "drained": record.drained,
        "cycles": record.cycles,
        "macs": record.macs,
        "busy": record.busy,
        "fetch": record.fetch,
        "stalls": [
            {
                "cycles": stall.cycles,
                "cause": stall.use.name.lower(),
                "memory": stall.memory.name if stall.memory is not None else None,
                "instruction": stall.instruction,
            }
            for stall in record.stalls
        ],
    }


def _operand_as_json(operand: Operand | None) -> dict[str, Any] | None:
    if operand is None:
        return None
    return {
        "name": operand.name,
        "memory": operand.memory.name,
        "address": operand.address,
        "rows": operand.rows,
        "columns": operand.columns,
        "transposed": operand.transposed,
    }
