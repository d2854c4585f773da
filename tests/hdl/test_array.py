from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from numpy.typing import NDArray

from siligrad.isa import Timing
from siligrad_hdl.array import SystolicArray


@pytest.mark.parametrize("array", [2, 3, 4, 5, 8])
def test_rows_of_products_drain_bottom_up_while_the_next_tile_accumulates(array: int) -> None:
    rng = np.random.default_rng(array)
    dut = SystolicArray(array=array, operand_bits=8, sum_bits=24)
    assert Timing(array).read + dut.latency == Timing(array).drain
    # Terms of each tile, as short as is allowed, and longer; then cycles without a term inside a
    # tile, after which it ends; then idle cycles before the next tile.
    shapes = [(array, 0, 0)] * 4 + [
        (array + 1, 0, 0),
        (1, array - 1, 0),
        (array, 0, 3),
        (array, 2, 1),
    ]
    shapes += [
        (int(rng.integers(1, 3 * array)), array, int(rng.integers(0, 2 * array))) for _ in range(8)
    ]
    schedule: list[tuple[NDArray[np.int64], NDArray[np.int64], int]] = []
    expected: dict[tuple[int, int], int] = {}
    idle = np.zeros(array, dtype=np.int64)
    # What is in the sums before the first tile is none of its concern.
    schedule += [(rng.integers(-127, 128, array), rng.integers(-127, 128, array), 0)] * 3
    schedule += [(idle, idle, 1)] + [(idle, idle, 0)] * (array - 1)
    for terms, pad, gap in shapes:
        a = rng.integers(-127, 128, (terms, array))
        b = rng.integers(-127, 128, (terms, array))
        for term in range(terms):
            end = term == terms - 1 and pad == 0
            schedule.append((a[term], b[term], int(end)))
        for cycle in range(pad):
            noise = rng.integers(-127, 128, array)
            schedule.append((idle, noise, int(cycle == pad - 1)))
        last = len(schedule) - 1
        tile = a.T @ b
        for distance, row in enumerate(reversed(range(array))):
            for column in range(array):
                at = last + dut.latency + column + distance
                expected[at, column] = int(tile[row, column])
        for _ in range(gap):
            schedule.append((idle, rng.integers(-127, 128, array), 0))

    async def bench(ctx: Any) -> None:
        checked = 0
        for cycle in range(len(schedule) + dut.latency + 2 * array):
            a, b, last = schedule[cycle] if cycle < len(schedule) else (idle, idle, 0)
            for lane in range(array):
                ctx.set(dut.a[lane], int(a[lane]))
                ctx.set(dut.b[lane], int(b[lane]))
            ctx.set(dut.last, last)
            for column in range(array):
                if (cycle, column) in expected:
                    got = ctx.get(dut.sums[column])
                    want = expected[cycle, column]
                    assert got == want, f"cycle {cycle}, column {column}: {got}, want {want}"
                    checked += 1
            await ctx.tick()
        assert checked == len(expected) == len(shapes) * array * array

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
