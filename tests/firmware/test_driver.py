"""The C driver in front of the reference, and in front of verilated hardware: word for word."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import siligrad as sg
import siligrad.numpy as np_
from siligrad.isa import Memory, encode_program
from siligrad.lfsr import seed_lanes
from siligrad.registers import Register
from siligrad.tensor import Role
from siligrad_sim.reference import ReferenceDevice
from siligrad_sim.verilator import VerilatorDevice
from tests.firmware.c_driver import (
    READ32,
    WRITE32,
    Bus,
    Driver,
    DriverError,
    python_bus,
)
from tests.firmware.driver_programs import (
    demo_program,
    expected,
    pieces,
    small_program,
)
from tests.firmware.reference_port import ReferencePort

pytestmark = pytest.mark.xdist_group("driver")


class SimulationBus(ctypes.Structure):
    """``struct simulation_bus``: the functions of a simulation's library, passed as pointers."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("simulation", "read", "write"))


class Bed:
    """A driver, and the accelerator that it drives."""

    def __init__(self, name: str, library: ctypes.CDLL, program: sg.Program) -> None:
        self.verilated: VerilatorDevice | None = None
        if name == "reference":
            self.port = ReferencePort(program.geometry)
            bus = python_bus(self.port.read, self.port.write)
        else:
            self.verilated = VerilatorDevice(program.geometry)
            functions = self.verilated._library
            self.context = SimulationBus(
                self.verilated._simulation,
                ctypes.cast(functions.siligrad_read, ctypes.c_void_p),
                ctypes.cast(functions.siligrad_write, ctypes.c_void_p),
            )
            bus = Bus(
                ctypes.addressof(self.context),
                ctypes.cast(library.simulation_read32, READ32),
                ctypes.cast(library.simulation_write32, WRITE32),
            )
        self.driver = Driver(library, bus)

    def dump(self) -> dict[Memory, Any]:
        return self.port.dump() if self.verilated is None else self.verilated.dump()

    def close(self) -> None:
        if self.verilated is not None:
            self.verilated.close()


@pytest.fixture(params=["reference", "verilator"])
def make_bed(request: pytest.FixtureRequest, library: ctypes.CDLL) -> Iterator[Any]:
    beds = []

    def make(program: sg.Program) -> Bed:
        beds.append(Bed(request.param, library, program))
        return beds[-1]

    yield make
    for bed in beds:
        bed.close()


def test_a_training_step_of_the_demo_network_equals_the_reference(make_bed: Any) -> None:
    program, data = demo_program()
    want = expected(program, data, runs=2, seed=7)
    bed = make_bed(program)
    driver = bed.driver
    driver.load(pieces(program.to_bytes(), 1))
    driver.call("siligrad_seed", 7)
    for _ in range(2):
        for name, codes in want.codes.items():
            driver.write(name, codes[0])
        driver.run()
        assert driver.cycles == want.cycles == driver.device.cycles
    assert driver.saturations() == want.saturations
    assert driver.read_lfsr() == want.lfsr
    dump = bed.dump()
    for memory, words in want.words.items():
        np.testing.assert_array_equal(dump[memory], words, err_msg=memory.name)


@pytest.fixture
def bed(library: ctypes.CDLL) -> Any:
    return lambda program: Bed("reference", library, program)


def loaded(bed: Any, program: sg.Program) -> Driver:
    driver = bed(program).driver
    driver.load([program.to_bytes()])
    assert isinstance(driver, Driver)
    return driver


def test_a_data_set_in_memory_is_trained_on_in_one_run(make_bed: Any) -> None:
    program, data = small_program(array=8, steps=3)
    assert program.geometry == demo_program()[0].geometry
    want = expected(program, data, runs=1)
    here = make_bed(program)
    driver = here.driver
    driver.load(pieces(program.to_bytes(), 2))
    driver.call("siligrad_seed", 0)
    for name, codes in want.codes.items():
        assert len(codes) == 3
        for step, matrix in enumerate(codes):
            driver.write(name, matrix, step)
            np.testing.assert_array_equal(driver.read(name, step), matrix)
    driver.run()
    assert driver.cycles == want.cycles
    dump = here.dump()
    for memory, words in want.words.items():
        np.testing.assert_array_equal(dump[memory], words, err_msg=memory.name)


