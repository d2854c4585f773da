"""The accelerator in CXXRTL, with every register and memory open to a flip between two cycles."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError
from siligrad.isa import Geometry
from siligrad.registers import Register
from siligrad_sim.cxxrtl import CxxrtlDevice, Harness, build_library
from siligrad_sim.netlist import accelerator_rtlil

__all__ = ["FlippingDevice", "Part"]

_HERE = Path(__file__).parent

_VISIT = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_uint32,
    ctypes.c_uint32,
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.POINTER(ctypes.c_uint32),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A register or a memory.

    Parameters
    ----------
    name
        Its path in the hardware, spaces between.
    bits
        Of a word.
    words
        Of a memory; 1 of a register.
    """

    name: str
    bits: int
    words: int


class FlippingDevice(CxxrtlDevice):
    """The accelerator in CXXRTL, whose bits can be flipped, at rest and in the middle of a run.

    Parameters
    ----------
    geometry
        What to simulate.

    Attributes
    ----------
    parts
        All registers and memories, by name.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._rtlil_text = accelerator_rtlil(geometry)
        self._pending: tuple[int, str, int, int] | None = None
        super().__init__(geometry)
        self._visit()

    def _build(self, *, waveforms: bool) -> Path:
        if waveforms:
            raise DeviceError(f"{self.name}: what flips bits records no waveforms")
        harness = Harness("flipping_model.h", _HERE / "flipping.cpp")
        return build_library(self._rtlil_text, harness=harness)

    def restore(
        self, state: Mapping[str, NDArray[np.uint32]], *, only: Sequence[re.Pattern[str]] = ()
    ) -> None:
        """Let everything hold what it did when :meth:`state` gave `state`.

        With `only`, that is what has a name that one of these matches.
        """
        for name, held in self._held.items():
            if not only or any(each.match(name) for each in only):
                for words in held:
                    words[:] = state[name]
        self._pending = None
        self._unusable = None

    def flip(self, part: str, word: int, bit: int) -> None:
        """Flip a bit of a register or memory now."""
        size = self.parts[part]
        if not (0 <= word < size.words and 0 <= bit < size.bits):
            raise ValueError(
                f"{part} has {size.words} words of {size.bits} bits, not bit {bit} of word {word}"
            )
        chunk = word * -(-size.bits // 32) + bit // 32
        for held in self._held[part]:
            held[chunk] ^= np.uint32(1 << bit % 32)

    def flip_in_run(self, cycle: int, part: str, word: int, bit: int) -> None:
        """Flip a bit in the next run, when it has been busy for `cycle` cycles."""
        self._pending = cycle, part, word, bit

    def state(self) -> dict[str, NDArray[np.uint32]]:
        """Return what every register and memory holds, in chunks of 32 bits."""
        return {name: held[0].copy() for name, held in self._held.items()}

    def wait(self, limit: int) -> None:
        if self._pending is not None:
            (cycle, part, word, bit), self._pending = self._pending, None
            super().wait(min(cycle, limit))
            self.flip(part, word, bit)
            limit -= min(cycle, limit)
        super().wait(limit)
        # Meanwhile what the run has sent on its way arrives, as it does before any host looks.
        self.read_register(Register.STATUS)

    def _visit(self) -> None:
        """Find what there is to flip; views of the simulation's own memory."""
        self.parts: dict[str, Part] = {}
        self._held: dict[str, list[NDArray[np.uint32]]] = {}

        def note(
            context: Any, name: bytes, bits: int, words: int, now: Any, following: Any
        ) -> None:
            part = Part(name.decode(), bits, words)
            count = words * -(-bits // 32)
            self.parts[part.name] = part
            pointers = [now, following] if following else [now]
            self._held[part.name] = [np.ctypeslib.as_array(each, (count,)) for each in pointers]

        visit = self._library.siligrad_visit
        visit.argtypes, visit.restype = [ctypes.c_void_p, _VISIT, ctypes.c_void_p], None
        visit(self._simulation, _VISIT(note), None)
