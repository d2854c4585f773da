"""What a run of a program moves over the serial line, known before there is a board."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siligrad import tree
from siligrad.frames import CRC_BYTES, REPLY_FIELDS, REQUEST_FIELDS, WORDS_MAX
from siligrad.host import HostDevice
from siligrad.program import Program
from siligrad.registers import IDENTIFICATION, VERSION, Region, Register, Status, geometry_registers

__all__ = ["Traffic", "run_traffic"]

_BITS = 10
"""Of a byte on the line: a start bit, eight of data, a stop bit."""

_STUFFED = 254
"""COBS adds a byte, and another for every so many."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests, and bytes on the line in each direction, of a line that damages none.

    Parameters
    ----------
    requests
        Each waits for the reply to the one before it.
    sent, received
        Bytes to the board and from it, at most: by what they hold, COBS saves one in some frames.
    """

    requests: int
    sent: int
    received: int

    def seconds(self, baud: int) -> float:
        """Return the time on a line of `baud` bits a second, without what the host takes itself."""
        return (self.sent + self.received) * _BITS / baud


def run_traffic(program: Program) -> Traffic:
    """Count what one run moves: new inputs, the start, the end and the counters.

    Parameters
    ----------
    program
        Is loaded, and its resident arguments are written, before; its results are not read. A run
        of several steps writes the data of all of them.
    """
    device = _Counting(program)
    inputs = [
        tree.unflatten(argument.structure, [_any(program, index) for index in argument.tensors])
        for argument in program.arguments
        if not argument.resident
    ]
    device.load(program)
    device.requests = device.sent = device.received = 0
    device.run(*inputs)
    return Traffic(device.requests, device.sent, device.received)


def _any(program: Program, index: int) -> NDArray[np.float64]:
    """Return some value that the tensor takes."""
    tensor = program.tensors[index]
    steps = (program.loop.steps,) if tensor.moves else ()
    return np.full((*steps, *tensor.shape), float(tensor.sign))


class _Counting(HostDevice):
    """Answers like a board that has just run the program, and counts what it would be sent."""

    name = "traffic"

    def __init__(self, program: Program) -> None:
        self.requests = self.sent = self.received = 0
        registers: dict[Register, int] = {
            Register.IDENTIFICATION: IDENTIFICATION,
            Register.VERSION: VERSION,
            Register.STATUS: Status.DONE,
            Register.CYCLES: program.cycles & 0xFFFFFFFF,
            Register.CYCLES_HIGH: program.cycles >> 32,
        }
        registers |= geometry_registers(program.geometry)
        self._words = {Region.REGISTERS.base + each: value for each, value in registers.items()}
        super().__init__(program.geometry)

    def read_word(self, address: int) -> int:
        self._count(0, 1)
        return self._words.get(address, 0)

    def write_word(self, address: int, value: int) -> None:
        self._count(1, 0)

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        for at in range(0, count, WORDS_MAX):
            self._count(0, min(WORDS_MAX, count - at))
        return np.zeros(count, np.uint32)

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        for at in range(0, len(words), WORDS_MAX):
            self._count(min(WORDS_MAX, len(words) - at), 0)

    def _count(self, written: int, read: int) -> None:
        self.requests += 1
        # The host begins a frame with a zero, too, which ends what a disturbance has left.
        self.sent += 1 + _frame_bytes(REQUEST_FIELDS, written)
        self.received += _frame_bytes(REPLY_FIELDS, read)


def _frame_bytes(fields: dict[str, int], words: int) -> int:
    """Return how long a frame is at most, with the zero at its end."""
    length = sum(fields.values()) // 8 + 4 * words + CRC_BYTES
    return length + -(-length // _STUFFED) + 1
