"""The device "pysim", and what it shares with other devices behind the host port."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from siligrad.device import DeviceError, OverrunError
from siligrad.host import HostDevice
from siligrad.isa import ONE_STEP, Gate, Geometry, Memory, encode_program
from siligrad.lfsr import seed_lanes
from siligrad.registers import IDENTIFICATION, OVERRUN_CYCLES, VERSION, Register
from siligrad_hdl.accelerator import Accelerator
from siligrad_hdl.ports import HostPort
from siligrad_sim.benches.programs import (
    Contents,
    draw_words,
    random_program,
    scheduled,
    training_step,
)
from siligrad_sim.benches.specification import Lane, Machine, busy_cycles
from siligrad_sim.pysim import PysimDevice

LIMIT = 100_000


def geometry_for(n: int) -> Geometry:
    """An accelerator with room for a small training step and for random programs."""
    return Geometry(array=n, x_depth=12 * n, w_depth=11 * n + 1, e_depth=14 * n, program_depth=60)


def load(
    device: HostDevice, machine: Machine, rng: np.random.Generator, contents: Contents
) -> None:
    for memory, words in draw_words(rng, device.geometry, contents).items():
        device.write_words(memory, 0, words)
        machine.words[memory][:] = words
    states = seed_lanes(int(rng.integers(1 << 32)), device.geometry.array)
    device.write_lfsr(states)
    machine.lanes = [Lane(state) for state in states]


def assert_equal(device: HostDevice, machine: Machine, instructions: int) -> None:
    for memory, words in device.dump().items():
        np.testing.assert_array_equal(words, machine.words[memory], err_msg=memory.name)
    assert device.read_lfsr() == tuple(lane.state for lane in machine.lanes)
    assert device.read_saturations(instructions) == tuple(machine.saturations)


@pytest.mark.parametrize("n", [2, 3])
def test_a_training_step_leaves_every_word_as_specified(n: int) -> None:
    step = training_step(n, batch=n + 1, inputs=n + 2, hidden=2 * n - 1, outputs=n - 1)
    rng = np.random.default_rng(n)
    cycles = set()
    kinds: list[Contents] = ["zeros", "largest", "random", "coarse"]
    with PysimDevice(geometry_for(n)) as device:
        device.write_lines(encode_program(step.instructions))
        for contents in kinds:
            machine = Machine(device.geometry)
            load(device, machine, rng, contents)
            cycles.add(device.execute(ONE_STEP, LIMIT))
            machine.run(step.instructions)
            assert_equal(device, machine, len(step.instructions))
    assert cycles == {busy_cycles(step.instructions, n)}


@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.extended), 3])
def test_random_programs_leave_every_word_as_specified(n: int) -> None:
    rng = np.random.default_rng(n)
    machine = Machine(geometry_for(n))
    with PysimDevice(machine.geometry) as device:
        load(device, machine, rng, "coarse")
        for _ in range(6):
            instructions = random_program(rng, device.geometry, 6)
            device.write_lines(encode_program(instructions))
            assert device.execute(ONE_STEP, LIMIT) == busy_cycles(instructions, n)
            machine.run(instructions)
            assert_equal(device, machine, len(instructions))


def test_a_step_with_narrow_operands_leaves_every_word_as_specified() -> None:
    step = training_step(3, batch=4, inputs=3, hidden=5, outputs=2, operand_bits=8)
    machine = Machine(step.geometry)
    with PysimDevice(step.geometry) as device:
        device.write_lines(encode_program(step.instructions))
        load(device, machine, np.random.default_rng(0), "coarse")
        device.execute(ONE_STEP, LIMIT)
        machine.run(step.instructions)
        assert_equal(device, machine, len(step.instructions))


def test_words_go_the_short_way_to_where_the_port_finds_them() -> None:
    rng = np.random.default_rng(0)
    geometry = Geometry(array=3, x_depth=9, w_depth=10, e_depth=12, program_depth=8)
    with PysimDevice(geometry) as device:
        for memory, words in draw_words(rng, geometry, "random").items():
            device.write_words(memory, 1, words[1:])
            through_port = HostDevice.read_words(device, memory, 0, len(words))
            np.testing.assert_array_equal(through_port[1:], words[1:])
            HostDevice.write_words(device, memory, 0, -words[:2])
            np.testing.assert_array_equal(device.read_words(memory, 0, 2), -words[:2])
            np.testing.assert_array_equal(device.read_words(memory, 2, 3), words[2:5])
        lines = [int(rng.integers(1 << 62)) << 66 | int(rng.integers(1 << 62)) for _ in range(8)]
        device.write_lines(lines)
        assert device.read_lines(8) == lines


class ForgetsTheGate(Accelerator):
    """An accelerator whose epilogue never gets to know of a gate."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self._epilogue.control.gate.eq(Gate.NONE)
        return m


