"""Bench of :class:`siligrad_hdl.scratchpad.SkewedMemory`, written through a ``SkewedWriter``.

The top has the ports ``read_request``, ``write_request``, ``write_enable``, ``lanes`` and
``write_lanes``. Parameters ``array``, ``word_bits``, ``depth``, ``address_bits``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cocotb
import numpy as np

from siligrad.isa import Timing
from siligrad_sim.bench_runner import bench_parameters
from siligrad_sim.benches.cycles import next_cycle, random_generator, settled, start

Kind = Literal["row", "column", "word"]


@dataclass(frozen=True)
class Request:
    """Row or column `index` of the tile at `address`, or the word at `address` of bank `index`."""

    kind: Kind
    address: int
    index: int

    def places(self, array: int) -> list[tuple[int, int]]:
        """Return address and bank of each lane: section *Memories and tiles* of isa.md."""
        if self.kind == "word":
            return [(self.address, self.index)]
        elements = [(self.index, lane) for lane in range(array)]
        if self.kind == "column":
            elements = [(c, r) for r, c in elements]
        return [(self.address + r, (r + c) % array) for r, c in elements]

    def packed(self, array: int, address_bits: int) -> int:
        """Return the request as the component's port takes it, its members from bit 0 on."""
        index_bits = (array - 1).bit_length()
        flags = int(self.kind != "row") | int(self.kind == "word") << 1
        return self.address | self.index << address_bits | flags << address_bits + index_bits


@dataclass(frozen=True)
class Work:
    """What a bench asks for in one cycle."""

    read: Request | None = None
    write: Request | None = None


async def follow(dut: Any, work: list[Work]) -> None:
    """Fill the memory, then do `work`, writing random codes, and compare every read."""
    parameters = bench_parameters()
    rng = random_generator()
    n = parameters["array"]
    work = [
        *(Work(write=word) for word in every_word(n, parameters["depth"])),
        *[Work()] * Timing(n).rotate,
        *work,
    ]
    limit = (1 << parameters["word_bits"] - 1) - 1
    read_latency, write_latency = Timing(n).read - 1, Timing(n).rotate
    words = np.zeros((parameters["depth"], n), np.int64)
    lanes = [getattr(dut, f"lanes__{lane}") for lane in range(n)]
    write_lanes = [getattr(dut, f"write_lanes__{lane}") for lane in range(n)]
    inputs = ["read_request", "write_request", "write_enable"]
    await start(dut, dict.fromkeys([*inputs, *(f"write_lanes__{lane}" for lane in range(n))], 0))
    writes: dict[int, tuple[Request, list[int]]] = {}
    reads: dict[int, tuple[Request, list[int]]] = {}
    for cycle in range(len(work) + read_latency + 1):
        item = work[cycle] if cycle < len(work) else Work()
        dut.write_enable.value = int(item.write is not None)
        if item.write is not None:
            codes = rng.integers(-limit, limit + 1, n).tolist()
            dut.write_request.value = item.write.packed(n, parameters["address_bits"])
            for handle, code in zip(write_lanes, codes, strict=True):
                handle.value = code
            writes[cycle + write_latency] = (item.write, codes)
        # A read sees what was written up to and including the cycle of its request.
        if cycle in writes:
            request, codes = writes[cycle]
            for place, code in zip(request.places(n), codes, strict=False):
                words[place] = code
        if item.read is not None:
            dut.read_request.value = item.read.packed(n, parameters["address_bits"])
            reads[cycle + read_latency] = (
                item.read,
                [int(words[place]) for place in item.read.places(n)],
            )
        await settled()
        if cycle in reads:
            request, wanted = reads[cycle]
            for lane, want in enumerate(wanted):
                got = lanes[lane].value.to_signed()
                assert got == want, f"cycle {cycle}: lane {lane} of {request} {got}, want {want}"
        await next_cycle(dut)


def draw_request(rng: np.random.Generator, n: int, depth: int, kinds: list[Kind]) -> Request:
    """Draw a request inside the memory."""
    kind: Kind = kinds[int(rng.integers(len(kinds)))]
    index = int(rng.integers(n))
    if kind == "word":
        return Request(kind, int(rng.integers(depth)), index)
    return Request(kind, int(rng.integers(depth // n)) * n, index)


def every_word(n: int, depth: int) -> list[Request]:
    """List every word of the memory."""
    return [Request("word", address, bank) for address in range(depth) for bank in range(n)]


def tile_by_tile(kind: Kind) -> Callable[[int, int], list[Request]]:
    """Return what lists every row or column of every tile."""

    def requests(n: int, depth: int) -> list[Request]:
        return [Request(kind, tile * n, index) for tile in range(depth // n) for index in range(n)]

    return requests


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(written=["row", "column"], read=["row", "column"])
async def reads_every_tile_as_it_was_written_or_transposed(
    dut: Any, written: Kind, read: Kind
) -> None:
    """Every row or column of the memory, written in one pass and read in the next."""
    parameters = bench_parameters()
    n, depth = parameters["array"], parameters["depth"]
    work = [Work(write=request) for request in tile_by_tile(written)(n, depth)]
    work += [Work()] * Timing(n).rotate
    work += [Work(read=request) for request in tile_by_tile(read)(n, depth)]
    await follow(dut, work)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reaches_every_word_alone(dut: Any) -> None:
    """Every word written by itself, and read as a part of its row and column and by itself."""
    parameters = bench_parameters()
    n, depth = parameters["array"], parameters["depth"]
    work = [Work(read=request) for request in tile_by_tile("row")(n, depth)]
    work += [Work(read=request) for request in tile_by_tile("column")(n, depth)]
    work += [Work(read=word) for word in every_word(n, depth)]
    await follow(dut, work)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_and_writes_in_every_cycle(dut: Any) -> None:
    """A random read and a random write in nearly every cycle, of any kind, to few tiles."""
    parameters = bench_parameters()
    rng = random_generator()
    n, depth = parameters["array"], parameters["depth"]
    kinds: list[Kind] = ["row", "column", "word"]

    def draw() -> Request | None:
        return draw_request(rng, n, min(depth, 3 * n), kinds) if rng.integers(8) else None

    await follow(dut, [Work(draw(), draw()) for _ in range(2000)])
