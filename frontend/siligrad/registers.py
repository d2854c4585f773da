"""What a host sees of the accelerator: 32-bit words behind one port.

The hardware decodes from this table, the devices and the firmware header are written from it, and
``docs/spec/host.md`` explains it. Addresses here count words of 32 bits; a byte-addressed bus
multiplies them by four.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag

from siligrad.isa import LINE_BITS, Geometry, Memory

__all__ = [
    "Build",
    "HOST_ADDRESS_BITS",
    "Held",
    "IDENTIFICATION",
    "OVERRUN_CYCLES",
    "REGION_BITS",
    "Region",
    "Register",
    "Status",
    "VERSION",
    "WORDS_PER_LINE",
    "bank_bits",
    "element_address",
    "geometry_registers",
    "program_address",
    "unpack_geometry",
]

IDENTIFICATION = 0x53475244
"""What :attr:`Register.IDENTIFICATION` reads: ``SGRD``."""

VERSION = 2 << 16 | 2
"""What :attr:`Register.VERSION` reads: major << 16 | minor of this interface and of the
instruction.

A minor version adds to what was there. A host needs the major version that it was written for, and
its minor version or a later one."""

OVERRUN_CYCLES = 3
"""Busy cycles beyond :attr:`Register.LIMIT` with which a run is ended that does not end by itself.
"""

REGION_BITS = 20
"""Word address bits inside a region."""

HOST_ADDRESS_BITS = REGION_BITS + 3
"""Word address bits of the host port."""

WORDS_PER_LINE = LINE_BITS // 32
"""Host words of one line of the program memory, the lowest first."""


class Region(IntEnum):
    """The top three bits of a word address."""

    REGISTERS = 0
    PROGRAM = 1
    SATURATIONS = 2
    X = 4
    W = 5
    E = 6

    @property
    def base(self) -> int:
        """First word address of the region."""
        return self.value << REGION_BITS


class Register(IntEnum):
    """Words of :attr:`Region.REGISTERS`."""

    IDENTIFICATION = 0  # read only
    VERSION = 1  # read only
    ARRAY = 2  # read only: N
    OPERAND_BITS = 3  # read only
    SUM_BITS = 4  # read only
    X_DEPTH = 5  # read only: words per bank
    W_DEPTH = 6  # read only
    E_DEPTH = 7  # read only
    PROGRAM_DEPTH = 8  # read only: lines
    CONTROL = 9  # write 1: start at ENTRY; refused while busy
    STATUS = 10  # read: Status flags; a write clears REFUSED
    ENTRY = 11  # line of the first instruction
    CYCLES = 12  # read only: busy cycles of the last run, low word
    CYCLES_HIGH = 13  # read only: high word
    WORD_BITS = 14  # read only
    BUILD = 15  # read only: Build flags
    LFSR = 16  # state of lane 0; lane j at LFSR + j
    STEPS = 32  # times that a run executes the program
    X_STRIDE = 33  # words by which operands that move are further in the next step
    W_STRIDE = 34
    E_STRIDE = 35
    LIMIT = 36  # busy cycles that a run may take, low word; 0 in both words: any number
    LIMIT_HIGH = 37  # high word
    BAKED = 38  # read only: CRC-32 of the image that the memories were configured with; 0: of none
    HELD = 39  # read only: Held flags


class Build(IntFlag):
    """Bits of :attr:`Register.BUILD`; none in a build that has nothing to tell."""

    LOCKED = 1  # program and W are kept from the host


class Held(IntFlag):
    """Bits of :attr:`Register.HELD`: memories that hold what they were configured with."""

    X = 1
    W = 2
    E = 4
    PROGRAM = 8

    @classmethod
    def of(cls, memory: Memory) -> Held:
        """Return the bit of one of X, W and E."""
        return cls(1 << memory)


class Status(IntFlag):
    """Bits of :attr:`Register.STATUS`."""

    BUSY = 1  # a program runs
    DONE = 2  # the last start has ended by itself
    REFUSED = 4  # something was asked for that a running or a locked accelerator does not allow
    OVERRUN = 8  # the last run was ended because it took more cycles than LIMIT


_GEOMETRY = {
    Register.ARRAY: "array",
    Register.WORD_BITS: "word_bits",
    Register.OPERAND_BITS: "operand_bits",
    Register.SUM_BITS: "sum_bits",
    Register.X_DEPTH: "x_depth",
    Register.W_DEPTH: "w_depth",
    Register.E_DEPTH: "e_depth",
    Register.PROGRAM_DEPTH: "program_depth",
}


def geometry_registers(geometry: Geometry) -> dict[Register, int]:
    """Return what the registers that tell of the geometry read where it is `geometry`."""
    return {register: int(getattr(geometry, name)) for register, name in _GEOMETRY.items()}


def unpack_geometry(read: Mapping[Register, int]) -> Geometry:
    """Return the geometry that these registers, read by a host, tell of."""
    return Geometry(**{name: read[register] for register, name in _GEOMETRY.items()})


def bank_bits(array: int) -> int:
    """Address bits that choose one of `array` banks."""
    return (array - 1).bit_length()


def element_address(memory: Memory, array: int, bank: int, address: int) -> int:
    """Word address at which a host finds word `address` of `bank` of `memory`."""
    region = (Region.X, Region.W, Region.E)[memory]
    return region.base | address << bank_bits(array) | bank


def program_address(line: int, word: int = 0) -> int:
    """Word address of a 32-bit word of a program line."""
    return Region.PROGRAM.base + line * WORDS_PER_LINE + word
