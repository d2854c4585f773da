"""Bench of :class:`siligrad_hdl.axi_lite.AxiLiteAccelerator`.

The master is that of cocotbext-axi, which has its own idea of the bus. Beside it, what the bus
demands of a subordinate is checked in every cycle. Parameters as in
:mod:`siligrad_sim.benches.host`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from siligrad.isa import Memory
from siligrad.registers import Region, Register, Status
from siligrad_sim.benches.cycles import next_cycle, now, random_generator, settled, start
from siligrad_sim.benches.host import PATIENCE, Bus, Session

INPUTS = {
    **dict.fromkeys(["awaddr", "awprot", "awvalid", "wdata", "wstrb", "wvalid", "bready"], 0),
    **dict.fromkeys(["araddr", "arprot", "arvalid", "rready"], 0),
}

OKAY, SLVERR = 0, 2
"""Values of ``bresp`` and ``rresp``."""

CHANNELS = {
    "aw": ("awaddr", "awprot"),
    "w": ("wdata", "wstrb"),
    "b": ("bresp",),
    "ar": ("araddr", "arprot"),
    "r": ("rdata", "rresp"),
}
"""What goes with each channel's ``valid``."""


async def watch(dut: Any) -> None:
    """Check in every cycle that what is valid stays as it is until it is taken, and in number.

    A response belongs to a request that was accepted before, and there is one for each.
    """
    waiting: dict[str, tuple[int, ...]] = {}
    open_writes: dict[str, int] = {"aw": 0, "w": 0}
    open_reads = 0
    while True:
        await FallingEdge(dut.clk)
        await settled()
        taken: dict[str, bool] = {}
        for channel, members in CHANNELS.items():
            valid = bool(getattr(dut, f"axi__{channel}valid").value)
            ready = bool(getattr(dut, f"axi__{channel}ready").value)
            assert valid or channel not in waiting, (
                f"cycle {now()}: {channel}valid fell before it was taken"
            )
            # What is not valid may be anything: this master sends X.
            carried = tuple(
                int(getattr(dut, f"axi__{member}").value) for member in members if valid
            )
            if channel in waiting:
                before = waiting.pop(channel)
                assert carried == before, (
                    f"cycle {now()}: {members} {carried}, want {before}: not taken yet"
                )
            if valid and not ready:
                waiting[channel] = carried
            taken[channel] = valid and ready
        response = bool(dut.axi__bvalid.value)
        accepted = min(open_writes.values())
        assert not response or accepted, f"cycle {now()}: a response to no write"
        assert not bool(dut.axi__rvalid.value) or open_reads, f"cycle {now()}: data for no read"
        for channel in open_writes:
            open_writes[channel] += taken[channel] - taken["b"]
        open_reads += taken["ar"] - taken["r"]


