"""Bits of the hardware that programs and hosts cannot change, or not in a test's time, and why."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from siligrad_sim.coverage.netlist import BitHole, Component

__all__ = ["REASONS", "Reason", "sorted_out"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some bits do not change.

    Parameters
    ----------
    component, signal
        Patterns of their names.
    lowest, highest
        Of the bits that it holds for.
    why
        In one line.
    """

    component: str
    signal: str
    lowest: int
    highest: int
    why: str

    def explains(self, component: str, signal: str, bit: int) -> bool:
        """Return whether it holds for a bit."""
        return (
            self.lowest <= bit <= self.highest
            and re.fullmatch(self.component, component) is not None
            and re.fullmatch(self.signal, signal) is not None
        )


_LONG = "a run of 2**19 cycles, or 2**32"
_MANY = "2**20 saturated elements in an instruction"
_NARROW = "operands are 8 bits wide: the largest one is 2**6"
_WORDS = "the host asks for words, not for rows or columns"

REASONS = (
    Reason(r"memory\.bank|saturations(\.sums)?", r"(output|read)_enable", 0, 0, "always one"),
    Reason(r"sequencer\.fetch\.running", r"output_enable", 0, 0, "always one"),
    Reason(r"memory\.bank|saturations\.sums|sequencer\..*", r"read_port__en", 0, 0, "always one"),
    Reason(r"array", r"accept_0", 0, 0, "always one"),
    Reason(r"epilogue", r"sum|sums__\d", 0, 7, "zeros, below the sum of narrow operands"),
    Reason(r"epilogue\.lane", r"sum", 0, 7, "zeros, below the sum of narrow operands"),
    Reason(r"siligrad|host|watchdog(\.counter)?", r"cycles", 19, 63, _LONG),
    Reason(r"host|watchdog", r"port", 19, 31, _LONG),
    Reason(r"watchdog\.counter", r"low", 19, 31, _LONG),
    Reason(r"watchdog\.counter", r"high|carry", 0, 31, _LONG),
    Reason(r"siligrad|host", r"instruction_data|read_data", 20, 31, _MANY),
    Reason(r"saturations", r"(read|write)_data|total|rows|before|added", 20, 31, _MANY),
    Reason(r"saturations\.sums", r"output|(read|write)(_port_)?_data", 20, 31, _MANY),
    Reason(r"siligrad|host", r"(host__)?address", 10, 19, "the memories end before"),
    Reason(r"host", r"request(\.column|\.word)?", 0, 11, _WORDS),
    Reason(r"siligrad|sequencer", r"host_request(\.column|\.word)?", 0, 11, _WORDS),
    Reason(r"host", r"status", 4, 31, "zeros: there is no such status"),
    Reason(r"host", r"constants", 8, 31, "no constant that is told has it"),
    Reason(r"host", r"started", 0, 0, "only a reset clears it"),
    Reason(r"sequencer(\.\w+)?", r"header\.rows_last", 2, 4, "N is 3"),
    Reason(r"sequencer(\.\w+)?", r"header", 28, 30, "rows_last, and N is 3"),
    Reason(r"sequencer(\.\w+)?", r"header\.segments", 6, 7, "more than 63 segments"),
    Reason(r"sequencer(\.\w+)?", r"header", 18, 19, "more than 63 segments"),
    Reason(r"sequencer(\.\w+)?", r"header\.p_tiles", 6, 11, "no memory has 64 tiles"),
    Reason(r"sequencer(\.\w+)?", r"header", 6, 11, "p_tiles, and no memory has 64"),
    Reason(r"sequencer(\.\w+)?", r"(segment|term)\.ones_shift", 3, 3, _NARROW),
    Reason(r"sequencer(\.\w+)?", r"term", 35, 35, _NARROW),
    Reason(r"sequencer", r"feeds_(\d|last_1)", 5, 5, _NARROW),
    Reason(r"sequencer", r"one", 7, 7, _NARROW),
    Reason(r"siligrad|sequencer|operands", r"(operands|control)\.one", 7, 7, _NARROW),
    Reason(r"siligrad|sequencer|operands", r"operands|control", 13, 13, _NARROW),
)
"""What is known of the accelerator that is simulated for coverage: N = 3, operands of 8 bits."""


def sorted_out(
    found: Iterable[Component],
) -> tuple[dict[str, list[tuple[str, BitHole]]], list[tuple[str, BitHole]]]:
    """Return the bits that did not change: those with a reason, by reason, and the holes.

    Each with the name of its component.
    """
    explained: dict[str, list[tuple[str, BitHole]]] = defaultdict(list)
    holes: list[tuple[str, BitHole]] = []
    for component in found:
        for hole in component.bit_holes:
            by_reason: dict[str | None, list[int]] = defaultdict(list)
            for bit in hole.bits:
                fitting = (
                    each.why for each in REASONS if each.explains(component.name, hole.signal, bit)
                )
                by_reason[next(fitting, None)].append(bit)
            for why, bits in by_reason.items():
                part = component.name, BitHole(hole.signal, tuple(bits))
                (holes if why is None else explained[why]).append(part)
    return dict(explained), holes
