"""A model of the host port of ``docs/spec/host.md``, in front of the reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siligrad.device import OverrunError
from siligrad.isa import Geometry, Loop, Memory
from siligrad.registers import (
    IDENTIFICATION,
    OVERRUN_CYCLES,
    REGION_BITS,
    VERSION,
    WORDS_PER_LINE,
    Region,
    Register,
    Status,
    bank_bits,
    geometry_registers,
)
from siligrad_sim.reference import ReferenceDevice

__all__ = ["ReferencePort"]

_UNLIMITED = 1 << 63
_REGIONS = {Region.X: Memory.X, Region.W: Memory.W, Region.E: Memory.E}
_WRITABLE = {
    Register.ENTRY: 16,
    Register.STEPS: 16,
    Register.X_STRIDE: 16,
    Register.W_STRIDE: 16,
    Register.E_STRIDE: 16,
    Register.LIMIT: 32,
    Register.LIMIT_HIGH: 32,
}
"""Registers that only keep what is written, and their bits."""


class ReferencePort:
    """The words of an accelerator that computes as the reference does.

    Parameters
    ----------
    geometry
        Of the accelerator.
    busy_reads
        Reads of the status during which a run is busy. What it computes is there at its end.
    extra_cycles
        Cycles that a run is late, as a wrong machine might be.
    locked
        Whether program, W, and the registers that say what is run are kept from the host.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        busy_reads: int = 2,
        extra_cycles: int = 0,
        locked: bool = False,
    ) -> None:
        self.geometry = geometry
        self.busy_reads = busy_reads
        self.extra_cycles = extra_cycles
        self.locked = locked
        self.accesses: list[tuple[str, int]] = []
        n = geometry.array
        self.words = {memory: np.zeros((geometry.depth(memory), n), np.int32) for memory in Memory}
        self.program = [0] * (geometry.program_depth * WORDS_PER_LINE)
        self.registers = dict.fromkeys(_WRITABLE, 0)
        self.lfsr = [1] * n
        self.status = Status(0)
        self.cycles = 0
        self.saturations: tuple[int, ...] = ()
        self.fixed = geometry_registers(geometry) | {
            Register.IDENTIFICATION: IDENTIFICATION,
            Register.VERSION: VERSION,
        }
        self._busy = 0

    def dump(self) -> dict[Memory, NDArray[np.int32]]:
        """Return every word of the memories."""
        return {memory: words.copy() for memory, words in self.words.items()}

    def read(self, address: int) -> int:
        """Read the word at a word address."""
        self.accesses.append(("read", address))
        region, at = address >> REGION_BITS, address & (1 << REGION_BITS) - 1
        if region == Region.REGISTERS:
            return self._read_register(at)
        if self._refuses(region):
            return 0
        if region == Region.PROGRAM:
            return self.program[at] if at < len(self.program) else 0
        if region == Region.SATURATIONS:
            return self.saturations[at] if at < len(self.saturations) else 0
        place = self._place(region, at)
        return 0 if place is None else int(self.words[place[0]][place[1:]]) & 0xFFFFFFFF

    def write(self, address: int, value: int) -> None:
        """Write the word at a word address."""
        self.accesses.append(("write", address))
        region, at = address >> REGION_BITS, address & (1 << REGION_BITS) - 1
        if region == Region.REGISTERS and at == Register.STATUS:
            self.status &= ~Status.REFUSED
            return
        if self._refuses(region):
            return
        if region == Region.REGISTERS:
            self._write_register(at, value)
        elif region == Region.PROGRAM and at < len(self.program):
            self.program[at] = value
        elif (place := self._place(region, at)) is not None:
            low = value & (1 << self.geometry.word_bits) - 1
            sign = 1 << self.geometry.word_bits - 1
            self.words[place[0]][place[1:]] = (low ^ sign) - sign

    def _refuses(self, region: int) -> bool:
        refused = self._busy > 0 or (self.locked and region in {Region.PROGRAM, Region.W})
        if refused:
            self.status |= Status.REFUSED
        return refused

    def _place(self, region: int, at: int) -> tuple[Memory, int, int] | None:
        """Return the memory, address and bank of a word, if there is one."""
        bits = bank_bits(self.geometry.array)
        address, bank = at >> bits, at & (1 << bits) - 1
        memory = _REGIONS.get(Region(region)) if region in set(Region) else None
        if memory is None or bank >= self.geometry.array or address >= self.geometry.depth(memory):
            return None
        return memory, address, bank

    def _read_register(self, at: int) -> int:
        if at == Register.STATUS:
            status = self.status | (Status.BUSY if self._busy else Status(0))
            self._busy = max(self._busy - 1, 0)
            return int(status)
        if Register.LFSR <= at < Register.LFSR + self.geometry.array:
            return self.lfsr[at - Register.LFSR]
        if at in (Register.CYCLES, Register.CYCLES_HIGH):
            return self.cycles >> 32 * (at - Register.CYCLES) & 0xFFFFFFFF
        values = {**self.fixed, **self.registers}
        return {int(register): value for register, value in values.items()}.get(at, 0)

    def _write_register(self, at: int, value: int) -> None:
        if at == Register.CONTROL and value & 1:
            self._run()
        elif Register.LFSR <= at < Register.LFSR + self.geometry.array:
            self.lfsr[at - Register.LFSR] = value
        elif at in set(_WRITABLE):
            register = Register(at)
            kept = value & (1 << _WRITABLE[register]) - 1
            if self.locked and register < Register.LIMIT and kept != self.registers[register]:
                self.status |= Status.REFUSED
            else:
                self.registers[register] = kept

    def _run(self) -> None:
        registers = self.registers
        device = ReferenceDevice(self.geometry)
        entry = registers[Register.ENTRY] * WORDS_PER_LINE
        words = self.program[entry:]
        lines = [
            sum(word << 32 * index for index, word in enumerate(words[at : at + WORDS_PER_LINE]))
            for at in range(0, len(words), WORDS_PER_LINE)
        ]
        device.write_lines(_until_final(lines))
        for memory, contents in self.words.items():
            device.write_words(memory, 0, contents)
        device.write_lfsr(self.lfsr)
        strides = (Register.X_STRIDE, Register.W_STRIDE, Register.E_STRIDE)
        loop = Loop(max(registers[Register.STEPS], 1), *(registers[item] for item in strides))
        limit = registers[Register.LIMIT] | registers[Register.LIMIT_HIGH] << 32
        self._busy = self.busy_reads
        try:
            self.cycles = device.execute(loop, limit or _UNLIMITED) + self.extra_cycles
        except OverrunError:
            self.cycles, self.status, self.saturations = limit + OVERRUN_CYCLES, Status.OVERRUN, ()
            return
        self.words = device.dump()
        self.lfsr = list(device.read_lfsr())
        self.saturations = device.read_saturations(len(lines))
        self.status = Status.DONE


def _until_final(lines: list[int]) -> list[int]:
    """Return the lines up to the last one of the final instruction."""
    at = 0
    while at < len(lines):
        header = lines[at]
        at += 2 + (header >> 24 & 0xFF)
        if header >> 72 & 1:
            break
    return lines[:at]