class AxiHost(Bus):
    """A host that uses the master of cocotbext-axi, each channel with pauses at random.

    `share` is the part of the cycles in which a channel pauses.
    """

    def __init__(self, dut: Any, share: float) -> None:
        self.dut = dut
        self.share = share

    async def begin(self) -> None:
        await start(self.dut, {f"axi__{name}": value for name, value in INPUTS.items()})
        cocotb.start_soon(watch(self.dut))
        from cocotbext.axi import (  # noqa: PLC0415  (who imports all modules may not have it)
            AxiLiteBus,
            AxiLiteMaster,
        )

        self.master = AxiLiteMaster(
            AxiLiteBus.from_prefix(self.dut, "axi_"), self.dut.clk, self.dut.rst
        )
        for log in (self.master.write_if.log, self.master.read_if.log):
            log.setLevel("WARNING")
        rng = random_generator()

        def pauses(seed: int) -> Iterator[bool]:
            draws = np.random.default_rng(seed)
            while True:
                yield from (draws.random(1000) < self.share).tolist()

        write, read = self.master.write_if, self.master.read_if
        channels = (write.aw_channel, write.w_channel, write.b_channel)
        for channel in (*channels, read.ar_channel, read.r_channel):
            if self.share:
                channel.set_pause_generator(pauses(int(rng.integers(1 << 32))))

    async def request(self, address: int, value: int | None) -> int:
        if value is None:
            answer = await self.master.read(4 * address, 4)
            self.must_be_okay(answer.resp, address)
            return int.from_bytes(answer.data, "little")
        answer = await self.master.write(4 * address, value.to_bytes(4, "little"))
        self.must_be_okay(answer.resp, address)
        return 0

    @staticmethod
    def must_be_okay(response: int, address: int) -> None:
        """Check a response to a whole, aligned word."""
        assert response == OKAY, (
            f"cycle {now()}: {response!r} to an access to word {address:#x}, want OKAY"
        )


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(share=[0.0, 0.3])
async def trains_a_step(dut: Any, share: float) -> None:
    """A whole program is loaded, run and read back; every word, counter and cycle."""
    session = Session(dut, AxiHost(dut, share))
    await session.begin()
    await session.load(session.draw("coarse"))
    promised = session.promised(session.instructions, session.loop)
    session.machine.run(session.instructions, session.loop)
    await session.write_register(Register.LIMIT, promised)
    await session.start_program(session.loop)
    while dut.busy.value:
        await FallingEdge(dut.clk)
    await session.compare(promised)


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(share=[0.0, 0.5, 0.9])
async def carries_many_requests_at_a_time(dut: Any, share: float) -> None:
    """Reads and writes that wait together, in whatever order their channels bring them."""
    host = AxiHost(dut, share)
    session = Session(dut, host)
    await session.begin()
    rng = random_generator()
    n, depth = session.geometry.array, session.geometry.x_depth
    places = [(address, bank) for address in range(depth) for bank in range(n)]
    limit = (1 << session.geometry.word_bits - 1) - 1
    held: dict[int, int] = {}
    for _ in range(6 if share < 0.9 else 2):
        order = rng.permutation(len(places)).tolist()
        words = [session.place(Memory.X, *places[index]) for index in order]
        written = {word: int(rng.integers(-limit, limit)) & 0xFFFFFFFF for word in words[:12]}
        # No word is written and read at the same time.
        read = [word for word in words[12:] if word in held][:12]
        writes = [
            (word, host.master.init_write(4 * word, value.to_bytes(4, "little")))
            for word, value in written.items()
        ]
        reads = [(word, host.master.init_read(4 * word, 4)) for word in read]
        for word, event in writes:
            await event.wait()
            host.must_be_okay(event.data.resp, word)
        for word, event in reads:
            await event.wait()
            host.must_be_okay(event.data.resp, word)
            got = int.from_bytes(event.data.data, "little")
            assert got == held[word], (
                f"cycle {now()}: word {word:#x} {got:#x}, want {held[word]:#x}"
            )
        held |= written
    for word, want in held.items():
        got = await host.request(word, None)
        assert got == want, f"cycle {now()}: word {word:#x} {got:#x}, want {want:#x}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def refuses_parts_of_words(dut: Any) -> None:
    """Bytes and unaligned words are answered SLVERR, change nothing, and read zero."""
    host = AxiHost(dut, 0.2)
    session = Session(dut, host)
    await session.begin()
    register = Region.REGISTERS.base + Register.LIMIT
    whole = 0x89ABCDEF
    await host.request(register, whole)
    for offset in range(4):
        for length in range(1, 5):
            if (offset, length) == (0, 4):
                continue
            wrote = await host.master.write(4 * register + offset, bytes(range(1, length + 1)))
            where = f"cycle {now()}: {length} bytes from byte {offset} on"
            assert wrote.resp == SLVERR, f"{where}: {wrote.resp!r}, want SLVERR"
            got = await host.request(register, None)
            assert got == whole, f"{where} changed the word to {got:#x}"
            got = await host.request(register + 1, None)
            assert got == 0, f"{where} changed the next word to {got:#x}"
            if offset:
                read = await host.master.read(4 * register + offset, length)
                assert read.resp == SLVERR, f"{where}: {read.resp!r}, want SLVERR"
                first = read.data[: 4 - offset]
                assert not any(first), f"{where}: {first!r} was read, want zeros"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def tells_of_a_run_and_refuses_to_be_disturbed(dut: Any) -> None:
    """While a program runs: what is not allowed is answered OKAY, and STATUS says refused."""
    session = Session(dut, AxiHost(dut, 0.0))
    await session.begin()
    await session.load(session.draw("coarse"))
    promised = session.promised(session.instructions, session.loop)
    session.machine.run(session.instructions, session.loop)
    await session.start_program(session.loop)
    assert dut.busy.value, f"cycle {now()}: not busy after a start"
    await session.write(session.place(Memory.X, 1, 1), 1)
    status = await session.read_register(Register.STATUS)
    want = Status.BUSY | Status.REFUSED
    assert status == want, f"cycle {now()}: status {status}, want {want}"
    await session.write_register(Register.STATUS, 0)
    while dut.busy.value:
        await FallingEdge(dut.clk)
    await session.compare(promised)


