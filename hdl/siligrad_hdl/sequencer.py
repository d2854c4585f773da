"""The sequencer: everything that decides in which cycle something happens."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import (
    ADDRESS_BITS,
    HEADER_LINE_0,
    HEADER_LINES,
    LINE_BITS,
    STEPS_MAX,
    Gate,
    Memory,
    Product,
    Timing,
)
from siligrad_hdl.delay import delayed
from siligrad_hdl.epilogue import EPILOGUE_FIELDS, EpilogueControl
from siligrad_hdl.fetch import Fetch
from siligrad_hdl.operands import ASource, OperandControl
from siligrad_hdl.retire import TileQueue
from siligrad_hdl.scratchpad import NEAR_BANKS, ReadRequest, TileRequest, bank_row
from siligrad_hdl.stream import Stream

__all__ = ["Sequencer", "instructions_max"]

_WIDTH = {field.name: field.width for field in HEADER_LINE_0}


def instructions_max(program_depth: int) -> int:
    """Return the number of instructions that fit a program memory of `program_depth` lines."""
    return program_depth // (HEADER_LINES + 1)


class Sequencer(wiring.Component):
    """Runs a program: fetches and streams segments, and follows each tile to its last write.

    In which cycle something happens is in ``docs/spec/isa.md``. It depends on the program's words
    alone: no data enters the sequencer, and every register that decides about time is in here.

    While no program runs, the memories belong to the host. A reset ends a program: what the
    sequencer says from the next cycle on is what it says when no program has run.

    Parameters
    ----------
    array : :class:`int`
        N, rows and columns of the array.
    operand_bits : :class:`int`
        Width of an operand of the array.
    address_bits : :class:`int`
        Width of an address inside a bank.
    program_depth : :class:`int`
        Lines of program memory.

    Members
    -------
    start, entry : :py:`In(1)`, :py:`In(range(program_depth))`
        Run the program at line ``entry``; ignored while busy.
    steps, strides : :py:`In(16)`, :py:`In(ADDRESS_BITS).array(3)`
        As in :class:`~siligrad_hdl.fetch.Fetch`. They and ``entry`` do not change while busy.
    busy : :py:`Out(1)`
        A program runs, from the cycle after ``start`` on.
    line_address, line_enable, line
        To the program memory, as in :class:`~siligrad_hdl.fetch.Fetch`.
    requests : :py:`Out(ReadRequest).array(3)`
        What to read from X, W and E in this cycle.
    operands : :py:`Out(OperandControl)`
        What to choose of what was read, in the cycle in which it has been read.
    last : :py:`Out(1)`
        The operands that are at the array in this cycle are the last of a tile.
    epilogue : :py:`Out(EpilogueControl)`
        For the row of sums whose column 0 is at the epilogue in this cycle.
    write_request, write_turn, write_enable : :py:`Out(TileRequest)`, :py:`Out(range(array))`,
    :py:`Out(3)`
        Where to write the row of results of this cycle, (-index) mod N, and in which memory.
    count, count_first : :py:`Out(1)`
        The number of saturated elements in this cycle is that of a row, of the first row of an
        instruction.
    count_write, count_add, count_address : :py:`Out(1)`, :py:`Out(1)`,
    :py:`Out(range(instructions_max(program_depth)))`
        The sum of those numbers up to the cycle before is to be kept, and added to that of the
        steps before; the number of the instruction, from the cycle of its first row to that of its
        last.
    counted : :py:`Out(range(instructions_max(program_depth) + 1))`
        Instructions of the last run for which there is such a sum.
    host_line : :py:`In(range(program_depth))`
        What ``line_address`` is in the next cycle, while no program runs.
    host_request, host_write : :py:`In(TileRequest)`, :py:`In(3)`
        What the host reads from all memories, where it is asked for in the next cycle, and what it
        writes, while no program runs. It says in the cycle before already where it writes.
    """

    def __init__(
        self, *, array: int, operand_bits: int, address_bits: int, program_depth: int
    ) -> None:
        self.array = array
        self.operand_bits = operand_bits
        self.address_bits = address_bits
        self.program_depth = program_depth
        request = TileRequest(array=array, address_bits=address_bits)
        super().__init__({
            "start": In(1),
            "entry": In(range(program_depth)),
            "steps": In(STEPS_MAX.bit_length()),
            "strides": In(ADDRESS_BITS).array(len(Memory)),
            "busy": Out(1),
            "line_address": Out(range(program_depth)),
            "line_enable": Out(1),
            "line": In(LINE_BITS),
            "requests": Out(ReadRequest(array=array, address_bits=address_bits)).array(len(Memory)),
            "operands": Out(OperandControl(array=array, operand_bits=operand_bits)),
            "last": Out(1),
            "epilogue": Out(EpilogueControl()),
            "write_request": Out(request),
            "write_turn": Out(range(array)),
            "write_enable": Out(len(Memory)),
            "count": Out(1),
            "count_first": Out(1),
            "count_write": Out(1),
            "count_add": Out(1),
            "count_address": Out(range(instructions_max(program_depth))),
            "counted": Out(range(instructions_max(program_depth) + 1)),
            "host_line": In(range(program_depth)),
            "host_request": In(request),
            "host_write": In(len(Memory)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.array
        timing = Timing(n)

        # The last cycle of a run resets what has to do with segments and tiles: of a run that was
        # disturbed and ends nevertheless, nothing is left to the next.
        done = Signal()
        cleared = ResetInserter(done)
        fetch = Fetch(address_bits=self.address_bits, program_depth=self.program_depth)
        m.submodules.fetch = cleared(fetch)
        stream = Stream(array=n, address_bits=self.address_bits)
        m.submodules.stream = cleared(stream)
        # Tiles begin n cycles apart at least; the oldest one is forgotten `write` cycles after its
        # end.
        depth = 1 << ((n + timing.write) // n + 1).bit_length()
        aux = TileQueue(
            array=n,
            layout=data.StructLayout({
                "address": self.address_bits,
                "column": 1,
                "product": _WIDTH["product"],
                "used": 1,
            }),
            depth=depth,
        )
        epilogue = TileQueue(
            array=n,
            layout=data.StructLayout({name: _WIDTH[name] for name in EPILOGUE_FIELDS}),
            depth=depth,
        )
        write = TileQueue(
            array=n,
            layout=data.StructLayout({
                "address": self.address_bits,
                "column": 1,
                "destination": _WIDTH["destination"],
                "first": 1,  # tile of its instruction
                "last": 1,
                "first_step": 1,
                "closes": 1,  # its instruction is the last of the program
                "final": 1,  # tile of the run
            }),
            depth=depth,
        )

        for name, queue in (("aux", aux), ("epilogue", epilogue), ("write", write)):
            m.submodules[name] = cleared(queue)

        # Busy.
        start = Signal()
        busy = Signal()
        m.d.comb += [start.eq(self.start & ~busy), self.busy.eq(busy)]
        with m.If(start):
            m.d.sync += busy.eq(1)
        with m.Elif(done):
            m.d.sync += busy.eq(0)

        # Fetch and stream.
        m.d.comb += [
            fetch.start.eq(start),
            fetch.entry.eq(self.entry),
            fetch.steps.eq(self.steps),
            fetch.idle.eq(~busy),
            fetch.idle_line.eq(self.host_line),
            self.line_address.eq(fetch.line_address),
            self.line_enable.eq(fetch.line_enable),
            fetch.line.eq(self.line),
            fetch.take.eq(stream.take),
            stream.valid.eq(fetch.valid),
            stream.segment.eq(fetch.segment),
            stream.header.eq(fetch.header),
            stream.delay.eq(fetch.delay),
            stream.delay_load.eq(fetch.delay_load),
        ]

        for memory in Memory:
            m.d.comb += fetch.strides[memory].eq(self.strides[memory])

        # Tiles are remembered when their first term is about to be issued.
        header, tile = fetch.header, fetch.tile
        begins = stream.take & fetch.segment.first_of_tile
        uses_aux = header.aux_mode.any() | (header.gate == Gate.MASK) | (header.gate == Gate.HINGE)
        m.d.comb += [
            aux.push.eq(begins),
            aux.pushed.address.eq(tile.aux),
            aux.pushed.column.eq(header.aux_column),
            aux.pushed.product.eq(header.product),
            aux.pushed.used.eq(uses_aux),
            epilogue.push.eq(begins),
            write.push.eq(begins),
            write.pushed.address.eq(tile.d),
            write.pushed.column.eq(header.d_column),
            write.pushed.destination.eq(header.destination),
            write.pushed.first.eq(tile.first),
            write.pushed.last.eq(tile.last),
            write.pushed.first_step.eq(fetch.first_step),
            write.pushed.closes.eq(header.final),
            write.pushed.final.eq(tile.last & header.final & fetch.last_step),
        ]
        m.d.comb += [epilogue.pushed[name].eq(header[name]) for name in EPILOGUE_FIELDS]

        # ended[c]: a tile ended c cycles ago.
        ended: list[Value] = [stream.last]
        for cycle in range(1, timing.write - timing.rotate):
            ended.append(delayed(m, ended[-1], 1, name=f"ended_{cycle}", reset=True))
        with m.If(done):
            m.d.sync += [register.eq(0) for register in ended[1:]]
        m.d.comb += [
            aux.start.eq(ended[timing.aux - 2]),
            epilogue.start.eq(ended[timing.drain - 1]),
            write.start.eq(ended[timing.write - timing.rotate - 1]),
        ]

        # What the memories read: the auxiliary operand goes before the stream, and the host has
        # its turn when no program runs. The row of the auxiliary operand, and what the host asks
        # for, is known a cycle before and lies in registers, so that little is between registers
        # and the banks' addresses.
        term = stream.term
        reads_row = {
            memory: Signal(init=1, name=f"reads_row_{memory.name.lower()}") for memory in Memory
        }
        for product in Product:
            m.d.sync += reads_row[product.aux].eq(
                ~busy | (aux.active & aux.tile.used & (aux.tile.product == product))
            )
        row = Signal(self.host_request.shape(), reset_less=True)
        with m.If(busy):
            m.d.sync += [
                row.address.eq(aux.tile.address),
                row.index.eq(aux.index),
                row.column.eq(aux.tile.column),
                row.word.eq(0),
            ]
        with m.Else():
            m.d.sync += row.eq(self.host_request)
        row_rows = []
        if n > NEAR_BANKS:
            next_index = Mux(busy, aux.index, self.host_request.index)
            next_column = Mux(busy, aux.tile.column, self.host_request.column)
            for bank in range(n):
                found = bank_row(m, bank, next_index, next_column, n, f"next_row_{bank}")
                row_rows.append(delayed(m, found, 1, name=f"row_{bank}"))
        streamed = {
            Memory.X: (term.a_tile, term.a_column),
            Memory.W: (term.b_tile, term.b_column),
            Memory.E: (term.e_tile, term.e_column),
        }
        for memory in Memory:
            request = self.requests[memory]
            address, column = streamed[memory]
            with m.If(reads_row[memory]):
                m.d.comb += request.as_value()[: row.shape().size].eq(row)
            with m.Else():
                m.d.comb += [
                    request.address.eq(address),
                    request.index.eq(term.index),
                    request.column.eq(column),
                ]
            for bank, of_row in enumerate(row_rows):
                of_term = Mux(column, term.column_rows[bank], term.index)
                m.d.comb += request.rows[bank].eq(Mux(reads_row[memory], of_row, of_term))

        # What becomes of what they have read.
        reading = timing.read - 1
        sources = delayed(
            m,
            Cat(
                stream.issued & ~term.b_e,
                stream.issued & term.b_e,
                reads_row[Memory.X],
                reads_row[Memory.W],
            ),
            reading,
            name="sources",
            reset=True,
        )
        m.d.comb += [
            self.operands.b_w.eq(sources[0]),
            self.operands.b_e.eq(sources[1]),
            self.operands.aux_x.eq(sources[2]),
            self.operands.aux_w.eq(sources[3]),
        ]
        # Ones are decoded on the way, and fed to some of the lanes only. What is not issued is
        # zero, whatever else it is.
        issued = delayed(m, stream.issued, reading - 1, name="issued", reset=True)
        feeds = delayed(
            m,
            Cat(term.ones, term.a_e, term.ones_shift, term.rows),
            reading - 2,
            name="feeds",
        )
        rows = feeds[6:]
        feeds = delayed(m, feeds[:6], 1, name="feeds_last")
        feeds_ones, feeds_e, ones_shift = feeds[0], feeds[1], feeds[2:]
        one = Signal(self.operand_bits, reset_less=True)
        m.d.sync += one.eq(Const(1, 1) << ones_shift)
        m.d.comb += self.operands.one.eq(one)
        for lane in range(n):
            is_row = Signal(name=f"is_row_{lane}", reset_less=True)
            m.d.sync += is_row.eq(rows > lane)
            source = Signal(2, name=f"source_{lane}")
            with m.If(~issued | (feeds_ones & ~is_row)):
                m.d.sync += source.eq(ASource.ZERO)
            with m.Elif(feeds_ones):
                m.d.sync += source.eq(ASource.ONE)
            with m.Elif(feeds_e):
                m.d.sync += source.eq(ASource.E)
            with m.Else():
                m.d.sync += source.eq(ASource.X)
            m.d.comb += self.operands.a[lane].eq(source)

        # A tile ends at the array; a start ends what there was before, should it have been cut off
        # by a reset.
        starts = delayed(m, start, 1, name="starts", reset=True)
        m.d.comb += self.last.eq(ended[timing.read] | starts)

        # What becomes of the sums.
        m.d.comb += self.epilogue.valid.eq(epilogue.active)
        m.d.comb += [self.epilogue[name].eq(epilogue.tile[name]) for name in EPILOGUE_FIELDS]
        # A register, which lanes of words hang on: which row comes next is known.
        write_index = Mux(busy, write.following, self.host_request.index)
        with m.Switch(write_index):
            for index in range(n):
                with m.Case(index):
                    m.d.sync += self.write_turn.eq(-index % n)
        with m.If(busy):
            m.d.comb += [
                self.write_request.address.eq(write.tile.address),
                self.write_request.index.eq(write.index),
                self.write_request.column.eq(write.tile.column),
            ]
            for memory in Memory:
                m.d.comb += self.write_enable[memory].eq(
                    write.active & (write.tile.destination == memory)
                )
        with m.Else():
            m.d.comb += [
                self.write_request.eq(self.host_request),
                self.write_enable.eq(self.host_write),
            ]

        # What was saturated in a row is known one cycle after its results, and added up in another
        # one. A visit is an instruction in one step; let t be the cycle in which its last row is
        # counted. Its counter is read in cycle t - 1 and arrives in t + 1, when the sum of the
        # visit is complete: from there they are added and, in t + 3, written, and cycle t + 4 reads
        # the new word.
        #
        # The next visit of the same instruction does so in its own t - 1, and its t is six cycles
        # later or more: an instruction whose last segment takes c cycles takes c or more for its
        # tiles, and the next one, be it the same, begins max(c, 6) - c or more after they ended.
        #
        # Visits of different instructions may be N cycles apart. The address is that of a visit
        # from the cycle of its first row to that of its last; these are N rows or more, and N is at
        # least 2, so cycles t - 1 and t, in which it is looked at, are among them.
        first_row = write.active & write.tile.first & (write.index == n - 1)
        last_row = write.active & (write.index == 0)
        m.d.comb += [
            self.count.eq(delayed(m, write.active, 1, name="count", reset=True)),
            self.count_first.eq(delayed(m, first_row, 1, name="count_first", reset=True)),
            self.count_write.eq(
                delayed(m, last_row & write.tile.last, 2, name="count_write", reset=True)
            ),
            self.count_add.eq(delayed(m, ~write.tile.first_step, 2, name="count_add")),
        ]
        number = Signal.like(self.count_address, reset_less=True)  # of the next instruction
        count_address = Signal.like(self.count_address, reset_less=True)
        counted = Signal.like(self.counted)
        m.d.comb += [self.counted.eq(counted), self.count_address.eq(count_address)]
        with m.If(start):
            m.d.sync += [number.eq(0), counted.eq(0)]
        with m.Elif(first_row):
            m.d.sync += [
                count_address.eq(number),
                number.eq(Mux(write.tile.closes, 0, number + 1)),
            ]
            with m.If(write.tile.first_step):
                m.d.sync += counted.eq(number + 1)

        # The last row of the last tile reaches its memory `rotate` cycles later.
        done_row = last_row & write.tile.final
        m.d.comb += done.eq(delayed(m, done_row, timing.rotate + 1, name="done", reset=True))
        return m
