"""The compiled devices against "pysim" and the specification, word for word; their builds."""

from __future__ import annotations

import gc
import shutil
from contextlib import ExitStack
from types import ModuleType

import numpy as np
import pytest

from siligrad.device import DeviceError, DeviceUnavailable, OverrunError
from siligrad.host import HostDevice
from siligrad.isa import ONE_STEP, Geometry, Memory, encode_program
from siligrad.lfsr import seed_lanes
from siligrad_sim import compiled, cxxrtl, verilator
from siligrad_sim.benches.programs import (
    Contents,
    Step,
    draw_words,
    random_loop,
    random_program,
    training_step,
)
from siligrad_sim.benches.specification import Lane, Machine, busy_cycles
from siligrad_sim.cxxrtl import CxxrtlDevice
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.toolchain import ToolMissing
from siligrad_sim.verilator import VerilatorDevice

LIMIT = 100_000


CONTENTS: list[Contents] = ["zeros", "largest", "random", "coarse"]

Compiled = type[CxxrtlDevice] | type[VerilatorDevice]

MODULES: dict[Compiled, ModuleType] = {CxxrtlDevice: cxxrtl, VerilatorDevice: verilator}

both = pytest.mark.parametrize("device_class", MODULES, ids=lambda kind: kind.name)


SMALL = Geometry(array=2, x_depth=24, w_depth=23, e_depth=28, program_depth=60)
"""An accelerator with room for a small training step and for random programs.

Other sizes run the networks of test_networks.py and the programs of test_campaign.py.
"""


def small_step() -> Step:
    return training_step(2, batch=2, inputs=2, hidden=2, outputs=2)


def run(
    device: HostDevice, step: Step, contents: Contents, seed: int
) -> tuple[int, dict[Memory, list[list[int]]], tuple[int, ...], tuple[int, ...]]:
    """Run a program twice and return everything that can be read."""
    rng = np.random.default_rng(seed)
    device.write_lines(encode_program(step.instructions))
    for memory, words in draw_words(rng, device.geometry, contents).items():
        device.write_words(memory, 0, words)
    device.write_lfsr(seed_lanes(seed, device.geometry.array))
    cycles = {device.execute(step.loop, LIMIT) for _ in range(2)}
    assert len(cycles) == 1
    return (
        cycles.pop(),
        {memory: words.tolist() for memory, words in device.dump().items()},
        device.read_lfsr(),
        device.read_saturations(len(step.instructions)),
    )


def test_a_training_step_is_the_same_in_pysim() -> None:
    step = training_step(2, batch=3, inputs=4, hidden=3, outputs=1)
    cycles = set()
    with ExitStack() as stack:
        other = stack.enter_context(PysimDevice(SMALL))
        devices = [stack.enter_context(kind(SMALL)) for kind in MODULES]
        for contents in CONTENTS[1:3]:  # the largest numbers, and random ones
            expected = run(other, step, contents, seed=2)
            for device in devices:
                assert run(device, step, contents, seed=2) == expected, device.name
            cycles.add(expected[0])
    assert cycles == {busy_cycles(step.instructions, 2)}


