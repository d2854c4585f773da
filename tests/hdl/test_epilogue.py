from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad.isa import SHIFT_MAX, AuxMode, Gate, Rounding, Timing
from siligrad_hdl.epilogue import Epilogue, EpilogueLane
from tests.hdl.model import Lane, epilogue

Element = dict[str, int]


def control(element: Element) -> Element:
    return {name: value for name, value in element.items() if name not in {"total", "aux"}}


def run(dut: EpilogueLane, elements: list[Element], seed: int = 1) -> None:
    """Send a stream of elements through a lane and compare each with the specification."""
    lane = Lane(seed)
    bits = dut.word_bits

    async def bench(ctx: Any) -> None:
        ctx.set(dut.load, 1)
        ctx.set(dut.load_state, seed)
        await ctx.tick()
        ctx.set(dut.load, 0)
        for cycle in range(len(elements) + dut.latency):
            element = elements[cycle] if cycle < len(elements) else {"valid": 0}
            ctx.set(dut.control_west, control(element))
            ctx.set(dut.sum, element.get("total", 0))
            ctx.set(dut.aux, element.get("aux", 0))
            then = cycle - dut.latency
            if then >= 0 and elements[then]["valid"]:
                fields = {key: elements[then][key] for key in elements[then] if key != "valid"}
                want = epilogue(lane=lane, bits=bits, **fields)
                got = ctx.get(dut.result), bool(ctx.get(dut.saturated))
                assert got == want, f"cycle {cycle}: {fields} gives {got}, want {want}"
            elif then >= 0:
                assert not ctx.get(dut.saturated), f"cycle {cycle}: counted what is not valid"
            await ctx.tick()
        assert ctx.get(dut.state) == lane.state

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def corners(rng: np.random.Generator, shift: int, sum_bits: int, bits: int) -> list[int]:
    """Sums at which something changes: ties, their neighbours, limits, the ends of the range."""
    limit = (1 << bits - 1) - 1
    points = {0, 1, -1, limit, -limit - 1, (1 << sum_bits - 1) - 1, -(1 << sum_bits - 1)}
    for code in (0, 1, 2, -1, -2, limit, limit + 1, -limit, -limit - 1, 2 * limit, -2 * limit):
        for offset in (-1, 0, 1):
            points.add((code << shift) + offset)
            points.add((code << shift) + (1 << shift >> 1) + offset)
    for _ in range(8):
        width = int(rng.integers(1, sum_bits))
        points.add(int(rng.integers(-(1 << width), 1 << width, endpoint=False)))
    half = 1 << sum_bits - 1
    return [point for point in points if -half <= point < half]


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize(
    ("bits", "sum_bits"),
    [
        (16, 40),
        (8, 24),
        (4, 8),
        (16, 16),
        pytest.param(16, 48, marks=pytest.mark.extended),
        pytest.param(5, 37, marks=pytest.mark.extended),
        pytest.param(16, 20, marks=pytest.mark.extended),
    ],
)
def test_every_shift_and_rounding_at_the_corners(bits: int, sum_bits: int, rounding: int) -> None:
    rng = np.random.default_rng(rounding + 10 * bits)
    limit = (1 << bits - 1) - 1
    elements = []
    for shift in range(SHIFT_MAX + 1):
        for total in corners(rng, shift, sum_bits, bits):
            aux = int(rng.choice([0, 1, -1, 2, limit, -limit, int(rng.integers(-limit, limit))]))
            element = {
                "total": total,
                "aux": aux,
                "valid": int(rng.random() < 0.9),
                "shift": shift,
                "rounding": int(rounding),
                "aux_mode": int(rng.integers(0, 3)),
                "gate": int(rng.choice([0, 0, 1, 2, 3])),
                "negate": int(rng.integers(0, 2)),
            }
            elements.append(element)
    run(EpilogueLane(word_bits=bits, sum_bits=sum_bits), elements, seed=0xACE1)


def test_everything_in_turn_draws_only_for_valid_stochastic_elements() -> None:
    rng = np.random.default_rng(7)
    modes = itertools.product(Rounding, AuxMode, Gate, (0, 1), range(0, SHIFT_MAX + 1, 5))
    elements = [
        {
            "total": int(rng.integers(-(2**33), 2**33)) >> int(rng.integers(0, 33)),
            "aux": int(rng.integers(-32767, 32768)) >> int(rng.integers(0, 16)),
            "valid": int(rng.random() < 0.7),
            "shift": shift,
            "rounding": int(rounding),
            "aux_mode": int(aux_mode),
            "gate": int(gate),
            "negate": negate,
        }
        for rounding, aux_mode, gate, negate, shift in modes
    ]
    order = rng.permutation(len(elements))
    run(EpilogueLane(word_bits=16, sum_bits=40), [elements[index] for index in order], 0x1234567)


@pytest.mark.parametrize("array", [2, 3, 5, 8])
def test_rows_come_out_whole_and_their_saturations_are_counted(array: int) -> None:
    rng = np.random.default_rng(array)
    dut = Epilogue(array=array, word_bits=8, sum_bits=24)
    assert EpilogueLane.latency == Timing(array).epilogue
    assert Timing(array).drain + dut.latency + Timing(array).rotate == Timing(array).write
    lanes = [Lane(1000 + lane) for lane in range(array)]
    rows = 120
    sums = rng.integers(-(2**14), 2**14, (rows, array))
    aux = rng.integers(-127, 128, (rows, array))
    controls = [
        {
            "valid": int(rng.random() < 0.8),
            "shift": int(rng.integers(0, 10)),
            "rounding": int(rng.integers(0, 4)),
            "aux_mode": int(rng.integers(0, 3)),
            "gate": int(rng.integers(0, 4)),
            "negate": int(rng.integers(0, 2)),
        }
        for _ in range(rows)
    ]

    async def bench(ctx: Any) -> None:
        for lane in range(array):
            ctx.set(dut.load, 1 << lane)
            ctx.set(dut.load_state, lanes[lane].state)
            await ctx.tick()
        ctx.set(dut.load, 0)
        count = 0
        for cycle in range(rows + dut.latency + 1):
            ctx.set(dut.control, controls[cycle] if cycle < rows else {"valid": 0})
            for lane in range(array):
                row = cycle - lane
                ctx.set(dut.sums[lane], int(sums[row, lane]) if 0 <= row < rows else 0)
                ctx.set(dut.aux[lane], int(aux[cycle, lane]) if cycle < rows else 0)
            if cycle > dut.latency:
                assert ctx.get(dut.saturations) == count, f"cycle {cycle}"
            row = cycle - dut.latency
            count = 0
            if 0 <= row < rows and controls[row]["valid"]:
                fields = {key: controls[row][key] for key in controls[row] if key != "valid"}
                for lane in range(array):
                    want, saturated = epilogue(
                        int(sums[row, lane]), int(aux[row, lane]), lanes[lane], bits=8, **fields
                    )
                    count += saturated
                    assert ctx.get(dut.results[lane]) == want, f"row {row}, lane {lane}"
            await ctx.tick()
        assert [ctx.get(state) for state in dut.states] == [lane.state for lane in lanes]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
