"""A board that is not there: the accelerator and its link, simulated behind a pseudo-terminal.

Whatever talks to a board through a serial port talks to this one: the bits go through the UART, the
decoder and the commands of the hardware, in Verilator.
"""

from __future__ import annotations

import os
import select
import shutil
import tempfile
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Out

from siligrad.isa import Geometry
from siligrad.registers import REGION_BITS
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.link import SerialLink
from siligrad_hdl.link.uart import UartReceiver, UartTransmitter
from siligrad_hdl.ports import HostPort
from siligrad_sim.netlist import TOP
from siligrad_sim.verilator import VerilatorDevice

__all__ = ["LINE", "LinkedAccelerator", "SimulatedBoard"]

LINE = 3 << REGION_BITS
"""Words of a :class:`LinkedAccelerator`'s host port, in a region that an accelerator does not have,
begin here: a write to any sends a byte on the line, a read gives one that came, with bit 8 set, or
zero."""

_BIT_CYCLES = 4
_LISTEN_CYCLES = 48
"""Cycles after which a read of :data:`LINE` gives up; less than a simulation's patience."""

_QUIET_READS = 100
"""Reads that give nothing, after which the board is waiting for the host; some thousand cycles."""

_QUIET_SECONDS = 0.05
_BUSY_CYCLES = 1 << 12
_LINE_BYTES = 512
"""Bytes that are handed to the board at once; the answers to so many fit what is kept of them."""

_LINE_WORDS = 12
"""Words that are read of the line at once, once a byte has come."""


