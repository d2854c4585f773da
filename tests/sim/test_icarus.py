"""The device "icarus" against the specification, and what it has to itself."""

from __future__ import annotations

import os
import re
import signal
from importlib.util import find_spec

import numpy as np
import pytest

from siligrad.device import DeviceError, DeviceUnavailable, device_class
from siligrad.isa import Geometry, Memory, encode_program
from siligrad.lfsr import seed_lanes
from siligrad_sim import icarus, netlist
from siligrad_sim.benches.programs import draw_words, random_loop, random_program, training_step
from siligrad_sim.benches.specification import Lane, Machine, busy_cycles
from siligrad_sim.icarus import IcarusDevice
from siligrad_sim.netlist import accelerator_verilog
from siligrad_sim.toolchain import ToolMissing

SMALL = Geometry(array=2, x_depth=24, w_depth=23, e_depth=28, program_depth=60)
STEP = training_step(2, batch=3, inputs=4, hidden=3, outputs=1)
LIMIT = 10_000


@pytest.mark.parametrize(
    "geometry",
    [
        SMALL,
        pytest.param(
            Geometry(array=3, x_depth=36, w_depth=34, e_depth=42, program_depth=60),
            marks=pytest.mark.extended,
        ),
        Geometry(
            array=2, operand_bits=8, sum_bits=24, x_depth=24, w_depth=23, e_depth=28,
            program_depth=60,
        ),
    ],
)  # fmt: skip
def test_random_programs_leave_every_word_as_specified(geometry: Geometry) -> None:
    n = geometry.array
    rng = np.random.default_rng(n)
    machine = Machine(geometry)
    machine.lanes = [Lane(state) for state in seed_lanes(n, n)]
    with IcarusDevice(geometry) as device:
        device.write_lfsr(seed_lanes(n, n))
        for steps in (1, 2, 1):
            loop = random_loop(rng, geometry, steps)
            instructions = random_program(rng, geometry, 6, loop)
            device.write_lines(encode_program(instructions))
            words = draw_words(rng, geometry, "coarse")
            for memory in Memory:
                machine.words[memory][:] = words[memory]
                device.write_words(memory, 0, words[memory])
            assert device.execute(loop, LIMIT) == busy_cycles(instructions, n, steps)
            machine.run(instructions, loop)
            for memory, got in device.dump().items():
                np.testing.assert_array_equal(got, machine.words[memory])
            assert device.read_lfsr() == tuple(lane.state for lane in machine.lanes)
            assert device.read_saturations(6) == tuple(machine.saturations)


def test_the_memories_are_those_behind_the_port() -> None:
    words = draw_words(np.random.default_rng(0), SMALL, "random")
    with IcarusDevice(SMALL) as device:
        for memory in Memory:
            device.write_words(memory, 0, words[memory])
            through_the_port = super(IcarusDevice, device).read_words(
                memory, 0, SMALL.depth(memory)
            )
            np.testing.assert_array_equal(through_the_port, words[memory])
            super(IcarusDevice, device).write_words(memory, 3, -words[memory][:2])
            np.testing.assert_array_equal(device.read_words(memory, 3, 2), -words[memory][:2])
        assert device.elapsed > 0


def test_a_word_without_a_value_is_an_error() -> None:
    text = accelerator_verilog(SMALL)
    # The banks keep their words, but not what they begin with.
    broken, count = re.subn(r"^    memory\[5\] = .*$", "", text, flags=re.MULTILINE)
    assert count >= 6
    with IcarusDevice(SMALL, verilog=broken) as device:
        assert device.read_words(Memory.W, 4, 1).tolist() == [[0, 0]]
        with pytest.raises(DeviceError, match=r"icarus: word 0 of W has undefined bits: xxxxxxxx"):
            device.read_words(Memory.W, 5, 1)


def test_broken_verilog_runs_as_it_is() -> None:
    text = accelerator_verilog(SMALL)
    right, wrong = "16'h8000 : 16'h7fff", "16'h8000 : 16'h8000"
    assert text.count(right) == 2  # in each lane: what is added to round half to even
    results = []
    for verilog in (text, text.replace(right, wrong)):
        with IcarusDevice(SMALL, verilog=verilog) as device:
            device.write_lines(encode_program(STEP.instructions))
            words = draw_words(np.random.default_rng(0), SMALL, "coarse")
            for memory in Memory:
                device.write_words(memory, 0, words[memory])
            device.execute(STEP.loop, LIMIT)
            results.append({memory: got.tolist() for memory, got in device.dump().items()})
    assert results[0] != results[1]


def test_verilog_that_icarus_refuses_is_an_error_of_one_line_with_its_words() -> None:
    with pytest.raises(DeviceError, match=r"^icarus: Icarus Verilog failed .*: .*error.*$"):
        IcarusDevice(SMALL, verilog="module siligrad(input clk); nonsense endmodule")


def test_an_accelerator_of_another_geometry_is_refused() -> None:
    other = Geometry(array=2, x_depth=26, w_depth=23, e_depth=28, program_depth=60)
    with pytest.raises(DeviceError, match="another than expected: it has X_DEPTH 24 instead of 26"):
        IcarusDevice(other, verilog=accelerator_verilog(SMALL))


def test_a_simulator_that_dies_is_an_error_and_no_hang() -> None:
    with IcarusDevice(SMALL) as device:
        os.kill(device._process.pid, signal.SIGKILL)
        device._process.wait()
        with pytest.raises(DeviceError, match="icarus: the simulator ended"):
            device.read_word(0)
        with pytest.raises(DeviceError, match=r"the simulator ended.*open the device anew"):
            device.read_words(Memory.X, 0, 1)


def test_a_closed_device_refuses_to_be_used() -> None:
    device = IcarusDevice(SMALL)
    process = device._process
    device.close()
    device.close()
    assert process.returncode == 0
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_words(Memory.X, 0, 1)
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_word(0)


def test_it_is_found_by_its_name_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_class("icarus") is IcarusDevice
    assert IcarusDevice.available() is None

    def missing() -> None:
        raise ToolMissing("it is missing: type `do this`")

    monkeypatch.setattr(icarus, "find_icarus", missing)
    with pytest.raises(DeviceUnavailable, match="device icarus: it is missing: type `do this`"):
        IcarusDevice(SMALL)
    monkeypatch.setattr(
        netlist, "find_spec", lambda name: None if name == "amaranth" else find_spec(name)
    )
    assert "type `pip install" in str(IcarusDevice.available())
