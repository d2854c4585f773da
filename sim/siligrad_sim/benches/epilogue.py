"""Bench of :class:`siligrad_hdl.epilogue.Epilogue`.

Parameters ``array``, ``word_bits``, ``sum_bits``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from siligrad.isa import SHIFT_MAX, AuxMode, Gate, Rounding, Timing
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start
from siligrad_sim.benches.specification import Lane, Operation, epilogue


@dataclass(frozen=True)
class Row:
    """A row of sums with its auxiliary operands, one of each for a lane."""

    operation: Operation
    sums: list[int]
    aux: list[int]
    valid: bool = True


def pack(operation: Operation, valid: bool) -> int:
    """Return what ``control`` is set to: valid and the operation's fields, from bit 0 on."""
    return (
        int(valid)
        | operation.shift << 1
        | operation.rounding << 7
        | operation.aux_mode << 9
        | operation.gate << 11
        | operation.negate << 13
    )


async def follow(dut: Any, rows: list[Row]) -> None:
    """Process `rows`, one a cycle, and compare results, saturations and the states of the lanes."""
    parameters = bench_parameters()
    n, bits = parameters["array"], parameters["word_bits"]
    latency = Timing(n).epilogue + n - 1
    lanes = [Lane(state) for state in random_generator().integers(1, 1 << 32, n).tolist()]
    sums = [getattr(dut, f"sums__{lane}") for lane in range(n)]
    aux = [getattr(dut, f"aux__{lane}") for lane in range(n)]
    results = [getattr(dut, f"results__{lane}") for lane in range(n)]
    vectors = [f"{name}__{lane}" for name in ("sums", "aux") for lane in range(n)]
    await start(dut, dict.fromkeys(["control", "idle", "word", "load", "load_state", *vectors], 0))
    for number, lane in enumerate(lanes):
        dut.load.value = 1 << number
        dut.load_state.value = lane.state
        await next_cycle(dut)
    dut.load.value = 0
    wanted: list[tuple[list[int], int]] = []
    for row in rows:
        codes, saturated = [], 0
        for lane, total, other in zip(lanes, row.sums, row.aux, strict=True):
            drawn = row.valid and row.operation.rounding == Rounding.STOCHASTIC
            draw = lane.draw() if drawn else 0
            code, counted = epilogue(row.operation, bits, total, other, draw)
            codes.append(code)
            saturated += counted and row.valid
        wanted.append((codes, saturated))
    idle = Row(Operation(0), [0] * n, [0] * n, valid=False)
    for cycle in range(len(rows) + latency + 2):
        row = rows[cycle] if cycle < len(rows) else idle
        dut.control.value = pack(row.operation, row.valid)
        for handle, value in zip(aux, row.aux, strict=True):
            handle.value = value
        for column in range(n):  # column j of a row comes j cycles after column 0
            at = cycle - column
            sums[column].value = rows[at].sums[column] if 0 <= at < len(rows) else 0
        await settled()
        at = cycle - latency
        if 0 <= at < len(rows) and rows[at].valid:
            for column, want in enumerate(wanted[at][0]):
                got = results[column].value.to_signed()
                assert got == want, (
                    f"cycle {cycle}: column {column} {got}, want {want}: "
                    f"sum {rows[at].sums[column]}, aux {rows[at].aux[column]}, "
                    f"{rows[at].operation}"
                )
        at -= 1
        if 0 <= at < len(rows):
            count = dut.saturations.value.to_unsigned()
            assert count == wanted[at][1], (
                f"cycle {cycle}: {count} saturated, want {wanted[at][1]}: {rows[at]}"
            )
        await next_cycle(dut)
    for number, lane in enumerate(lanes):
        got = getattr(dut, f"states__{number}").value.to_unsigned()
        assert got == lane.state, (
            f"after {len(rows)} rows: state {number} {got:#010x}, want {lane.state:#010x}"
        )


