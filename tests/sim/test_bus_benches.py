"""The accelerator passes the benches of its buses, and fails them where an adapter is broken."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal

from siligrad_hdl.axi_lite import AxiLiteAccelerator, AxiLiteAdapter
from siligrad_hdl.wishbone import WishboneAccelerator, WishboneAdapter
from siligrad_sim.bench_runner import BenchFailed, Simulator
from tests.sim.bench_cases import connect, run_accelerator, small_step

STEP = small_step(2)

simulators = pytest.mark.parametrize("simulator", ["icarus", "verilator"])


@pytest.mark.parametrize(
    "simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.extended)]
)
def test_the_accelerator_passes_the_bench_of_axi_lite(simulator: Simulator) -> None:
    component = AxiLiteAccelerator(STEP.geometry)
    assert len(run_accelerator(STEP, simulator, component=component, bench="axi_lite")) == 23


@simulators
def test_the_accelerator_passes_the_bench_of_wishbone(simulator: Simulator) -> None:
    component = WishboneAccelerator(STEP.geometry)
    assert len(run_accelerator(STEP, simulator, component=component, bench="wishbone")) == 9


class WritesBytes(AxiLiteAdapter):
    """An adapter that takes some bytes of a word for all of them."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = inner = AxiLiteAdapter()
        connect(m, self, inner, without={("axi", "wstrb")})
        m.d.comb += inner.axi.wstrb.eq(15)
        return m


class DropsData(AxiLiteAdapter):
    """An adapter whose data is valid for one cycle, taken or not."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = inner = AxiLiteAdapter()
        connect(m, self, inner, without={("axi", "rready")})
        m.d.comb += inner.axi.rready.eq(1)
        return m


class AnswersEarly(AxiLiteAdapter):
    """An adapter that answers a write as soon as there is an address."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = inner = AxiLiteAdapter()
        connect(m, self, inner, without={("axi", "bvalid")})
        early = Signal()
        m.d.sync += early.eq(self.axi.awvalid & ~self.axi.wvalid)
        m.d.comb += self.axi.bvalid.eq(inner.axi.bvalid | early)
        return m


class PrefersWrites(AxiLiteAdapter):
    """An adapter that reads when there is nothing to write."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = inner = AxiLiteAdapter()
        connect(m, self, inner, without={("axi", "arvalid"), ("axi", "arready")})
        m.d.comb += [
            inner.axi.arvalid.eq(self.axi.arvalid & ~self.axi.awvalid),
            self.axi.arready.eq(inner.axi.arready & ~self.axi.awvalid),
        ]
        return m


class AnswersTheAbandoned(WishboneAdapter):
    """An adapter that takes the answer to an abandoned request for that to the next."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = inner = WishboneAdapter()
        connect(m, self, inner, without={("wishbone", "ack")})
        m.d.comb += self.wishbone.ack.eq(
            self.wishbone.cyc & self.wishbone.stb & self.host.acknowledge
        )
        return m


class ForgetsToAsk(WishboneAdapter):
    """An adapter that ends the request at the host port with its cycle, and makes it again."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        requested = self.wishbone.cyc & self.wishbone.stb & self.wishbone.sel.all()
        refused = Signal()
        m.d.sync += refused.eq(self.wishbone.cyc & self.wishbone.stb & ~self.wishbone.sel.all())
        m.d.comb += [
            self.host.strobe.eq(requested),
            self.host.write.eq(self.wishbone.we),
            self.host.address.eq(self.wishbone.adr),
            self.host.write_data.eq(self.wishbone.dat_w),
            self.wishbone.dat_r.eq(self.host.read_data),
            self.wishbone.ack.eq(requested & self.host.acknowledge),
            self.wishbone.err.eq(
                self.wishbone.cyc & self.wishbone.stb & ~self.wishbone.sel.all() & refused
            ),
        ]
        return m


class IgnoresSelect(WishboneAdapter):
    """An adapter that takes some bytes of a word for all of them."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.adapter = inner = WishboneAdapter()
        connect(m, self, inner, without={("wishbone", "sel")})
        m.d.comb += inner.wishbone.sel.eq(15)
        return m


@pytest.mark.parametrize(
    ("adapter", "test", "message"),
    [
        (WritesBytes, "refuses_parts_of_words", r"cycle \d+: 1 bytes .*OKAY.*, want SLVERR"),
        (DropsData, "carries_many_requests_at_a_time", r"cycle \d+: rvalid fell before it was tak"),
        (AnswersEarly, "takes_address_and_data_in_any_order", r"cycle \d+: a response to no write"),
        (PrefersWrites, "gives_reads_and_writes_their_turns", r"request 0: two writes in a row"),
    ],
)
def test_a_broken_adapter_of_axi_lite_fails_its_bench(
    adapter: type[AxiLiteAdapter], test: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siligrad_hdl.axi_lite.AxiLiteAdapter", adapter)
    component = AxiLiteAccelerator(STEP.geometry)
    with pytest.raises(BenchFailed, match=message):
        run_accelerator(STEP, "icarus", component=component, bench="axi_lite", tests=[test])


@pytest.mark.parametrize(
    ("adapter", "test", "message"),
    [
        (AnswersTheAbandoned, "survives_cycles_that_are_abandoned", r"cycle \d+: STEPS 0x"),
        (ForgetsToAsk, "survives_cycles_that_are_abandoned", r"cycle \d+: STEPS 0x"),
        (IgnoresSelect, "refuses_parts_of_words", r"cycle \d+: ack of sel 0000, want err"),
    ],
)
def test_a_broken_adapter_of_wishbone_fails_its_bench(
    adapter: type[WishboneAdapter], test: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siligrad_hdl.wishbone.WishboneAdapter", adapter)
    component = WishboneAccelerator(STEP.geometry)
    with pytest.raises(BenchFailed, match=message):
        run_accelerator(STEP, "icarus", component=component, bench="wishbone", tests=[test])
