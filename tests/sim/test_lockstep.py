from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

import siligrad as sg
import siligrad.numpy as np
from siligrad.device import (
    CycleCountError,
    DeviceError,
    DeviceUnavailable,
    OverrunError,
    device_class,
)
from siligrad.isa import Loop, Memory
from siligrad.program import Program
from siligrad_sim.lockstep import Comparison, Lockstep
from siligrad_sim.reference import ReferenceDevice


def layers(params: Any, x: Any) -> Any:
    return np.maximum(x @ params[0], 0) @ params[1]


def compiled() -> tuple[Program, Any]:
    rng = numpy.random.default_rng(0)
    params = [rng.standard_normal((5, 4)), rng.standard_normal((4, 3))]
    x = rng.random((6, 5))
    return sg.compile(layers, params, x, resident=0, target=sg.Target(array=3)), x


class Tampered(ReferenceDevice):
    """A reference that does something else after each run."""

    def __init__(self, program: Program, tamper: Callable[[Tampered], int]) -> None:
        super().__init__(program.geometry)
        self.tamper = tamper

    def execute(self, loop: Loop, limit: int) -> int:
        return super().execute(loop, limit) + self.tamper(self)


def compare(tamper: Callable[[Tampered], int]) -> tuple[Program, Comparison]:
    program, x = compiled()
    pair = Lockstep(ReferenceDevice(program.geometry), Tampered(program, tamper))
    pair.load(program)
    return program, pair.run(x)


def flip(memory: Memory, address: int, bank: int) -> Callable[[Tampered], int]:
    def tamper(device: Tampered) -> int:
        words = device.read_words(memory, address, 1)
        words[0, bank] ^= 1
        device.write_words(memory, address, words)
        return 0

    return tamper


def test_equal_devices_compare_equal_in_every_word() -> None:
    program, result = compare(lambda _: 0)
    depths = sum(program.geometry.depth(memory) for memory in Memory)
    assert result.words_compared == depths * program.geometry.array
    assert (result.words_different, result.first) == (0, None)


def test_a_flipped_bit_is_named_by_tensor_and_element() -> None:
    program, x = compiled()
    hidden = next(tensor for tensor in program.tensors if tensor.name.startswith("relu"))
    # Element (4, 2) lies in the second row of tiles, row 1 and column 2 of its first tile.
    address = hidden.base + hidden.tiles(3)[1] * 3 + 1
    _, result = compare(flip(hidden.memory, address, (1 + 2) % 3))
    assert result.words_different == 1
    assert result.first is not None
    assert result.first.where == f"{hidden.name}[4, 2]"
    assert result.first.got == result.first.expected ^ 1
    reference = ReferenceDevice(program.geometry)
    reference.load(program)
    reference.run(x)
    codes = hidden.unpack(reference.read_words(hidden.memory, hidden.base, hidden.words(3)), 3)
    assert result.first.expected == codes[4, 2]


def test_words_outside_of_matrices_and_of_nobody_count_too() -> None:
    program, _ = compiled()
    last = program.geometry.depth(Memory.E) - 1
    _, result = compare(flip(Memory.E, last, 0))
    assert result.first is not None
    assert result.first.where == "a word that nothing owns"
    output = program.tensors[program.result.tensors[0]]  # 6 x 3: no filling; hidden is 6 x 4
    hidden = next(tensor for tensor in program.tensors if tensor.name.startswith("relu"))
    assert output.columns == 3
    # Column 5 of the hidden activations does not exist: column 2 of the second tile.
    _, result = compare(flip(hidden.memory, hidden.base + 3, 2))
    assert result.first is not None
    assert result.first.where == f"{hidden.name}[0, 5], outside the matrix,"


def test_cycles_and_shift_registers_are_compared() -> None:
    program, result = compare(lambda _: 1)
    assert (
        str(result.first)
        == f"the cycle counter is {program.cycles + 1}, but must be {program.cycles}"
    )

    def step_lane(device: Tampered) -> int:
        states = list(device.read_lfsr())
        states[1] ^= 1
        device.write_lfsr(states)
        return 0

    _, result = compare(step_lane)
    assert result.first is not None
    assert result.first.where == "the shift register of lane 1"


def test_saturation_counters_are_compared() -> None:
    program, x = compiled()

    class Miscounts(ReferenceDevice):
        """A reference that has seen one more element of the second instruction saturate."""

        def read_saturations(self, count: int) -> tuple[int, ...]:
            first, second = super().read_saturations(count)
            return first, second + 1

    pair = Lockstep(ReferenceDevice(program.geometry), Miscounts(program.geometry))
    pair.load(program)
    result = pair.run(x)
    assert result.words_different == 0
    assert result.first is not None
    assert result.first.where.startswith("the saturation counter of instruction 1 (")
    assert result.first.got == result.first.expected + 1


def test_a_device_says_what_it_was_given_wrong() -> None:
    program, x = compiled()
    device = ReferenceDevice(program.geometry)
    with pytest.raises(DeviceError, match="device reference has no program; load one first"):
        device.run(x)
    device.load(program)
    with pytest.raises(DeviceError, match=r"'layers' takes 1 arguments a run \(x\), not 2"):
        device.run(x, x)
    with pytest.raises(DeviceError, match="has no argument 'weights'; it has params, x"):
        device.write("weights", x)
    other = sg.compile(layers, [numpy.eye(5), numpy.eye(5)], x, target=sg.Target(array=4))
    with pytest.raises(DeviceError, match=r"'layers' is compiled for .* but device reference is"):
        device.load(other)
    slow = Tampered(program, lambda _: 7)
    slow.load(program)
    with pytest.raises(
        CycleCountError, match=rf"took {program.cycles + 7} cycles .* {program.cycles}"
    ):
        slow.run(x)


class Overruns(ReferenceDevice):
    """A reference that is ended, by its own account, when it has taken so many cycles too many."""

    name = "overruns"

    def __init__(self, program: Program, late: int) -> None:
        super().__init__(program.geometry)
        self.late = late

    def execute(self, loop: Loop, limit: int) -> int:
        cycles = super().execute(loop, limit) + self.late
        if cycles > limit:
            raise OverrunError(f"ended after {cycles}", cycles)
        return cycles


@pytest.mark.parametrize("late", [3, 1 << 40])
def test_a_run_that_was_ended_is_an_error_that_names_the_promise_or_is_compared(late: int) -> None:
    program, x = compiled()
    device = Overruns(program, late)
    device.load(program)
    promise = f"'layers' promises {program.cycles} cycles: ended after {program.cycles + late}"
    with pytest.raises(CycleCountError, match=promise):
        device.run(x)
    pair = Lockstep(ReferenceDevice(program.geometry), device)
    pair.load(program)
    first = pair.run(x).first
    assert str(first) == (
        f"the cycle counter is {program.cycles + late}, but must be {program.cycles}"
    )


def test_a_device_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(
        DeviceUnavailable, match=r"no device 'fpga'; installed devices: .*reference"
    ):
        device_class("fpga")


def test_resident_parameters_stay_until_they_are_written() -> None:
    program, x = compiled()
    with sg.open_device("reference", program) as device:
        device.run(x)
        (first,) = device.read()
        device.write("params", [numpy.zeros((5, 4)), numpy.zeros((4, 3))])
        device.run(x)
        (second,) = device.read()
    assert numpy.abs(first).max() > 0
    assert numpy.abs(second).max() == 0
