"""The C driver in front of the reference, and in front of verilated hardware: word for word."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import siligrad as sg
from siligrad.isa import Memory
from siligrad_sim.verilator import VerilatorDevice
from tests.firmware.c_driver import (
    READ32,
    WRITE32,
    Bus,
    Driver,
    build_library,
    load_library,
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


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return load_library(build_library(tmp_path_factory.mktemp("driver")))


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


@pytest.mark.parametrize("network", ["demo", "small"])
def test_a_training_step_equals_the_reference(make_bed: Any, network: str) -> None:
    program, data = demo_program() if network == "demo" else small_program()
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
