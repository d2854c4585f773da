"""The systolic array."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.cell import ProcessingElement
from siligrad_hdl.delay import delayed

__all__ = ["SystolicArray"]


class SystolicArray(wiring.Component):
    """N×N output-stationary array that turns streams of outer products into rows of sums.

    In each cycle it takes a column of A (one element for each row of the array) and a row of B
    (one for each column) and adds their outer product to the sums. It skews the operands itself.
    Tiles follow each other without a gap: while one accumulates, the one before drains downwards,
    a row a cycle.

    How it drains: the rows capture their sums one cycle after the other, from row 0 to row N - 1.
    When the bottom row has captured, it hands over its sum and from the next cycle on takes what
    is above it, N - 1 times; row `i` takes from above only in the first `i` of these cycles, for
    then everything above it has gone through it and row `i` of the next tile may capture, if tiles
    end N cycles apart.

    Parameters
    ----------
    array : :class:`int`
        N, rows and columns.
    operand_bits : :class:`int`
        Width of an element of A and of B.
    sum_bits : :class:`int`
        Width of an accumulator. Sums wrap; the compiler proves that they cannot.

    Members
    -------
    a : :py:`In(signed(operand_bits)).array(array)`
        A column of A, element `i` for row `i`; zero in a cycle without a term.
    b : :py:`In(signed(operand_bits)).array(array)`
        A row of B, element `j` for column `j`.
    last : :py:`In(1)`
        This cycle is the last of a tile; the sums of the next one begin with the next cycle. Two of
        them are at least N cycles apart. A reset does not clear the sums: before the first tile
        there is a ``last`` that ends nothing.
    sums : :py:`Out(signed(sum_bits)).array(array)`
        ``sums[j]`` is element `j` of row N - 1 of the tile ``latency + j`` cycles after its
        ``last``, of row N - 2 in the cycle after that, and so on to row 0.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``last`` to the bottom row at ``sums[0]``.
    """

    def __init__(self, *, array: int, operand_bits: int = 16, sum_bits: int = 40) -> None:
        self.array = array
        self.operand_bits = operand_bits
        self.sum_bits = sum_bits
        self.latency = array - 1 + ProcessingElement.latency
        super().__init__({
            "a": In(signed(operand_bits)).array(array),
            "b": In(signed(operand_bits)).array(array),
            "last": In(1),
            "sums": Out(signed(sum_bits)).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.array

        cells = [
            [
                ProcessingElement(operand_bits=self.operand_bits, sum_bits=self.sum_bits)
                for _ in range(n)
            ]
            for _ in range(n)
        ]
        for i, row in enumerate(cells):
            for j, cell in enumerate(row):
                m.submodules[f"cell_{i}_{j}"] = cell

        # Row i and column j are i and j cycles later than the first of them.
        for i in range(n):
            m.d.comb += [
                cells[i][0].a_west.eq(delayed(m, self.a[i], i, name=f"a_{i}")),
                cells[0][i].b_north.eq(delayed(m, self.b[i], i, name=f"b_{i}")),
                self.sums[i].eq(cells[n - 1][i].drain_south),
            ]

        # last_after[x] is what `last` was x cycles ago.
        lag = ProcessingElement.lag
        last_after = [self.last]
        for x in range(1, 2 * n - 1 + lag):
            last_after.append(delayed(m, last_after[-1], 1, name=f"last_{x}", reset=True))
        for i, row in enumerate(cells):
            accept = Signal(name=f"accept_{i}")
            if i > 0:
                # High from n to n + i - 1 cycles after row 0 captures. Tiles end n apart, so what
                # ends it never meets what begins the next one.
                begin = last_after[lag + n - 1]
                end = last_after[lag + n - 1 + i]
                m.d.sync += accept.eq(begin | (accept & ~end))
            m.d.comb += [
                row[0].last_west.eq(last_after[lag + i]),
                row[0].accept_west.eq(accept),
            ]

        # Between the cells.
        for i in range(n):
            for j in range(n):
                if j > 0:
                    west = cells[i][j - 1]
                    m.d.comb += [
                        cells[i][j].a_west.eq(west.a_east),
                        cells[i][j].last_west.eq(west.last_east),
                        cells[i][j].accept_west.eq(west.accept_east),
                    ]
                if i > 0:
                    north = cells[i - 1][j]
                    m.d.comb += [
                        cells[i][j].b_north.eq(north.b_south),
                        cells[i][j].drain_north.eq(north.drain_south),
                    ]
        return m