@pytest.mark.parametrize("size", [1, 2, 7, 48, 95, 97, 1 << 20])
def test_an_image_comes_in_pieces_of_any_size(bed: Any, size: int) -> None:
    program, _ = small_program()
    blob = program.to_bytes()
    here = bed(program)
    here.driver.load([blob[at : at + size] for at in range(0, len(blob), size)])
    lines = encode_program(program.instructions)
    words = [line >> 32 * word & 0xFFFFFFFF for line in lines for word in range(4)]
    assert here.port.program[: len(words)] == words
    assert set(here.port.program[len(words) :]) <= {0}
    device = ReferenceDevice(program.geometry)
    device.load(program)
    for memory, contents in device.dump().items():
        np.testing.assert_array_equal(here.port.words[memory], contents)


def test_what_an_image_says_is_what_the_driver_knows(bed: Any) -> None:
    program, _ = small_program(steps=3)
    driver = loaded(bed, program)
    device = driver.device
    assert device.tensor_count == len(program.tensors)
    assert device.instructions == len(program.instructions)
    assert device.steps == 3
    assert list(device.run) == [
        3,
        program.loop.x_stride,
        program.loop.w_stride,
        program.loop.e_stride,
        *divmod(program.cycles, 1 << 32)[::-1],
    ]
    assert device.cycles == program.cycles
    for index, tensor in enumerate(program.tensors):
        record = device.tensors[index]
        assert driver.find(tensor.name) <= index
        assert (record.rows, record.columns) == (tensor.rows, tensor.columns)
        assert (record.memory, record.base, record.role) == (
            tensor.memory,
            tensor.base,
            tensor.role,
        )
        assert (record.fraction, record.limit) == (tensor.format.frac, tensor.limit)
        assert struct.pack("<Q", record.scale) == struct.pack("<d", tensor.scale)
        assert record.words == tensor.words(program.geometry.array)
        flags = (tensor.sign, tensor.magnitude, tensor.moves)
        assert record.flags == sum(bit << at for at, bit in enumerate(flags))
        assert record.loaded == (index in program.initial)


