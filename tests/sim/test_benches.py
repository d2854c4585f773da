"""Every cocotb bench passes on its component, and fails on one that is broken on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from amaranth.hdl import Cat, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import Rounding
from siligrad_hdl.array import SystolicArray
from siligrad_hdl.cell import ProcessingElement
from siligrad_hdl.epilogue import Epilogue
from siligrad_hdl.lfsr import Lfsr
from siligrad_hdl.scratchpad import SkewedMemory, SkewedWriter, TileRequest
from siligrad_sim.bench_runner import BenchFailed, Simulator, run_bench


class WrittenMemory(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """A skewed memory and its writer, with a fault if asked for."""

    def __init__(
        self,
        *,
        array: int,
        operand_bits: int,
        depth: int,
        address_bits: int,
        fault: Literal["columns are rows", "lanes swapped"] | None = None,
    ) -> None:
        sizes = {"array": array, "operand_bits": operand_bits, "address_bits": address_bits}
        self.fault = fault
        self._memory = SkewedMemory(**sizes, depth=depth)
        self._writer = SkewedWriter(**sizes, memories=1)
        request = TileRequest(array=array, address_bits=address_bits)
        super().__init__({
            "read_request": In(request),
            "lanes": Out(signed(operand_bits)).array(array),
            "write_request": In(request),
            "write_enable": In(1),
            "write_lanes": In(signed(operand_bits)).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self._memory
        m.submodules.writer = writer = self._writer
        m.d.comb += [
            memory.request.eq(self.read_request),
            writer.request.eq(self.write_request),
            writer.enable.eq(self.write_enable),
            memory.write_enable.eq(writer.write_enables[0]),
        ]
        if self.fault == "columns are rows":
            m.d.comb += memory.request.column.eq(0)
        last = memory.array - 1
        for lane in range(memory.array):
            source = last - lane if self.fault == "lanes swapped" and lane in {0, last} else lane
            m.d.comb += [
                self.lanes[lane].eq(memory.lanes[source]),
                writer.lanes[lane].eq(self.write_lanes[lane]),
                memory.write_addresses[lane].eq(writer.write_addresses[lane]),
                memory.write_data[lane].eq(writer.write_data[lane]),
            ]
        return m


@dataclass(frozen=True)
class Case:
    """A bench, what builds its component, and the parameters of both."""

    bench: str
    component: type
    parameters: dict[str, Any] = field(default_factory=dict)
    tests: int = 1

    def run(self, simulator: Simulator, **faults: Any) -> list[str]:
        component = self.component(**self.parameters, **faults)
        bench = f"siligrad_sim.benches.{self.bench}"
        return run_bench(component, bench, simulator=simulator, parameters=self.parameters)

    @property
    def id(self) -> str:
        return "-".join([self.bench, *map(str, self.parameters.values())])


def cell(operand_bits: int, sum_bits: int) -> Case:
    return Case("cell", ProcessingElement, {"operand_bits": operand_bits, "sum_bits": sum_bits}, 7)


def array(n: int, operand_bits: int = 16, sum_bits: int = 40) -> Case:
    sizes = {"array": n, "operand_bits": operand_bits, "sum_bits": sum_bits}
    return Case("array", SystolicArray, sizes, 4)


def memory(n: int, depth: int) -> Case:
    sizes = {"array": n, "operand_bits": 16, "depth": depth, "address_bits": 16}
    return Case("memory", WrittenMemory, sizes, 6)


def epilogue(n: int, operand_bits: int = 16, sum_bits: int = 40) -> Case:
    sizes = {"array": n, "operand_bits": operand_bits, "sum_bits": sum_bits}
    return Case("epilogue", Epilogue, sizes, 6)


LFSR = Case("lfsr", Lfsr, tests=5)

# A model for Verilator takes most of ten seconds to build, one for Icarus less than one.
ON_BOTH = [cell(16, 40), array(3), memory(5, 22), epilogue(2), LFSR]
ON_ICARUS = [
    cell(8, 24),
    cell(4, 8),
    array(2),
    array(4, 8, 24),
    array(5),
    array(8),
    memory(2, 11),
    memory(3, 13),
    memory(4, 16),
    memory(7, 30),
    memory(8, 16),
    epilogue(3, 8, 24),
    epilogue(2, 4, 8),
    epilogue(4, 16, 48),
    epilogue(2, 16, 32),
]


@pytest.mark.parametrize(
    ("case", "simulator"),
    [
        *(pytest.param(case, "verilator", id=f"{case.id}-verilator") for case in ON_BOTH),
        *(pytest.param(case, "icarus", id=f"{case.id}-icarus") for case in ON_BOTH + ON_ICARUS),
    ],
)
def test_the_component_passes_its_bench(case: Case, simulator: Simulator) -> None:
    assert len(case.run(simulator)) == case.tests


class ForgetsToBegin(ProcessingElement):
    """A cell whose sum never starts from zero."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.cell = inner = ProcessingElement(
            operand_bits=self.operand_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={"first_west", "first_east"})
        m.d.sync += self.first_east.eq(self.first_west)
        return m


