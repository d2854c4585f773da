"""What nextpnr reports of a design: what it takes of a device, its clock, its slowest path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Routed", "SlowestPath", "Use", "read_report", "read_uses"]


@dataclass(frozen=True, slots=True)
class Use:
    """How many of something a design takes, and how many there are."""

    used: int
    available: int


@dataclass(frozen=True, slots=True)
class SlowestPath:
    """The path that limits the clock.

    Parameters
    ----------
    start, end
        Cell that it leaves and cell that it reaches: registers, or blocks with registers.
    nanoseconds
        How long it takes.
    """

    start: str
    end: str
    nanoseconds: float


@dataclass(frozen=True, slots=True)
class Routed:
    """What nextpnr says of a routed design.

    Parameters
    ----------
    lut, ff, dsp, bram
        Lookup tables, flip-flops, multiplier blocks and block RAMs. On iCE40 a logic cell is a
        lookup table and a flip-flop, and `lut` is logic cells, of which the device runs out.
    mhz
        Highest frequency of the accelerator's clock.
    slowest
        What limits that; None if nothing in the report does.
    """

    lut: Use
    ff: Use
    dsp: Use
    bram: Use
    mhz: float
    slowest: SlowestPath | None


_CELLS = {
    "lut": ("ICESTORM_LC", "TRELLIS_COMB", "OXIDE_COMB", "LUT4", "ALU"),
    "ff": ("TRELLIS_FF", "OXIDE_FF", "DFF"),
    "dsp": ("ICESTORM_DSP", "MULT18X18D", "MULT18_CORE", "MULT18X18"),
    "bram": ("ICESTORM_RAM", "DP16KD", "OXIDE_EBR", "BSRAM"),
}
"""Names of cells in reports of nextpnr for iCE40, ECP5, Nexus and Gowin. There an adder's bit takes
the place of a lookup table."""

_SYNTHETIC = re.compile(
    r"_(?:SB_|LUT\d_|TRELLIS_|CCU2C?_|PFUMX_|L6MUX21_|WIDEFN9_|FD1P3\w+_|DFF\w*_|ALU_|MUX2_)|\$(?!\d)"
)


def read_report(path: Path, netlist: Path) -> Routed:
    """Read what ``nextpnr --report`` wrote, and Yosys' netlist that it was given.

    The netlist tells the flip-flops of an iCE40, which nextpnr counts as logic cells, and the names
    of registers, which the report calls by those of cells.
    """
    report = json.loads(path.read_text(encoding="utf-8"))
    top = _top(netlist)
    uses = _uses(report["utilization"], top)
    # The accelerator's clock is that of most paths; the only other one is that of its reset.
    clock, achieved = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    paths = [
        _slowest(entry["path"], top)
        for entry in report["critical_paths"]
        if entry["from"].endswith(f" {clock}") and entry["to"].endswith(f" {clock}")
    ]
    return Routed(**uses, mhz=achieved["achieved"], slowest=paths[0] if paths else None)


def read_uses(log: Path, netlist: Path) -> dict[str, Use]:
    """Read what a design takes, by the names in :class:`Routed`, from what nextpnr says of it.

    It says so when it has packed it, before it places anything.
    """
    lines = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)", log.read_text("utf-8"), re.MULTILINE)
    used = {cell: {"used": int(used), "available": int(most)} for cell, used, most in lines}
    return _uses(used, _top(netlist))


def _top(netlist: Path) -> Mapping[str, Any]:
    modules = json.loads(netlist.read_text(encoding="utf-8"))["modules"]
    return next(module for module in modules.values() if "top" in module["attributes"])


def _uses(used: Mapping[str, Mapping[str, int]], top: Mapping[str, Any]) -> dict[str, Use]:
    uses = {
        name: _use([used[cell] for cell in cells if cell in used]) for name, cells in _CELLS.items()
    }
    if "ICESTORM_LC" in used:
        uses["ff"] = Use(sum(map(_is_flip_flop, top["cells"].values())), uses["lut"].available)
    return uses


def _use(counts: list[Mapping[str, int]]) -> Use:
    """Add up kinds of cells that are in one another's places: there are as many as of the first."""
    return Use(sum(c["used"] for c in counts), counts[0]["available"] if counts else 0)


def _is_flip_flop(cell: Mapping[str, Any]) -> bool:
    return bool(cell["type"].startswith("SB_DFF"))


def _slowest(path: list[dict[str, Any]], top: Mapping[str, Any]) -> SlowestPath:
    return SlowestPath(
        start=_register(path[0]["from"]["cell"], top),
        end=_register(path[-1]["to"]["cell"], top),
        nanoseconds=sum(part["delay"] for part in path),
    )


def _register(cell: str, top: Mapping[str, Any]) -> str:
    """Return the name of the register in `cell`, as the hardware description has it.

    It is that of the register's output. Place and route packs a lookup table and the flip-flop
    behind it, and calls the cell, but for an ending, like the first of them.
    """
    cells = top["cells"]
    names = (cell, cell.removesuffix("_LC"), cell.removesuffix("_DFFLC"))
    name = next((name for name in names if name in cells), None)
    if name is None:
        return cell
    outputs = _outputs(cells[name])
    if "Q" not in outputs:
        driven = set().union(*outputs.values())
        behind = [c for c in cells.values() if driven & set(c["connections"].get("D", ()))]
        outputs = next((_outputs(c) for c in behind if "Q" in _outputs(c)), outputs)
    bits = set().union(*outputs.values())
    nets = [
        (net, entry["bits"])
        for net, entry in top["netnames"].items()
        if not entry.get("hide_name") and bits & set(entry["bits"])
    ]
    if not nets:
        return cell
    # Synthesis gives the same wire names of its own, made of those of its cells.
    net, of_net = min(nets, key=lambda item: (bool(_SYNTHETIC.search(item[0])), len(item[0])))
    net = re.sub(r"\$\d+", "", net)
    return net if len(of_net) == 1 else f"{net}[{of_net.index((bits & set(of_net)).pop())}]"


def _outputs(cell: Mapping[str, Any]) -> dict[str, list[Any]]:
    directions = cell.get("port_directions", {})
    return {
        port: bits for port, bits in cell["connections"].items() if directions.get(port) == "output"
    }
