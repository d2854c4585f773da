"""The first stage of the sequencer: reads lines, walks the loops, keeps the running addresses."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import (
    ADDRESS_BITS,
    HEADER_LINE_0,
    LINE_BITS,
    SEGMENTS_MAX,
    STEPS_MAX,
    Memory,
    Product,
)
from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.lines import HEADER_0, HEADER_1, SEGMENT
from siligrad_hdl.multiplexer import multiplexer

__all__ = ["Fetch", "Header", "PreparedSegment", "PreparedTile"]

_WIDTH = {field.name: field.width for field in HEADER_LINE_0}


class PreparedSegment(data.StructLayout):
    """A segment of a tile, ready to be streamed.

    Members
    -------
    a_tile, b_tile : :class:`unsigned(address_bits)`
        Addresses of the first tiles of A and B.
    a_k, b_k : :class:`unsigned(address_bits)`
        From a tile to the next.
    terms : :class:`signed(17)`
        Number of terms, less two.
    cycles : :class:`signed(18)`
        Number of cycles, with a term or without, less three.
    a_column, b_column, ones, ones_shift
        Fields of the segment.
    partial : :class:`1`
        The tile is one of the last row of tiles.
    first_of_tile, last_of_tile : :class:`1`
        The segment is the first or last of its tile.
    last : :class:`1`
        The segment is the last of its instruction.
    """

    def __init__(self, *, address_bits: int) -> None:
        super().__init__({
            "a_tile": address_bits,
            "b_tile": address_bits,
            "a_k": address_bits,
            "b_k": address_bits,
            "terms": 17,
            "cycles": 18,
            "a_column": 1,
            "b_column": 1,
            "ones": 1,
            "ones_shift": 4,
            "partial": 1,
            "first_of_tile": 1,
            "last_of_tile": 1,
            "last": 1,
        })


class PreparedTile(data.StructLayout):
    """The tile of D that the prepared segment belongs to.

    Members
    -------
    d, aux : :class:`unsigned(address_bits)`
        Addresses of the tiles of D and of the auxiliary operand.
    first, last : :class:`1`
        The tile is the first or last of its instruction.
    """

    def __init__(self, *, address_bits: int) -> None:
        super().__init__({"d": address_bits, "aux": address_bits, "first": 1, "last": 1})


class Header(data.StructLayout):
    """What is kept of the first header line while its instruction is fetched, by its names."""

    _FIELDS = (
        "p_tiles",
        "segments",
        "shift",
        "rows_last",
        "product",
        "destination",
        "rounding",
        "aux_mode",
        "gate",
        "negate",
        "d_column",
        "aux_column",
        "final",
    )

    def __init__(self) -> None:
        super().__init__({name: _WIDTH[name] for name in self._FIELDS})


class Fetch(wiring.Component):
    """Reads instructions and prepares their segments, in the order in which they are streamed.

    From a line to a prepared segment there are three places: the memory's own output (``m``), the
    register behind it (``l``), and the prepared segment itself (``p``). Each goes on when the next
    is free. So a prepared segment that is taken is followed by the next one two cycles later, and
    one of another instruction six cycles later: two header lines come before it, and are read only
    when the last segment of the instruction has been taken, since what it needs of the old header
    is read until then.

    The blocks of the program memory may be far away, so nothing is added up on the way from them:
    in ``p`` there are the addends, and their sums are on the way to whoever takes the segment.

    No multiplier is needed for addresses: those of the current row of tiles of A and of the
    current column of tiles of B are kept for each segment, and one addition leads to the next. How
    far the operands of an instruction have moved is chosen when its header is read; the addition
    that begins from a base has nothing else to add and adds that.

    A step is followed by the next as an instruction is by another.

    Parameters
    ----------
    address_bits : :class:`int`
        Width of an address inside a bank.
    program_depth : :class:`int`
        Lines of program memory.

    Members
    -------
    start : :py:`In(1)`
        Begin a program; the first line is read in the next cycle.
    entry : :py:`In(range(program_depth))`
        At this line.
    steps, strides : :py:`In(16)`, :py:`In(ADDRESS_BITS).array(3)`
        Times that the program is executed, where zero means once, and by how many words the
        operands that move are further in X, W and E in the next step. They and ``entry`` stay as
        they are until the last step has been fetched.
    idle, idle_line : :py:`In(1)`, :py:`In(range(program_depth))`
        No program is executed; what ``line_address`` is then, a cycle later.
    line_address, line_enable : :py:`Out(range(program_depth))`, :py:`Out(1)`
        Read a line, and take what was read before over into the output register of the program
        memory. From the second cycle on in which no program is executed, this is always so.
    line : :py:`In(LINE_BITS)`
        That register.
    valid : :py:`Out(1)`
        A segment is prepared.
    take : :py:`In(1)`
        It is taken, the next may be prepared.
    segment, tile : :py:`Out(PreparedSegment)`, :py:`Out(PreparedTile)`
        The prepared segment and its tile.
    header : :py:`Out(Header)`
        Its instruction.
    first_step, last_step : :py:`Out(1)`
        Its step is the first, the last.
    delay : :py:`Out(signed(17))`
        The delay of the instruction, less one, in the cycle in which ``delay_load`` is high.
    delay_load : :py:`Out(1)`
        The header of an instruction has been read.
    """

    def __init__(self, *, address_bits: int, program_depth: int) -> None:
        self.address_bits = address_bits
        self.program_depth = program_depth
        super().__init__({
            "start": In(1),
            "entry": In(range(program_depth)),
            "steps": In(STEPS_MAX.bit_length()),
            "strides": In(ADDRESS_BITS).array(len(Memory)),
            "idle": In(1),
            "idle_line": In(range(program_depth)),
            "line_address": Out(range(program_depth)),
            "line_enable": Out(1),
            "line": In(LINE_BITS),
            "valid": Out(1),
            "take": In(1),
            "segment": Out(PreparedSegment(address_bits=address_bits)),
            "tile": Out(PreparedTile(address_bits=address_bits)),
            "header": Out(Header()),
            "first_step": Out(1),
            "last_step": Out(1),
            "delay": Out(signed(17)),
            "delay_load": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        header_0 = data.View(HEADER_0, self.line)
        header_1 = data.View(HEADER_1, self.line)
        line = data.View(SEGMENT, self.line)
        bits = self.address_bits

        # What a valid bit guards, or a start sets, has no reset, whose line would cross the chip.
        header = Signal(Header(), reset_less=True)
        strides = {
            name: Signal(bits, name=name, reset_less=True)
            for name in ("d_m", "d_p", "aux_m", "aux_p")
        }
        # Where the current row of tiles of D, and of the auxiliary operand, begins.
        rows = {name: Signal(bits, name=f"{name}_row", reset_less=True) for name in ("d", "aux")}
        tile = Signal(self.tile.shape(), reset_less=True)
        m.d.comb += [self.tile.eq(tile), self.header.eq(header)]

        # The three places. A line leaves the memory when behind it one is free, which a register
        # tells: it is what enables the memory, the loops, and all that belongs to l.
        m_valid = Signal()
        l_valid = Signal()
        p_valid = Signal()
        m_to_l = Signal()
        p_load = Signal()
        m_last = Signal()
        reads = Signal(4)
        m_following = Signal()
        l_following = Signal()
        p_following = Signal()
        moves_on = Signal()
        m.d.comb += [
            self.valid.eq(p_valid),
            p_load.eq(l_valid & ~p_valid),
            m_following.eq(reads[2] | (m_valid & ~(m_to_l & m_last))),
            l_following.eq(m_to_l | (l_valid & p_valid)),
            p_following.eq(Mux(p_valid, ~self.take, l_valid)),
            moves_on.eq(m_following & ~(l_following & p_following)),
        ]
        m.d.sync += [
            m_valid.eq(m_following),
            l_valid.eq(l_following),
            p_valid.eq(p_following),
            m_to_l.eq(moves_on),
        ]

        # The steps. The counter holds what is left, less two. What changes from step to step does
        # so a cycle after the last segment has been taken, and is looked at two cycles later at the
        # earliest, when the first header is in l.
        again = Signal()
        first_step = Signal(reset_less=True)
        steps_left = Signal(len(self.steps) + 1, reset_less=True)
        last_step = steps_left[-1]
        offsets = {
            memory: Signal(bits, name=f"{memory.name.lower()}_offset", reset_less=True)
            for memory in Memory
        }
        m.d.comb += [self.first_step.eq(first_step), self.last_step.eq(last_step)]
        m.d.sync += again.eq(self.take & self.segment.last & header.final & ~last_step)
        with m.If(self.start):
            m.d.sync += [first_step.eq(1), steps_left.eq(self.steps - 2)]
            m.d.sync += [offset.eq(0) for offset in offsets.values()]
        with m.Elif(again):
            m.d.sync += [first_step.eq(0), steps_left.eq(steps_left - 1)]
            m.d.sync += [
                offset.eq(offset + self.strides[memory]) for memory, offset in offsets.items()
            ]

        # The headers: in four cycles one after the other, both header lines and the first segment
        # are read, and what arrives in l is the first header in the third cycle and the second in
        # the fourth.
        begin = Signal()
        ends = self.take & self.segment.last
        m.d.comb += begin.eq(self.start | (ends & ~(header.final & last_step)))
        m.d.sync += reads.eq(Cat(begin, reads[:3]))

        # The loops. A counter holds what is left, this round included; that it is the last one is
        # in a register too, since a counter is set from the program memory.
        index = Signal(range(SEGMENTS_MAX), reset_less=True)
        segments_left = Signal(_WIDTH["segments"], reset_less=True)
        columns_left = Signal(_WIDTH["p_tiles"], reset_less=True)
        rows_left = Signal(_WIDTH["m_tiles"], reset_less=True)
        first_row = Signal(reset_less=True)
        first_column = Signal(reset_less=True)
        only_column = Signal(reset_less=True)
        only_segment = Signal(reset_less=True)
        m_last_of_tile = Signal(reset_less=True)
        m_last_column = Signal(reset_less=True)
        m_last_row = Signal(reset_less=True)
        m_last_tile = m_last_column & m_last_row
        m.d.comb += m_last.eq(m_last_of_tile & m_last_tile)

        # The line to read: the next one, or the first segment again. After the last one another is
        # read, and not looked at.
        next_line = Signal(range(self.program_depth), reset_less=True)
        first_line = Signal(range(self.program_depth), reset_less=True)
        second_line = Signal(range(self.program_depth), reset_less=True)
        following_line = (next_line + 1)[: len(next_line)]
        repeat = Signal()
        m.d.comb += [
            repeat.eq(m_to_l & m_last_of_tile),
            self.line_address.eq(Mux(repeat, first_line, next_line)),
        ]
        m.d.sync += self.line_enable.eq(begin | reads[:2].any() | moves_on | self.idle)
        # When all lines of the final instruction have been read, the next is the first: three
        # cycles later, when it may be read already.
        all_read = Signal()
        m.d.sync += all_read.eq(header.final & ~m_valid & ~reads[:3].any())
        with m.If(self.start):
            m.d.sync += next_line.eq(self.entry)
        with m.Elif(self.idle):
            m.d.sync += next_line.eq(self.idle_line)
        with m.Elif(reads[:3].any() | (m_to_l & ~m_last)):
            m.d.sync += next_line.eq(Mux(repeat, second_line, following_line))
        with m.Elif(all_read):
            m.d.sync += next_line.eq(self.entry)

        l_index = Signal(range(SEGMENTS_MAX), reset_less=True)
        l_first_row = Signal(reset_less=True)
        l_first_column = Signal(reset_less=True)
        l_partial = Signal(reset_less=True)
        l_first_of_tile = Signal(reset_less=True)
        l_last_of_tile = Signal(reset_less=True)
        l_last_tile = Signal(reset_less=True)
        l_alone = Signal(reset_less=True)  # the only segment of its instruction
        with m.If(m_to_l):
            m.d.sync += [
                l_index.eq(index),
                l_first_row.eq(first_row),
                l_first_column.eq(first_column),
                l_partial.eq(m_last_row),
                l_first_of_tile.eq(index == 0),
                l_alone.eq((index == 0) & m_last_of_tile),
                l_last_of_tile.eq(m_last_of_tile),
                l_last_tile.eq(m_last_tile),
                index.eq(index + 1),
                segments_left.eq(segments_left - 1),
                m_last_of_tile.eq(segments_left == 2),
            ]
            with m.If(m_last_of_tile):
                m.d.sync += [
                    index.eq(0),
                    segments_left.eq(header.segments),
                    m_last_of_tile.eq(only_segment),
                    columns_left.eq(columns_left - 1),
                    m_last_column.eq(columns_left == 2),
                    first_column.eq(0),
                ]
                with m.If(m_last_column):
                    m.d.sync += [
                        columns_left.eq(header.p_tiles),
                        m_last_column.eq(only_column),
                        first_column.eq(1),
                        rows_left.eq(rows_left - 1),
                        m_last_row.eq(rows_left == 2),
                        first_row.eq(0),
                    ]
        with m.If(reads[2]):
            # The first header is in l, the second in m, and the first segment is being read.
            m.d.sync += [
                first_line.eq(next_line),
                second_line.eq(following_line),
                index.eq(0),
                segments_left.eq(header_0.segments),
                m_last_of_tile.eq(header_0.segments == 1),
                only_segment.eq(header_0.segments == 1),
                columns_left.eq(header_0.p_tiles),
                m_last_column.eq(header_0.p_tiles == 1),
                only_column.eq(header_0.p_tiles == 1),
                rows_left.eq(header_0.m_tiles),
                m_last_row.eq(header_0.m_tiles == 1),
                first_row.eq(1),
                first_column.eq(1),
            ]
            m.d.sync += [header[name].eq(header_0[name]) for name in Header().members]
        # Between the program memory and the counter lies a register: no segment is valid before.
        delay = Signal(_WIDTH["delay"], reset_less=True)
        m.d.sync += delay.eq(header_0.delay)
        m.d.comb += [self.delay_load.eq(reads[3]), self.delay.eq(delay - 1)]

        # How far the operands of this instruction have moved, if they do.
        moved = {
            name: Signal(bits, name=f"{name}_moved", reset_less=True)
            for name in ("a", "b", "d", "aux")
        }
        with m.If(reads[2]):
            x, w, e = offsets.values()
            m.d.sync += [
                moved["a"].eq(Mux(header_0.product == Product.EW, e, x)),
                moved["b"].eq(Mux(header_0.product == Product.XE, e, w)),
                moved["d"].eq(
                    Mux(header_0.d_moves, multiplexer(header_0.destination, [x, w, e]), 0)
                ),
                # E, X and W are aux of the products 0, 1 and 2.
                moved["aux"].eq(
                    Mux(header_0.aux_moves, multiplexer(header_0.product, [e, x, w]), 0)
                ),
            ]
        with m.If(reads[3]):
            m.d.sync += [register.eq(header_1[name]) for name, register in strides.items()]
            m.d.sync += [row.eq(header_1[f"{name}_base"]) for name, row in rows.items()]

        # Where the current row of tiles of A and the current column of tiles of B begin, for each
        # segment. A segment is in l for two cycles at least before its address is used, unless it
        # is of the first tile, which begins at the base. What is prepared is written a cycle
        # later, which the next but one segment reads in time; an instruction with one segment
        # finds its own in p.
        m.submodules.running = running = BlockMemory(shape=2 * bits, depth=SEGMENTS_MAX)
        was_loaded = Signal()
        p_index = Signal(range(SEGMENTS_MAX), reset_less=True)
        m.d.sync += was_loaded.eq(p_load)
        m.d.comb += [
            running.read_enable.eq(m_to_l),
            running.read_address.eq(index),
            running.write_enable.eq(was_loaded),
            running.write_address.eq(p_index),
            running.write_data.eq(Cat(self.segment.a_tile, self.segment.b_tile)),
        ]
        a_before = Mux(l_alone, self.segment.a_tile, running.read_data[:bits])
        b_before = Mux(l_alone, self.segment.b_tile, running.read_data[bits:])

        # The first row of tiles of A begins at the base in every column, and so moves in each.
        a_moved = Mux(line.a_moves, moved["a"], 0)
        b_moved = Mux(line.b_moves, moved["b"], 0)
        before = {
            "a": Mux(l_first_row, line.a_base, a_before),
            "b": Mux(l_first_column, line.b_base, b_before),
        }
        further = {
            "a": Mux(l_first_row, a_moved, Mux(l_first_column, line.a_m, 0)),
            "b": Mux(l_first_column, b_moved, line.b_p),
        }
        for name in ("a", "b"):
            p_before = Signal(bits, name=f"p_{name}_before", reset_less=True)
            p_further = Signal(bits, name=f"p_{name}_further", reset_less=True)
            with m.If(p_load):
                m.d.sync += [p_before.eq(before[name]), p_further.eq(further[name])]
            m.d.comb += self.segment[f"{name}_tile"].eq(p_before + p_further)
        # One chain of carries, not two: lookup tables know what a small number is, less three.
        pad = Signal(signed(len(line.pad) + 1))
        with m.Switch(line.pad):
            for cycles in range(1 << len(line.pad)):
                with m.Case(cycles):
                    m.d.comb += pad.eq(cycles - 3)
        p_k = Signal(len(line.k), reset_less=True)
        p_pad = Signal(pad.shape(), reset_less=True)
        m.d.comb += [self.segment.terms.eq(p_k - 2), self.segment.cycles.eq(p_k + p_pad)]
        with m.If(p_load):
            m.d.sync += [p_index.eq(l_index), p_k.eq(line.k), p_pad.eq(pad)]
        as_they_are = {
            **{name: line[name] for name in ("a_k", "b_k", "a_column", "b_column")},
            **{name: line[name] for name in ("ones", "ones_shift")},
            "partial": l_partial,
            "first_of_tile": l_first_of_tile,
            "last_of_tile": l_last_of_tile,
            "last": l_last_of_tile & l_last_tile,
        }
        for name, value in as_they_are.items():
            field = self.segment[name]
            register = Signal(len(field), name=f"p_{name}", reset_less=True)
            with m.If(p_load):
                m.d.sync += register.eq(value)
            m.d.comb += field.eq(register)

        # Where the tiles of D and of the auxiliary operand are. How far the next one is from that
        # before, or from the row before, is chosen on the way to l; the first one begins its row,
        # as far from the base as the operand has moved.
        l_first = Signal(reset_less=True)
        with m.If(m_to_l):
            m.d.sync += l_first.eq(first_row & first_column)
        with m.If(p_load & l_first_of_tile):
            m.d.sync += [tile.first.eq(l_first), tile.last.eq(l_last_tile)]
        for name, row in rows.items():
            l_further = Signal(bits, name=f"l_{name}_further", reset_less=True)
            following = Signal(bits, name=f"{name}_following")
            with m.If(m_to_l):
                m.d.sync += l_further.eq(
                    Mux(first_column, strides[f"{name}_m"], strides[f"{name}_p"])
                )
                with m.If(first_row & first_column):
                    m.d.sync += l_further.eq(moved[name])
            m.d.comb += following.eq(Mux(l_first_column, row, tile[name]) + l_further)
            with m.If(p_load & l_first_of_tile):
                m.d.sync += tile[name].eq(following)
                with m.If(l_first_column):
                    m.d.sync += row.eq(following)
        return m
