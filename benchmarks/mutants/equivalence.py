"""Proofs that a mutant of the hardware cannot be told from the original.

Both netlists are flattened and cut at every register and memory: what these hold becomes an input,
what they would hold next an output. If all outputs are equal for all inputs, mutant and original go
from equal states to equal states, for whatever the host does, and they begin equal. That is enough,
and it needs no number of cycles. What is written to a memory counts where it is enabled only.

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

_FLAT = "read_rtlil coarse.il; {change} flatten; dffunmap; opt_clean; write_json flat.json"

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
    files = {
        "gold.json": _cut(_flat(design.rtlil, ""), "gold"),
        "gate.json": _cut(_flat(design.rtlil, f"mutate {mutant.options};"), "gate"),
    }
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


def _cut(module: dict[str, Any], name: str) -> str:
    """Return the module, as JSON, with a port in place of each port of a register or a memory."""
    ports, cells = dict(module["ports"]), {}
    used = [bit for cell in module["cells"].values() for bit in _nets(cell)]
    unused = itertools.count(max(used) + 1)
    for cell_name, cell in module["cells"].items():
        if cell["type"] not in {_REGISTER, _MEMORY}:
            if cell["type"] != "$scopeinfo":
                cells[cell_name] = cell
            continue
        bits = cell["connections"]
        for port, direction in cell["port_directions"].items():
            if port in {"CLK", "RD_CLK", "WR_CLK"} or not bits[port]:
                continue
            place = f"{port} of {cell_name}".replace(" ", "_")
            if direction == "output":
                ports[place] = {"direction": "input", "bits": bits[port]}
                continue
            shown = bits[port]
            enabled = bits.get("WR_EN", [None])
            if port in {"WR_DATA", "WR_ADDR"} and len(set(enabled)) == 1:
                shown = [next(unused) for _ in bits[port]]
                cells[place] = _both(bits[port], enabled[:1] * len(shown), shown)
            ports[place] = {"direction": "output", "bits": shown}
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