async def drive(dut: Any, **values: int) -> None:
    """Set members of the bus at the beginning of a cycle, and let the outputs follow."""
    for name, value in values.items():
        getattr(dut, f"axi__{name}").value = value
    await settled()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(lead=[-7, -1, 0, 1, 7], patience=[0, 1, 5])
async def takes_address_and_data_in_any_order(dut: Any, lead: int, patience: int) -> None:
    """The address comes `lead` cycles before the data; the response waits `patience` cycles."""
    await start(dut, {f"axi__{name}": value for name, value in INPUTS.items()})
    cocotb.start_soon(watch(dut))
    register, value = Register.LIMIT, 0x600DF00D
    comes = {"aw": max(-lead, 0), "w": max(lead, 0)}
    dut.axi__awaddr.value, dut.axi__wdata.value, dut.axi__wstrb.value = 4 * register, value, 15
    waited = 0
    for cycle in range(PATIENCE):
        asked = {f"{name}valid": int(cycle >= at) for name, at in comes.items()}
        await drive(dut, **asked, bready=int(waited > patience))
        for name, at in list(comes.items()):
            if cycle >= at and getattr(dut, f"axi__{name}ready").value:
                comes[name] = PATIENCE  # was taken, comes no more
        if dut.axi__bvalid.value:
            assert set(comes.values()) == {PATIENCE}, f"cycle {now()}: answered before it was taken"
            assert int(dut.axi__bresp.value) == OKAY, f"cycle {now()}: not OKAY"
            waited += 1
        await next_cycle(dut)
    assert waited == patience + 2, f"cycle {now()}: bvalid in {waited} cycles, want {patience + 2}"
    await drive(dut, araddr=4 * register, arvalid=1, rready=1)
    for _ in range(PATIENCE):
        taken = bool(dut.axi__arready.value)
        if dut.axi__rvalid.value:
            got = int(dut.axi__rdata.value)
            assert got == value, f"cycle {now()}: {got:#x} was read, want {value:#x}"
            return
        await next_cycle(dut)
        await drive(dut, **({"arvalid": 0} if taken else {}))
    raise AssertionError(f"cycle {now()}: no data in {PATIENCE} cycles")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gives_reads_and_writes_their_turns(dut: Any) -> None:
    """Where both wait all the time, neither goes twice in a row."""
    await start(dut, {f"axi__{name}": value for name, value in INPUTS.items()})
    cocotb.start_soon(watch(dut))
    await drive(dut, wstrb=15, awvalid=1, wvalid=1, arvalid=1, bready=1, rready=1)
    await next_cycle(dut)
    turns = []
    for _ in range(200):
        await settled()
        if dut.axi__awready.value:
            turns.append("write")
        if dut.axi__arready.value:
            turns.append("read")
        await next_cycle(dut)
    assert len(turns) >= 10, f"cycle {now()}: only {len(turns)} requests in 200 cycles"
    for number, pair in enumerate(itertools.pairwise(turns)):
        assert set(pair) == {"read", "write"}, f"request {number}: two {pair[0]}s in a row"