def test_an_accelerator_that_is_handed_in_is_simulated_as_it_is() -> None:
    step = training_step(2, batch=2, inputs=2, hidden=2, outputs=2)
    forward = scheduled(step.instructions[:1], step.geometry)
    for accelerator in (Accelerator(step.geometry), ForgetsTheGate(step.geometry)):
        machine = Machine(step.geometry)
        with PysimDevice(step.geometry, accelerator=accelerator) as device:
            device.write_lines(encode_program(forward))
            load(device, machine, np.random.default_rng(0), "random")
            device.execute(ONE_STEP, LIMIT)
            machine.run(forward)
            different = device.dump()[Memory.X] != machine.words[Memory.X]
            assert different.any() == isinstance(accelerator, ForgetsTheGate)


def test_it_can_be_opened_here() -> None:
    assert PysimDevice.available() is None


def test_an_accelerator_of_another_geometry_is_refused_with_both_geometries() -> None:
    other = Accelerator(Geometry(array=2, x_depth=16, w_depth=16, e_depth=16, program_depth=8))
    expected = Geometry(array=2, x_depth=16, w_depth=32, e_depth=16, sum_bits=44, program_depth=8)
    with pytest.raises(
        DeviceError, match=r"it has SUM_BITS 40 instead of 44, W_DEPTH 16 instead of 32$"
    ):
        PysimDevice(expected, accelerator=other)


