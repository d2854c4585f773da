"""The second stage of the sequencer: issues the terms of a segment, one each cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import Product
from siligrad_hdl.fetch import Header, PreparedSegment
from siligrad_hdl.scratchpad import NEAR_BANKS

__all__ = ["Stream", "StreamTerm"]


class StreamTerm(data.StructLayout):
    """What is issued in a cycle.

    Members
    -------
    a_tile, b_tile : :class:`unsigned(address_bits)`
        Tiles of A and B.
    e_tile, e_column : :class:`unsigned(address_bits)`, :class:`1`
        Those of A and B that are in E, once more.
    index : :class:`range(array)`
        Number of their row or column.
    column_rows : :class:`range(array)` for each bank
        The rows of a column's elements, ``(bank - index) mod N``; only for arrays with more than
        ``NEAR_BANKS`` banks a memory.
    a_column, b_column : :class:`1`
        A column of them, else a row.
    a_e, b_e : :class:`1`
        A is read from E, else from X; B is read from E, else from W.
    ones : :class:`1`
        A is not read, ones are fed.
    ones_shift : :class:`4`
        The code of a one is ``2**ones_shift``.
    rows : :class:`range(array + 1)`
        Rows of the array that ones are fed to.
    """

    def __init__(self, *, array: int, address_bits: int) -> None:
        far = {"column_rows": data.ArrayLayout(range(array), array)}
        super().__init__({
            "a_tile": address_bits,
            "b_tile": address_bits,
            "e_tile": address_bits,
            "e_column": 1,
            "index": range(array),
            **(far if array > NEAR_BANKS else {}),
            "a_column": 1,
            "b_column": 1,
            "a_e": 1,
            "b_e": 1,
            "ones": 1,
            "ones_shift": 4,
            "rows": range(array + 1),
        })


class Stream(wiring.Component):
    """Issues the prepared segments one after the other.

    Parameters
    ----------
    array : :class:`int`
        N, the terms of a tile.
    address_bits : :class:`int`
        Width of an address inside a bank.

    Members
    -------
    valid, take : :py:`In(1)`, :py:`Out(1)`
        A segment is prepared; it is taken, and its first term issued in the next cycle.
    segment, header : :py:`In(PreparedSegment)`, :py:`In(Header)`
        The prepared segment and its instruction.
    delay, delay_load : :py:`In(signed(17))`, :py:`In(1)`
        Let the next segment wait for a number of cycles, less one, in which it could be taken.
    issued : :py:`Out(1)`
        A term is issued in this cycle.
    term : :py:`Out(StreamTerm)`
        The term.
    last : :py:`Out(1)`
        This cycle is the last of a tile.
    """

    def __init__(self, *, array: int, address_bits: int) -> None:
        self.array = array
        self.address_bits = address_bits
        super().__init__({
            "valid": In(1),
            "take": Out(1),
            "segment": In(PreparedSegment(address_bits=address_bits)),
            "header": In(Header()),
            "delay": In(signed(17)),
            "delay_load": In(1),
            "issued": Out(1),
            "term": Out(StreamTerm(array=array, address_bits=address_bits)),
            "last": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.array
        segment, header = self.segment, self.header

        active = Signal()
        issued = Signal()
        free = Signal(init=1)  # this cycle is the last of a segment, or of none
        cycles = Signal(18, reset_less=True)  # that are left, less three
        terms = Signal(17, reset_less=True)  # that are left, less two
        last_of_tile = Signal(reset_less=True)
        last_index = Signal(reset_less=True)  # the index is the last of a tile of A or B
        a_k = Signal(self.address_bits, reset_less=True)
        b_k = Signal(self.address_bits, reset_less=True)
        e_k = Signal(self.address_bits, reset_less=True)
        a_e = header.product == Product.EW
        term = Signal(self.term.shape(), reset_less=True)

        # A sign bit of a counter tells the last round, and of what is left of a segment the round
        # before: so its end is a register, and next to nothing is between that and what is taken. A
        # waiting segment is not taken.
        delay_left = Signal(17, reset_less=True)  # set before a segment is valid
        ready = Signal()
        waiting = ~delay_left[-1]
        m.d.comb += [
            ready.eq(self.valid & free),
            self.take.eq(ready & ~waiting),
            self.issued.eq(issued),
            self.term.eq(term),
            self.last.eq(active & free & last_of_tile),
        ]
        with m.If(self.delay_load):
            m.d.sync += delay_left.eq(self.delay)
        with m.Elif(ready & waiting):
            m.d.sync += delay_left.eq(delay_left - 1)

        with m.If(self.take):
            m.d.sync += [
                active.eq(1),
                issued.eq(1),
                free.eq(0),
                cycles.eq(segment.cycles),
                terms.eq(segment.terms),
                last_of_tile.eq(segment.last_of_tile),
                last_index.eq(0),
                a_k.eq(segment.a_k),
                b_k.eq(segment.b_k),
                e_k.eq(Mux(a_e, segment.a_k, segment.b_k)),
                term.a_tile.eq(segment.a_tile),
                term.b_tile.eq(segment.b_tile),
                term.e_tile.eq(Mux(a_e, segment.a_tile, segment.b_tile)),
                term.e_column.eq(Mux(a_e, segment.a_column, segment.b_column)),
                term.index.eq(0),
                term.a_column.eq(segment.a_column),
                term.b_column.eq(segment.b_column),
                term.a_e.eq(a_e),
                term.b_e.eq(header.product == Product.XE),
                term.ones.eq(segment.ones),
                term.ones_shift.eq(segment.ones_shift),
                term.rows.eq(Mux(segment.partial, header.rows_last, n)),
            ]
        with m.Else():
            m.d.sync += [
                active.eq(active & ~free),
                issued.eq(issued & ~terms[-1]),
                free.eq(free | cycles[-1]),
                cycles.eq(cycles - 1),
                terms.eq(terms - 1),
                last_index.eq(term.index == n - 2),
            ]
            with m.If(last_index):
                m.d.sync += [
                    term.index.eq(0),
                    term.a_tile.eq(term.a_tile + a_k),
                    term.b_tile.eq(term.b_tile + b_k),
                    term.e_tile.eq(term.e_tile + e_k),
                ]
            with m.Else():
                m.d.sync += term.index.eq(term.index + 1)

        if n > NEAR_BANKS:  # they turn by one with each index
            first = self.take | last_index
            for bank in range(n):
                before = term.column_rows[(bank - 1) % n]
                m.d.sync += term.column_rows[bank].eq(Mux(first, bank, before))
        return m
