"""The accelerator behind what adapts a bus to its host port."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from siligrad.baked import Baked
from siligrad.isa import Geometry
from siligrad_hdl.accelerator import Accelerator

__all__ = ["AcceleratorOnBus"]


class AcceleratorOnBus(wiring.Component):
    """What the accelerators on each bus have in common.

    Parameters
    ----------
    adapter
        A component with the bus as its member `bus`, and the member ``host``, a
        :class:`~siligrad_hdl.ports.HostPort` that it makes requests on.
    bus : :class:`str`
        Name of that member, and of the accelerator's.
    geometry, locked, baked
        As of :class:`~siligrad_hdl.accelerator.Accelerator`.

    Members
    -------
    The bus, as the adapter has it, and ``busy`` : :py:`Out(1)`, a program runs.
    """

    def __init__(
        self,
        adapter: wiring.Component,
        bus: str,
        geometry: Geometry,
        *,
        locked: bool = False,
        baked: Baked | None = None,
    ) -> None:
        self.geometry = geometry
        self._adapter = adapter
        self._bus = bus
        self._accelerator = Accelerator(geometry, locked=locked, baked=baked)
        super().__init__({bus: adapter.signature.members[bus], "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = adapter = self._adapter
        m.submodules.accelerator = accelerator = self._accelerator
        wiring.connect(m, wiring.flipped(getattr(self, self._bus)), getattr(adapter, self._bus))
        wiring.connect(m, adapter.host, accelerator.host)
        m.d.comb += self.busy.eq(accelerator.busy)
        return m
