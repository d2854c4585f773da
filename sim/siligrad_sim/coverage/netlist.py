"""Structural coverage: which branches and bits of the hardware's Verilog a simulation has used.

:class:`CountingDevice` is the accelerator in a Verilator build that counts. Its points are told by
what a reader of the hardware knows: a component, a signal, its bits; for a branch the register that
it decides about, and its condition. Instances of one component (cells, lanes, banks) are one line.
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from siligrad.isa import Geometry
from siligrad_sim.netlist import accelerator_verilog
from siligrad_sim.verilator import VerilatorDevice, build_library

__all__ = ["BitHole", "BranchHole", "Component", "CountingDevice", "Point", "components", "parse"]


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that Verilator counts.

    Parameters
    ----------
    kind
        ``toggle``, ``line`` or ``branch``.
    instance
        Path of the component, dots between.
    line
        Of the Verilog.
    what
        ``signal[bit]:0->1`` of a toggle; else ``if``, ``else``, ``block`` and such.
    count
        How often.
    """

    kind: str
    instance: str
    line: int
    what: str
    count: int


def parse(text: str) -> Iterator[Point]:
    """Yield the points of a file that Verilator's runtime wrote.

    A line is ``C 'KEYS' COUNT``; each of the keys is a byte 1, a name, a byte 2 and a value.

    Raises
    ------
    ValueError
        If a line is none of these.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line:
            continue
        match = re.fullmatch(r"C '(.*)' (\d+)", line)
        if match is None:
            raise ValueError(f"line {number} is no count of Verilator's: {line[:60]!r}")
        keys = dict(part.split("\2", 1) for part in match[1].split("\1") if part)
        yield Point(
            keys["page"].split("/")[0].removeprefix("v_"),
            keys["h"],
            int(keys["l"]),
            keys["o"],
            int(match[2]),
        )


class CountingDevice(VerilatorDevice):
    """The accelerator in Verilator, which counts what is executed and what changes.

    Only the device that this thread has opened last can tell what it has counted.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry, verilog=accelerator_verilog(geometry))

    @property
    def verilog(self) -> str:
        """The Verilog whose lines points have."""
        return accelerator_verilog(self.geometry)

    def _build(self, *, waveforms: bool) -> Path:
        return build_library(self.verilog, waveforms=waveforms, coverage=True)

    def points(self) -> list[Point]:
        """Return what has been counted since the device was opened."""
        self._check_usable()
        write = self._library.siligrad_coverage
        write.argtypes, write.restype = [ctypes.c_char_p], None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "coverage.dat"
            write(os.fsencode(path))
            return list(parse(path.read_text(encoding="utf-8")))


# Components.


@dataclass(frozen=True, slots=True)
class BitHole:
    """Bits of a signal that did not change both ways, in all instances of its component.

    Parameters
    ----------
    signal, bits
        Which, the lowest first.
    """

    signal: str
    bits: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.signal}[{_ranges(self.bits)}]"


@dataclass(frozen=True, slots=True)
class BranchHole:
    """A branch that was taken in no instance of its component.

    Parameters
    ----------
    signal
        What it decides about.
    condition
        In Verilog; with what it must be.
    """

    signal: str
    condition: str

    def __str__(self) -> str:
        return f"{self.signal} when {self.condition}"


@dataclass
class Component:
    """What was used of all instances of a component.

    Parameters
    ----------
    name
        Its path, without numbers.
    instances
        How many there are.
    bits, bits_used, branches, branches_used
        Counted in one instance; used means that some instance has used it.
    bit_holes, branch_holes
        The others.
    """

    name: str
    instances: int
    bits: int
    bits_used: int
    branches: int
    branches_used: int
    bit_holes: list[BitHole]
    branch_holes: list[BranchHole]


