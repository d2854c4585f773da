"""The host port as a device on a Wishbone bus."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.baked import Baked
from siligrad.isa import Geometry
from siligrad.registers import HOST_ADDRESS_BITS
from siligrad_hdl.on_bus import AcceleratorOnBus
from siligrad_hdl.ports import HostPort

__all__ = ["WishboneAccelerator", "WishboneAdapter", "WishbonePort"]


class WishbonePort(wiring.Signature):
    """Wishbone B4, classic cycles, words of 32 bits; members as the accelerator sees them.

    Names and meanings are those of the specification (OpenCores, *Wishbone B4*, 2010), in lower
    case and without ``_I`` and ``_O``.

    Members
    -------
    cyc, stb, we : :py:`In(1)`
        A cycle is going on; a request is made; it is a write, else a read.
    adr : :py:`In(HOST_ADDRESS_BITS)`
        Word address: bits 24 to 2 of a byte address.
    sel : :py:`In(4)`
        Bytes of the word that are wanted.
    dat_w : :py:`In(32)`
        What a write writes.
    dat_r : :py:`Out(32)`
        What a read has read, valid with ``ack``.
    ack, err : :py:`Out(1)`
        The request is done; it cannot be done.
    """

    def __init__(self) -> None:
        super().__init__({
            "cyc": In(1),
            "stb": In(1),
            "we": In(1),
            "adr": In(HOST_ADDRESS_BITS),
            "sel": In(4),
            "dat_w": In(32),
            "dat_r": Out(32),
            "ack": Out(1),
            "err": Out(1),
        })


class WishboneAdapter(wiring.Component):
    """Carries the requests of a Wishbone bus to a host port, one at a time.

    A request is copied, so that it is the same to the host port whatever becomes of its cycle. One
    whose master ends the cycle before it is answered is still carried out, once, and answered to
    nobody; a request that follows waits for that.

    A request of some bytes of a word (``sel`` is not all ones) is answered with ``err`` and does
    not reach the host port.

    Members
    -------
    wishbone : :py:`Out(WishbonePort)`
        The bus.
    host : :py:`In(HostPort)`
        To the accelerator.
    """

    def __init__(self) -> None:
        super().__init__({"wishbone": Out(WishbonePort()), "host": In(HostPort())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus, host = self.wishbone, self.host
        active = Signal()  # a request is at the host port
        abandoned = Signal()  # and nobody waits for it
        refused = Signal()  # what was asked for in the cycle before cannot be done
        requested = Signal()
        m.d.comb += [
            requested.eq(bus.cyc & bus.stb),
            host.strobe.eq(active),
            bus.dat_r.eq(host.read_data),
            bus.ack.eq(requested & active & ~abandoned & host.acknowledge),
            bus.err.eq(requested & refused),
        ]
        m.d.sync += refused.eq(0)
        with m.If(active):
            with m.If(~requested):
                m.d.sync += abandoned.eq(1)
            with m.If(host.acknowledge):
                m.d.sync += active.eq(0)
        with m.Elif(requested & ~refused):
            m.d.sync += [
                active.eq(bus.sel.all()),
                refused.eq(~bus.sel.all()),
                abandoned.eq(0),
                host.write.eq(bus.we),
                host.address.eq(bus.adr),
                host.write_data.eq(bus.dat_w),
            ]
        return m


class WishboneAccelerator(AcceleratorOnBus):
    """The accelerator on a Wishbone bus.

    Parameters
    ----------
    geometry : :class:`siligrad.isa.Geometry`
        What to build.
    locked, baked
        As of :class:`~siligrad_hdl.accelerator.Accelerator`.

    Members
    -------
    wishbone : :py:`Out(WishbonePort)`
        The bus; its window is 2²³ words.
    busy : :py:`Out(1)`
        A program runs.
    """

    def __init__(
        self, geometry: Geometry, *, locked: bool = False, baked: Baked | None = None
    ) -> None:
        super().__init__(WishboneAdapter(), "wishbone", geometry, locked=locked, baked=baked)