class LinkedAccelerator(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """The accelerator behind its link, and the other end of the line behind a host port.

    Other words of the host port are the accelerator's, past the link.

    Parameters
    ----------
    geometry : :class:`siligrad.isa.Geometry`
        What to build.
    accelerator
        What is behind the link instead of the accelerator of `geometry`.

    Members
    -------
    host : :py:`Out(HostPort)`
        The line, and the accelerator.
    busy : :py:`Out(1)`
        A program runs.
    """

    def __init__(self, geometry: Geometry, *, accelerator: Any = None) -> None:
        self.geometry = geometry
        self._accelerator = Accelerator(geometry) if accelerator is None else accelerator
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        m.submodules.link = link = SerialLink(bit_cycles=_BIT_CYCLES)
        m.submodules.sender = sender = UartTransmitter(bit_cycles=_BIT_CYCLES)
        m.submodules.listener = listener = UartReceiver(bit_cycles=_BIT_CYCLES)
        m.submodules.heard = heard = SyncFIFOBuffered(width=8, depth=1024)
        host, inner = self.host, accelerator.host
        m.d.comb += [
            self.busy.eq(accelerator.busy),
            link.rx.eq(sender.wire),
            listener.wire.eq(link.tx),
            heard.w_en.eq(listener.bytes.valid),
            heard.w_data.eq(listener.bytes.payload),
            sender.bytes.payload.eq(host.write_data),
        ]

        # Who is at the accelerator stays there until it is answered.
        is_line = host.address[REGION_BITS:] == LINE >> REGION_BITS
        past = Signal()
        taken = Signal()
        by_past = Signal()
        m.d.comb += by_past.eq(Mux(taken, past, ~link.host.strobe))
        m.d.sync += [taken.eq(inner.strobe & ~inner.acknowledge), past.eq(by_past)]
        with m.If(by_past):
            m.d.comb += [
                inner.strobe.eq(host.strobe & ~is_line),
                inner.write.eq(host.write),
                inner.address.eq(host.address),
                inner.write_data.eq(host.write_data),
            ]
        with m.Else():
            m.d.comb += [
                inner.strobe.eq(link.host.strobe),
                inner.write.eq(link.host.write),
                inner.address.eq(link.host.address),
                inner.write_data.eq(link.host.write_data),
            ]
        m.d.comb += [
            link.host.read_data.eq(inner.read_data),
            link.host.acknowledge.eq(inner.acknowledge & ~by_past),
        ]

        # The line.
        waited = Signal(range(_LISTEN_CYCLES + 1))
        with m.If(host.strobe & is_line & ~host.acknowledge):
            m.d.sync += waited.eq(waited + 1)
        with m.Else():
            m.d.sync += waited.eq(0)
        with m.If(~is_line):
            m.d.comb += [
                host.read_data.eq(inner.read_data),
                host.acknowledge.eq(inner.acknowledge & by_past),
            ]
        with m.Elif(host.write):
            m.d.comb += [
                sender.bytes.valid.eq(host.strobe),
                host.acknowledge.eq(host.strobe & sender.bytes.ready),
            ]
        with m.Else():
            m.d.comb += [
                host.acknowledge.eq(host.strobe & (heard.r_rdy | (waited == _LISTEN_CYCLES))),
                host.read_data.eq(Mux(heard.r_rdy, Cat(heard.r_data, 1), 0)),
                heard.r_en.eq(host.acknowledge),
            ]
        return m


class _LinkedDevice(VerilatorDevice):
    """The simulation of a :class:`LinkedAccelerator`."""

    @property
    def busy(self) -> bool:
        """Whether a program runs."""
        return bool(self._library.siligrad_wait(self._simulation, 1))


class SimulatedBoard:
    """A simulated board behind a pseudo-terminal, served by a thread until it is closed.

    Parameters
    ----------
    geometry
        Of its accelerator.
    accelerator
        What to simulate instead of the accelerator of `geometry`, with the same ports. Tests hand
        in broken ones.
    to_board, to_host
        What the line does to what is sent in each direction: from bytes to bytes. Tests hand in
        lines that damage it.

    Attributes
    ----------
    port : str
        The serial port: ``serial:PORT`` is the device. It keeps its name when it is plugged in
        again.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        accelerator: Any = None,
        to_board: Callable[[bytes], bytes] = bytes,
        to_host: Callable[[bytes], bytes] = bytes,
    ) -> None:
        linked = LinkedAccelerator(geometry, accelerator=accelerator)
        self._verilog = str(verilog.convert(linked, name=TOP, strip_internal_attrs=True))
        self._geometry = geometry
        self._device = _LinkedDevice(geometry, verilog=self._verilog)
        self._to_board, self._to_host = to_board, to_host
        self._folder = Path(tempfile.mkdtemp(prefix="siligrad-board-"))
        self.port = str(self._folder / "port")
        self._ours = self._theirs = -1
        self._plug()
        self._closing = threading.Event()
        self._orders: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="simulated board", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the simulation; raise what it failed with, if it did."""
        self._closing.set()
        self._thread.join()
        self._unplug()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._device.close()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def reset(self) -> None:
        """Configure the board anew, as after a loss of power: it holds nothing afterwards."""
        self._order(self._reset)

    def unplug(self) -> None:
        """Pull the cable of the serial port; the board goes on."""
        self._order(self._unplug)

    def plug(self) -> None:
        """Plug the cable in again."""
        self._order(self._plug)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, what: Callable[[], None]) -> None:
        """Have the thread do something, and wait until it is done, or the thread has failed."""
        done = threading.Event()
        self._orders.put((what, done))
        while not done.wait(_QUIET_SECONDS) and self._thread.is_alive():
            pass

    def _reset(self) -> None:
        self._device.close()
        self._device = _LinkedDevice(self._geometry, verilog=self._verilog)

    def _plug(self) -> None:
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        port = Path(self.port)
        port.unlink(missing_ok=True)
        port.symlink_to(os.ttyname(self._theirs))

    def _unplug(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
            os.close(self._theirs)
            Path(self.port).unlink()
            self._ours = -1

    def _serve(self) -> None:
        try:
            silent = _QUIET_READS
            while not self._closing.is_set():
                try:
                    what, done = self._orders.get_nowait()
                except Empty:
                    pass
                else:
                    what()
                    done.set()
                active = self._advance(_QUIET_SECONDS if silent >= _QUIET_READS else 0.0)
                silent = 0 if active else silent + 1
        except Exception as error:  # noqa: BLE001  (handed to whoever closes the board)
            self._failure = error

    def _advance(self, patience: float) -> bool:
        """Carry bytes both ways; return whether there was anything to do."""
        device: Any = self._device
        active = False
        plugged = self._ours >= 0
        if select.select([self._ours] if plugged else [], [], [], patience)[0]:
            active = True
            sent = self._to_board(os.read(self._ours, _LINE_BYTES))
            device.write_block(LINE, np.frombuffer(sent, np.uint8).astype(np.uint32))
        while word := device.read_word(LINE):
            active = True
            words = device.read_block(LINE, _LINE_WORDS)
            said = bytes([word & 0xFF]) + words[words != 0].astype(np.uint8).tobytes()
            if plugged:
                os.write(self._ours, self._to_host(said))
        if device.busy:
            active = True
            device.wait(_BUSY_CYCLES)
        return active
