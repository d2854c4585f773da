"""A bitstream, unpacked to the cells and wires that it configures, trains like the reference."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import siligrad as sg
from siligrad.isa import Memory
from siligrad_hdl.boards import find_board
from siligrad_hdl.boards.tools import find_tool
from tests.hdl.netlists import (
    SEED,
    baked_netlist,
    check_training,
    difference_of,
    ice40_cells,
    small_program,
)

pytestmark = pytest.mark.synthesis

PORTS = {
    "clk": 1,
    "rst": 1,
    "busy": 1,
    "host__strobe": 1,
    "host__write": 1,
    "host__address": 23,
    "host__write_data": 32,
    "host__read_data": 32,
    "host__acknowledge": 1,
}


# A minute of processor time of 8 bits: pytest -m slow tests/hdl/test_bitstream.py
@pytest.fixture(scope="module", params=[4, pytest.param(8, marks=pytest.mark.slow)])
def program(request: pytest.FixtureRequest) -> sg.Program:
    return small_program(request.param)


def constraints() -> str:
    """Return constraints that put the accelerator's ports on pins of the board's headers."""
    connectors = find_board("hx8k").platform().connectors.values()
    pins = [pin for connector in connectors for pin in connector.mapping.values()]
    bits = [
        f"{port}[{bit}]" if width > 1 else port
        for port, width in PORTS.items()
        for bit in range(width)
    ]
    return "".join(f"set_io {bit} {pin}\n" for bit, pin in zip(bits, pins, strict=False))


def run(folder: Path, tool: Path | str, *arguments: str) -> str:
    command = [str(tool), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(program: sg.Program, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the Verilog of a bitstream for an HX8K, into which the program is baked."""
    folder = tmp_path_factory.mktemp("bitstream")
    baked_netlist(program, "hx8k", "synth_ice40 -top siligrad -json top.json", folder)
    (folder / "top.pcf").write_text(constraints(), encoding="utf-8")
    device = ("--hx8k", "--package", "ct256")
    files = ("--json", "top.json", "--pcf", "top.pcf", "--asc", "top.asc")
    # The clock does not matter: what is simulated takes no time.
    quick = ("--quiet", "--no-tmdriv")
    run(folder, find_tool("nextpnr-ice40").path, *quick, *device, *files)
    run(folder, find_tool("icepack").path, "top.asc", "top.bin")
    # From here on, only the bits count.
    for program_of_icestorm in ("iceunpack", "icebox_vlog"):
        assert shutil.which(program_of_icestorm), "Debian's package fpga-icestorm is missing"
    run(folder, "iceunpack", "top.bin", "again.asc")
    names = ("-s", "-c", "-n", "siligrad", "-d", "ct256", "-p", "top.pcf")
    return run(folder, "icebox_vlog", *names, "again.asc") + ice40_cells()


def test_the_bitstream_trains_like_the_reference_from_its_initial_contents(
    program: sg.Program, unpacked: str
) -> None:
    assert unpacked.count(") ram40_") >= 3 * 2 + 4 * 2  # banks, and words of a line
    check_training(program, unpacked)


def test_a_wrong_initial_bit_of_the_bitstream_is_noticed(
    program: sg.Program, unpacked: str
) -> None:
    # The first words of W's first bank lie in the first row of a block, one of 16 bits each.
    words = program.baked(SEED).banks[Memory.W][0][:16]
    mask = (1 << program.geometry.word_bits) - 1
    row = sum((word & mask) << 16 * index for index, word in enumerate(words))
    right = f".INIT_0(256'h{row:064x})"
    assert unpacked.count(right) == 1
    wrong = unpacked.replace(right, f".INIT_0(256'h{row ^ 1:064x})")
    assert difference_of(program, wrong) is not None
