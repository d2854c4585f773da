"""The netlist of a component, flat, and what depends on what in it.

Dependence is that of structure: the output of a cell depends on each of its inputs, be it data,
select, enable or address. So what is found independent is so whatever the functions of the cells
are, and whatever the values. Registers and two-way multiplexers are looked at bit by bit; every
other cell is taken as a whole, which errs on the safe side.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from siligrad_sim.formal.tools import run_yosys

__all__ = ["MemoryCell", "Netlist", "Reach", "Register"]

_REGISTER_TYPES = {"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce", "$adff", "$adffe", "$aldff"}
_CLOCKS = {"CLK", "RD_CLK", "WR_CLK"}
_SCRIPT = (
    "read_rtlil design.il; hierarchy -top {top}; proc -norom; flatten; opt_clean; memory_collect; "
    "write_json design.json"
)


@dataclass(frozen=True, slots=True)
class Register:
    """A register.

    Parameters
    ----------
    names
        Its names in the component that it belongs to, with the path of that component. There are
        several where it is a port as well; each is the same on every run.
    inputs
        The nets that decide what it holds next, enables and resets included.
    outputs
        The nets that it drives.
    """

    names: tuple[str, ...]
    inputs: frozenset[int]
    outputs: frozenset[int]


@dataclass(frozen=True, slots=True)
class MemoryCell:
    """A memory: the nets that choose words (addresses, enables), those written and those read."""

    name: str
    choice: frozenset[int]
    written: frozenset[int]
    read: frozenset[int]


class Reach:
    """The nets that depend on some others, and through what."""

    def __init__(self, before: Mapping[int, int | None]) -> None:
        self._before = before

    def __contains__(self, net: int) -> bool:
        return net in self._before

    def __len__(self) -> int:
        return len(self._before)

    def first(self, nets: Iterable[int]) -> int | None:
        """Return one of `nets` that is reached, if there is any."""
        return next((net for net in sorted(nets) if net in self._before), None)

    def way(self, net: int) -> list[int]:
        """Return the nets from a source to `net`, which is reached."""
        path: list[int] = []
        at: int | None = net
        while at is not None:
            path.append(at)
            at = self._before[at]
        return path[::-1]


class Netlist:
    """A flat netlist of cells between nets.

    Parameters
    ----------
    rtlil
        The module and those below it.
    top
        Its name.

    Attributes
    ----------
    registers : :class:`list` of :class:`Register`
        Every register.
    memories : :class:`list` of :class:`MemoryCell`
        Every memory.
    ports : :class:`dict`
        The nets of each port.
    """

    def __init__(self, rtlil: str, *, top: str) -> None:
        text = run_yosys(_SCRIPT.format(top=top), {"design.il": rtlil}, "design.json")
        module = json.loads(text)["modules"][top]
        cells = module["cells"]
        self.ports = {name: _nets(port["bits"]) for name, port in module["ports"].items()}
        self._names = _Names(module["netnames"])
        self.registers: list[Register] = []
        self.memories: list[MemoryCell] = []
        self._readers: dict[int, list[str]] = defaultdict(list)
        self._cells: dict[str, Any] = {}
        for name, cell in cells.items():
            if cell["type"] == "$scopeinfo":
                continue
            self._cells[name] = cell
            for net in _nets(_bits(cell, "input")):
                self._readers[net].append(name)
            if cell["type"] in _REGISTER_TYPES:
                inputs, outputs = _nets(_bits(cell, "input")), _nets(_bits(cell, "output"))
                names = self._names.own(_scope(name), outputs)
                self.registers.append(Register(names, inputs, outputs))
            elif cell["type"] == "$mem_v2":
                self.memories.append(_memory(name, cell))
            elif cell["type"].startswith("$mem"):
                raise AssertionError(f"memory_collect left {cell['type']} {name}")

    def reach(self, sources: Iterable[int], *, stop: Iterable[int] = ()) -> Reach:
        """Return every net that depends on `sources`, in this cycle or a later one.

        Nets in `stop` are reached, but what depends on them is not followed.
        """
        stopped = set(stop)
        before: dict[int, int | None] = dict.fromkeys(sources)
        queue = deque(before)
        done: set[str] = set()
        while queue:
            net = queue.popleft()
            if net in stopped:
                continue
            for name in self._readers[net]:
                if name in done:
                    continue
                outputs, whole = _followers(self._cells[name], net)
                if whole:
                    done.add(name)
                for following in outputs:
                    if following not in before:
                        before[following] = net
                        queue.append(following)
        return Reach(before)

    def describe(self, way: Iterable[int]) -> str:
        """Return the ports, registers and memories that a way leads through, one after the other.

        Of ways within combinational logic nothing is named.
        """
        places = {net: memory.name for memory in self.memories for net in memory.read}
        for register in self.registers:
            places |= dict.fromkeys(register.outputs, register.names[0])
        for port, nets in self.ports.items():
            for net in nets:
                places.setdefault(net, port)
        return " -> ".join(dict.fromkeys(places[net] for net in way if net in places))


class _Names:
    """The names of nets, without the numbers that Amaranth appends to make them unique."""

    def __init__(self, netnames: Mapping[str, Any]) -> None:
        self._of_net: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for name, item in netnames.items():
            if not item["hide_name"]:
                plain = _plain(name)
                for net in _nets(item["bits"]):
                    self._of_net[net].append((plain, len(item["bits"])))

    def own(self, scope: str, nets: frozenset[int]) -> tuple[str, ...]:
        """Return the names in the component `scope` that cover all of `nets`, tightest first."""
        first, *others = sorted(nets)
        candidates = {item for item in self._of_net[first] if item[0].rpartition(".")[0] == scope}
        for net in others:
            candidates &= set(self._of_net[net])
        if not candidates:
            return ()
        least = min(width for _, width in candidates)
        return tuple(sorted({name for name, width in candidates if width == least}))


def _plain(name: str) -> str:
    return re.sub(r"\$\d+", "", name)


def _scope(cell: str) -> str:
    """Return the path of the component that a cell belongs to, from its name after ``flatten``."""
    path = cell.removeprefix("$flatten").replace("\\", "").rpartition(".")[0]
    return _plain(path)


def _bits(cell: Any, direction: str) -> Iterator[Any]:
    for port, bits in cell["connections"].items():
        if cell["port_directions"][port] == direction and port not in _CLOCKS:
            yield from bits


def _nets(bits: Iterable[Any]) -> frozenset[int]:
    """Return the nets among `bits`, which may be constants too."""
    return frozenset(bit for bit in bits if isinstance(bit, int))


def _memory(name: str, cell: Any) -> MemoryCell:
    ports = cell["connections"]
    choice = [bit for port in ("RD_ADDR", "RD_EN", "WR_ADDR", "WR_EN") for bit in ports[port]]
    resets = [bit for port in ("RD_ARST", "RD_SRST") for bit in ports[port]]
    return MemoryCell(
        _plain(name.removeprefix("$flatten").replace("\\", "")),
        _nets(choice + resets),
        _nets(ports["WR_DATA"]),
        _nets(ports["RD_DATA"]),
    )


def _followers(cell: Any, net: int) -> tuple[frozenset[int], bool]:
    """Return the outputs of a cell that depend on `net`, and whether these are all of them."""
    ports = cell["connections"]
    if cell["type"] == "$mux" and net not in ports["S"]:
        lanes = [ports["A"], ports["B"]]
        output = ports["Y"]
    elif cell["type"] == "$dff":
        lanes = [ports["D"]]
        output = ports["Q"]
    else:
        return _nets(_bits(cell, "output")), True
    hit = [output[i] for lane in lanes for i, bit in enumerate(lane) if bit == net]
    return _nets(hit), False
