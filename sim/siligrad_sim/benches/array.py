"""Bench of :class:`siligrad_hdl.array.SystolicArray`.

Parameters ``array``, ``operand_bits``, ``sum_bits``.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray

from siligrad.isa import Timing
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start

Tile = tuple[NDArray[np.int64], NDArray[np.int64], int]
"""A of shape (N, k), B of shape (k, N), and how many cycles without a term follow."""


async def multiply(dut: Any, tiles: list[Tile], gaps: list[int]) -> None:
    """Stream `tiles`, with `gaps` idle cycles before each, and compare every sum that drains."""
    n = bench_parameters()["array"]
    latency = (n - 1) + Timing(n).cell + 1
    columns: list[tuple[NDArray[np.int64], NDArray[np.int64], bool]] = []
    due: dict[int, list[tuple[int, int, int, int]]] = {}  # cycle: tile, row, column, sum
    idle = (np.zeros(n, np.int64), np.zeros(n, np.int64), False)
    # A reset does not clear the sums: a tile without a term goes first, directly.
    columns.append((*idle[:2], True))
    for number, ((a, b, pad), gap) in enumerate(zip(tiles, gaps, strict=True)):
        columns += [idle] * gap
        length = a.shape[1] + pad
        for q in range(length):
            term = (a[:, q], b[q, :]) if q < a.shape[1] else idle[:2]
            columns.append((*term, q == length - 1))
        end = len(columns) - 1
        product = a @ b
        for row in range(n):
            for column in range(n):
                cycle = end + latency + column + (n - 1 - row)
                due.setdefault(cycle, []).append((number, row, column, int(product[row, column])))
    names = [f"{name}__{lane}" for name in "ab" for lane in range(n)]
    await start(dut, dict.fromkeys([*names, "last"], 0))
    sums = [getattr(dut, f"sums__{column}") for column in range(n)]
    operands = [[getattr(dut, f"{name}__{lane}") for lane in range(n)] for name in "ab"]
    for cycle in range(max(due) + 1):
        a_column, b_row, last = columns[cycle] if cycle < len(columns) else idle
        for handles, values in zip(operands, (a_column, b_row), strict=True):
            for handle, value in zip(handles, values.tolist(), strict=True):
                handle.value = value
        dut.last.value = int(last)
        await settled()
        for number, row, column, want in due.get(cycle, ()):
            got = sums[column].value.to_signed()
            assert got == want, (
                f"cycle {cycle}: sums[{column}] {got}, want {want}, row {row} of tile {number}"
            )
        await next_cycle(dut)


def draw_tile(rng: np.random.Generator, n: int, k: int, limit: int) -> Tile:
    """Draw a tile of `k` terms that takes at least N cycles."""
    a = rng.integers(-limit, limit + 1, (n, k))
    b = rng.integers(-limit, limit + 1, (k, n))
    return a, b, max(n - k, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(gapless=[True, False])
async def multiplies_tile_after_tile(dut: Any, gapless: bool) -> None:
    """Tiles of any length, one directly after the other or with idle cycles between them."""
    parameters = bench_parameters()
    rng = random_generator()
    n = parameters["array"]
    limit = (1 << parameters["operand_bits"] - 1) - 1
    # Tiles of every length from one term to 2N, and of exactly N several times in a row.
    lengths = [n, n, n, *rng.permutation(np.arange(1, 2 * n + 1)).tolist(), n, n]
    tiles = [draw_tile(rng, n, k, limit) for k in lengths]
    gaps = [0 if gapless else int(rng.integers(0, 4)) for _ in tiles]
    await multiply(dut, tiles, gaps)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(sign=[1, -1])
async def multiplies_the_largest_codes(dut: Any, sign: int) -> None:
    """Two deep tiles of the largest codes, as deep as the accumulator allows."""
    parameters = bench_parameters()
    n = parameters["array"]
    largest = (1 << parameters["operand_bits"] - 1) - 1
    depth = ((1 << parameters["sum_bits"] - 1) - 1) // largest**2
    k = min(depth, 200)
    a = np.full((n, k), sign * largest)
    b = np.full((k, n), largest)
    await multiply(dut, [(a, b, max(n - k, 0))] * 2, [0, 0])
