"""Every cocotb bench passes on its component, and fails on one that is broken on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

import siligrad as sg
import siligrad.numpy as snp
from siligrad.isa import ONE_STEP, Geometry, Instruction, Loop, Rounding, encode_program
from siligrad.program import Program
from siligrad_hdl.accelerator import to_verilog
from siligrad_hdl.array import SystolicArray
from siligrad_hdl.cell import ProcessingElement
from siligrad_hdl.epilogue import Epilogue
from siligrad_hdl.lfsr import Lfsr
from siligrad_hdl.scratchpad import SkewedMemory, SkewedWriter, TileRequest
from siligrad_sim.bench_runner import BenchFailed, Simulator
from siligrad_sim.benches.programs import (
    Contents,
    Step,
    draw_words,
    random_loop,
    random_program,
)
from siligrad_sim.benches.specification import Lane, Machine, busy_cycles
from siligrad_sim.reference import ReferenceDevice
from tests.sim.bench_cases import SHARED, Case, connect, run_accelerator, small_step


class WrittenMemory(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """A skewed memory and its writer, with a fault if asked for."""

    def __init__(
        self,
        *,
        array: int,
        word_bits: int,
        depth: int,
        address_bits: int,
        fault: Literal["columns are rows", "lanes swapped"] | None = None,
    ) -> None:
        self.fault = fault
        self._memory = SkewedMemory(
            array=array, word_bits=word_bits, depth=depth, address_bits=address_bits
        )
        self._writer = SkewedWriter(
            array=array, word_bits=word_bits, address_bits=address_bits, memories=1
        )
        request = TileRequest(array=array, address_bits=address_bits)
        super().__init__({
            "read_request": In(request),
            "lanes": Out(signed(word_bits)).array(array),
            "write_request": In(request),
            "write_enable": In(1),
            "write_lanes": In(signed(word_bits)).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self._memory
        m.submodules.writer = writer = self._writer
        index = self.write_request.index
        m.d.comb += [
            memory.request.eq(self.read_request),
            writer.request.eq(self.write_request),
            writer.turn.eq(Mux(index == 0, 0, memory.array - index)),
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


def cell(operand_bits: int, sum_bits: int) -> Case:
    return Case("cell", ProcessingElement, {"operand_bits": operand_bits, "sum_bits": sum_bits}, 7)


def array(n: int, operand_bits: int = 16, sum_bits: int = 40) -> Case:
    sizes = {"array": n, "operand_bits": operand_bits, "sum_bits": sum_bits}
    return Case("array", SystolicArray, sizes, 4)


def memory(n: int, depth: int) -> Case:
    sizes = {"array": n, "word_bits": 16, "depth": depth, "address_bits": 16}
    return Case("memory", WrittenMemory, sizes, 6)


def epilogue(n: int, word_bits: int = 16, sum_bits: int = 40) -> Case:
    sizes = {"array": n, "word_bits": word_bits, "sum_bits": sum_bits}
    return Case("epilogue", Epilogue, sizes, 10)


LFSR = Case("lfsr", Lfsr, tests=5)

# A model for Verilator takes most of ten seconds to build, one for Icarus less than one.
ON_BOTH = [cell(16, 40), array(3), memory(5, 22), epilogue(2), LFSR]
ON_ICARUS = [
    cell(4, 8),
    array(4, 8, 24),
    memory(3, 13),
    memory(7, 30),
    epilogue(2, 4, 8),
    epilogue(2, 16, 16),
]
FURTHER = [
    cell(8, 24),
    array(2),
    array(5),
    memory(2, 11),
    memory(4, 16),
    memory(8, 16),
    epilogue(3, 8, 24),
    epilogue(4, 16, 48),
]


@pytest.mark.parametrize(
    ("case", "simulator"),
    [
        *(pytest.param(case, "verilator", id=f"{case.id}-verilator") for case in ON_BOTH),
        *(pytest.param(case, "icarus", id=f"{case.id}-icarus") for case in ON_BOTH + ON_ICARUS),
        *(
            pytest.param(case, "icarus", id=f"{case.id}-icarus", marks=pytest.mark.extended)
            for case in FURTHER
        ),
    ],
)
def test_the_component_passes_its_bench(case: Case, simulator: Simulator) -> None:
    assert len(case.run(simulator)) == case.tests


class EndsLate(ProcessingElement):
    """A cell that ends every tile a cycle too late."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.cell = inner = ProcessingElement(
            operand_bits=self.operand_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={("last_west",), ("last_east",)})
        m.d.sync += [inner.last_west.eq(self.last_west), self.last_east.eq(self.last_west)]
        return m


class CapturesLate(SystolicArray):
    """An array that captures every tile a cycle too late."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = inner = SystolicArray(
            array=self.array, operand_bits=self.operand_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={("last",)})
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
            array=self.array, word_bits=self.word_bits, sum_bits=self.sum_bits
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
            array=self.array, word_bits=self.word_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={("load",)})
        m.d.comb += inner.load.eq(Cat(self.load[1], self.load[0], self.load[2:]))
        return m


class ReachesTheOddCode(Epilogue):
    """An epilogue that saturates to the code without a negative."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.epilogue = inner = Epilogue(
            array=self.array, word_bits=self.word_bits, sum_bits=self.sum_bits
        )
        connect(m, self, inner, without={("results",)})
        lowest = -(1 << self.word_bits - 1)
        for result, right in zip(self.results, inner.results, strict=True):
            m.d.comb += result.eq(Mux(right == lowest + 1, lowest, right))
        return m


