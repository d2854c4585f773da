"""What decides, not what computes: sequencer, host interface, and all of it after a reset."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from siligrad.isa import Geometry, Timing
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.axi_lite import AxiLiteAccelerator
from siligrad_hdl.host import HostInterface
from siligrad_hdl.ports import HostPort
from siligrad_hdl.sequencer import Sequencer
from siligrad_hdl.wishbone import WishboneAccelerator
from siligrad_sim.bench_runner import BenchFailed, Simulator, run_bench, without_initial_values
from tests.sim.bench_cases import Case, connect, run_accelerator, small_step


def sequencer(n: int, component: type = Sequencer) -> Case:
    sizes = {"array": n, "operand_bits": 16, "address_bits": 8, "program_depth": 150}
    return Case("sequencer", component, sizes, 6)


@pytest.mark.parametrize(
    ("n", "simulator"),
    [
        (2, "icarus"),
        (5, "icarus"),
        pytest.param(8, "icarus", marks=pytest.mark.extended),
        (3, "verilator"),
    ],
)
def test_the_sequencer_passes_its_bench(n: int, simulator: Simulator) -> None:
    case = sequencer(n)
    assert len(case.run(simulator)) == case.tests


def sizes_of(outer: Sequencer) -> dict[str, int]:
    return {
        "array": outer.array,
        "operand_bits": outer.operand_bits,
        "address_bits": outer.address_bits,
        "program_depth": outer.program_depth,
    }


class EndsLate(Sequencer):
    """A sequencer that ends every tile a cycle too late."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = inner = Sequencer(**sizes_of(self))
        connect(m, self, inner, without={("last",)})
        m.d.sync += self.last.eq(inner.last)
        return m


class SwapsMemories(Sequencer):
    """A sequencer that writes to X what belongs to W."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = inner = Sequencer(**sizes_of(self))
        connect(m, self, inner, without={("write_enable",)})
        enables = inner.write_enable
        m.d.comb += self.write_enable.eq(Cat(enables[1], enables[0], enables[2]))
        return m


class ForgetsSteps(Sequencer):
    """A sequencer whose counters begin anew in every step."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = inner = Sequencer(**sizes_of(self))
        connect(m, self, inner, without={("count_add",)})
        return m


class StaysBusy(Sequencer):
    """A sequencer that is busy for a cycle too many."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = inner = Sequencer(**sizes_of(self))
        connect(m, self, inner, without={("busy",)})
        was_busy = Signal()
        m.d.sync += was_busy.eq(inner.busy)
        m.d.comb += self.busy.eq(inner.busy | was_busy)
        return m


class StaysInPlace(Sequencer):
    """A sequencer for which the data of X does not move."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = inner = Sequencer(**sizes_of(self))
        connect(m, self, inner, without={("strides", 0)})
        return m


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (EndsLate, r"cycle 0: last False, want True"),
        (SwapsMemories, r"cycle \d+: write enables 0(01|10), want 0(01|10)"),
        (ForgetsSteps, r"cycle \d+: count_add False in step 1"),
        (StaysBusy, r"cycle (\d+): busy, want the end of \1 cycles"),
        (StaysInPlace, r"cycle \d+: X is (asked for|written at) .*, want Row"),
    ],
)
def test_a_broken_sequencer_fails_its_bench_in_a_named_cycle(broken: type, message: str) -> None:
    with pytest.raises(BenchFailed, match=message):
        sequencer(3, broken).run("icarus")


def run_host_interface(
    n: int, simulator: Simulator, *, component: type = HostInterface, early: int = 0
) -> list[str]:
    """Run the bench of the host interface; it is told of answers that come `early` cycles later."""
    geometry = Geometry(
        array=n,
        word_bits=12,
        operand_bits=12,
        sum_bits=32,
        x_depth=21,
        w_depth=16,
        e_depth=25,
        program_depth=19,
    )
    latency = 4 + Timing(n).rotate
    return run_bench(
        component(geometry=geometry, address_bits=5, read_latency=latency - early),
        "siligrad_sim.benches.host_interface",
        simulator=simulator,
        parameters={"geometry": asdict(geometry), "address_bits": 5, "read_latency": latency},
    )


@pytest.mark.parametrize(
    ("n", "simulator"),
    [
        pytest.param(2, "icarus", marks=pytest.mark.extended),
        (16, "icarus"),
        (3, "verilator"),
    ],
)
def test_the_host_interface_passes_its_bench(n: int, simulator: Simulator) -> None:
    assert len(run_host_interface(n, simulator)) == 3