def draw_row(rng: np.random.Generator, operation: Operation, *, valid: bool = True) -> Row:
    """Draw sums near the places where something changes: ties, both ends of the codes, zero."""
    parameters = bench_parameters()
    bits, sum_bits = parameters["word_bits"], parameters["sum_bits"]
    limit, largest = (1 << bits - 1) - 1, (1 << sum_bits - 1) - 1
    codes = [0, 1, 2, -1, -2, limit, limit + 1, -limit, -limit - 1, 2 << bits, -(2 << bits)]
    step = 1 << operation.shift
    offsets = [0, 1, step // 2 - 1, step // 2, step // 2 + 1, step - 1]
    sums, auxiliaries = [], []
    for _ in range(parameters["array"]):
        aux = int(rng.choice([0, 1, -1, limit, -limit, int(rng.integers(-limit, limit + 1))]))
        code = int(rng.choice([*codes, int(rng.integers(-limit, limit + 1))]))
        offset = offsets[rng.integers(len(offsets))]
        if rng.integers(4) == 0:
            offset = int(rng.integers(step))
        total = code * step + offset
        if operation.aux_mode == AuxMode.ADD:
            total -= aux * step
        elif operation.aux_mode == AuxMode.SUBTRACT:
            total += aux * step
        if rng.integers(8) == 0:  # any sum, of any size
            total = int(rng.integers(-largest, largest + 1)) >> int(rng.integers(sum_bits))
        if operation.negate:
            total = -total
        sums.append(min(max(total, -largest), largest))
        auxiliaries.append(aux)
    return Row(operation, sums, auxiliaries, valid)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def does_every_operation_with_every_shift(dut: Any) -> None:
    """Every shift, rounding, aux mode, gate and negation, one after the other in a random order."""
    rng = random_generator()
    operations = [
        Operation(*fields)
        for fields in itertools.product(range(SHIFT_MAX + 1), Rounding, AuxMode, Gate, (0, 1))
    ]
    order = rng.permutation(len(operations)).tolist()
    await follow(dut, [draw_row(rng, operations[index]) for index in order])


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(rounding=list(Rounding))
async def rounds_ties_and_saturates_at_both_ends(dut: Any, rounding: Rounding) -> None:
    """Every sum around every tie and around both ends of the codes, for a small shift."""
    parameters = bench_parameters()
    n, bits = parameters["array"], parameters["word_bits"]
    limit, largest = (1 << bits - 1) - 1, (1 << parameters["sum_bits"] - 1) - 1
    shift = 3
    around = [*range(-40, 41), *range((limit - 3) << shift, (limit + 3) << shift)]
    around = [sign * total for sign in (1, -1) for total in around if total <= largest]
    rows = [
        Row(Operation(shift, rounding, negate=negate), [total] * n, [0] * n)
        for negate in (0, 1)
        for total in around
    ]
    await follow(dut, rows)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(rounding=list(Rounding))
async def rounds_and_saturates_with_every_shift(dut: Any, rounding: Rounding) -> None:
    """For every shift: the ties of small codes, of both parities, and both ends of the codes."""
    parameters = bench_parameters()
    n, bits = parameters["array"], parameters["word_bits"]
    limit, largest = (1 << bits - 1) - 1, (1 << parameters["sum_bits"] - 1) - 1
    rows = []
    for shift in range(SHIFT_MAX + 1):
        half = 1 << shift >> 1
        ties = {(code << shift) + half for code in (0, 1, limit - 1, limit)}
        around = {point + near for point in (*ties, limit << shift) for near in (-1, 0, 1)}
        totals = sorted({sign * total for sign in (1, -1) for total in around if total <= largest})
        totals += [largest, -largest] + [0] * n  # the last row is full
        rows += [
            Row(Operation(shift, rounding), totals[first : first + n], [0] * n)
            for first in range(0, len(totals) - n + 1, n)
        ]
    await follow(dut, rows)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def leaves_the_lanes_alone_without_an_element(dut: Any) -> None:
    """Rows that are not valid draw nothing and count nothing."""
    rng = random_generator()
    rows = []
    for _ in range(1000):
        operation = Operation(
            int(rng.integers(SHIFT_MAX + 1)),
            Rounding(int(rng.integers(4))),
            AuxMode(int(rng.integers(3))),
            Gate(int(rng.integers(4))),
            int(rng.integers(2)),
        )
        rows.append(draw_row(rng, operation, valid=bool(rng.integers(2))))
    await follow(dut, rows)
