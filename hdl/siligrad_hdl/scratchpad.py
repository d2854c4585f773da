"""The memories of tiles: reading and writing a row or a column of a tile in each cycle.

A tile is stored skewed: element (r, c) is in bank ``(r + c) mod N`` at the tile's address plus r.
So the N elements of a row, and of a column, are in N different banks; lane `l` of either is in
bank ``(l + index) mod N``, `index` being the number of the row or column.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.delay import delayed
from siligrad_hdl.rotator import Rotator
from siligrad_hdl.vendor import is_lean

__all__ = ["NEAR_BANKS", "ReadRequest", "SkewedMemory", "SkewedWriter", "TileRequest", "bank_row"]

NEAR_BANKS = 8
"""Banks of a memory up to which they are near each other: see :class:`ReadRequest`."""


class TileRequest(data.StructLayout):
    """What to read or write in a cycle.

    Parameters
    ----------
    array : :class:`int`
        N, rows and columns of a tile.
    address_bits : :class:`int`
        Width of an address inside a bank.

    Members
    -------
    address : :class:`unsigned(address_bits)`
        Address of the tile: a multiple of N.
    index : :class:`range(array)`
        Number of the row or column.
    column : :class:`1`
        A column, else a row.
    word : :class:`1`
        Of a column, nothing but the first element: the word at ``address``, which may be any, of
        bank ``index``.
    """

    def __init__(self, *, array: int, address_bits: int) -> None:
        super().__init__({
            "address": address_bits,
            "index": range(array),
            "column": 1,
            "word": 1,
        })


class ReadRequest(data.StructLayout):
    """What a memory is to read in a cycle: a :class:`TileRequest`, as each bank wants to know it.

    Of few banks each finds out itself in which row its element is. Many are far from each other,
    and would wait for what they share of that: they are told.

    Parameters
    ----------
    array, address_bits : :class:`int`
        As of the request.

    Members
    -------
    address, index, column, word
        Those of the request.
    rows : :class:`range(array)` for each bank
        The row of the element that is in it; only with more than ``NEAR_BANKS`` banks.
    """

    def __init__(self, *, array: int, address_bits: int) -> None:
        request = TileRequest(array=array, address_bits=address_bits)
        members = dict(request.members)
        if array > NEAR_BANKS:
            members["rows"] = data.ArrayLayout(range(array), array)
        super().__init__(members)


def bank_row(m: Module, bank: int, index: Value, column: Value, array: int, name: str) -> Signal:
    """Return the row of the element in `bank`, of `array`, of the row or column `index`."""
    row = Signal(range(array), name=name)
    with m.Switch(index):
        for number in range(array):
            with m.Case(number):
                m.d.comb += row.eq(Mux(column, (bank - number) % array, number))
    return row


def _bank_addresses(m: Module, request: data.View, array: int) -> list[Value]:
    """Return the address of the element of `request` in each of `array` banks."""
    addresses: list[Value] = []
    told = "rows" in request.shape().members
    for bank in range(array):
        if told:
            row = request.rows[bank]
        else:
            row = bank_row(m, bank, request.index, request.column, array, f"row_{bank}")
        if array & (array - 1) == 0:  # the low bits of a tile's address are zero
            addresses.append(request.address | row)
        else:
            addresses.append((request.address + row)[: request.address.shape().width])
    return addresses


class SkewedMemory(wiring.Component):
    """N banks that deliver a row or a column of a tile in each cycle, element `l` in lane `l`.

    It is written bank by bank, from a :class:`SkewedWriter`, in any cycle. A row or column reads
    what was written in the cycles up to and including that of its request; what is written in the
    two cycles after that, it may read or not, which depends on the family.

    Parameters
    ----------
    array : :class:`int`
        N, the number of banks and lanes.
    word_bits : :class:`int`
        Width of an element.
    depth : :class:`int`
        Words of a bank.
    address_bits : :class:`int`
        Width of the addresses in requests; what lies beyond ``depth`` is not accessed.
    init : sequence of sequences of :class:`int`
        Initial words of each bank; zero if there are none.

    Members
    -------
    request : :py:`In(ReadRequest)`
        What to read in this cycle.
    lanes : :py:`Out(signed(word_bits)).array(array)`
        What was read, ``latency`` cycles later, for a word in lane 0.
    write_enable : :py:`In(array)`
        Banks to write in this cycle.
    write_addresses : :py:`In(address_bits).array(array)`
        Address for each bank.
    write_data : :py:`In(signed(word_bits)).array(array)`
        Element for each bank.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``request`` to ``lanes``: bank addresses, memory, its output register, rotator.
    banks : :class:`list` of :class:`BlockMemory`
        The banks, whose ``data`` a simulator may access.
    """

    def __init__(
        self,
        *,
        array: int,
        word_bits: int,
        depth: int,
        address_bits: int,
        init: Sequence[Sequence[int]] = (),
    ) -> None:
        self.array = array
        self.word_bits = word_bits
        self.depth = depth
        self.address_bits = address_bits
        self.banks = [
            BlockMemory(shape=signed(word_bits), depth=depth, init=init[bank] if init else ())
            for bank in range(array)
        ]
        self._rotator = Rotator(array=array, shape=signed(word_bits))
        self.latency = 1 + BlockMemory.latency + self._rotator.latency
        super().__init__({
            "request": In(ReadRequest(array=array, address_bits=address_bits)),
            "lanes": Out(signed(word_bits)).array(array),
            "write_enable": In(array),
            "write_addresses": In(address_bits).array(array),
            "write_data": In(signed(word_bits)).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rotator = rotator = self._rotator
        # In the lean form the memory has a register for its address and none for its word, so this
        # one is behind the choice of what is read: each has a lookup table before it.
        lean = is_lean(platform)
        request = self.request
        if lean:
            request = data.View(request.shape(), delayed(m, request.as_value(), 1, name="request"))
        addresses = _bank_addresses(m, request, self.array)
        for number, (bank, address) in enumerate(zip(self.banks, addresses, strict=True)):
            m.submodules[f"bank_{number}"] = bank
            bank_address = Signal(range(self.depth), name=f"bank_address_{number}", reset_less=True)
            if lean:
                m.d.comb += bank_address.eq(address)
            else:
                m.d.sync += bank_address.eq(address)
            m.d.comb += [
                bank.read_address.eq(bank_address),
                rotator.data[number].eq(bank.read_data),
                bank.write_enable.eq(self.write_enable[number]),
                bank.write_address.eq(self.write_addresses[number]),
                bank.write_data.eq(self.write_data[number]),
                self.lanes[number].eq(rotator.rotated[number]),
            ]
        amount = delayed(m, self.request.index, 1 + BlockMemory.latency, name="amount")
        m.d.comb += rotator.amount.eq(amount)
        return m


class SkewedWriter(wiring.Component):
    """Turns a row or a column, element `l` in lane `l`, into a write of each bank.

    It serves several memories, and chooses in each cycle which of them are written.

    Parameters
    ----------
    array : :class:`int`
        N, the number of banks and lanes.
    word_bits : :class:`int`
        Width of an element.
    address_bits : :class:`int`
        Width of the addresses.
    memories : :class:`int`
        Number of memories that are written from here.

    Members
    -------
    request : :py:`In(TileRequest)`
        What to write. A word is written from lane 0.
    turn : :py:`In(range(array))`
        (-index) mod N, as a register has it: all the words of a row hang on it.
    enable : :py:`In(memories)`
        Memories to write in this cycle.
    lanes : :py:`In(signed(word_bits)).array(array)`
        The elements.
    write_enables : :py:`Out(array).array(memories)`
        Banks to write in each memory, ``latency`` cycles later.
    write_addresses : :py:`Out(address_bits).array(array)`
        Address for each bank, for any memory.
    write_data : :py:`Out(signed(word_bits)).array(array)`
        Element for each bank, for any memory.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from the request to the write.
    """

    def __init__(self, *, array: int, word_bits: int, address_bits: int, memories: int = 3) -> None:
        self.array = array
        self.word_bits = word_bits
        self.address_bits = address_bits
        self.memories = memories
        self._rotator = Rotator(array=array, shape=signed(word_bits))
        self.latency = self._rotator.latency
        super().__init__({
            "request": In(TileRequest(array=array, address_bits=address_bits)),
            "turn": In(range(array)),
            "enable": In(memories),
            "lanes": In(signed(word_bits)).array(array),
            "write_enables": Out(array).array(memories),
            "write_addresses": Out(address_bits).array(array),
            "write_data": Out(signed(word_bits)).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.array
        m.submodules.rotator = rotator = self._rotator

        # Bank b takes the lane l with (l + index) mod n = b.
        m.d.comb += rotator.amount.eq(self.turn)
        for lane in range(n):
            m.d.comb += [
                rotator.data[lane].eq(self.lanes[lane]),
                self.write_data[lane].eq(rotator.rotated[lane]),
            ]

        # Addresses and enables take as long as the rotator; their last register is behind the
        # arithmetic.
        request = data.View(
            self.request.shape(),
            delayed(m, self.request.as_value(), self.latency - 1, name="request"),
        )
        enable = delayed(m, self.enable, self.latency - 1, name="enable", reset=True)
        for bank, address in enumerate(_bank_addresses(m, request, n)):
            write_address = Signal(self.address_bits, name=f"write_address_{bank}", reset_less=True)
            m.d.sync += write_address.eq(address)
            m.d.comb += self.write_addresses[bank].eq(write_address)
            written = ~request.word | (request.index == Const(bank, range(n)))
            for number in range(self.memories):
                m.d.sync += self.write_enables[number][bank].eq(enable[number] & written)
        return m
