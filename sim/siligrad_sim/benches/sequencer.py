"""Bench of :class:`siligrad_hdl.sequencer.Sequencer`; the bench is its program memory.

Parameters ``array``, ``operand_bits``, ``address_bits``, ``program_depth``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np

from siligrad.isa import (
    ONE_STEP,
    Geometry,
    Instruction,
    Loop,
    Memory,
    Product,
    Segment,
    encode_program,
)
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start
from siligrad_sim.benches.programs import random_loop, random_program, scheduled
from siligrad_sim.benches.schedule import Feed, Row, Schedule
from siligrad_sim.benches.specification import Operation

INPUTS = ("start", "entry", "steps", "line", "host_line", "host_request", "host_write")

ZERO, X, E, ONE = range(4)
"""Where an element of A comes from, as ``operands`` tells it."""


class Bench:
    """The sequencer, and a program memory behind its ports."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        parameters = bench_parameters()
        self.array: int = parameters["array"]
        self.operand_bits: int = parameters["operand_bits"]
        self.address_bits: int = parameters["address_bits"]
        self.lines = [0] * parameters["program_depth"]
        depth = min(28 * self.array, 1 << self.address_bits)
        self.geometry = Geometry(
            array=self.array,
            operand_bits=self.operand_bits,
            x_depth=depth,
            w_depth=depth,
            e_depth=depth,
            program_depth=len(self.lines),
        )
        self._output = 0  # what the program memory reads, before its output register

    async def begin(self) -> None:
        """Reset."""
        await start(self.dut, dict.fromkeys([*INPUTS, *(f"strides__{m}" for m in range(3))], 0))

    async def cycle(self) -> None:
        """End this cycle, whose outputs have settled, for the sequencer and the memory."""
        dut = self.dut
        address = int(dut.line_address.value)
        enable = bool(dut.line_enable.value)
        await next_cycle(dut)
        if enable:
            dut.line.value = self._output
            # A line that does not exist may be fetched ahead; it decides nothing.
            self._output = self.lines[address] if address < len(self.lines) else 0

    def unpack(self, packed: int) -> Row:
        """Return what a request asks for: its members from bit 0 on."""
        index_bits = (self.array - 1).bit_length()
        tile = packed & (1 << self.address_bits) - 1
        rest = packed >> self.address_bits
        number, flags = rest & (1 << index_bits) - 1, rest >> index_bits
        assert flags >> 1 == 0, f"request {packed:#x} is of a word"
        return Row(tile, number, flags & 1)

    def row(self, row: Row) -> Row:
        """Return `row` as far as an address of this sequencer tells."""
        return replace(row, tile=row.tile % (1 << self.address_bits))

    def operands(self, feed: Feed | None) -> tuple[list[int], int, int]:
        """Return sources of A, and whether B comes from W and from E, for a term or none."""
        n = self.array
        if feed is None:
            return [ZERO] * n, 0, 0
        a = [X if feed.a == Memory.X else E] * n
        if feed.a is None:
            a = [ONE if lane < feed.rows else ZERO for lane in range(n)]
        return a, int(feed.b == Memory.W), int(feed.b == Memory.E)

    async def run(
        self,
        instructions: Sequence[Instruction],
        loop: Loop = ONE_STEP,
        entry: int = 0,
        *,
        disturb: bool = False,
    ) -> None:
        """Run a program and compare every output in every cycle in which it matters.

        With `disturb` there are starts and requests of the host all the time.
        """
        dut = self.dut
        schedule = Schedule(self.array, instructions, loop)
        lines = encode_program(instructions)
        self.lines[entry : entry + len(lines)] = lines
        dut.entry.value, dut.steps.value = entry, loop.steps
        for memory, stride in enumerate((loop.x_stride, loop.w_stride, loop.e_stride)):
            getattr(dut, f"strides__{memory}").value = stride
        dut.start.value = 1
        await settled()
        assert not dut.busy.value, "busy before the start"
        await self.cycle()
        dut.start.value = 0
        rng = random_generator()
        for cycle in range(schedule.cycles):
            if disturb:
                dut.start.value = int(rng.integers(2))
                dut.host_request.value = int(rng.integers(1 << self.address_bits))
                dut.host_write.value = int(rng.integers(8))
                dut.host_line.value = int(rng.integers(len(self.lines)))
            await settled()
            self.compare(schedule, cycle)
            await self.cycle()
        for name in ("start", "host_line", "host_request", "host_write"):
            getattr(dut, name).value = 0
        await settled()
        want = schedule.cycles
        assert not dut.busy.value, f"cycle {want}: busy, want the end of {want} cycles"
        counted = int(dut.counted.value)
        assert counted == len(instructions), (
            f"cycle {want}: {counted} instructions counted, want {len(instructions)}"
        )
        await self.cycle()

    def compare(self, schedule: Schedule, cycle: int) -> None:
        """Compare the outputs of this cycle of a run."""
        dut, n = self.dut, self.array
        assert dut.busy.value, f"cycle {cycle}: not busy, want {schedule.cycles} busy cycles"

        for memory, row in schedule.reads.get(cycle, {}).items():
            got = self.unpack(int(getattr(dut, f"requests__{int(memory)}").value))
            assert got == self.row(row), (
                f"cycle {cycle}: {memory.name} is asked for {got}, want {self.row(row)}"
            )

        # The operands are chosen when they have been read, one register before the array.
        issued = cycle - (schedule.read - 1)
        feed = schedule.feeds.get(issued)
        packed = int(dut.operands.value)
        sources = [packed >> 2 * lane & 3 for lane in range(n)]
        one = packed >> 2 * n & (1 << self.operand_bits) - 1
        b_w, b_e, aux_x, aux_w = (packed >> 2 * n + self.operand_bits + bit & 1 for bit in range(4))
        want = self.operands(feed)
        assert (sources, b_w, b_e) == want, (
            f"cycle {cycle}: operands {(sources, b_w, b_e)}, want {want}: {feed}"
        )
        if feed is not None and feed.a is None:
            assert one == feed.one, f"cycle {cycle}: a one is {one}, want {feed.one}"
        if (aux := schedule.aux.get(issued)) is not None:
            got_aux = Memory.X if aux_x else Memory.W if aux_w else Memory.E
            assert got_aux == aux, f"cycle {cycle}: aux from {got_aux.name}, want {aux.name}"

        # The start clears the sums.
        ends = cycle == 0 or cycle - schedule.read in schedule.ends
        assert bool(dut.last.value) == ends, f"cycle {cycle}: last {not ends}, want {ends}"

        packed = int(dut.epilogue.value)
        operation = schedule.epilogues.get(cycle)
        assert packed & 1 == (operation is not None), (
            f"cycle {cycle}: epilogue {'' if packed & 1 else 'not '}valid, want {operation}"
        )
        if operation is not None:
            fields = packed >> 1
            got_fields = tuple(
                fields >> low & (1 << width) - 1
                for low, width in ((0, 6), (6, 2), (8, 2), (10, 2), (12, 1))
            )
            wanted = self.fields(operation)
            assert got_fields == wanted, (
                f"cycle {cycle}: shift, rounding, aux, gate, negate {got_fields}, want {wanted}"
            )

        enable = int(dut.write_enable.value)
        write = schedule.writes.get(cycle + schedule.rotate)
        want_enable = 0 if write is None else 1 << write[0]
        assert enable == want_enable, (
            f"cycle {cycle}: write enables {enable:03b}, want {want_enable:03b}"
        )
        if write is not None:
            got = self.unpack(int(dut.write_request.value))
            assert got == self.row(write[1]), (
                f"cycle {cycle}: {write[0].name} is written at {got}, want {self.row(write[1])}"
            )
            turn = int(dut.write_turn.value)
            assert turn == -got.number % n, f"cycle {cycle}: turn {turn} of row {got.number}"

        # Saturations of a row are known a cycle after it, and their sum another one later.
        row_at = cycle + schedule.rotate
        count = schedule.counts.get(row_at - 1)
        got_count = bool(dut.count.value), bool(dut.count_first.value)
        want_count = (count is not None, count is not None and count[1])
        assert got_count == want_count, (
            f"cycle {cycle}: count, count_first {got_count}, want {want_count}"
        )
        total = schedule.totals.get(row_at - 2)
        assert bool(dut.count_write.value) == (total is not None), (
            f"cycle {cycle}: count_write {bool(dut.count_write.value)}, want {total}"
        )
        if total is not None:
            add = bool(dut.count_add.value)
            assert add == (total[1] > 0), f"cycle {cycle}: count_add {add} in step {total[1]}"
        if count is not None:
            number = int(dut.count_address.value)
            assert number == count[0], f"cycle {cycle}: counter {number}, want {count[0]}"

    @staticmethod
    def fields(operation: Operation) -> tuple[int, ...]:
        """Return the fields of `operation` in the order of ``epilogue``."""
        return (
            operation.shift,
            int(operation.rounding),
            int(operation.aux_mode),
            int(operation.gate),
            operation.negate,
        )


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(steps=[1, 3])
async def does_everything_in_its_cycle(dut: Any, steps: int) -> None:
    """Random programs, one after the other, from several entries; data that moves."""
    bench = Bench(dut)
    await bench.begin()
    rng = random_generator()
    for count in (1, 5, 8):
        loop = random_loop(rng, bench.geometry, steps) if steps > 1 else ONE_STEP
        instructions = random_program(rng, bench.geometry, count, loop)
        room = len(bench.lines) - sum(item.lines for item in instructions)
        await bench.run(instructions, loop, int(rng.integers(room + 1)), disturb=bool(count % 2))


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(steps=[1, 2])
async def keeps_the_shortest_and_the_longest_of_everything(dut: Any, steps: int) -> None:
    """One term, many segments, many tiles, delays and pads of any length."""
    bench = Bench(dut)
    await bench.begin()
    n = bench.array

    def product(*segments: Segment, **sizes: int) -> Instruction:
        sizes = {"m_tiles": 1, "p_tiles": 1, "delay": 0} | sizes
        return Instruction(
            **sizes,  # type: ignore[arg-type]
            product=Product.XW,
            destination=Memory.E,
            rows_last=1,
            d_base=0,
            d_m=n,
            d_p=0 if sizes["m_tiles"] > 1 else n,
            segments=segments,
        )

    short = Segment(k=1, pad=n - 1)
    programs = [
        [product(short)],
        [product(short), product(short, delay=1), product(short, delay=2)],
        [product(Segment(k=size, pad=max(0, n - size))) for size in (2, 5, 6, 7)],
        [product(*[Segment(k=2, b_base=n * (s % 20)) for s in range(64)])],
        [product(short, m_tiles=20), product(short, p_tiles=20)],
        [product(Segment(k=n, pad=31)), product(Segment(k=5 * n), delay=300)],
    ]
    for instructions in programs:
        loop = replace(ONE_STEP, steps=steps)
        await bench.run(scheduled(instructions, bench.geometry, loop), loop)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gives_the_memories_to_the_host_while_idle(dut: Any) -> None:
    """What the host asks for reaches every memory, and what it writes the one it names."""
    bench = Bench(dut)
    await bench.begin()
    rng = random_generator()
    width = bench.address_bits + (bench.array - 1).bit_length() + 2
    before, line_before = 0, 0
    for cycle in range(100):
        request, write = int(rng.integers(1 << width)), int(rng.integers(8))
        line = int(rng.integers(len(bench.lines)))
        dut.host_request.value, dut.host_write.value = request, write
        dut.host_line.value = line
        await settled()
        wanted = {f"requests__{memory}": before for memory in range(3)} | {"write_request": request}
        index = before >> bench.address_bits & (1 << (bench.array - 1).bit_length()) - 1
        if index < bench.array:
            wanted["write_turn"] = -index % bench.array
        wanted["line_address"] = line_before
        for name, want in wanted.items():
            got = int(getattr(dut, name).value)
            assert got == want, f"cycle {cycle}: {name} {got:#x}, want {want:#x}"
        before, line_before = request, line
        got = int(dut.write_enable.value)
        assert got == write, f"cycle {cycle}: write enables {got:03b}, want {write:03b}"
        await bench.cycle()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def forgets_a_program_that_a_reset_ends(dut: Any) -> None:
    """A reset after any number of cycles; idle in the next one, and a whole run after that."""
    bench = Bench(dut)
    await bench.begin()
    rng = random_generator()
    instructions = random_program(rng, bench.geometry, 2)
    shorter = random_program(rng, bench.geometry, 1)
    cycles = Schedule(bench.array, instructions, ONE_STEP).cycles
    for after in sorted(rng.choice(np.arange(1, cycles), 12, replace=False).tolist()):
        bench.lines[: sum(item.lines for item in instructions)] = encode_program(instructions)
        dut.entry.value, dut.steps.value, dut.start.value = 0, 1, 1
        for _ in range(after):
            await settled()
            await bench.cycle()
            dut.start.value = 0
        dut.rst.value = 1
        await settled()
        await bench.cycle()
        dut.rst.value = 0
        await settled()
        for name in ("busy", "last", "write_enable", "count", "count_write", "counted"):
            got = int(getattr(dut, name).value)
            assert got == 0, f"reset after {after} cycles: {name} {got}, want 0"
        await bench.cycle()
        await bench.run(shorter)
