"""Proofs that a mutant of the hardware cannot be told from the original.

Both netlists are flattened and cut at every register and memory: what these hold becomes an input,
what they would hold next an output. If all outputs are equal for all inputs, mutant and original go
from equal states to equal states, for whatever the host does, and they begin equal. That is enough,
and it needs no number of cycles. What is written to a memory counts where it is enabled only, and
what a register takes only where a port may ever depend on it, in the mutant or in the original.

A mutant may also be invisible because of the states that the accelerator never takes, or because it
changes what nobody looks at later. Such a one is not proved here.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from benchmarks.mutants.netlist import Design, Mutant
from siligrad_sim.formal.tools import ProverError, run_yosys
from siligrad_sim.netlist import TOP

__all__ = ["proof_of"]

_REGISTER, _MEMORY = "$dff", "$mem_v2"

_BITWISE = {"$and", "$or", "$xor", "$not", "$mux"}

# To Yosys a register whose bit is stuck contradicts what it begins with. Both netlists begin alike;
# what with is not looked at.
_FLAT = (
    "read_rtlil coarse.il; setattr -unset init w:*; {change} flatten; dffunmap; "
    "write_json flat.json"
)

_COMPARE = (
    "read_json gold.json; read_json gate.json; miter -equiv -flatten gold gate miter; "
    "hierarchy -top miter; opt_merge; opt -full; opt_merge; "
    "tee -o said sat -prove trigger 0 -timeout {seconds} miter"
)


def proof_of(design: Design, mutant: Mutant, *, seconds: float) -> str | None:
    """Return the name of a proof that `mutant` is equivalent to the original, or None.

    Parameters
    ----------
    design
        The original.
    mutant
        One of it.
    seconds
        How long the solver may take; nothing is tried in 0.

    Raises
    ------
    siligrad_sim.formal.tools.ProverError
        If Yosys fails.
    """
    if seconds <= 0:
        return None
    gold = _flat(design.rtlil, "")
    gate = _flat(design.rtlil, f"mutate {mutant.options};")
    seen = _seen(gold) | _seen(gate)
    files = {"gold.json": _cut(gold, "gold", seen), "gate.json": _cut(gate, "gate", seen)}
    said = run_yosys(_COMPARE.format(seconds=max(round(seconds), 1)), files, "said")
    if "SAT proof finished - no model found: SUCCESS!" in said:
        return "equal in every state"
    if re.search(r"model found: FAIL!|Interrupted SAT solver: TIMEOUT!", said):
        return None
    raise ProverError(f"Yosys does not say whether two netlists are equal: {said.strip()[-200:]}")


def _flat(rtlil: str, change: str) -> dict[str, Any]:
    text = run_yosys(_FLAT.format(change=change), {"coarse.il": rtlil}, "flat.json")
    module: dict[str, Any] = json.loads(text)["modules"][TOP]
    return module


def _seen(module: dict[str, Any]) -> set[str]:
    """Return the bits of registers and memories that a port may ever depend on, by name.

    What an output of a cell depends on is all of its inputs, but for registers, for words that a
    memory keeps, and for what is done to each bit alone.
    """
    drivers: dict[int, tuple[str, str, int]] = {}
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) == "output":
                drivers |= {bit: (name, port, index) for index, bit in enumerate(bits)}
    seen: set[str] = set()
    done: set[int] = set()
    ports = [port for port in module["ports"].values() if port["direction"] == "output"]
    waiting = [bit for port in ports for bit in port["bits"]]
    while waiting:
        net = waiting.pop()
        if net in done or net not in drivers:
            continue
        done.add(net)
        name, port, index = drivers[net]
        cell = module["cells"][name]
        bits = cell["connections"]
        if cell["type"] == _REGISTER:
            seen.add(_bit(name, "D", index))
            waiting.append(bits["D"][index])
        elif cell["type"] == _MEMORY:
            width = int(cell["parameters"]["WIDTH"], 2)
            kept = [index % width + width * k for k in range(len(bits["WR_DATA"]) // width)]
            for other, nets in bits.items():
                if cell["port_directions"][other] == "input":
                    of_word = other in {"WR_DATA", "WR_EN"}
                    chosen = kept if of_word else range(len(nets))
                    seen |= {_bit(name, other, each) for each in chosen}
                    waiting += [nets[each] for each in chosen]
        elif cell["type"] in _BITWISE and len({len(nets) for nets in bits.values()} - {1}) <= 1:
            waiting += [
                nets[index if len(nets) > 1 else 0]
                for other, nets in bits.items()
                if cell["port_directions"][other] == "input"
            ]
        else:
            waiting += _nets(cell)
    return seen


def _bit(cell: str, port: str, index: int) -> str:
    return f"{port}[{index}]_of_{cell}".replace(" ", "_")


def _cut(module: dict[str, Any], name: str, seen: set[str]) -> str:
    """Return the module, as JSON, with ports in place of the ports of registers and memories.

    Of what they are given, only the bits in `seen` are looked at.
    """
    ports, cells = dict(module["ports"]), {}
    used = [bit for cell in module["cells"].values() for bit in _nets(cell)]
    unused = itertools.count(max(used) + 1)
    for cell_name, cell in module["cells"].items():
        if cell["type"] not in {_REGISTER, _MEMORY}:
            if cell["type"] != "$scopeinfo":
                cells[cell_name] = cell
            continue
        bits = cell["connections"]
        enabled = bits.get("WR_EN", [None])
        for port, direction in cell["port_directions"].items():
            if port in {"CLK", "RD_CLK", "WR_CLK"} or not bits[port]:
                continue
            if direction == "output":
                place = f"{port}_of_{cell_name}".replace(" ", "_")
                ports[place] = {"direction": "input", "bits": bits[port]}
                continue
            for index, net in enumerate(bits[port]):
                place = _bit(cell_name, port, index)
                if place not in seen:
                    continue
                shown = net
                if port in {"WR_DATA", "WR_ADDR"} and len(set(enabled)) == 1:
                    shown = next(unused)
                    cells[place] = _both([net], enabled[:1], [shown])
                ports[place] = {"direction": "output", "bits": [shown]}
    # Names that Yosys made up could meet others that it is going to make up.
    renamed = {f"cell_{number}": cell for number, cell in enumerate(cells.values())}
    return json.dumps({"modules": {name: {"ports": ports, "cells": renamed, "netnames": {}}}})


def _both(a: list[Any], b: list[Any], y: list[Any]) -> dict[str, Any]:
    """Return the cell that computes ``y = a & b``."""
    connections = {"A": a, "B": b, "Y": y}
    widths = {f"{port}_WIDTH": len(bits) for port, bits in connections.items()}
    return {
        "type": "$and",
        "parameters": {"A_SIGNED": 0, "B_SIGNED": 0, **widths},
        "port_directions": {"A": "input", "B": "input", "Y": "output"},
        "connections": connections,
    }


def _nets(cell: dict[str, Any]) -> list[int]:
    return [bit for bits in cell["connections"].values() for bit in bits if isinstance(bit, int)]
