"""The system on chip trains by itself, and everything that it says is checked.

From its reset on, in Verilator: the console is read as it comes; afterwards every word of the three
memories is compared with the reference's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.isa import Memory
from siligrad.program import Program
from siligrad.tensor import Role
from siligrad_hdl.soc import RAM_BYTES
from siligrad_sim.reference import ReferenceDevice
from siligrad_sim.soc.firmware import Firmware, build_firmware
from siligrad_sim.soc.network import Lesson
from siligrad_sim.soc.simulation import ChipOnBench, SimulatedChip

__all__ = ["Outcome", "read_console", "reference_of", "train", "watch"]

_SILENT_CYCLES = 1 << 28
"""Clock cycles in which a chip that works has something to say."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a chip did.

    Parameters
    ----------
    firmware
        What it was given.
    said
        The numbers that it reported, by name.
    text
        Every line that it sent.
    differences
        What is not as it must be, a sentence each; none, if all is well.
    words_compared
        Words of X, W and E that were compared with the reference's.
    params
        The weights that it ended with, nested as the program's argument; None if something differs.
    """

    firmware: Firmware
    said: dict[str, int]
    text: tuple[str, ...]
    differences: tuple[str, ...] = ()
    words_compared: int = 0
    params: Any = field(default=None, repr=False)


def train(
    lesson: Lesson,
    *,
    ram_bytes: int = RAM_BYTES,
    multiplier: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Let a simulated chip train, and compare it with the reference.

    Parameters
    ----------
    lesson
        What.
    ram_bytes, multiplier
        As of :class:`~siligrad_hdl.soc.SystemOnChip`.
    say
        Is told each line of the console when it comes.

    Raises
    ------
    ToolMissing, DeviceUnavailable
        If a tool is missing.
    DeviceError
        If the firmware does not fit, or the simulation cannot be made.
    """
    firmware = build_firmware(lesson, ram_bytes=ram_bytes, multiplier=multiplier)
    geometry = lesson.program.geometry
    with SimulatedChip(geometry, ram_bytes=ram_bytes, multiplier=multiplier) as chip:
        chip.load_ram(firmware.words)
        return watch(chip, lesson, firmware, say)


def watch(
    chip: ChipOnBench, lesson: Lesson, firmware: Firmware, say: Callable[[str], None]
) -> Outcome:
    """Release a chip whose RAM is loaded, and compare what it does; it is held afterwards."""
    chip.release()
    text: list[str] = []
    for line in _lines(chip):
        say(line)
        text.append(line)
    stopped = chip.stopped
    chip.hold()
    said = read_console(text)
    if text[-1:] != ["end ok"]:
        last = f"its last line is {text[-1]!r}" if text else "it said nothing"
        why = "the processor has stopped: a trap, or an access of nothing" if stopped else last
        errors = [line for line in text if line.startswith("error ")]
        return Outcome(firmware, said, tuple(text), (*errors, f"the chip has not succeeded: {why}"))
    program = lesson.program
    reference = reference_of(lesson)
    differences = [
        *_compare(program, reference.dump(), chip.dump()),
        *_compare_numbers(lesson, said, _weights_crc(reference)),
    ]
    words = program.geometry.array * sum(program.geometry.depth(memory) for memory in Memory)
    params = None if differences else reference.read()[0]  # the chip's, since all words are
    return Outcome(firmware, said, tuple(text), tuple(differences), words, params)


def reference_of(lesson: Lesson) -> ReferenceDevice:
    """Return the reference after it has trained the same."""
    reference = ReferenceDevice(lesson.program.geometry)
    reference.load(lesson.program, seed=lesson.seed)
    for step in range(lesson.steps):
        reference.run(*lesson.batch(step))
    return reference


def read_console(text: list[str]) -> dict[str, int]:
    """Return the numbers in lines such as ``steps 100`` and ``weights crc 89abcdef``, by name.

    Of several of one name, the last.
    """
    numbers = {}
    for line in text:
        name, _, value = line.rpartition(" ")
        base = 16 if name.endswith("crc") else 10
        try:
            numbers[name] = int(value, base)
        except ValueError:
            continue
    return numbers


def _lines(chip: ChipOnBench) -> Iterator[str]:
    """Yield the lines of the console, until the last one or the chip is silent."""
    begun = b""
    while heard := chip.listen(_SILENT_CYCLES):
        *whole, begun = (begun + heard).split(b"\n")
        for line in whole:
            text = line.decode("ascii", "replace")
            yield text
            if text.startswith("end "):
                return


def _compare(
    program: Program,
    wanted: dict[Memory, NDArray[np.int32]],
    found: dict[Memory, NDArray[np.int32]],
) -> Iterator[str]:
    """Say which words differ: the first of each memory, and how many."""
    for memory in Memory:
        places = np.argwhere(wanted[memory] != found[memory])
        if not len(places):
            continue
        address, bank = places[0].tolist()
        owner = program.locate(memory, address, bank)
        name = "nothing's" if owner is None else f"{owner[0].name}{list(owner[2])}"
        yield (
            f"{len(places)} words of {memory.name} differ from the reference's, the first at word "
            f"{address} of bank {bank} ({name}): {found[memory][address, bank]} instead of "
            f"{wanted[memory][address, bank]}"
        )


def _compare_numbers(lesson: Lesson, said: dict[str, int], crc: int) -> Iterator[str]:
    """Say what the chip has reported wrongly."""
    wanted = {
        "accelerator steps": lesson.steps,
        "of them busy": lesson.steps * lesson.program.cycles,
        "weights crc": crc,
    }
    if lesson.software_steps:
        wanted |= {"software steps": lesson.software_steps, "different words": 0}
    for name, value in wanted.items():
        if said.get(name) != value:
            yield f"the chip says {name} {said.get(name, 'nothing')}, not {value}"


def _weights_crc(reference: ReferenceDevice) -> int:
    """Return the CRC-32 of the codes of all resident tensors, row after row, low byte first."""
    n, crc = reference.geometry.array, 0
    for tensor in reference.program.tensors:
        if tensor.role == Role.RESIDENT:
            words = reference.read_words(tensor.memory, tensor.base, tensor.words(n))
            crc = zlib.crc32(tensor.unpack(words, n).astype("<i2").tobytes(), crc)
    return crc
