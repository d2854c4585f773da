"""Bundles of ports that more than one component, or somebody outside, connects to."""

from __future__ import annotations

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.registers import HOST_ADDRESS_BITS

__all__ = ["HostPort"]


class HostPort(wiring.Signature):
    """The host port of ``docs/spec/host.md``; members as the accelerator sees them.

    A request is made by raising ``strobe``. It and all other inputs are held until a cycle in which
    ``acknowledge`` is high; the request ends with that cycle, and the next may begin in the one
    after it.

    Members
    -------
    strobe : :py:`In(1)`
        A request is made.
    write : :py:`In(1)`
        The request is a write, else a read.
    address : :py:`In(HOST_ADDRESS_BITS)`
        Word address: three bits of region, the rest inside it.
    write_data : :py:`In(32)`
        What a write writes.
    read_data : :py:`Out(32)`
        What a read has read, valid while its ``acknowledge`` is high; zero where nothing was read.
    acknowledge : :py:`Out(1)`
        The request is done. Low when no request is made.
    """

    def __init__(self) -> None:
        super().__init__({
            "strobe": In(1),
            "write": In(1),
            "address": In(HOST_ADDRESS_BITS),
            "write_data": In(32),
            "read_data": Out(32),
            "acknowledge": Out(1),
        })
