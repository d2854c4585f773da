"""Outputs that nobody reads are cut off before place and route, and only those."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from siligrad_hdl.boards.netlist import cut_unread
from siligrad_hdl.boards.tools import find_tool
from siligrad_hdl.vendor import ECP5

CARRY = ("CCU2C", "COUT")


def adder(name: str, carry_in: int | str, carry_out: int) -> dict[str, Any]:
    return {
        name: {
            "type": "CCU2C",
            "port_directions": {"CIN": "input", "COUT": "output", "S0": "output"},
            "connections": {"CIN": [carry_in], "COUT": [carry_out], "S0": [100 + carry_out]},
        }
    }


def carries(path: Path) -> dict[str, list[int | str]]:
    cells = json.loads(path.read_text())["modules"]["top"]["cells"]
    return {name: cell["connections"]["COUT"] for name, cell in cells.items()}


def test_what_a_cell_or_a_port_reads_stays(tmp_path: Path) -> None:
    path = tmp_path / "top.json"
    cells = adder("first", "0", 2) | adder("second", 2, 3) | adder("third", "0", 4)
    ports = {"out": {"direction": "output", "bits": [4]}}
    path.write_text(json.dumps({"modules": {"top": {"ports": ports, "cells": cells}}}))
    assert cut_unread(path, [("CCU2C", "S1"), ("LUT4", "COUT")]) == 0
    assert carries(path) == {"first": [2], "second": [3], "third": [4]}
    assert cut_unread(path, [CARRY]) == 1
    assert carries(path) == {"first": [2], "second": ["x"], "third": [4]}
    # Cut off once, it is not there to be cut off again, and nothing else has become unread.
    assert cut_unread(path, [CARRY]) == 0
    assert carries(path) == {"first": [2], "second": ["x"], "third": [4]}


@pytest.mark.synthesis
@pytest.mark.xdist_group("flow")
def test_place_and_route_takes_less_for_an_adder_whose_carry_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "top.v").write_text(
        "module top(input clk, input [7:0] a, b, output reg [7:0] s);\n"
        "always @(posedge clk) s <= a + b;\nendmodule\n"
    )
    (tmp_path / "top.ys").write_text(
        "read_verilog top.v\nsynth_ecp5 -top top\nwrite_json top.json\n"
    )
    yosys, nextpnr = find_tool("yosys").path, find_tool("nextpnr-ecp5").path

    def packed() -> int:
        report = ["--pack-only", "--lpf-allow-unconstrained", "-l", "log"]
        command = [str(nextpnr), "--25k", "--package", "CABGA256", "--json", "top.json", *report]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        (line,) = (x for x in (tmp_path / "log").read_text().splitlines() if "TRELLIS_COMB:" in x)
        return int(line.split(":")[2].split("/")[0])

    subprocess.run([yosys, "-q", "top.ys"], cwd=tmp_path, check=True, capture_output=True)
    before = packed()
    assert cut_unread(tmp_path / "top.json", ECP5.unread) == 1
    assert packed() == before - 2
