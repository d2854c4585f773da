"""The host port as a subordinate of an AXI4-Lite bus."""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.baked import Baked
from siligrad.isa import Geometry
from siligrad.registers import HOST_ADDRESS_BITS
from siligrad_hdl.on_bus import AcceleratorOnBus
from siligrad_hdl.ports import HostPort

__all__ = ["AxiLiteAccelerator", "AxiLiteAdapter", "AxiLitePort", "Response"]


class Response(IntEnum):
    """What ``bresp`` and ``rresp`` say."""

    OKAY = 0
    SLVERR = 2


class AxiLitePort(wiring.Signature):
    """AXI4-Lite with words of 32 bits; members as the accelerator sees them.

    Names and meanings are those of the AMBA AXI and ACE Protocol Specification (ARM IHI 0022),
    part B, in lower case. Addresses count bytes.
    """

    def __init__(self) -> None:
        address_bits = HOST_ADDRESS_BITS + 2
        super().__init__({
            "awaddr": In(address_bits),
            "awprot": In(3),  # ignored, as is arprot
            "awvalid": In(1),
            "awready": Out(1),
            "wdata": In(32),
            "wstrb": In(4),
            "wvalid": In(1),
            "wready": Out(1),
            "bresp": Out(2),
            "bvalid": Out(1),
            "bready": In(1),
            "araddr": In(address_bits),
            "arprot": In(3),
            "arvalid": In(1),
            "arready": Out(1),
            "rdata": Out(32),
            "rresp": Out(2),
            "rvalid": Out(1),
            "rready": In(1),
        })


class AxiLiteAdapter(wiring.Component):
    """Carries the requests of an AXI4-Lite bus to a host port, one at a time.

    A request is accepted when it is done: address (and data, which may come before or after it)
    are taken in the cycle in which the host port acknowledges, so nothing of them is kept here. The
    response follows in the next cycle and stays until it is taken; then the next request begins.
    Where a write and a read wait, the one has its turn that did not have the last.

    A write whose strobes are not all ones, and a write or read at an address that is no multiple of
    four, is answered SLVERR and does not reach the host port; anything else is answered OKAY. A
    read that is answered SLVERR reads zero.

    Members
    -------
    axi : :py:`Out(AxiLitePort)`
        The bus.
    host : :py:`In(HostPort)`
        To the accelerator.
    """

    def __init__(self) -> None:
        super().__init__({"axi": Out(AxiLitePort()), "host": In(HostPort())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, host = self.axi, self.host

        # Which request is at the host port, if one is, and which had the last turn.
        active = Signal()
        writes = Signal()

        free = Signal()
        write_waits = Signal()
        write_next = Signal()
        m.d.comb += [
            free.eq(~active & ~axi.bvalid & ~axi.rvalid),
            write_waits.eq(axi.awvalid & axi.wvalid),
            write_next.eq(write_waits & ~(axi.arvalid & writes)),
        ]
        write_bad = ~axi.wstrb.all() | axi.awaddr[:2].any()
        read_bad = axi.araddr[:2].any()

        m.d.comb += [
            host.strobe.eq(active),
            host.write.eq(writes),
            host.address.eq(Mux(writes, axi.awaddr[2:], axi.araddr[2:])),
            host.write_data.eq(axi.wdata),
        ]
        write_ends = Signal()
        read_ends = Signal()
        with m.If(free & (write_waits | axi.arvalid)):
            m.d.sync += [
                writes.eq(write_next),
                active.eq(Mux(write_next, ~write_bad, ~read_bad)),
            ]
            m.d.comb += [
                write_ends.eq(write_next & write_bad),
                read_ends.eq(~write_next & read_bad),
            ]
        with m.Elif(active & host.acknowledge):
            m.d.sync += active.eq(0)
            m.d.comb += [write_ends.eq(writes), read_ends.eq(~writes)]

        m.d.comb += [
            axi.awready.eq(write_ends),
            axi.wready.eq(write_ends),
            axi.arready.eq(read_ends),
        ]
        response = Mux(active, Response.OKAY, Response.SLVERR)
        with m.If(write_ends):
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(response)]
        with m.Elif(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(read_ends):
            m.d.sync += [
                axi.rvalid.eq(1),
                axi.rresp.eq(response),
                axi.rdata.eq(Mux(active, host.read_data, 0)),
            ]
        with m.Elif(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        return m


class AxiLiteAccelerator(AcceleratorOnBus):
    """The accelerator on an AXI4-Lite bus.

    Parameters
    ----------
    geometry : :class:`siligrad.isa.Geometry`
        What to build.
    locked, baked
        As of :class:`~siligrad_hdl.accelerator.Accelerator`.

    Members
    -------
    axi : :py:`Out(AxiLitePort)`
        The bus; its window is 2²⁵ bytes.
    busy : :py:`Out(1)`
        A program runs.
    """

    def __init__(
        self, geometry: Geometry, *, locked: bool = False, baked: Baked | None = None
    ) -> None:
        super().__init__(AxiLiteAdapter(), "axi", geometry, locked=locked, baked=baked)
