"""Random programs that keep the rules of docs/spec/isa.md as closely as they can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from siligrad.isa import AuxMode, Gate, Instruction, Memory, Product, Rounding, Segment
from tests.hdl.model import PORTS, Machine, Schedule

__all__ = ["random_program"]


def in_memory(tiles: set[int], array: int, depth: int) -> bool:
    return all(tile + array <= depth for tile in tiles)


def random_instruction(
    rng: np.random.Generator, machine: Machine, *, segments_max: int, k_max: int, tiles_max: int
) -> Instruction | None:
    """An instruction that keeps rules 1, 2 and 5, or None when the draw was unlucky."""
    n = machine.array
    product = Product(int(rng.integers(0, 3)))
    a_memory, b_memory, aux_memory = PORTS[product]
    m_tiles, p_tiles = rng.integers(1, tiles_max + 1, 2).tolist()

    def depth(memory: int) -> int:
        return len(machine.memories[memory][0])

    def tile(memory: int) -> int:
        return n * int(rng.integers(0, depth(memory) // n))

    def stride() -> int:
        return n * int(rng.integers(-2, 3)) % 2**16

    destination = int(rng.integers(0, 3))
    segments = []
    for _ in range(int(rng.choice([1, 1, 2, 3, segments_max]))):
        k = int(rng.integers(1, k_max + 1))
        pad = int(rng.choice([0, 0, 0, 1, 2, 5]))
        segments.append(
            Segment(
                k=k,
                a_base=tile(a_memory),
                a_m=stride(),
                a_k=stride(),
                b_base=tile(b_memory),
                b_p=stride(),
                b_k=stride(),
                pad=max(pad, 2 - k),
                ones=int(rng.random() < 0.2),
                ones_shift=int(rng.integers(0, machine.bits - 1)),
                a_column=int(rng.integers(0, 2)),
                b_column=int(rng.integers(0, 2)),
            )
        )
    short = n - sum(segment.cycles for segment in segments)
    if short > 0:
        segments[-1] = replace(segments[-1], pad=segments[-1].pad + short)
    d = (tile(destination), stride(), stride())
    aux = (tile(aux_memory), stride(), stride())
    if aux_memory == destination and rng.random() < 0.5:
        aux = d
    item = Instruction(
        m_tiles=m_tiles,
        p_tiles=p_tiles,
        product=product,
        destination=Memory(destination),
        rows_last=int(rng.integers(1, n + 1)),
        d_base=d[0],
        d_m=d[1],
        d_p=d[2],
        segments=tuple(segments),
        aux_base=aux[0],
        aux_m=aux[1],
        aux_p=aux[2],
        shift=int(rng.choice([0, 1, 3, machine.bits // 2, machine.bits, machine.bits + 3, 40])),
        rounding=Rounding(int(rng.integers(0, 4))),
        aux_mode=AuxMode(int(rng.integers(0, 3))),
        gate=Gate(int(rng.integers(0, 4))),
        negate=int(rng.integers(0, 2)),
        d_column=int(rng.integers(0, 2)),
        aux_column=int(rng.integers(0, 2)),
    )
    if sum(segment.k for segment in segments) > 2 ** (machine.sum_bits - 2 * machine.bits):
        return None
    tiles = Schedule(n).place(item)
    written = {time.d[1] for time in tiles}
    if len(written) != item.tiles or not in_memory(written, n, depth(destination)):
        return None
    for time in tiles:
        for read in time.reads:
            of_aux = read.cycle > time.end
            if read.tile + n > depth(read.memory):
                return None
            if not of_aux and (read.memory, read.tile) in {other.d for other in tiles}:
                return None
    return item


def random_program(
    rng: np.random.Generator,
    machine: Machine,
    instructions: int,
    *,
    segments_max: int = 5,
    k_max: int | None = None,
    tiles_max: int = 3,
) -> tuple[list[Instruction], Schedule]:
    """A legal program whose delays are the smallest, and how long it takes."""
    schedule = Schedule(machine.array)
    program: list[Instruction] = []
    while len(program) < instructions:
        item = random_instruction(
            rng,
            machine,
            segments_max=segments_max,
            k_max=k_max or 3 * machine.array,
            tiles_max=tiles_max,
        )
        if item is None:
            continue
        for delay in range(12 * machine.array + 40):
            delayed = replace(item, delay=delay)
            tiles = schedule.place(delayed)
            if schedule.legal(tiles):
                program.append(delayed)
                schedule.append(delayed, tiles)
                break
    return program, schedule
