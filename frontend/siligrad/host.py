"""What devices behind the host port of ``docs/spec/host.md`` share, whatever carries the words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siligrad.device import Device, DeviceError, OverrunError
from siligrad.isa import LINE_BITS, EncodingError, Geometry, Loop, Memory
from siligrad.program import Program
from siligrad.registers import (
    IDENTIFICATION,
    OVERRUN_CYCLES,
    VERSION,
    WORDS_PER_LINE,
    Build,
    Held,
    Region,
    Register,
    Status,
    bank_bits,
    element_address,
    geometry_registers,
    program_address,
    unpack_geometry,
)

__all__ = ["HostDevice"]

_WORD_MASK = 0xFFFFFFFF
_LIMIT_MAX = (1 << 64) - 1


class HostDevice(Device):
    """A device whose accelerator is reached through its host port.

    A subclass carries single words (:meth:`read_word`, :meth:`write_word`), and may carry blocks
    faster and wait more cleverly than by polling; it calls :meth:`identify` when the port is up.
    Everything else, from the layout of the memories to the start of a run, is here.

    The accelerator ends a run that exceeds its limit. One that does not, and one whose host was
    interrupted, may be busy for good, and the port refuses everything while it is: such a device
    refuses further use itself, and is opened anew.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._unusable: str | None = None  # the reason
        self._locked = False

    # What a subclass implements.

    @abstractmethod
    def read_word(self, address: int) -> int:
        """Read the 32-bit word at word address `address` of the host port."""

    @abstractmethod
    def write_word(self, address: int, value: int) -> None:
        """Write the 32-bit word at word address `address` of the host port."""

    # What a subclass may do better.

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        """Read `count` consecutive words from `address` on."""
        words = (self.read_word(address + index) for index in range(count))
        return np.fromiter(words, dtype=np.uint32, count=count)

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        """Write consecutive words from `address` on."""
        for index, word in enumerate(words.tolist()):
            self.write_word(address + index, word)

    def wait(self, limit: int) -> None:
        """Return when the accelerator is not busy any more, or at least `limit` cycles later."""
        # A read of the status takes at least a cycle, so this many are enough, and bound the wait.
        for _ in range(limit):
            if not self.read_word(Region.REGISTERS.base + Register.STATUS) & Status.BUSY:
                return

    # The device.

    def read_register(self, register: int) -> int:
        """Read a word of the register region; lane `j` of the LFSR is ``Register.LFSR + j``."""
        return self.read_word(Region.REGISTERS.base + register)

    def write_register(self, register: int, value: int) -> None:
        """Write a word of the register region."""
        self.write_word(Region.REGISTERS.base + register, value)

    def read_geometry(self) -> Geometry:
        """Read the geometry that the accelerator was built with.

        Raises
        ------
        DeviceError
            If what answers is no siligrad, is of a version that this library does not speak, or
            tells of a geometry that does not exist.
        """
        found = self.read_register(Register.IDENTIFICATION)
        if found != IDENTIFICATION:
            raise DeviceError(
                f"{self.name}: no siligrad accelerator answers: its identification reads "
                f"{found:#010x}, not {IDENTIFICATION:#010x}"
            )
        found = self.read_register(Register.VERSION)
        # A minor version adds; a major one changes what there is.
        if found >> 16 != VERSION >> 16 or found < VERSION:
            raise DeviceError(
                f"{self.name}: the accelerator is of version {found >> 16}.{found & 0xFFFF}, "
                f"this library needs {VERSION >> 16}.{VERSION & 0xFFFF}"
            )
        read = {register: self.read_register(register) for register in _GEOMETRY_REGISTERS}
        try:
            return unpack_geometry(read)
        except EncodingError as error:
            raise DeviceError(
                f"{self.name}: the accelerator tells of a geometry that does not exist: {error}"
            ) from error

    def identify(self) -> None:
        """Check that a siligrad accelerator of this device's geometry answers.

        Raises
        ------
        DeviceError
            If not; the message has the values of both sides.
        """
        found = geometry_registers(self.read_geometry())
        expected = geometry_registers(self.geometry)
        different = [
            f"{register.name} {found[register]} instead of {expected[register]}"
            for register in expected
            if found[register] != expected[register]
        ]
        if different:
            raise DeviceError(
                f"{self.name}: the accelerator is another than expected: it has "
                f"{', '.join(different)}"
            )
        self._locked = bool(self.read_register(Register.BUILD) & Build.LOCKED)

    @property
    def locked(self) -> bool:
        return self._locked

    def held(self, program: Program) -> Held:
        self._check_usable()
        baked = self.read_register(Register.BAKED)
        # Zero of most accelerators; then the checksum need not be computed.
        if not baked or baked != program.checksum:
            return Held(0)
        return Held(self.read_register(Register.HELD))

    def write_lines(self, lines: Sequence[int]) -> None:
        self._check_usable()
        self._check_unlocked("program")
        if len(lines) > self.geometry.program_depth:
            raise DeviceError(
                f"{self.name}: the program takes {len(lines)} lines, the program memory has "
                f"{self.geometry.program_depth}"
            )
        words = [
            line >> 32 * word & _WORD_MASK for line in lines for word in range(LINE_BITS // 32)
        ]
        self.write_block(program_address(0), np.array(words, dtype=np.uint32))

    def read_lines(self, count: int) -> list[int]:
        """Read the first `count` lines of the program memory."""
        self._check_usable()
        self._check_unlocked("program")
        words = self.read_block(program_address(0), count * WORDS_PER_LINE)
        return [
            sum(word << 32 * index for index, word in enumerate(line))
            for line in words.reshape(count, WORDS_PER_LINE).tolist()
        ]

    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        self._check_usable()
        words = self._check_words(memory, address, words)
        stride = 1 << bank_bits(self.geometry.array)
        block = np.zeros((len(words), stride), dtype=np.int32)  # what no bank has is ignored
        block[:, : self.geometry.array] = words
        start = element_address(memory, self.geometry.array, 0, address)
        self.write_block(start, block.reshape(-1).view(np.uint32))

    def read_words(self, memory: Memory, address: int, count: int) -> NDArray[np.int32]:
        self._check_usable()
        self._check_range(memory, address, count)
        stride = 1 << bank_bits(self.geometry.array)
        start = element_address(memory, self.geometry.array, 0, address)
        block = self.read_block(start, count * stride).view(np.int32)
        return np.ascontiguousarray(block.reshape(count, stride)[:, : self.geometry.array])

    def write_lfsr(self, states: Sequence[int]) -> None:
        self._check_usable()
        if len(states) != self.geometry.array:
            raise DeviceError(
                f"{self.name}: {self.geometry.array} lanes need as many LFSR states, "
                f"not {len(states)}"
            )
        for lane, state in enumerate(states):
            if not 1 <= state <= _WORD_MASK:
                raise DeviceError(
                    f"{self.name}: the LFSR state of lane {lane} must be from 1 to "
                    f"{_WORD_MASK:#x}, not {state:#x}; a register that holds zero stays zero"
                )
        self.write_block(Region.REGISTERS.base + Register.LFSR, np.array(states, dtype=np.uint32))

    def read_lfsr(self) -> tuple[int, ...]:
        self._check_usable()
        states = self.read_block(Region.REGISTERS.base + Register.LFSR, self.geometry.array)
        return tuple(states.tolist())

    def execute(self, loop: Loop, limit: int) -> int:
        self._check_usable()
        if not 1 <= limit <= _LIMIT_MAX:
            raise ValueError(f"limit must be from 1 to {_LIMIT_MAX} cycles, not {limit}")
        self.write_register(Register.STATUS, 0)  # forget what was refused before
        self.write_register(Register.ENTRY, 0)
        self.write_register(Register.STEPS, loop.steps)
        self.write_register(Register.X_STRIDE, loop.x_stride)
        self.write_register(Register.W_STRIDE, loop.w_stride)
        self.write_register(Register.E_STRIDE, loop.e_stride)
        self.write_register(Register.LIMIT, limit & _WORD_MASK)
        self.write_register(Register.LIMIT_HIGH, limit >> 32)
        self.write_register(Register.CONTROL, 1)
        try:
            self.wait(limit + OVERRUN_CYCLES + 1)
        except BaseException:
            self._unusable = f"{self.name}: the program was interrupted and may still be running"
            raise
        status = Status(self.read_register(Register.STATUS))
        cycles = self.read_cycles()
        if status & Status.BUSY:
            self._unusable = (
                f"{self.name}: the program is still running after its limit of {limit} cycles, and "
                "the accelerator has not ended it"
            )
            raise DeviceError(self._unusable)
        if status == Status.OVERRUN:
            raise OverrunError(
                f"{self.name}: the program was still running after its limit of {limit} cycles, "
                f"and was ended after {cycles}",
                cycles,
            )
        if status == Status.DONE and cycles > limit:
            raise OverrunError(
                f"{self.name}: the program took {cycles} cycles, its limit was {limit}", cycles
            )
        if status != Status.DONE:
            raise DeviceError(
                f"{self.name}: the program did not end as it should: the status is {status!r}, not "
                f"{Status.DONE!r}, after {cycles} cycles"
            )
        return cycles

    def read_cycles(self) -> int:
        """Return the busy cycles of the last run."""
        low = self.read_register(Register.CYCLES)
        return self.read_register(Register.CYCLES_HIGH) << 32 | low

    def read_saturations(self, count: int) -> tuple[int, ...]:
        self._check_usable()
        return tuple(self.read_block(Region.SATURATIONS.base, count).tolist())

    def close(self) -> None:
        self._unusable = f"{self.name}: the device is closed"

    # Checks.

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise DeviceError(f"{self._unusable}; open the device anew")

    def _check_unlocked(self, what: str) -> None:
        if self._locked:
            raise DeviceError(
                f"{self.name}: the accelerator is locked: its {what} can be neither read nor "
                "written; it runs the image that it was built with, and no other"
            )

    def _check_range(self, memory: Memory, address: int, count: int) -> None:
        if memory == Memory.W:
            self._check_unlocked("W")
        depth = self.geometry.depth(memory)
        if count < 0 or not 0 <= address <= depth - count:
            raise DeviceError(
                f"{self.name}: words {address} to {address + count - 1} of {memory.name} do not "
                f"exist; it has {depth} words a bank"
            )

    def _check_words(
        self, memory: Memory, address: int, words: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Return `words` when they are codes that fit, at addresses that exist."""
        if words.ndim != 2 or words.shape[1] != self.geometry.array:
            raise DeviceError(
                f"{self.name}: words must have a shape of (count, {self.geometry.array}), "
                f"not {words.shape}"
            )
        self._check_range(memory, address, len(words))
        limit = (1 << self.geometry.word_bits - 1) - 1
        outside = (words > limit) | (words < -limit)
        if outside.any():
            index, bank = np.argwhere(outside)[0].tolist()
            raise DeviceError(
                f"{self.name}: word {address + index} of bank {bank} of {memory.name} must be a "
                f"code from {-limit} to {limit}, not {words[index, bank]}"
            )
        return np.ascontiguousarray(words, dtype=np.int32)


_GEOMETRY_REGISTERS = tuple(geometry_registers(Geometry()))
