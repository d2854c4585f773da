"""Bench of :class:`siligrad_hdl.wishbone.WishboneAccelerator`.

Parameters as in :mod:`siligrad_sim.benches.host`.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge
from cocotb.types import LogicArray

from siligrad.isa import Memory
from siligrad.registers import IDENTIFICATION, Region, Register, Status
from siligrad_sim.benches.cycles import next_cycle, now, random_generator, settled, start
from siligrad_sim.benches.host import PATIENCE, Bus, Session

INPUTS = ("cyc", "stb", "we", "adr", "sel", "dat_w")


async def watch(dut: Any) -> None:
    """Check in every cycle that a request is answered once, and nothing else is."""
    while True:
        await FallingEdge(dut.clk)
        await settled()
        requested = bool(dut.wishbone__cyc.value) and bool(dut.wishbone__stb.value)
        answers = int(dut.wishbone__ack.value) + int(dut.wishbone__err.value)
        assert answers <= requested, (
            f"cycle {now()}: {answers} answers to {'a' if requested else 'no'} request"
        )


class WishboneHost(Bus):
    """A master of classic cycles.

    `rest` is the most cycles between requests, drawn at random; in some of them the cycle goes on.
    """

    def __init__(self, dut: Any, rest: int) -> None:
        self.dut = dut
        self.rest = rest
        self.rng = random_generator()

    async def begin(self) -> None:
        await start(self.dut, {f"wishbone__{name}": 0 for name in INPUTS})
        cocotb.start_soon(watch(self.dut))

    def ask(self, address: int, value: int | None, sel: int = 15) -> None:
        """Make a request at the beginning of a cycle."""
        dut = self.dut
        dut.wishbone__cyc.value = 1
        dut.wishbone__stb.value = 1
        dut.wishbone__we.value = int(value is not None)
        dut.wishbone__adr.value = address
        dut.wishbone__sel.value = sel
        dut.wishbone__dat_w.value = value or 0

    def end(self, *, cyc: int = 0) -> None:
        """Make no request, with anything on the other lines."""
        dut = self.dut
        dut.wishbone__cyc.value = cyc
        dut.wishbone__stb.value = 0 if cyc else int(self.rng.integers(2))
        for name, bits in (("we", 1), ("adr", 23), ("sel", 4), ("dat_w", 32)):
            getattr(dut, f"wishbone__{name}").value = int(self.rng.integers(1 << bits))

    async def answered(self) -> tuple[bool, LogicArray]:
        """Wait for the answer to the request; return whether it is done, and what is read."""
        dut = self.dut
        for _ in range(PATIENCE):
            await settled()
            done, failed = bool(dut.wishbone__ack.value), bool(dut.wishbone__err.value)
            word = dut.wishbone__dat_r.value
            await next_cycle(dut)
            if done or failed:
                return done, word
        raise AssertionError(f"cycle {now()}: no answer in {PATIENCE} cycles")

    async def request(self, address: int, value: int | None) -> int:
        self.ask(address, value)
        done, word = await self.answered()
        assert done, f"cycle {now()}: err of an access to word {address:#x}, want ack"
        for _ in range(int(self.rng.integers(self.rest + 1))):
            self.end(cyc=int(self.rng.integers(2)))
            await next_cycle(self.dut)
        return int(word) if value is None else 0


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(rest=[0, 3])
async def trains_a_step(dut: Any, rest: int) -> None:
    """A whole program is loaded, run and read back; every word, counter and cycle."""
    host = WishboneHost(dut, rest)
    session = Session(dut, host)
    await session.begin()
    await session.load(session.draw("coarse"))
    promised = session.promised(session.instructions, session.loop)
    session.machine.run(session.instructions, session.loop)
    await session.write_register(Register.LIMIT, promised)
    await session.start_program(session.loop)
    host.end()
    while dut.busy.value:
        await next_cycle(dut)
    await session.compare(promised)


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(rest=[0, 5])
async def keeps_every_word_where_it_was_written(dut: Any, rest: int) -> None:
    """Reads and writes in a random order, one directly after the other or not."""
    host = WishboneHost(dut, rest)
    session = Session(dut, host)
    await session.begin()
    rng = random_generator()
    n, limit = session.geometry.array, (1 << session.geometry.word_bits - 1) - 1
    held: dict[int, int] = {}
    for _ in range(400):
        word = session.place(Memory.W, int(rng.integers(4)), int(rng.integers(n)))
        if word not in held or rng.integers(2):
            held[word] = int(rng.integers(-limit, limit)) & 0xFFFFFFFF
            await host.request(word, held[word])
        else:
            got = await host.request(word, None)
            assert got == held[word], (
                f"cycle {now()}: word {word:#x} {got:#x}, want {held[word]:#x}"
            )


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refuses_parts_of_words(dut: Any) -> None:
    """A request of some bytes is answered with err, and changes nothing."""
    host = WishboneHost(dut, 1)
    await host.begin()
    register, whole = Region.REGISTERS.base + Register.LIMIT, 0x89ABCDEF
    await host.request(register, whole)
    for sel in range(15):
        for value in (0x01020304, None):
            host.ask(register, value, sel)
            done, _ = await host.answered()
            assert not done, f"cycle {now()}: ack of sel {sel:04b}, want err"
        got = await host.request(register, None)
        assert got == whole, f"cycle {now()}: sel {sel:04b} changed the word to {got:#x}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(gap=[1, 2, 5])
async def survives_cycles_that_are_abandoned(dut: Any, gap: int) -> None:
    """A cycle ends after any number of cycles without an answer; the next gets its own."""
    host = WishboneHost(dut, 0)
    await host.begin()
    registers = Region.REGISTERS.base
    for after in range(1, 14):
        for address, value in ((registers + Register.LIMIT, after), (registers, None)):
            await host.request(registers + Register.LIMIT, 0)
            host.ask(address, value)
            for _ in range(after):
                await settled()
                answered = bool(dut.wishbone__ack.value)
                await next_cycle(dut)
                if answered:  # the master ends it then, or would ask again
                    break
            for _ in range(gap):
                host.end()
                await next_cycle(dut)
            # The answer must be to this request, not to the one before.
            got = await host.request(registers + Register.STEPS, None)
            assert got == 1, f"cycle {now()}: STEPS {got:#x} after an abandoned cycle, want 1"
            got = await host.request(registers + Register.LIMIT, None)
            want = value or 0
            assert got == want, f"cycle {now()}: LIMIT {got}, want {want}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def starts_once_where_the_start_is_abandoned(dut: Any) -> None:
    """A start whose cycle is ended before its answer is one start: a second would be refused."""
    host = WishboneHost(dut, 0)
    session = Session(dut, host)
    await session.begin()
    await session.load(session.draw("coarse"))
    host.ask(Region.REGISTERS.base + Register.CONTROL, 1)
    await next_cycle(dut)
    for _ in range(8):
        host.end()
        await next_cycle(dut)
    status = await session.read_register(Register.STATUS)
    assert status == Status.BUSY, f"cycle {now()}: status {status}, want {Status.BUSY}"
    got = await session.read_register(Register.IDENTIFICATION)
    assert got == IDENTIFICATION, f"cycle {now()}: identification {got:#x}"
