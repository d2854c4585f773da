"""Random programs that keep the rules of docs/spec/isa.md as closely as they can."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from siligrad.isa import AuxMode, Gate, Instruction, Memory, Product, Rounding, Segment
from tests.hdl.model import PORTS, Machine, Schedule, in_step

__all__ = ["ONCE", "Steps", "random_program", "random_steps"]


@dataclass(frozen=True)
class Steps:
    """How often a program is executed, by how many words operands move, and where from."""

    count: int
    strides: tuple[int, int, int]
    windows: tuple[int, int, int]  # where what moves begins in X, W and E in the first step

    def holds(self, memory: int, tile: int, array: int, moves: int) -> bool:
        """Rule 7: whether a tile that moves lies in the first window, or one that does not in none.

        In a single step nothing moves.
        """
        if self.count == 1:
            return True
        begin, stride = self.windows[memory], self.strides[memory]
        end = begin + stride * (1 if moves else self.count)
        inside = begin <= tile and tile + array <= end
        outside = tile + array <= begin or end <= tile
        return inside if moves else outside


ONCE = Steps(1, (0, 0, 0), (0, 0, 0))


def random_steps(rng: np.random.Generator, machine: Machine, count: int) -> Steps:
    """Windows that take most of each memory, or none of it."""
    strides, windows = [], []
    for banks in machine.memories:
        tiles = len(banks[0]) // machine.array
        stride = int(
            rng.choice([tiles // 2 // count, tiles * 3 // 4 // count, 0], p=[0.4, 0.5, 0.1])
        )
        strides.append(stride * machine.array)
        windows.append(machine.array * int(rng.integers(tiles - stride * count + 1)))
    return Steps(count, (strides[0], strides[1], strides[2]), (windows[0], windows[1], windows[2]))


def random_instruction(
    rng: np.random.Generator,
    machine: Machine,
    steps: Steps,
    *,
    segments_max: int,
    k_max: int,
    tiles_max: int,
) -> Instruction | None:
    """An instruction that keeps rules 1, 2, 5 and 7, or None when the draw was unlucky."""
    n = machine.array
    product = Product(int(rng.integers(0, 3)))
    a_memory, b_memory, aux_memory = PORTS[product]
    m_tiles, p_tiles = rng.integers(1, tiles_max + 1, 2).tolist()

    def depth(memory: int) -> int:
        return len(machine.memories[memory][0])

    def tile(memory: int) -> tuple[int, int]:
        """The address of a tile and whether it moves."""
        moves = int(rng.integers(0, 2))
        tiles = [n * number for number in range(depth(memory) // n)]
        allowed = [tile for tile in tiles if steps.holds(memory, tile, n, moves)]
        if not allowed:
            moves = 1 - moves
            allowed = [tile for tile in tiles if steps.holds(memory, tile, n, moves)]
        return int(rng.choice(allowed)), moves

    def stride() -> int:
        return n * int(rng.integers(-2, 3)) % 2**16

    destination = int(rng.integers(0, 3))
    segments = []
    for _ in range(int(rng.choice([1, 1, 2, 3, segments_max]))):
        k = int(rng.integers(1, k_max + 1))
        pad = int(rng.choice([0, 0, 0, 1, 2, 5]))
        (a_base, a_moves), (b_base, b_moves) = tile(a_memory), tile(b_memory)
        segments.append(
            Segment(
                k=k,
                a_base=a_base,
                a_moves=a_moves,
                b_moves=b_moves,
                a_m=stride(),
                a_k=stride(),
                b_base=b_base,
                b_p=stride(),
                b_k=stride(),
                pad=max(pad, 2 - k),
                ones=int(rng.random() < 0.2),
                ones_shift=int(rng.integers(0, machine.operand_bits - 1)),
                a_column=int(rng.integers(0, 2)),
                b_column=int(rng.integers(0, 2)),
            )
        )
    short = n - sum(segment.cycles for segment in segments)
    if short > 0:
        segments[-1] = replace(segments[-1], pad=segments[-1].pad + short)
    d = (*tile(destination), stride(), stride())
    aux = (*tile(aux_memory), stride(), stride())
    if aux_memory == destination and rng.random() < 0.5:
        aux = d
    bits = machine.word_bits
    item = Instruction(
        m_tiles=m_tiles,
        p_tiles=p_tiles,
        product=product,
        destination=Memory(destination),
        rows_last=int(rng.integers(1, n + 1)),
        d_base=d[0],
        d_moves=d[1],
        d_m=d[2],
        d_p=d[3],
        segments=tuple(segments),
        aux_base=aux[0],
        aux_moves=aux[1],
        aux_m=aux[2],
        aux_p=aux[3],
        shift=int(rng.choice([0, 1, 3, bits // 2, bits, bits + 3, 40])),
        rounding=Rounding(int(rng.integers(0, 4))),
        aux_mode=AuxMode(int(rng.integers(0, 3))),
        gate=Gate(int(rng.integers(0, 4))),
        negate=int(rng.integers(0, 2)),
        d_column=int(rng.integers(0, 2)),
        aux_column=int(rng.integers(0, 2)),
    )
    if sum(segment.k for segment in segments) > 2 ** (machine.sum_bits - 2 * machine.operand_bits):
        return None
    return item if keeps_its_places(item, machine, steps) else None


def keeps_its_places(item: Instruction, machine: Machine, steps: Steps) -> bool:
    """Rules 2, 5 and 7, for addresses; those of later steps are in their windows if these are."""
    n = machine.array
    tiles = Schedule(n).place(item)
    following = Schedule(n).place(in_step(item, 1, steps.strides))
    written = {time.d for time in tiles}
    if len(written) != item.tiles:
        return False
    for time, next_time in zip(tiles, following, strict=True):
        accesses = zip(time.reads + time.writes, next_time.reads + next_time.writes, strict=True)
        for access, next_access in accesses:
            moves = int(access.tile != next_access.tile)
            if access.tile + n > len(machine.memories[access.memory][0]):
                return False
            if not steps.holds(access.memory, access.tile, n, moves):
                return False
            if access.cycle <= time.end and (access.memory, access.tile) in written:
                return False
    return True


def random_program(
    rng: np.random.Generator,
    machine: Machine,
    instructions: int,
    steps: Steps = ONCE,
    *,
    segments_max: int = 5,
    k_max: int | None = None,
    tiles_max: int = 3,
) -> tuple[list[Instruction], Schedule]:
    """A legal program whose delays are the smallest, and how long it takes."""
    program: list[Instruction] = []
    schedule = Schedule(machine.array)
    while len(program) < instructions:
        item = random_instruction(
            rng,
            machine,
            steps,
            segments_max=segments_max,
            k_max=k_max or 3 * machine.array,
            tiles_max=tiles_max,
        )
        if item is None:
            continue
        wait = shortest_delay(schedule, item)
        if wait is not None:
            program.append(replace(item, delay=wait))
            schedule.append(program[-1], schedule.place(program[-1]))
    return delayed_for_all(program, machine, steps)


def shortest_delay(schedule: Schedule, item: Instruction) -> int | None:
    """The smallest delay, from that of `item` on, with which it may come next."""
    for delay in range(item.delay, item.delay + 12 * schedule.array + 40):
        if schedule.legal(schedule.place(replace(item, delay=delay))):
            return delay
    return None


def delayed_for_all(
    program: list[Instruction], machine: Machine, steps: Steps
) -> tuple[list[Instruction], Schedule]:
    """Delay instructions until all the steps are legal; those before stay so."""
    while True:
        schedule = Schedule(machine.array)
        for step, index in itertools.product(range(steps.count), range(len(program))):
            item = in_step(program[index], step, steps.strides)
            wait = shortest_delay(schedule, item)
            assert wait is not None, "nothing that is written takes so long"
            if wait != item.delay:
                program[index] = replace(program[index], delay=wait)
                break
            schedule.append(item, schedule.place(item))
        else:
            return program, schedule
