"""Frames without zeros: Consistent Overhead Byte Stuffing (S. Cheshire, M. Baker, 1999)."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from siligrad_hdl.block_memory import BlockMemory

__all__ = ["CobsDecoder", "CobsEncoder"]

_FULL = 255
"""The code of a block of 254 bytes that no zero follows."""


class CobsDecoder(wiring.Component):
    """Takes frames apart as they come.

    Members
    -------
    bytes : :py:`In(stream.Signature(8, always_ready=True))`
        Encoded, a zero behind each frame.
    data, data_valid : :py:`Out(8)`, :py:`Out(1)`
        A decoded byte, in the cycle of the encoded one that it is known from.
    end, complete : :py:`Out(1)`
        In the cycle of the zero: the frame ends here; it ended where it should, and was not empty.
    """

    def __init__(self) -> None:
        super().__init__({
            "bytes": In(stream.Signature(8, always_ready=True)),
            "data": Out(8),
            "data_valid": Out(1),
            "end": Out(1),
            "complete": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(8)  # bytes of the block that are still to come
        owes_zero = Signal()  # a zero is between the block and the next one, if one follows
        first = Signal(init=1)
        byte = self.bytes.payload
        with m.If(self.bytes.valid):
            with m.If(byte == 0):
                m.d.comb += [self.end.eq(1), self.complete.eq(~first & (left == 0))]
                m.d.sync += [left.eq(0), owes_zero.eq(0), first.eq(1)]
            with m.Elif(left == 0):
                m.d.comb += self.data_valid.eq(owes_zero)
                m.d.sync += [left.eq(byte - 1), owes_zero.eq(byte != _FULL), first.eq(0)]
            with m.Else():
                m.d.comb += [self.data.eq(byte), self.data_valid.eq(1)]
                m.d.sync += left.eq(left - 1)
        return m


class CobsEncoder(wiring.Component):
    """Keeps a frame until its end is known, then sends it encoded, with a zero behind it.

    The code of a block is in front of it and known behind it; so the frame lies in a memory, where
    the code's place is left free.

    Parameters
    ----------
    size : :class:`int`
        Most bytes of a frame.

    Members
    -------
    data : :py:`In(stream.Signature(8))`
        The bytes of a frame. None is taken while a frame is sent.
    end : :py:`In(1)`
        The frame is complete; together with no byte, while ``data.ready`` is high.
    bytes : :py:`Out(stream.Signature(8))`
        Encoded.
    busy : :py:`Out(1)`
        A frame is being sent.
    """

    def __init__(self, *, size: int) -> None:
        self.size = size
        super().__init__({
            "data": In(stream.Signature(8)),
            "end": In(1),
            "bytes": Out(stream.Signature(8)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.size + self.size // (_FULL - 1) + 2  # a code for each block, one byte spare
        m.submodules.frame = frame = BlockMemory(shape=8, depth=depth)
        code_place = Signal(range(depth))
        place = Signal(range(depth), init=1)
        code = Signal(8, init=1)
        full = Signal()  # the code is that of a full block
        sent = Signal(range(depth))
        over = Signal()  # nothing is left to send, as of the cycle before
        fetched = Signal(1 + BlockMemory.latency)  # all ones when the byte is there
        # A byte that was taken, or the end of the frame: it is looked at in the next cycle.
        byte = Signal(8)
        is_zero = Signal()
        ready = Signal()
        has_byte = Signal()
        ends = Signal()
        # What is written lies in registers on the way to the memory.
        write_enable = Signal()
        write_address = Signal(range(depth))
        write_data = Signal(8)
        m.d.sync += write_enable.eq(0)
        m.d.comb += [
            frame.write_enable.eq(write_enable),
            frame.write_address.eq(write_address),
            frame.write_data.eq(write_data),
        ]

        def write(address: Signal, data: Signal) -> None:
            m.d.sync += [write_enable.eq(1), write_address.eq(address), write_data.eq(data)]

        def close_block() -> None:
            write(code_place, code)
            m.d.sync += [code_place.eq(place), place.eq(place + 1), code.eq(1), full.eq(0)]

        m.d.comb += [self.data.ready.eq(ready), frame.read_address.eq(sent)]
        # The last block is closed when a frame is sent: the next code would be behind its end.
        m.d.sync += over.eq(sent == code_place)
        with m.FSM():
            with m.State("FILL"):
                with m.If(full):
                    close_block()
                with m.Elif(ends):
                    close_block()
                    m.d.sync += [ends.eq(0), sent.eq(0), fetched.eq(0)]
                    m.next = "SEND"
                with m.Elif(has_byte):
                    m.d.sync += has_byte.eq(0)
                    with m.If(is_zero):
                        close_block()
                    with m.Else():
                        write(place, byte)
                        m.d.sync += [
                            place.eq(place + 1),
                            code.eq(code + 1),
                            full.eq(code == _FULL - 1),
                        ]
                with m.Else():
                    m.d.sync += [
                        ready.eq(~ready | ~(self.data.valid | self.end)),
                        byte.eq(self.data.payload),
                        is_zero.eq(self.data.payload == 0),
                        has_byte.eq(ready & self.data.valid),
                        ends.eq(ready & self.end),
                    ]
            with m.State("SEND"):
                m.d.comb += [
                    self.busy.eq(1),
                    self.bytes.valid.eq(fetched.all() & ~over),
                    self.bytes.payload.eq(frame.read_data),
                ]
                m.d.sync += fetched.eq(Cat(Const(1, 1), fetched))
                with m.If(fetched.all() & over):
                    m.next = "END"
                with m.Elif(self.bytes.valid & self.bytes.ready):
                    m.d.sync += [sent.eq(sent + 1), fetched.eq(0)]
            with m.State("END"):
                m.d.comb += [self.busy.eq(1), self.bytes.valid.eq(1), self.bytes.payload.eq(0)]
                with m.If(self.bytes.ready):
                    m.d.sync += [code_place.eq(0), place.eq(1), code.eq(1)]
                    m.next = "FILL"
        return m
