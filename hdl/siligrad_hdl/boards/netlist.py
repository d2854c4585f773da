"""What is changed in a netlist between synthesis and place and route."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from siligrad.files import replacing

__all__ = ["cut_unread"]


def cut_unread(path: Path, outputs: Collection[tuple[str, str]]) -> int:
    """Cut `outputs` off that nobody reads, in a netlist as ``write_json`` of Yosys has it.

    Yosys leaves a wire at every output of a cell. Place and route leads such a wire out, though it
    ends there: of a chain of carries that takes a slice. Cut off, the output is undefined in the
    netlist, which is what nobody reads.

    Parameters
    ----------
    path
        The netlist, which is replaced.
    outputs
        Types of cells, and for each the name of an output of one bit.

    Returns
    -------
    int
        How many were cut off.
    """
    netlist = json.loads(path.read_text(encoding="utf-8"))
    cut = sum(_cut(module, frozenset(outputs)) for module in netlist["modules"].values())
    with replacing(path) as beside:
        beside.write_text(json.dumps(netlist), encoding="utf-8")
    return cut


def _cut(module: dict[str, Any], outputs: frozenset[tuple[str, str]]) -> int:
    cells = module["cells"].values()
    read = {bit for port in module["ports"].values() for bit in port["bits"]}
    for cell in cells:
        directions = cell.get("port_directions", {})
        for port, bits in cell["connections"].items():
            if directions.get(port) != "output":
                read.update(bits)
    cut = 0
    for cell in cells:
        for port, bits in cell["connections"].items():
            known = [bit for bit in bits if bit != "x"]
            if (cell["type"], port) in outputs and known and read.isdisjoint(known):
                cell["connections"][port] = ["x"] * len(bits)
                cut += 1
    return cut
