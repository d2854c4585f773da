from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from siligrad.isa import Timing
from siligrad_hdl.scratchpad import NEAR_BANKS, SkewedMemory, SkewedWriter

ADDRESS_BITS = 9


def request(rng: np.random.Generator, array: int, depth: int) -> dict[str, int]:
    """A row or a column of some tile, or a word."""
    kind = rng.integers(0, 5)
    if kind == 0:
        address = int(rng.integers(0, depth))
    else:
        address = array * int(rng.integers(0, depth // array))
    return {
        "address": address,
        "index": int(rng.integers(0, array)),
        "column": int(kind >= 3 or kind == 0),
        "word": int(kind == 0),
    }


def places(request: dict[str, int], array: int) -> list[tuple[int, int]]:
    """(bank, address) of each lane, from docs/spec/isa.md."""
    index, tile = request["index"], request["address"]
    if request["word"]:
        return [(index, tile)]
    elements = [(lane, index) if request["column"] else (index, lane) for lane in range(array)]
    return [((r + c) % array, tile + r) for r, c in elements]


@pytest.mark.parametrize(
    ("array", "depth"), [(2, 6), (3, 12), (4, 16), (4, 13), (5, 11), (8, 32), (12, 30)]
)
def test_rows_columns_and_words_are_read_as_they_were_written(array: int, depth: int) -> None:
    rng = np.random.default_rng(array)
    memories = [
        SkewedMemory(array=array, word_bits=7, depth=depth, address_bits=ADDRESS_BITS)
        for _ in range(2)
    ]
    writer = SkewedWriter(array=array, word_bits=7, address_bits=ADDRESS_BITS, memories=2)
    timing = Timing(array)
    assert memories[0].latency + 1 == timing.read
    assert writer.latency == timing.rotate

    m = Module()
    m.submodules.writer = writer
    for number, memory in enumerate(memories):
        m.submodules[f"memory_{number}"] = memory
        m.d.comb += memory.write_enable.eq(writer.write_enables[number])
        for bank in range(array):
            m.d.comb += [
                memory.write_addresses[bank].eq(writer.write_addresses[bank]),
                memory.write_data[bank].eq(writer.write_data[bank]),
            ]

    cycles = 300
    # A write is in the memory latency cycles after its request; a read sees it from then on.
    contents = np.zeros((2, array, depth), dtype=np.int64)
    snapshots = []
    writes = []
    for _ in range(cycles):
        enable = int(rng.integers(0, 4))
        lanes = rng.integers(-64, 64, array).tolist()
        writes.append((request(rng, array, depth), enable, lanes))
    for cycle in range(cycles + 10):
        then = cycle - writer.latency
        if 0 <= then < cycles:
            item, enable, lanes = writes[then]
            for lane, (bank, address) in enumerate(places(item, array)):
                for number in range(2):
                    if enable >> number & 1:
                        contents[number, bank, address] = lanes[lane]
        snapshots.append(contents.copy())
    reads = [[request(rng, array, depth) for _ in range(2)] for _ in range(cycles)]

    async def bench(ctx: Any) -> None:
        for cycle in range(cycles + memories[0].latency):
            item, enable, lanes = writes[cycle] if cycle < cycles else ({}, 0, [0] * array)
            if item:
                ctx.set(writer.request, item)
                ctx.set(writer.turn, -item["index"] % array)
            ctx.set(writer.enable, enable)
            for lane in range(array):
                ctx.set(writer.lanes[lane], lanes[lane])
            for number, memory in enumerate(memories):
                if cycle < cycles:
                    item = reads[cycle][number]
                    ctx.set(memory.request, item)
                    if array > NEAR_BANKS:
                        for bank, address in places(item, array):
                            ctx.set(memory.request.rows[bank], address - item["address"])
                then = cycle - memory.latency
                if then >= 0:
                    wanted = places(reads[then][number], array)
                    got = [ctx.get(lane) for lane in memory.lanes[: len(wanted)]]
                    want = [snapshots[then][number, bank, address] for bank, address in wanted]
                    assert got == want, f"cycle {cycle}: {reads[then][number]}"
            await ctx.tick()
        for number, memory in enumerate(memories):
            for bank in range(array):
                rows = [ctx.get(memory.banks[bank].data[address]) for address in range(depth)]
                assert rows == contents[number, bank].tolist()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