@both
def test_random_programs_leave_every_word_as_specified(device_class: Compiled) -> None:
    n = SMALL.array
    rng = np.random.default_rng(n)
    with device_class(SMALL) as device:
        machine = Machine(device.geometry)
        machine.lanes = [Lane(state) for state in seed_lanes(n, n)]
        device.write_lfsr(seed_lanes(n, n))
        for number in range(30):
            loop = random_loop(rng, device.geometry, 1 + number % 3 // 2)
            instructions = random_program(rng, device.geometry, 6, loop)
            device.write_lines(encode_program(instructions))
            words = draw_words(rng, device.geometry, CONTENTS[number % len(CONTENTS)])
            for memory in Memory:
                machine.words[memory][:] = words[memory]
                device.write_words(memory, 0, words[memory])
            expected = busy_cycles(instructions, n, loop.steps)
            assert device.execute(loop, LIMIT) == expected
            machine.run(instructions, loop)
            for memory, got in device.dump().items():
                np.testing.assert_array_equal(got, machine.words[memory], err_msg=f"{number}")
            assert device.read_lfsr() == tuple(lane.state for lane in machine.lanes)
            assert device.read_saturations(6) == tuple(machine.saturations)


@both
def test_two_devices_share_nothing(device_class: Compiled) -> None:
    words = np.array([[1, 2]], np.int32)
    with device_class(SMALL) as one, device_class(SMALL) as other:
        one.write_words(Memory.X, 0, words)
        other.write_words(Memory.X, 0, -words)
        np.testing.assert_array_equal(one.read_words(Memory.X, 0, 1), words)
        np.testing.assert_array_equal(other.read_words(Memory.X, 0, 1), -words)


def test_devices_of_both_kinds_take_turns_in_one_process() -> None:
    step = small_step()
    first = [run(kind(SMALL), step, "coarse", 1) for kind in MODULES]
    with CxxrtlDevice(SMALL) as one, VerilatorDevice(SMALL) as other:
        again = [run(device, step, "coarse", 1) for device in (one, other)]
    assert first == again == first[:1] * 2


@both
def test_it_counts_what_it_simulates(device_class: Compiled) -> None:
    with device_class(SMALL) as device:
        device.write_lines(encode_program(small_step().instructions))
        before = device.elapsed
        cycles = device.execute(ONE_STEP, LIMIT)
        # Besides the run: nine registers written in four cycles each, four read in some ten.
        assert cycles < device.elapsed - before < cycles + 100


@both
def test_a_run_may_take_its_limit_and_no_cycle_more(device_class: Compiled) -> None:
    program = small_step().instructions
    cycles = busy_cycles(program, 2)
    with device_class(SMALL) as device:
        device.write_lines(encode_program(program))
        assert device.execute(ONE_STEP, cycles) == cycles
        with pytest.raises(OverrunError, match=f"took {cycles} cycles, its limit was {cycles - 1}"):
            device.execute(ONE_STEP, cycles - 1)
        message = "running after its limit of 20 cycles, and was ended after 23$"
        with pytest.raises(OverrunError, match=message):
            device.execute(ONE_STEP, 20)
        assert device.execute(ONE_STEP, cycles) == cycles


@both
def test_a_long_run_is_simulated_in_parts(
    device_class: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = small_step().instructions
    monkeypatch.setattr(compiled, "_WAIT_CYCLES", 7)
    with device_class(SMALL) as device:
        device.write_lines(encode_program(program))
        assert device.execute(ONE_STEP, LIMIT) == busy_cycles(program, 2)


@both
def test_an_interrupted_run_leaves_a_device_that_refuses_to_be_used(
    device_class: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device_class(SMALL) as device:
        device.write_lines(encode_program(small_step().instructions))

        def interrupt(limit: int) -> None:
            assert limit > 20
            device_class.wait(device, 20)
            raise KeyboardInterrupt

        monkeypatch.setattr(device, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            device.execute(ONE_STEP, LIMIT)
        with pytest.raises(DeviceError, match="was interrupted and may still be running"):
            device.read_words(Memory.X, 0, 1)


@both
def test_a_closed_device_refuses_to_be_used(device_class: Compiled) -> None:
    device = device_class(SMALL)
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_words(Memory.X, 0, 1)
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_word(0)


@both
def test_a_forgotten_device_is_freed(device_class: Compiled) -> None:
    device = device_class(SMALL)
    free = device._free
    assert free.alive
    del device
    gc.collect()
    assert not free.alive


@both
def test_it_can_be_opened_here(device_class: Compiled) -> None:
    assert device_class.available() is None


@both
def test_a_missing_compiler_is_named(
    device_class: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ToolMissing("it is missing: type `do this`")

    monkeypatch.setattr(MODULES[device_class], "find_compiler", missing)
    assert device_class.available() == "it is missing: type `do this`"
    message = f"device {device_class.name}: it is missing: type `do this`"
    with pytest.raises(DeviceUnavailable, match=message):
        device_class(SMALL)


@both
def test_what_was_built_is_not_built_again(
    device_class: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_class(SMALL).close()

    def build(*_: object, **__: object) -> None:
        raise AssertionError("something is built")

    monkeypatch.setattr(MODULES[device_class], "run_tool", build)
    device_class(SMALL).close()
    with pytest.raises(AssertionError, match="something is built"):
        device_class(Geometry(array=2, x_depth=5, w_depth=4, e_depth=4, program_depth=4))


@both
def test_the_users_flags_have_the_last_word(
    device_class: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_class(SMALL).close()
    monkeypatch.setenv("CXXFLAGS", "-UMODEL")  # what our own flags define
    with pytest.raises(DeviceError, match=r"the C\+\+ compiler failed .*(#include|FILENAME)"):
        device_class(SMALL)


@pytest.mark.parametrize("compiler", ["g++", pytest.param("clang++", marks=pytest.mark.extended)])
def test_either_compiler_will_do(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    monkeypatch.setenv("CXX", compiler)
    step = small_step()
    with VerilatorDevice(SMALL) as device:
        device.write_lines(encode_program(step.instructions))
        assert device.execute(ONE_STEP, LIMIT) == busy_cycles(step.instructions, 2)