@pytest.mark.parametrize(
    ("case", "broken", "message"),
    [
        (cell(16, 40), EndsLate, r"cycle \d+: drain_south -?\d+, want -?\d+"),
        (array(3), CapturesLate, r"cycle \d+: sums\[0\] -?\d+, want -?\d+, row 2 of tile 0"),
        (LFSR, WrongTap, r"cycle 1: state 0x[0-9a-f]{8}, want 0x[0-9a-f]{8}"),
        (epilogue(2), RoundsHalfUp, r"cycle \d+: column \d -?\d+, want -?\d+: sum .*HALF_EVEN"),
        (epilogue(2), ReachesTheOddCode, r"cycle \d+: column \d -32768, want -32767: sum"),
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


CONTENTS: list[Contents] = ["zeros", "largest", "random", "coarse"]


@pytest.mark.parametrize(
    ("step", "simulator"),
    [
        pytest.param(small_step(2, 8, 8), "icarus", id="2-8-icarus", marks=pytest.mark.extended),
        pytest.param(small_step(2, 16, 8, steps=3), "icarus", id="2-16-8-icarus"),
        pytest.param(replace(small_step(3), geometry=SHARED), "verilator", id="3-16-verilator"),
    ],
)
def test_the_accelerator_passes_its_bench(step: Step, simulator: Simulator) -> None:
    assert len(run_accelerator(step, simulator)) == 9


def test_an_accelerator_with_a_wrong_rounding_constant_fails_its_bench() -> None:
    step = small_step(2)
    verilog = to_verilog(step.geometry, name="top")
    right, wrong = "16'h8000 : 16'h7fff", "16'h8000 : 16'h8000"
    assert verilog.count(right) == 2  # in each lane: what is added to round half to even
    with pytest.raises(BenchFailed, match=r"cycle \d+: word \d of bank \d of X -?\d+, want -?\d+"):
        run_accelerator(step, "icarus", component=verilog.replace(right, wrong))


def predict(params: Any, x: Any) -> Any:
    (w1, b1), (w2, b2) = params
    return snp.maximum(x @ w1 + b1, 0) @ w2 + b2


def loss(params: Any, x: Any, y: Any) -> Any:
    margin = snp.maximum(1 - y * predict(params, x), 0)
    return snp.mean(snp.sum(margin**2, axis=1))


def descend(params: Any, x: Any, y: Any) -> Any:
    grads = sg.grad(loss)(params, x, y)
    pairs = zip(params, grads, strict=True)
    return [(w - 0.125 * dw, b - 0.125 * db) for (w, b), (dw, db) in pairs]


def compiled_step() -> tuple[Program, ReferenceDevice]:
    """Compile a training step; return it with a device that is about to run it."""
    rng = np.random.default_rng(0)
    params = [
        (rng.normal(0, 0.5, (5, 4)), rng.normal(0, 0.1, 4)),
        (rng.normal(0, 0.5, (4, 2)), np.zeros(2)),
    ]
    x, y = rng.random((4, 5)), rng.choice([-1.0, 1.0], (4, 2))
    target = sg.Target(
        array=SHARED.array,
        x_depth=SHARED.x_depth,
        w_depth=SHARED.w_depth,
        e_depth=SHARED.e_depth,
        program_depth=SHARED.program_depth,
    )
    program = sg.compile(descend, params, x, y, target=target, donate=0)
    assert program.geometry == SHARED
    device = ReferenceDevice(program.geometry)
    device.load(program, seed=1)
    device.write("x", x)
    device.write("y", y)
    return program, device


def test_the_accelerator_executes_a_compiled_training_step(tmp_path: Path) -> None:
    program, device = compiled_step()
    words = tmp_path / "words.npz"
    contents: dict[str, Any] = {memory.name: held for memory, held in device.dump().items()}
    np.savez(words, **contents)
    step = Step(program.geometry, list(program.instructions))
    tests = ["runs_the_program"]
    ran = run_accelerator(step, "verilator", tests=tests, words=str(words))
    assert len(ran) == 4


def assert_references_agree(
    device: ReferenceDevice, instructions: list[Instruction], loop: Loop = ONE_STEP
) -> None:
    """Run `instructions` on the reference and on the benches' machine, from the same state."""
    geometry = device.geometry
    machine = Machine(geometry)
    machine.lanes = [Lane(state) for state in device.read_lfsr()]
    for memory, words in device.dump().items():
        machine.words[memory][:] = words
    device.write_lines(encode_program(instructions))
    assert device.execute(loop, 1 << 30) == busy_cycles(instructions, geometry.array, loop.steps)
    machine.run(instructions, loop)
    for memory, words in device.dump().items():
        np.testing.assert_array_equal(words, machine.words[memory])
    assert device.read_lfsr() == tuple(lane.state for lane in machine.lanes)
    assert device.read_saturations(len(instructions)) == tuple(machine.saturations)


def test_both_references_agree_on_a_compiled_training_step() -> None:
    program, device = compiled_step()
    assert_references_agree(device, list(program.instructions))


@given(
    n=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
    contents=st.sampled_from(CONTENTS),
    steps=st.integers(1, 4),
    widths=st.sampled_from([(16, 16), (16, 8), (16, 15), (8, 8), (9, 4)]),
)
@settings(deadline=None, max_examples=60)
def test_both_references_agree_on_random_programs(
    n: int, seed: int, contents: Contents, steps: int, widths: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    word_bits, operand_bits = widths
    geometry = Geometry(
        array=n,
        word_bits=word_bits,
        operand_bits=operand_bits,
        x_depth=28 * n,
        w_depth=27 * n + 1,
        e_depth=29 * n,
    )
    device = ReferenceDevice(geometry)
    for memory, words in draw_words(rng, geometry, contents).items():
        device.write_words(memory, 0, words)
    device.write_lfsr(rng.integers(1, 1 << 32, n).tolist())
    loop = random_loop(rng, geometry, steps)
    assert_references_agree(device, random_program(rng, geometry, 6, loop), loop)