class CapturesLate(SystolicArray):
    """An array that captures every tile a cycle too late."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = inner = SystolicArray(
            array=self.array, operand_bits=self.operand_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={"last"})
        m.d.sync += inner.last.eq(self.last)
        return m


class WrongTap(Lfsr):
    """A shift register with one tap at the wrong bit."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = list(self.state)
        for _ in range(16):
            bits.insert(0, bits[31] ^ bits[30] ^ bits[29] ^ bits[10])
        with m.If(self.load | self.draw):
            m.d.sync += self.state.eq(Mux(self.load, self.load_state, Cat(bits[:32])))
        return m


class RoundsHalfUp(Epilogue):
    """An epilogue that rounds half up where half to even was asked for."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.epilogue = inner = Epilogue(
            array=self.array, operand_bits=self.operand_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner)
        with m.If(self.control.rounding == Rounding.HALF_EVEN):
            m.d.comb += inner.control.rounding.eq(Rounding.HALF_UP)
        return m


class SwapsLanes(Epilogue):
    """An epilogue whose first two lanes got each other's random bits."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.epilogue = inner = Epilogue(
            array=self.array, operand_bits=self.operand_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={"load"})
        m.d.comb += inner.load.eq(Cat(self.load[1], self.load[0], self.load[2:]))
        return m


def connect(
    m: Module, outer: wiring.Component, inner: wiring.Component, without: set[str] | None = None
) -> None:
    """Join every port of two components of one signature, but those `without`."""
    for path, member, port in outer.signature.flatten(outer):
        if path[0] in (without or ()):
            continue
        other: Any = inner
        for name in path:
            other = other[name] if isinstance(name, int) else getattr(other, name)
        m.d.comb += other.eq(port) if member.flow == In else port.eq(other)


@pytest.mark.parametrize(
    ("case", "broken", "message"),
    [
        (cell(16, 40), ForgetsToBegin, r"cycle \d+: drain_south -?\d+, want -?\d+"),
        (array(3), CapturesLate, r"cycle \d+: sums\[0\] -?\d+, want -?\d+, row 2 of tile 0"),
        (LFSR, WrongTap, r"cycle 1: state 0x[0-9a-f]{8}, want 0x[0-9a-f]{8}"),
        (epilogue(2), RoundsHalfUp, r"cycle \d+: column \d -?\d+, want -?\d+: sum .*HALF_EVEN"),
        (epilogue(2), SwapsLanes, r"cycle \d+: column \d -?\d+, want -?\d+: sum .*STOCHASTIC"),
    ],
)
def test_a_broken_component_fails_its_bench_in_a_named_cycle(
    case: Case, broken: type, message: str
) -> None:
    with pytest.raises(BenchFailed, match=message):
        Case(case.bench, broken, case.parameters).run("icarus")


@pytest.mark.parametrize("fault", ["columns are rows", "lanes swapped"])
def test_a_broken_memory_fails_its_bench_in_a_named_cycle(fault: str) -> None:
    with pytest.raises(BenchFailed, match=r"cycle \d+: lane \d of Request\(.* -?\d+, want -?\d+"):
        memory(3, 13).run("icarus", fault=fault)
