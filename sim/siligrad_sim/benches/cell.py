"""Bench of :class:`siligrad_hdl.cell.ProcessingElement`.

Parameters ``operand_bits``, ``sum_bits``.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from siligrad.isa import Timing
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start

INPUTS = ("a_west", "b_north", "last_west", "accept_west", "drain_north")

LAG = Timing(2).cell
"""Cycles from a pair of operands to the cycle at whose end their product joins the sum."""


def wrap(value: int, bits: int) -> int:
    """Return `value` modulo ``2**bits``, as two's complement."""
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


class Model:
    """The cell, cycle by cycle, from the contract in its docstring."""

    def __init__(self, sum_bits: int) -> None:
        self.sum_bits = sum_bits
        self.products = [0] * LAG
        self.sum = 0
        self.drain = 0
        self.east: dict[str, int] = dict.fromkeys(
            ("a_east", "b_south", "last_east", "accept_east"), 0
        )

    def outputs(self) -> dict[str, int]:
        """Return the outputs of this cycle."""
        return {**self.east, "drain_south": self.drain}

    def end_cycle(self, inputs: dict[str, int]) -> None:
        """Take over the inputs of this cycle."""
        total = wrap(self.sum + self.products[-1], self.sum_bits)
        if inputs["last_west"]:
            self.drain = total
        elif inputs["accept_west"]:
            self.drain = inputs["drain_north"]
        self.sum = 0 if inputs["last_west"] else total
        self.products = [inputs["a_west"] * inputs["b_north"], *self.products[:-1]]
        self.east = {
            "a_east": inputs["a_west"],
            "b_south": inputs["b_north"],
            "last_east": inputs["last_west"],
            "accept_east": inputs["accept_west"],
        }


async def follow(dut: Any, stimulus: list[dict[str, int]]) -> None:
    """Compare every output with the model in every cycle."""
    model = Model(bench_parameters()["sum_bits"])
    await start(dut, dict.fromkeys(INPUTS, 0))
    for _ in range(2 * LAG):  # what was in the pipeline before is gone
        await next_cycle(dut)
    # The sum and the drain register are not reset: begin with a known sum in both.
    known = dict.fromkeys(INPUTS, 0)
    stimulus = [{**known, "last_west": 1}, {**known, "last_west": 1}, *stimulus]
    for cycle, inputs in enumerate(stimulus):
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await settled()
        for name, want in model.outputs().items():
            if name == "drain_south" and cycle < 2:
                continue
            handle = getattr(dut, name).value
            got = handle.to_signed() if len(handle) > 1 else int(handle)
            assert got == want, f"cycle {cycle}: {name} {got}, want {want}"
        model.end_cycle(inputs)
        await next_cycle(dut)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def follows_its_contract_in_every_cycle(dut: Any) -> None:
    """Random operands, flags and drained sums in every cycle, legal or not."""
    parameters = bench_parameters()
    rng = random_generator()
    operand = 1 << parameters["operand_bits"] - 1
    total = 1 << parameters["sum_bits"] - 1
    stimulus = [
        {
            "a_west": int(rng.integers(-operand, operand)),
            "b_north": int(rng.integers(-operand, operand)),
            "last_west": int(rng.integers(4) == 0),
            "accept_west": int(rng.integers(2)),
            "drain_north": int(rng.integers(-total, total)),
        }
        for _ in range(2000)
    ]
    await follow(dut, stimulus)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(
    depth=[1, 7, 784],
    a_sign=[1, -1],
)
async def sums_the_largest_products(dut: Any, depth: int, a_sign: int) -> None:
    """A tile of `depth` products of the largest codes, which wraps where the sum is narrow."""
    parameters = bench_parameters()
    largest = (1 << parameters["operand_bits"] - 1) - 1
    idle = dict.fromkeys(INPUTS, 0)
    stimulus = [{**idle, "a_west": a_sign * largest, "b_north": largest} for _ in range(depth)] + [
        dict(idle) for _ in range(LAG + 3)
    ]
    # In the cycle in which the last product joins.
    stimulus[depth - 1 + LAG]["last_west"] = 1
    await follow(dut, stimulus)
    got = dut.drain_south.value.to_signed()
    want = wrap(int(np.sum(np.full(depth, a_sign * largest * largest))), parameters["sum_bits"])
    assert got == want, f"after {depth} products: sum {got}, want {want}"
