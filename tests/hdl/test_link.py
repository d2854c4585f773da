"""The serial link against docs/spec/link.md, with another's COBS and CRC on the host's side."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from cobs import cobs

from siligrad_hdl.link import SerialLink
from siligrad_hdl.link.uart import bit_cycles
from siligrad_hdl.ports import HostPort

CYCLES = 4
HELLO, READ, WRITE = 0, 1, 2
DONE, OTHER_SESSION, OTHER_NUMBER, NOT_UNDERSTOOD = 128, 129, 130, 131
WORDS = 128
COUNT = WORDS - 1


def sealed(data: bytes) -> bytes:
    return bytes(cobs.encode(data + struct.pack("<I", zlib.crc32(data)))) + b"\0"


def request(
    session: int, number: int, operation: int, address: int = 0, words: Any = (), count: int = 0
) -> bytes:
    count = max(count, len(words), 1)
    head = struct.pack("<IIBBI", session, number, operation, count - 1, address)
    return sealed(head + struct.pack(f"<{len(words)}I", *words))


class Line:
    """The other end of the line, in a simulation."""

    def __init__(self, context: Any, top: Any) -> None:
        self.context = context
        self.top = top

    async def send(self, data: bytes) -> None:
        for byte in data:
            for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
                self.context.set(self.top.rx, bit)
                await self.context.tick().repeat(CYCLES)

    async def receive(self, patience: int = 20_000) -> bytes | None:
        """The next frame, decoded; None when the line stays silent."""
        frame = bytearray()
        while True:
            waited = 0
            while self.context.get(self.top.tx):
                waited += 1
                if waited > patience:
                    assert not frame
                    return None
                await self.context.tick()
            await self.context.tick().repeat(CYCLES // 2)
            byte = 0
            for bit in range(8):
                await self.context.tick().repeat(CYCLES)
                byte |= self.context.get(self.top.tx) << bit
            await self.context.tick().repeat(CYCLES)
            assert self.context.get(self.top.tx), "the stop bit"
            await self.context.tick().repeat(CYCLES // 2 - 1)
            if byte == 0:
                data = bytes(cobs.decode(bytes(frame)))
                assert zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]
                return data[:-4]
            frame.append(byte)

    async def ask(self, frame: bytes) -> tuple[int, int, int, list[int]]:
        """Send a frame and return session, number, status and words of the reply."""
        await self.send(frame)
        answer = await self.receive()
        assert answer is not None
        session, number, status = struct.unpack("<IIB", answer[:9])
        return session, number, status, list(struct.unpack(f"<{len(answer[9:]) // 4}I", answer[9:]))


class Store(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """A host port with a few words behind it; the last counts writes to the others."""

    def __init__(self) -> None:
        super().__init__({"host": Out(HostPort())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = memory.Memory(shape=32, depth=WORDS, init=[])
        read, write = words.read_port(), words.write_port()
        writes = Signal(32)
        waited = Signal(3)
        host = self.host
        m.d.comb += [
            read.addr.eq(host.address),
            write.addr.eq(host.address),
            write.data.eq(host.write_data),
            write.en.eq(host.acknowledge & host.write),
            host.acknowledge.eq(waited == 5),
            host.read_data.eq(Mux(host.address == COUNT, writes, read.data)),
        ]
        m.d.sync += waited.eq(Mux(host.strobe & ~host.acknowledge, waited + 1, 0))
        with m.If(write.en):
            m.d.sync += writes.eq(writes + 1)
        return m


class Board(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """The link, and something behind it."""

    def __init__(self) -> None:
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.link = link = SerialLink(bit_cycles=CYCLES)
        m.submodules.store = store = Store()
        wiring.connect(m, link.host, store.host)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        return m


def run(bench: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
    top = Board()
    simulator = Simulator(top)
    simulator.add_clock(1e-6)

    async def testbench(context: Any) -> None:
        await context.tick().repeat(3)
        await bench(Line(context, top))

    simulator.add_testbench(testbench)
    simulator.run()


def test_words_are_written_and_read_in_frames_of_any_length() -> None:
    rng = np.random.default_rng(0)

    async def bench(line: Line) -> None:
        assert await line.ask(request(7, 100, HELLO)) == (7, 100, DONE, [])
        number = 100
        for address, count in ((3, 1), (0, 2), (61, 63), (60, 64), (0, 64)):
            # Zeros and runs without one: both ends of COBS.
            words = (rng.integers(0, 2, count) * rng.integers(1, 1 << 32, count)).tolist()
            words = words if address else [0x01010101] * count
            number += 1
            write = request(7, number, WRITE, address, words)
            assert await line.ask(write) == (7, number, DONE, [])
            number += 1
            read = request(7, number, READ, address, count=count)
            assert await line.ask(read) == (7, number, DONE, words)
        read = request(7, number + 1, READ, COUNT)
        assert await line.ask(read) == (7, number + 1, DONE, [1 + 2 + 63 + 64 + 64])

    run(bench)


def test_a_request_is_carried_out_once_however_often_it_comes() -> None:
    async def bench(line: Line) -> None:
        await line.ask(request(5, 0xFFFFFFFE, HELLO))
        first, second = request(5, 0xFFFFFFFF, WRITE, 9, [11]), request(5, 0, WRITE, 9, [12])
        assert await line.ask(first) == (5, 0xFFFFFFFF, DONE, [])
        assert await line.ask(second) == (5, 0, DONE, [])
        # Late copies: of the one before, of the hello, of the last.
        assert await line.ask(first) == (5, 0xFFFFFFFF, OTHER_NUMBER, [])
        assert await line.ask(request(5, 0xFFFFFFFE, HELLO)) == (5, 0xFFFFFFFE, DONE, [])
        assert await line.ask(first) == (5, 0xFFFFFFFF, OTHER_NUMBER, [])
        assert await line.ask(second) == (5, 0, DONE, [])
        assert await line.ask(request(5, 2, WRITE, 9, [14])) == (5, 2, OTHER_NUMBER, [])
        for _ in range(2):
            assert await line.ask(request(5, 1, READ, 9)) == (5, 1, DONE, [12])
        assert await line.ask(request(5, 2, READ, COUNT)) == (5, 2, DONE, [2])

    run(bench)


def test_another_session_is_refused_and_none_is_there_after_a_reset() -> None:
    async def bench(line: Line) -> None:
        for session in (1, 0):
            read = request(session, 1, READ, 0)
            assert await line.ask(read) == (session, 1, OTHER_SESSION, [])
        assert await line.ask(request(0, 1, HELLO)) == (0, 1, NOT_UNDERSTOOD, [])
        await line.ask(request(2, 8, HELLO))
        assert await line.ask(request(1, 9, WRITE, 0, [1])) == (1, 9, OTHER_SESSION, [])
        assert await line.ask(request(2, 9, READ, COUNT)) == (2, 9, DONE, [0])
        await line.ask(request(3, 0, HELLO))
        assert await line.ask(request(2, 10, READ, 0)) == (2, 10, OTHER_SESSION, [])
        assert await line.ask(request(3, 1, READ, COUNT)) == (3, 1, DONE, [0])

    run(bench)


def test_what_is_damaged_is_dropped_and_the_next_frame_is_heard() -> None:
    write = request(3, 1, WRITE, 4, [9])
    reply = sealed(struct.pack("<IIBBI", 3, 1, DONE, 0, 0))
    short = sealed(b"\x03\x00\x00\x00\x01\x00\x00\x00\x02")

    async def bench(line: Line) -> None:
        await line.ask(request(3, 0, HELLO))
        damaged = [write[:i] + bytes([write[i] ^ 0x10]) + write[i + 1 :] for i in (1, 9, 15, 20)]
        for frame in [*damaged, write[5:], write[:9] + b"\0", b"\0\0", b"\x05\1\0", short, reply]:
            await line.send(frame)
            assert await line.receive(400) is None
        assert await line.ask(request(3, 1, READ, COUNT)) == (3, 1, DONE, [0])

    run(bench)


def test_what_is_not_understood_is_refused_and_changes_nothing() -> None:
    frames = [
        request(4, 1, 3),
        request(4, 1, 127),
        request(4, 1, READ, count=65),
        request(4, 1, READ, count=256),
        request(4, 1, READ, words=[1]),
        sealed(struct.pack("<IIBBI2I", 4, 1, WRITE, 0, 9, 5, 6)),
        sealed(struct.pack("<IIBBI", 4, 1, WRITE, 0, 9)),
        sealed(struct.pack("<IIBBI", 4, 1, WRITE, 0, 9) + b"\5\0\0"),
        request(4, 1, WRITE, (1 << 23) + 9, [5]),
        request(4, 1, WRITE, (1 << 23) - 1, [5, 6]),
        request(4, 1, WRITE, (1 << 32) - 1, [5, 6]),
        request(4, 1, WRITE, 9, [5] * 65),
        request(4, 1, WRITE, 9, [5] * 200),
    ]

    async def bench(line: Line) -> None:
        await line.ask(request(4, 0, HELLO))
        for frame in frames:
            assert (await line.ask(frame))[2:] == (NOT_UNDERSTOOD, [])
        assert await line.ask(request(4, 1, READ, COUNT)) == (4, 1, DONE, [0])

    run(bench)


def test_a_request_that_comes_too_early_is_dropped_whole() -> None:
    async def bench(line: Line) -> None:
        await line.ask(request(6, 0, HELLO))
        # Before the reply is there: its words must not take the place of those being written.
        await line.send(request(6, 1, WRITE, 0, list(range(64))) + request(6, 2, WRITE, 9, [7]))
        await line.context.tick().repeat(1000)
        assert await line.ask(request(6, 2, READ, 0, count=3)) == (6, 2, DONE, [0, 1, 2])
        assert await line.ask(request(6, 3, READ, COUNT)) == (6, 3, DONE, [64])

    run(bench)


@pytest.mark.parametrize(
    ("clock", "baud", "cycles"),
    [(12e6, 1_000_000, 12), (25e6, 1_000_000, 25), (48e6, 1_000_000, 48), (12e6, 115_200, 104)],
)
def test_rates_that_a_clock_can_be_divided_to(clock: float, baud: int, cycles: int) -> None:
    assert bit_cycles(clock, baud) == cycles


def test_rates_that_it_cannot_are_refused() -> None:
    with pytest.raises(ValueError, match=r"25 MHz divided by 8 is 4\.2% off 3000000 baud"):
        bit_cycles(25e6, 3_000_000)
    with pytest.raises(ValueError, match="at least 4 are needed: at most 3000000 baud"):
        bit_cycles(12e6, 4_000_000)