@pytest.mark.parametrize("array", [2, 3, 5])
def test_strides_are_those_of_the_callers_array(bed: Any, array: int) -> None:
    program, _ = small_program(array=array)
    driver = loaded(bed, program)
    rng = np.random.default_rng(array)
    for name in ("x", "params[0][0]", "params[0][1]"):
        tensor = next(tensor for tensor in program.tensors if tensor.name == name)
        shape = tensor.rows, tensor.columns
        codes = rng.integers(-tensor.limit, tensor.limit, shape).astype(np.int16)
        larger = np.full((2 * tensor.rows + 1, 3 * tensor.columns + 2), 77, np.int16)
        for view in (
            codes,
            np.asfortranarray(codes),
            codes[::-1, ::-1],
            larger[1::2, 2::3],
        ):
            if view.base is larger:
                view[:] = codes
            driver.write(name, view)
            wanted = np.array(view)
            np.testing.assert_array_equal(driver.read(name), wanted)
            got = np.full_like(larger, 55)
            into = got[1::2, 2::3]
            strides = [stride // 2 for stride in into.strides]
            driver.call("siligrad_read_tensor", driver.find(name), 0, into.ctypes.data, *strides)
            np.testing.assert_array_equal(into, wanted)
            into[:] = 55
            assert (got == 55).all()  # nothing else was touched


def test_filling_is_zero_after_a_write(bed: Any) -> None:
    program, _ = small_program()
    here = bed(program)
    driver = here.driver
    driver.load([program.to_bytes()])
    for words in here.port.words.values():
        words[:] = 999
    tensor = next(tensor for tensor in program.tensors if tensor.name == "x")
    driver.write("x", np.ones((tensor.rows, tensor.columns), np.int16))
    n = program.geometry.array
    block = here.port.words[tensor.memory][tensor.base : tensor.base + tensor.words(n)]
    np.testing.assert_array_equal(
        block, tensor.pack(np.ones((tensor.rows, tensor.columns), np.int32), n)
    )
    assert (here.port.words[tensor.memory][tensor.base + tensor.words(n) :] == 999).all()


@pytest.mark.parametrize("halvings", [-1, 0, 1, 3])
def test_a_slower_program_is_the_one_that_the_library_makes(bed: Any, halvings: int) -> None:
    program, _ = small_program()
    here = bed(program)
    here.driver.load([program.to_bytes()])
    here.driver.call("siligrad_slow", halvings)
    lines = encode_program(program.slowed(halvings).instructions)
    words = [line >> 32 * word & 0xFFFFFFFF for line in lines for word in range(4)]
    assert here.port.program[: len(words)] == words


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_seeds_are_those_of_the_library(bed: Any, seed: int) -> None:
    driver = loaded(bed, small_program()[0])
    driver.call("siligrad_seed", seed)
    assert driver.read_lfsr() == seed_lanes(seed, 3)


def test_training_goes_on_where_it_was_stopped(bed: Any) -> None:
    """States and parameters go to another accelerator, which has the image by an earlier load."""
    program, data = small_program()
    want = expected(program, data, runs=3, seed=5)
    first, second = bed(program), bed(program)
    first.driver.load([program.to_bytes()])
    first.driver.call("siligrad_seed", 5)

    def run(driver: Driver) -> None:
        for name, codes in want.codes.items():
            driver.write(name, codes[0])
        driver.run()

    run(first.driver)
    second.port.program = list(first.port.program)
    second.driver.load([program.to_bytes()], attach=True)
    assert not any(words.any() for words in second.port.words.values())  # nothing was written
    for tensor in program.tensors:
        if tensor.role == Role.RESIDENT:
            second.driver.write(tensor.name, first.driver.read(tensor.name))
    second.driver.write_lfsr(first.driver.read_lfsr())
    for _ in range(2):
        run(second.driver)
    for tensor in program.tensors:
        got = second.driver.read(tensor.name)
        n = program.geometry.array
        words = want.words[tensor.memory][tensor.base : tensor.base + tensor.words(n)]
        np.testing.assert_array_equal(got, tensor.unpack(words, n), err_msg=tensor.name)
    assert second.driver.read_lfsr() == want.lfsr


def test_a_locked_accelerator_runs_what_is_baked_and_shows_none_of_it(library: ctypes.CDLL) -> None:
    program, data = small_program()
    want = expected(program, data, runs=1)
    baked = Bed("reference", library, program)
    baked.driver.load([program.to_bytes()])
    port = ReferencePort(program.geometry, locked=True)
    port.program, port.words = list(baked.port.program), baked.port.dump()
    port.registers[Register.STEPS] = 1
    driver = Driver(library, python_bus(port.read, port.write))
    with pytest.raises(DriverError, match="a locked one keeps program and weights"):
        driver.load([program.to_bytes()])
    driver.load([program.to_bytes()], attach=True)
    driver.call("siligrad_seed", 0)
    for name, codes in want.codes.items():
        driver.write(name, codes[0])
    driver.run()
    for memory, words in want.words.items():
        np.testing.assert_array_equal(port.words[memory], words)
    for name, arguments in (("siligrad_slow", [1]), ("siligrad_slow", [0])):
        with pytest.raises(DriverError, match="a locked one"):
            driver.call(name, *arguments)
    with pytest.raises(DriverError, match="a locked one"):
        driver.read("params[0][0]")


def test_every_program_of_the_compiler_is_loaded(bed: Any) -> None:
    """Narrow words, narrow operands, constants: what is loaded is what the reference loads."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 4))

    def scaled(x: Any) -> Any:
        return np_.maximum(x @ np_.array([[0.5, -1.0], [2.0, 0.25], [1.0, 1.0], [0.0, -2.0]]), 0)

    for target in (
        sg.Target(array=2),
        sg.Target(array=5, operand_bits=8),
        sg.Target(array=4, operand_bits=8, word_bits=8, sum_bits=24),
    ):
        program = sg.compile(scaled, x, target=target)
        here = bed(program)
        here.driver.load([program.to_bytes()])
        want = expected(program, (x,), runs=1)
        here.driver.write("x", want.codes["x"][0])
        here.driver.run()
        for memory, words in want.words.items():
            np.testing.assert_array_equal(here.port.words[memory], words)


def test_polls_say_whether_a_run_goes_on(bed: Any) -> None:
    driver = loaded(bed, small_program()[0])
    driver.call("siligrad_start")
    assert [driver.call("siligrad_poll") for _ in range(4)] == [1, 1, 0, 0]
