from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from siligrad_hdl.operands import ASource, OperandSelect
from tests.hdl.model import operand


@pytest.mark.parametrize(("word_bits", "operand_bits"), [(8, 4), (9, 8), (8, 8), (16, 8), (16, 15)])
def test_every_word_becomes_the_nearest_operand_and_aux_stays_what_it_is(
    word_bits: int, operand_bits: int
) -> None:
    rng = np.random.default_rng(operand_bits)
    limit = (1 << word_bits - 1) - 1
    if word_bits < 16:
        words = list(range(-limit, limit + 1))
    else:  # all ties and their neighbours, and both ends
        half = 1 << word_bits - operand_bits >> 1
        ties = range(-limit - 1 + half, limit, 2 * half) if operand_bits == 8 else range(-99, 99)
        around = {tie + offset for tie in ties for offset in (-1, 0, 1)}
        around |= {sign * (limit - below) for sign in (-1, 1) for below in range(2 * half + 2)}
        words = sorted(word for word in around if abs(word) <= limit)
    dut = OperandSelect(array=2, word_bits=word_bits, operand_bits=operand_bits)
    memories = (dut.x, dut.w, dut.e)

    async def bench(ctx: Any) -> None:
        for word in words:
            others = rng.integers(-limit, limit + 1, 2).tolist()
            held = [int(item) for item in rng.permutation([word, *others])]  # in X, W and E
            for memory, code in zip(memories, held, strict=True):
                ctx.set(memory[1], code)
            source = ASource(int(rng.integers(4)))
            b_e, aux = int(rng.integers(2)), int(rng.integers(3))
            one = int(rng.integers(operand_bits - 1))
            ctx.set(
                dut.control,
                {
                    "a": [ASource.ZERO, source],
                    "one": 1 << one,
                    "b_w": 1 - b_e,
                    "b_e": b_e,
                    "aux_x": aux == 0,
                    "aux_w": aux == 1,
                },
            )
            await ctx.tick()
            wanted = [operand(code, word_bits, operand_bits) for code in held]
            x, w, e = wanted
            assert ctx.get(dut.a[0]) == 0
            assert ctx.get(dut.a[1]) == (0, x, e, 1 << one)[source], (source, held)
            assert ctx.get(dut.b[1]) == (e if b_e else w), held
            assert ctx.get(dut.aux[1]) == held[aux]
            ctx.set(dut.control, {"b_w": 0, "b_e": 0})
            await ctx.tick()
            assert ctx.get(dut.b[1]) == 0

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