def inside(outer: HostInterface) -> HostInterface:
    return HostInterface(
        geometry=outer.geometry,
        address_bits=outer.address_bits,
        read_latency=outer.read_latency,
    )


class LetsItselfBeDisturbed(HostInterface):
    """A host interface that notices too late that a program runs."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.host = inner = inside(self)
        connect(m, self, inner, without={("busy",)})
        return m


class SwapsHalves(HostInterface):
    """A host interface that takes the halves of the limit for each other."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.host = inner = inside(self)
        connect(m, self, inner, without={("limit",)})
        m.d.comb += self.limit.eq(Cat(inner.limit[32:], inner.limit[:32]))
        return m


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"component": LetsItselfBeDisturbed}, r"cycle \d+: .* word 0x[0-9a-f]+: .*, want"),
        ({"component": SwapsHalves}, r"cycle \d+: limit 0x[0-9a-f]+, want 0x[0-9a-f]+"),
        (
            {"early": 1},
            r"cycle \d+: acknowledge True in cycle 7 of reading word 0x0, want it in cycle 8",
        ),
    ],
)
def test_a_broken_host_interface_fails_its_bench_in_a_named_cycle(
    fault: dict[str, Any], message: str
) -> None:
    with pytest.raises(BenchFailed, match=message):
        run_host_interface(3, "icarus", **fault)


@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.extended), 3])
def test_nothing_unknown_reaches_a_port_after_a_reset(n: int) -> None:
    step = small_step(n, 16, 8, steps=2)
    ran = run_accelerator(step, "icarus", bench="unknowns", unknowns=True)
    assert ran == ["nothing_unknown_reaches_a_port_after_the_reset"]


@pytest.mark.parametrize(
    ("bench", "component"), [("axi_lite", AxiLiteAccelerator), ("wishbone", WishboneAccelerator)]
)
def test_nothing_unknown_reaches_a_bus_after_a_reset(bench: str, component: type) -> None:
    # A bench that meets X where something is decided or compared fails.
    step = small_step(2)
    run_accelerator(
        step,
        "icarus",
        component=component(step.geometry),
        bench=bench,
        tests=["trains_a_step"],
        unknowns=True,
    )


class LeaksUnknown(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """An accelerator whose answers pass a register that no reset sets."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = inner = Accelerator(self.geometry)
        connect(m, self, inner, without={("host", "read_data")})
        odd = Signal(reset_less=True)
        m.d.sync += odd.eq(odd ^ self.host.strobe)
        m.d.comb += self.host.read_data.eq(inner.host.read_data ^ odd)
        return m


def test_a_register_without_a_reset_that_reaches_a_port_is_caught() -> None:
    step = small_step(2)
    message = r"cycle \d+: host__read_data is [01]+X after the reset, want it known"
    component = LeaksUnknown(step.geometry)
    with pytest.raises(BenchFailed, match=message):
        run_accelerator(step, "icarus", component=component, bench="unknowns", unknowns=True)


def test_registers_and_memories_lose_their_initial_values_and_nothing_else() -> None:
    verilog = """module top(clk, q);
  reg \\$auto$verilog_backend.cc:1:dump_module$1  = 0;
  output [3:0] q;
  reg [3:0] q = 4'h3;
  reg \\odd.name  = 1'h1;
  wire w = q[0];
  reg [7:0] memory [1:0];
  initial begin
    memory[0] = 8'h00;
    memory[1] = 8'h01;
  end
  always @(posedge clk) begin
    q <= 4'h0;
  end
endmodule
"""
    assert without_initial_values(verilog).splitlines() == [
        "module top(clk, q);",
        "  reg \\$auto$verilog_backend.cc:1:dump_module$1  = 0;",
        "  output [3:0] q;",
        "  reg [3:0] q ;",
        "  reg \\odd.name ;",
        "  wire w = q[0];",
        "  reg [7:0] memory [1:0];",
        "  always @(posedge clk) begin",
        "    q <= 4'h0;",
        "  end",
        "endmodule",
    ]
    with pytest.raises(ValueError, match="initialises nothing"):
        without_initial_values("module top;\nendmodule\n")
    with pytest.raises(ValueError, match="must be simulated in icarus; verilator knows no X"):
        run_bench(verilog, "none", simulator="verilator", unknowns=True)
