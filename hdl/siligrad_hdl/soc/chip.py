"""The system on chip: processor, RAM, console, timer and accelerator, joined."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.back import verilog
from amaranth.hdl import Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import Geometry
from siligrad.registers import HOST_ADDRESS_BITS, REGION_BITS
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.cycle_counter import CycleCounter
from siligrad_hdl.link.uart import UartTransmitter
from siligrad_hdl.ports import HostPort
from siligrad_hdl.soc.memory_map import RAM_BYTES, REGION_SHIFT, Console, SocRegion, Timer
from siligrad_hdl.soc.processor import Processor, processor_verilog
from siligrad_hdl.soc.ram import Ram

__all__ = ["DEBUG_RAM", "SystemOnChip", "to_verilog"]

DEBUG_RAM = 7 << REGION_BITS
"""Word address of the RAM behind :attr:`SystemOnChip.debug`, in a region that an accelerator does
not have."""

_RAM_BYTES_MAX = 4 << REGION_BITS


class SystemOnChip(wiring.Component):
    """A processor that drives an accelerator; addresses are those of :mod:`.memory_map`.

    From the end of the reset on it executes the RAM, from address zero. What is wrong stops it for
    good: a trap of the processor, an access where nothing is, and a store of some bytes of a word
    to anything but the RAM.

    An access of the RAM takes a cycle, of the timer two, a store to the console until the line is
    free, of the accelerator what its host port takes.

    Parameters
    ----------
    geometry : :class:`siligrad.isa.Geometry`
        Of the accelerator.
    bit_cycles : :class:`int`
        Clock cycles of a bit on the console.
    ram_bytes : :class:`int`
        Size of the RAM, a power of two.
    firmware : sequence of :class:`int`
        Its first words, which it has from the beginning.
    multiplier : :class:`bool`
        Whether the processor has one.

    Members
    -------
    tx : :py:`Out(1, init=1)`
        The line of the console, as of :class:`~siligrad_hdl.link.uart.UartTransmitter`.
    busy : :py:`Out(1)`
        The accelerator runs a program.
    fault : :py:`Out(1)`
        The processor has stopped.
    hold : :py:`In(1)`
        Keep the processor in its reset, and give its place to ``debug``.
    debug : :py:`Out(HostPort())`
        While ``hold`` is high, the RAM (from :data:`DEBUG_RAM` on) and the accelerator (all else).
        Otherwise every request waits.

    Raises
    ------
    ValueError
        If `ram_bytes` is no power of two from 1024 to 4 MiB, or `firmware` larger.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        bit_cycles: int,
        ram_bytes: int = RAM_BYTES,
        firmware: Sequence[int] = (),
        multiplier: bool = False,
    ) -> None:
        if not 1024 <= ram_bytes <= _RAM_BYTES_MAX or ram_bytes & (ram_bytes - 1):
            raise ValueError(
                f"ram_bytes must be a power of two from 1024 to {_RAM_BYTES_MAX}, not {ram_bytes}"
            )
        self.geometry = geometry
        self.bit_cycles = bit_cycles
        self.ram_bytes = ram_bytes
        self.multiplier = multiplier
        self._ram = Ram(words=ram_bytes // 4, init=firmware)
        super().__init__({
            "tx": Out(1, init=1),
            "busy": Out(1),
            "fault": Out(1),
            "hold": In(1),
            "debug": Out(HostPort()),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.processor = processor = Processor(multiplier=self.multiplier)
        m.submodules.ram = ram = self._ram
        m.submodules.console = console = UartTransmitter(bit_cycles=self.bit_cycles)
        m.submodules.timer = timer = CycleCounter()
        m.submodules.accelerator = accelerator = Accelerator(self.geometry)
        host = accelerator.host
        stopped = Signal()
        held = Signal()  # as soon as the accelerator owes the processor no answer
        pending = Signal()
        m.d.sync += pending.eq(host.strobe & ~held & ~host.acknowledge)
        m.d.comb += [
            held.eq(self.hold & ~pending),
            processor.reset.eq(ResetSignal() | held),
            self.tx.eq(console.wire),
            self.busy.eq(accelerator.busy),
            self.fault.eq(stopped | processor.trap),
            timer.clear.eq(held),
            timer.count.eq(1),
        ]

        # The RAM, a cycle ahead of the request.
        ram_next = processor.ahead_address[self.ram_bytes.bit_length() - 1 :] == 0
        ram_ready = Signal()
        m.d.sync += ram_ready.eq((processor.ahead_read | processor.ahead_write) & ram_next)
        m.d.comb += [
            ram.address.eq(processor.ahead_address[2:]),
            ram.read.eq(processor.ahead_read),
            ram.write_data.eq(processor.ahead_write_data),
        ]
        with m.If(processor.ahead_write & ram_next):
            m.d.comb += ram.write_bytes.eq(processor.ahead_write_bytes)

        # Everything else, which takes whole words.
        waiting = Signal()
        region = processor.address[REGION_SHIFT:]
        offset = processor.address[:REGION_SHIFT]
        reads, writes = processor.write_bytes == 0, processor.write_bytes.all()
        at_console = (region == SocRegion.CONSOLE) & (offset == Console.SEND) & writes & waiting
        at_timer = (
            (region == SocRegion.TIMER)
            & ((offset == Timer.CYCLES) | (offset == Timer.CYCLES_HIGH))
            & reads
            & waiting
        )
        at_accelerator = (
            (region == SocRegion.ACCELERATOR)
            & (offset[HOST_ADDRESS_BITS + 2 :] == 0)
            & (reads | writes)
            & waiting
        )
        m.d.comb += waiting.eq(processor.valid & ~ram_ready)
        timer_high, timer_data, timer_ready = Signal(32), Signal(32), Signal()
        m.d.sync += timer_ready.eq(at_timer & ~timer_ready)
        with m.If(at_timer & ~timer_ready):
            with m.If(offset == Timer.CYCLES):
                m.d.sync += [timer_data.eq(timer.cycles[:32]), timer_high.eq(timer.cycles[32:])]
            with m.Else():
                m.d.sync += timer_data.eq(timer_high)
        m.d.comb += [
            console.bytes.payload.eq(processor.write_data),
            console.bytes.valid.eq(at_console),
            host.strobe.eq(at_accelerator),
            host.write.eq(writes),
            host.address.eq(processor.address[2:]),
            host.write_data.eq(processor.write_data),
            processor.ready.eq(
                ram_ready
                | (at_console & console.bytes.ready)
                | (at_timer & timer_ready)
                | (at_accelerator & host.acknowledge)
            ),
            processor.read_data.eq(
                Mux(ram_ready, ram.read_data, Mux(at_timer, timer_data, host.read_data))
            ),
        ]
        with m.If(waiting & ~(at_console | at_timer | at_accelerator)):
            m.d.sync += stopped.eq(1)

        # Who looks while the processor is held.
        with m.If(held):
            m.d.sync += stopped.eq(0)
            debug = self.debug
            at_ram = debug.address[REGION_BITS:] == DEBUG_RAM >> REGION_BITS
            exists = debug.address[:REGION_BITS] < self.ram_bytes // 4
            answered = Signal()
            m.d.sync += answered.eq(debug.strobe & at_ram & ~answered)
            m.d.comb += [
                ram.address.eq(debug.address),
                ram.read.eq(debug.strobe & at_ram & ~debug.write),
                ram.write_bytes.eq((debug.strobe & at_ram & debug.write & exists).replicate(4)),
                ram.write_data.eq(debug.write_data),
                host.strobe.eq(debug.strobe & ~at_ram),
                host.write.eq(debug.write),
                host.address.eq(debug.address),
                host.write_data.eq(debug.write_data),
                debug.acknowledge.eq(Mux(at_ram, answered, host.acknowledge)),
                debug.read_data.eq(Mux(at_ram, Mux(exists, ram.read_data, 0), host.read_data)),
            ]
        return m


def to_verilog(component: wiring.Component, name: str = "siligrad") -> str:
    """Return a :class:`SystemOnChip`, or what contains one, as Verilog with that of its processor.

    Raises
    ------
    ProcessorMissing
        If there is none.
    """
    # The processor's own text first: it begins with directives.
    text = verilog.convert(component, name=name, strip_internal_attrs=True)
    return f"{processor_verilog()}\n{text}"
