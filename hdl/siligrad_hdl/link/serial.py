"""The link: what carries out the requests of frames, and answers them."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from siligrad.frames import (
    CRC_BYTES,
    REPLY_FIELDS,
    REQUEST_FIELDS,
    WORDS_MAX,
    Answer,
    Operation,
)
from siligrad.registers import HOST_ADDRESS_BITS
from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.link.cobs import CobsDecoder, CobsEncoder
from siligrad_hdl.link.uart import UartReceiver, UartTransmitter
from siligrad_hdl.ports import HostPort

__all__ = ["LinkCommands", "SerialLink"]

_REQUEST = data.StructLayout(REQUEST_FIELDS)
_REPLY = data.StructLayout(REPLY_FIELDS)


def _bytes(layout: data.StructLayout) -> int:
    return int(layout.size) // 8


_REPLY_BYTES = _bytes(_REPLY) + 4 * WORDS_MAX + CRC_BYTES


class LinkCommands(wiring.Component):
    """Carries out requests, each once, and answers them; ``docs/spec/link.md`` says how.

    Bytes of a request that comes while another is carried out or answered are dropped, and so is
    what follows of it.

    Members
    -------
    data, data_valid, end, complete
        As of :class:`~siligrad_hdl.link.cobs.CobsDecoder`, on the other side.
    reply : :py:`Out(stream.Signature(8))`
        Bytes of the reply.
    reply_end : :py:`Out(1)`
        The reply is complete; together with no byte, while ``reply.ready`` is high.
    host : :py:`In(HostPort)`
        To the accelerator.
    """

    def __init__(self) -> None:
        super().__init__({
            "data": In(8),
            "data_valid": In(1),
            "end": In(1),
            "complete": In(1),
            "reply": Out(stream.Signature(8)),
            "reply_end": Out(1),
            "host": In(HostPort()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        request = Signal(_REQUEST)
        words_before = _bytes(_REQUEST)

        # Words lie in a memory until the check behind them is known to be right; the check itself
        # is the word behind the last one.
        m.submodules.words = words = BlockMemory(shape=32, depth=2 * WORDS_MAX)
        # They begin anew by a reset: their own start would be in the way of every bit of a sum.
        crc_in = catalog.CRC32_ETHERNET(data_width=8).create()
        crc_out = catalog.CRC32_ETHERNET(data_width=8).create()

        # Receiving.
        listening = Signal()  # no request is being carried out
        skipping = Signal()  # the rest of a frame whose beginning was dropped
        length = Signal(range(_bytes(_REQUEST) + 4 * WORDS_MAX + CRC_BYTES + 2))
        word = Signal(32)
        position = Signal(len(length))
        first = Signal(init=1)  # the length is zero
        # A byte is taken from a register. Bytes, and the end of a frame, come two cycles apart or
        # more, so all that hangs on the length may be as of the cycle before.
        data = Signal(8)
        taken = Signal()
        ends, complete = Signal(), Signal()
        long_enough, intact, in_words = Signal(), Signal(), Signal()
        m.d.sync += [
            data.eq(self.data),
            taken.eq(self.data_valid & listening & ~skipping),
            ends.eq(self.end),
            complete.eq(self.complete),
            long_enough.eq(length >= words_before + CRC_BYTES),
            intact.eq(crc_in.match_detected),
            in_words.eq(length >= words_before),
            position.eq(length - words_before),
        ]
        m.submodules.crc_in = ResetInserter(first & ~taken)(crc_in)
        m.d.comb += [
            crc_in.valid.eq(taken),
            crc_in.data.eq(data),
            words.write_enable.eq(taken & in_words & (position[:2] == 3)),
            words.write_address.eq(position[2:]),
            words.write_data.eq(Cat(word[8:], data)),
        ]
        with m.If(taken):
            with m.If(~length.all()):  # too many bytes stay too many
                m.d.sync += length.eq(length + 1)
            m.d.sync += first.eq(0)
            m.d.sync += word.eq(Cat(word[8:], data))
            with m.If(~in_words):
                m.d.sync += request.eq(Cat(request.as_value()[8:], data))
        with m.If(self.data_valid & ~listening):
            m.d.sync += skipping.eq(1)
        with m.If(ends):
            m.d.sync += skipping.eq(0)

        # Judging, two cycles after a frame has ended: sums and comparisons of words take their
        # time. All is known before, the length since two cycles.
        session = Signal(32)
        number = Signal(32)
        next_number = Signal(32)
        m.d.sync += next_number.eq(number + 1)
        status = Signal(Answer)
        is_hello, is_read, is_write = Signal(), Signal(), Signal()
        shortest = words_before + CRC_BYTES
        expected = Signal(range(shortest + 4 * 256 + 1))
        last_address = Signal(33)
        sensible = Signal()
        is_as_long, was_as_long = Signal(), Signal()  # as expected
        names_session = Signal()
        understood = Signal()
        same_session, no_session, same_number, is_next = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            is_hello.eq(request.operation == Operation.HELLO),
            is_read.eq(request.operation == Operation.READ),
            is_write.eq(request.operation == Operation.WRITE),
            expected.eq(Mux(is_write, (request.count << 2) + (shortest + 4), shortest)),
            last_address.eq(request.address + request.count),
            sensible.eq((request.count < WORDS_MAX) & ~last_address[HOST_ADDRESS_BITS:].any()),
            is_as_long.eq(length == expected),
            names_session.eq(request.session != 0),
            no_session.eq(session == 0),
            same_session.eq(request.session == session),
            same_number.eq(request.number == number),
            is_next.eq(request.number == next_number),
        ]
        m.d.sync += understood.eq(
            (is_hello | is_read | is_write) & sensible & was_as_long & (names_session | ~is_hello)
        )
        begins = Signal()  # another session
        goes_on = Signal()  # the session, with a request that was not yet carried out
        m.d.sync += [
            begins.eq(understood & is_hello & ~same_session),
            goes_on.eq(understood & ~is_hello & same_session & ~no_session & is_next),
        ]

        # Carrying out and answering.
        left = Signal(range(WORDS_MAX + 1))  # words, less one; its sign bit ends
        address = Signal(HOST_ADDRESS_BITS)
        index = Signal(range(2 * WORDS_MAX))
        head = Signal(_REPLY)
        sending = Signal(_REPLY.size)
        bytes_left = Signal(len(Const(_bytes(_REPLY))) + 1)  # less two; its sign bit ends
        is_check = Signal()
        is_request = Signal()
        reads_on = Signal()  # as of the cycle before: there are words to answer
        m.d.sync += reads_on.eq(is_read & (status == Answer.DONE) & ~left[-1])
        m.d.comb += [
            words.read_address.eq(index),
            head.session.eq(request.session),
            head.number.eq(request.number),
            head.status.eq(status),
            self.reply.payload.eq(sending[:8]),
        ]
        # What is answered is checked a cycle late, so that nothing is between registers and a sum.
        starts_check = Signal()
        checks = Signal()
        clears_check = Signal()
        m.submodules.crc_out = ResetInserter(clears_check)(crc_out)
        m.d.sync += [
            clears_check.eq(starts_check),
            crc_out.valid.eq(checks),
            crc_out.data.eq(sending[:8]),
        ]
        with m.FSM():
            with m.State("LISTEN"):
                m.d.comb += listening.eq(1)
                with m.If(ends):
                    m.d.sync += [length.eq(0), first.eq(1), was_as_long.eq(is_as_long)]
                    sound = complete & ~skipping & long_enough & intact
                    m.d.sync += is_request.eq(sound & ~request.operation[7])
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "LISTEN"
                with m.If(is_request):
                    m.next = "WEIGH"
            with m.State("WEIGH"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += [
                    left.eq(request.count),
                    address.eq(request.address),
                    index.eq(0),
                    status.eq(Answer.DONE),
                ]
                m.next = "ANSWER"
                with m.If(begins):
                    m.d.sync += [session.eq(request.session), number.eq(request.number)]
                with m.If(goes_on):
                    m.d.sync += number.eq(next_number)
                    with m.If(is_write):
                        m.next = "FETCH"
                with m.If(~understood):
                    m.d.sync += status.eq(Answer.NOT_UNDERSTOOD)
                with m.Elif(~is_hello & (~same_session | no_session)):
                    m.d.sync += status.eq(Answer.OTHER_SESSION)
                with m.Elif(~is_hello & ~goes_on & ~same_number):
                    m.d.sync += status.eq(Answer.OTHER_NUMBER)

            with m.State("FETCH"):
                m.next = "FETCHED"
            with m.State("FETCHED"):
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [self.host.strobe.eq(1), self.host.write.eq(1)]
                with m.If(self.host.acknowledge):
                    m.d.sync += [left.eq(left - 1), address.eq(address + 1), index.eq(index + 1)]
                    m.next = "FETCH"
                    with m.If(left == 0):
                        m.next = "ANSWER"

            with m.State("ANSWER"):
                m.d.comb += starts_check.eq(1)
                m.d.sync += [
                    sending.eq(head),
                    bytes_left.eq(_bytes(_REPLY) - 2),
                    is_check.eq(0),
                ]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.reply.valid.eq(1)
                with m.If(self.reply.ready):
                    m.d.comb += checks.eq(1)
                    m.d.sync += [sending.eq(sending >> 8), bytes_left.eq(bytes_left - 1)]
                    with m.If(bytes_left[-1]):
                        m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [sending.eq(crc_out.crc), bytes_left.eq(2)]
                with m.If(is_check), m.If(self.reply.ready):
                    m.d.comb += self.reply_end.eq(1)
                    m.next = "LISTEN"
                with m.Elif(reads_on):
                    m.next = "READ"
                with m.Elif(~crc_out.valid):
                    m.d.sync += is_check.eq(1)
                    m.next = "SEND"
            with m.State("READ"):
                m.d.comb += self.host.strobe.eq(1)
                m.d.sync += [sending.eq(self.host.read_data), bytes_left.eq(2)]
                with m.If(self.host.acknowledge):
                    m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
                    m.next = "SEND"
        m.d.comb += [self.host.address.eq(address), self.host.write_data.eq(words.read_data)]
        return m


class SerialLink(wiring.Component):
    """The host port on a serial line.

    Parameters
    ----------
    bit_cycles : :class:`int`
        Clock cycles of a bit; see :func:`~siligrad_hdl.link.uart.bit_cycles`.

    Members
    -------
    rx, tx : :py:`In(1)`, :py:`Out(1)`
        The line, from the host and to it.
    host : :py:`In(HostPort)`
        To the accelerator.
    """

    def __init__(self, *, bit_cycles: int) -> None:
        self.bit_cycles = bit_cycles
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "host": In(HostPort())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(bit_cycles=self.bit_cycles)
        m.submodules.transmitter = transmitter = UartTransmitter(bit_cycles=self.bit_cycles)
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.encoder = encoder = CobsEncoder(size=_REPLY_BYTES)
        m.submodules.commands = commands = LinkCommands()
        wiring.connect(m, receiver.bytes, decoder.bytes)
        wiring.connect(m, commands.reply, encoder.data)
        wiring.connect(m, encoder.bytes, transmitter.bytes)
        wiring.connect(m, commands.host, wiring.flipped(self.host))
        m.d.comb += [
            receiver.wire.eq(self.rx),
            self.tx.eq(transmitter.wire),
            encoder.end.eq(commands.reply_end),
        ]
        m.d.sync += [
            commands.data.eq(decoder.data),
            commands.data_valid.eq(decoder.data_valid),
            commands.end.eq(decoder.end),
            commands.complete.eq(decoder.complete),
        ]
        return m