def components(points: Iterable[Point], verilog: str) -> list[Component]:
    """Return what `points` say of each component of `verilog`, by name."""
    text = _Text(verilog.splitlines())
    instances: dict[str, set[str]] = defaultdict(set)
    edges: dict[str, dict[tuple[str, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    branches: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for point in points:
        name = _component(point.instance)
        instances[name].add(point.instance)
        if point.kind == "toggle":
            signal, bit, edge = _toggle(point.what)
            edges[name][signal, bit] |= {edge} if point.count else set()
        elif not text.is_filling(point.line):
            branches[name][text.branch(point)] += point.count
    return [
        Component(
            name,
            len(instances[name]),
            len(edges[name]),
            sum(len(seen) == len(_EDGES) for seen in edges[name].values()),
            len(branches[name]),
            sum(count > 0 for count in branches[name].values()),
            _bit_holes(edges[name]),
            [BranchHole(*each) for each, count in sorted(branches[name].items()) if not count],
        )
        for name in sorted(instances)
    ]


_EDGES = ("0->1", "1->0")


def _component(instance: str) -> str:
    """Return the path without the top, what Yosys makes names unique with, and numbers."""
    path = re.sub(r"\$\d+", "", instance).removeprefix("siligrad.").removeprefix("siligrad.")
    return re.sub(r"_\d+|(?<=memory)_[xwe]\b", "", path)


def _toggle(what: str) -> tuple[str, int, str]:
    match = re.fullmatch(r"(.*?)(?:\[(\d+)\])?:(0->1|1->0)", what)
    assert match is not None, what
    return _plain(match[1]), int(match[2] or 0), match[3]


def _plain(signal: str) -> str:
    """Return the name of a signal without what Yosys makes it unique with and Verilator escapes."""
    signal = re.sub(r"__0([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), signal)
    return re.sub(r"\$\d+", "", signal).strip("\\ ")


def _bit_holes(edges: Mapping[tuple[str, int], set[str]]) -> list[BitHole]:
    missing: dict[str, list[int]] = defaultdict(list)
    for (signal, bit), seen in edges.items():
        if len(seen) < len(_EDGES):
            missing[signal].append(bit)
    return [BitHole(signal, tuple(sorted(bits))) for signal, bits in sorted(missing.items())]


def _ranges(bits: Sequence[int]) -> str:
    """Return numbers in order as in ``7:4, 0``."""
    runs: list[list[int]] = []
    for bit in bits:
        if runs and runs[-1][-1] == bit - 1:
            runs[-1].append(bit)
        else:
            runs.append([bit])
    return ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[-1]}:{run[0]}" for run in reversed(runs)
    )


class _Text:
    """Verilog that Yosys wrote, by lines, from 1 on."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._registers: dict[tuple[int, str], str] = {}
        self._meanings: dict[tuple[int, str], str] = {}
        self._modules: list[int] = []
        module = 0
        for line in lines:
            module += line.startswith("module ")
            self._modules.append(module)
            if match := re.match(r"\s*(\S+)\s*<= (\\\$\S+)\s*;", line):
                self._registers[module, match[2]] = match[1]
            elif match := re.match(r"\s*assign (\\\$\S+)\s*= (.*);", line):
                self._meanings[module, match[1]] = match[2]

    def is_filling(self, line: int) -> bool:
        """Whether a line does nothing: Yosys wakes up old simulators with some."""
        return "$auto$verilog_backend" in self._lines[line - 1]

    def branch(self, point: Point) -> tuple[str, str]:
        """Return what a branch decides about, and its condition."""
        line = point.line - 1
        module = self._modules[line]
        target = self._target(line)
        text = self._lines[line].strip()
        condition = re.search(r"(?:if|casez) \((.*)\)|= (.*) \? ", text)
        shown = (condition[1] or condition[2]).strip() if condition else text
        shown = self._meanings.get((module, shown), shown)
        shown = re.sub(r"\$\d+", "", shown.replace("\\", "")).strip()
        return _plain(target), f"{point.what}: {shown}"

    def _target(self, line: int) -> str:
        """Return the register or signal that the block at `line` is about."""
        module = self._modules[line]
        for text in self._lines[line::-1]:
            if match := re.match(r"\s*(?:assign )?(\\?\S+)\s*(?:\[[^]]*\]\s*)?<?= ", text):
                name = match[1]
                return self._registers.get((module, name), name)
            if text.startswith("module "):
                break
        return "?"
