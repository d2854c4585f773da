"""Frames without zeros: Consistent Overhead Byte Stuffing (S. Cheshire, M. Baker, 1999)."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

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
        m.submodules.frame = frame = memory.Memory(shape=8, depth=depth, init=[])
        write_port, read_port = frame.write_port(), frame.read_port()
        code_place = Signal(range(depth))
        place = Signal(range(depth), init=1)
        code = Signal(8, init=1)
        sent = Signal(range(depth))
        fetched = Signal()

        def close_block() -> None:
            m.d.comb += [
                write_port.en.eq(1),
                write_port.addr.eq(code_place),
                write_port.data.eq(code),
            ]
            m.d.sync += [code_place.eq(place), place.eq(place + 1), code.eq(1)]

        m.d.comb += read_port.addr.eq(sent)
        with m.FSM():
            with m.State("FILL"):
                with m.If(code == _FULL):
                    close_block()
                with m.Else():
                    m.d.comb += self.data.ready.eq(1)
                    with m.If(self.end):
                        close_block()
                        m.d.sync += [sent.eq(0), fetched.eq(0)]
                        m.next = "SEND"
                    with m.Elif(self.data.valid & (self.data.payload == 0)):
                        close_block()
                    with m.Elif(self.data.valid):
                        m.d.comb += [
                            write_port.en.eq(1),
                            write_port.addr.eq(place),
                            write_port.data.eq(self.data.payload),
                        ]
                        m.d.sync += [place.eq(place + 1), code.eq(code + 1)]
            with m.State("SEND"):
                # Its last block was closed, so the next code's place is the end of the frame.
                m.d.comb += [
                    self.busy.eq(1),
                    self.bytes.valid.eq(fetched),
                    self.bytes.payload.eq(read_port.data),
                ]
                m.d.sync += fetched.eq(1)
                with m.If(self.bytes.valid & self.bytes.ready):
                    m.d.sync += [sent.eq(sent + 1), fetched.eq(0)]
                    with m.If(sent + 1 == code_place):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += [self.busy.eq(1), self.bytes.valid.eq(1), self.bytes.payload.eq(0)]
                with m.If(self.bytes.ready):
                    m.d.sync += [code_place.eq(0), place.eq(1), code.eq(1)]
                    m.next = "FILL"
        return m