class Impostor(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """Something that answers at once, with given registers, or never."""

    def __init__(self, registers: dict[Register, int], *, answers: bool = True) -> None:
        self.registers = registers
        self.answers = answers
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += Signal().eq(1)  # Amaranth's simulator wants a clock domain
        m.d.comb += self.host.acknowledge.eq(self.host.strobe & self.answers)
        with m.Switch(self.host.address):
            for register, value in self.registers.items():
                with m.Case(int(register)):
                    m.d.comb += self.host.read_data.eq(Const(value, 32))
        return m


GEOMETRY = Geometry(array=2, x_depth=16, w_depth=16, e_depth=16, program_depth=8)


@pytest.mark.parametrize(
    ("registers", "message"),
    [
        ({}, "no siligrad .* its identification reads 0x00000000, not 0x53475244"),
        (
            {Register.IDENTIFICATION: IDENTIFICATION, Register.VERSION: 3 << 16 | 7},
            r"is of version 3\.7, this library needs 2\.2",
        ),
        (
            {Register.IDENTIFICATION: IDENTIFICATION, Register.VERSION: VERSION},
            "a geometry that does not exist: array must be from 2 to 16, not 0",
        ),
        (  # a later minor version only adds
            {Register.IDENTIFICATION: IDENTIFICATION, Register.VERSION: VERSION + 1},
            "a geometry that does not exist: array must be from 2 to 16, not 0",
        ),
        (
            {Register.IDENTIFICATION: IDENTIFICATION, Register.VERSION: VERSION - 1},
            r"is of version 2\.1, this library needs 2\.2",
        ),
    ],
)
def test_what_is_no_siligrad_of_this_version_is_refused(
    registers: dict[Register, int], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        PysimDevice(GEOMETRY, accelerator=Impostor(registers))


def test_a_port_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(DeviceError, match="did not acknowledge an access to word 0x0"):
        PysimDevice(GEOMETRY, accelerator=Impostor({}, answers=False))


def small_program() -> tuple[list[int], int]:
    """Lines of a program that fits GEOMETRY, and the cycles that it takes."""
    instructions = random_program(np.random.default_rng(5), GEOMETRY, 2)
    return encode_program(instructions), busy_cycles(instructions, 2)


def test_a_run_may_take_its_limit_and_no_cycle_more() -> None:
    lines, cycles = small_program()
    with PysimDevice(GEOMETRY) as device:
        device.write_lines(lines)
        assert device.execute(ONE_STEP, cycles) == cycles
        with pytest.raises(OverrunError, match=f"took {cycles} cycles, its limit was {cycles - 1}"):
            device.execute(ONE_STEP, cycles - 1)
        for limit in (cycles - OVERRUN_CYCLES, 20):
            ended = limit + OVERRUN_CYCLES
            message = f"running after its limit of {limit} cycles, and was ended after {ended}$"
            with pytest.raises(OverrunError, match=message) as raised:
                device.execute(ONE_STEP, limit)
            assert raised.value.cycles == ended
        assert device.execute(ONE_STEP, cycles) == cycles
        for limit in (0, 1 << 64):
            with pytest.raises(ValueError, match=f"from 1 to 18446744073709551615 .* not {limit}"):
                device.execute(ONE_STEP, limit)


class WordByWord(HostDevice):
    """A device that carries one word at a time and can but poll, as over a slow link."""

    name = "words"

    def __init__(self, inner: PysimDevice) -> None:
        super().__init__(inner.geometry)
        self.inner = inner
        self.identify()

    def read_word(self, address: int) -> int:
        return self.inner.read_word(address)

    def write_word(self, address: int, value: int) -> None:
        self.inner.write_word(address, value)


def test_words_alone_are_enough_for_a_device() -> None:
    rng = np.random.default_rng(5)
    instructions = random_program(rng, GEOMETRY, 2)
    cycles = busy_cycles(instructions, 2)
    machine = Machine(GEOMETRY)
    with WordByWord(PysimDevice(GEOMETRY)) as device:
        device.write_lines(encode_program(instructions))
        load(device, machine, rng, "random")
        assert device.execute(ONE_STEP, cycles) == cycles
        machine.run(instructions)
        assert_equal(device, machine, 2)
        with pytest.raises(DeviceError, match="limit of 1 cycles"):
            device.execute(ONE_STEP, 1)


def test_a_device_that_does_not_end_a_run_refuses_to_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, cycles = small_program()
    device = PysimDevice(GEOMETRY)
    device.write_lines(lines)
    write = device.write_register

    def lose_the_limit(register: int, value: int) -> None:
        write(register, 0 if register == Register.LIMIT else value)

    monkeypatch.setattr(device, "write_register", lose_the_limit)
    message = "still running after its limit of 30 cycles, and the accelerator has not ended it$"
    with pytest.raises(DeviceError, match=message):
        device.execute(ONE_STEP, 30)
    for use in (
        lambda: device.execute(ONE_STEP, cycles),
        lambda: device.read_words(Memory.X, 0, 1),
        lambda: device.write_words(Memory.X, 0, np.zeros((1, 2), np.int32)),
        lambda: device.write_lines(lines),
        lambda: device.read_lines(1),
        device.read_lfsr,
        lambda: device.write_lfsr([1, 1]),
        lambda: device.read_saturations(1),
    ):
        with pytest.raises(DeviceError, match="has not ended it; open the device anew"):
            use()


def test_a_closed_device_refuses_to_be_used() -> None:
    device = PysimDevice(GEOMETRY)
    device.close()
    with pytest.raises(DeviceError, match="the device is closed"):
        device.read_words(Memory.X, 0, 1)


def test_an_interrupted_run_leaves_a_device_that_refuses_to_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, cycles = small_program()
    device = PysimDevice(GEOMETRY)
    device.write_lines(lines)

    def interrupt(limit: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        device.execute(ONE_STEP, cycles)
    with pytest.raises(DeviceError, match="was interrupted and may still be running"):
        device.read_words(Memory.X, 0, 1)


@pytest.fixture(scope="module")
def device() -> PysimDevice:
    return PysimDevice(GEOMETRY)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda d: d.write_lines([0] * 9), "takes 9 lines, the program memory has 8"),
        (lambda d: d.write_lfsr([1, 1, 1]), "2 lanes need as many LFSR states, not 3"),
        (lambda d: d.write_lfsr([1, 0]), "state of lane 1 must be from 1 to 0xffffffff, not 0x0"),
        (lambda d: d.read_words(Memory.W, 10, 7), "words 10 to 16 of W do not exist; it has 16"),
        (lambda d: d.read_words(Memory.E, -1, 2), "words -1 to 0 of E do not exist"),
        (
            lambda d: d.write_words(Memory.X, 16, np.zeros((1, 2), np.int32)),
            "words 16 to 16 of X do not exist",
        ),
        (
            lambda d: d.write_words(Memory.X, 0, np.zeros((2, 3), np.int32)),
            r"must have a shape of \(count, 2\), not \(2, 3\)",
        ),
        (
            lambda d: d.write_words(Memory.X, 3, np.array([[0, 0], [0, -32768]], np.int32)),
            "word 4 of bank 1 of X must be a code from -32767 to 32767, not -32768",
        ),
    ],
)
def test_what_does_not_fit_is_refused(device: PysimDevice, use: Any, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        use(device)


def test_nothing_is_nothing(device: PysimDevice) -> None:
    assert device.read_words(Memory.X, 16, 0).shape == (0, 2)
    device.write_words(Memory.X, 16, np.zeros((0, 2), np.int32))
    device.write_lines([])
    assert device.read_saturations(0) == ()
