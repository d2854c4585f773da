"""The device serial:PORT against the RTL behind a pseudo-terminal, UART and all."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import numpy as np
import pytest

import siligrad as sg
from siligrad.device import DeviceError, DeviceUnavailable, device_class, open_device
from siligrad.isa import Geometry, Memory
from siligrad_host import SerialDevice
from siligrad_sim.board import SimulatedBoard
from siligrad_sim.lockstep import Lockstep
from siligrad_sim.reference import ReferenceDevice
from tests.firmware.driver_programs import small_batch, small_program

pytestmark = pytest.mark.xdist_group("board")


@pytest.fixture(scope="module")
def program() -> sg.Program:
    return small_program(array=2)[0]


@pytest.fixture(scope="module")
def board(program: sg.Program) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(program.geometry) as board:
        yield board


def in_lockstep(name: str, program: sg.Program, runs: int) -> SerialDevice:
    device = device_class(name)(program.geometry)
    assert isinstance(device, SerialDevice)
    rng = np.random.default_rng(1)
    with device:
        pair = Lockstep(ReferenceDevice(program.geometry), device)
        pair.load(program, seed=3)
        for _ in range(runs):
            x, y = small_batch(rng)
            result = pair.run(x, y)
            assert result.first is None, str(result.first)
            assert result.device.cycles == program.cycles
    return device


def test_training_through_the_wire_is_that_of_the_reference(
    board: SimulatedBoard, program: sg.Program
) -> None:
    device = in_lockstep(f"serial:{board.port}", program, 3)
    assert device.link.dropped == device.link.resent  # a slow machine may ask twice


def test_it_is_opened_by_name_and_tells_what_it_is(
    board: SimulatedBoard, program: sg.Program
) -> None:
    name = f"serial:{board.port}"
    kind = device_class(name)
    assert issubclass(kind, SerialDevice)
    assert kind.geometry_of() == program.geometry
    with open_device(name, program) as device:
        assert device.name == name
    with pytest.raises(DeviceError, match="it has ARRAY 2 instead of 3"):
        kind(Geometry(array=3, x_depth=64, w_depth=64, e_depth=64, program_depth=64))


def test_two_hosts_at_once_are_refused(board: SimulatedBoard, program: sg.Program) -> None:
    name = f"serial:{board.port}"
    with open_device(name, program), pytest.raises(DeviceUnavailable, match="cannot be opened"):
        open_device(name, program)


def test_names_that_are_no_ports_are_refused(program: sg.Program) -> None:
    with pytest.raises(DeviceUnavailable, match="is named with its port: serial:PORT"):
        device_class("serial")
    with pytest.raises(DeviceUnavailable, match=r"cannot be opened: .*/dev/nothing"):
        open_device("serial:/dev/nothing", program)
    with pytest.raises(DeviceUnavailable, match="'fast' is no rate in baud"):
        open_device("serial:/dev/nothing@fast", program)
    with pytest.raises(DeviceUnavailable, match="'reference' is named so, not 'reference:x'"):
        device_class("reference:x")


class Noise:
    """Damages a share of the frames of a stream: a byte changed, lost, or one too many."""

    def __init__(self, seed: int, share: float) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.between = True
        self.left = -1  # bytes to the one that is damaged
        self.frames = self.damaged = 0

    def __call__(self, data: bytes) -> bytes:
        result = bytearray()
        for byte in data:
            if self.between and byte:
                self.frames += 1
                chosen = self.random.random() < self.share
                self.left = self.random.randrange(12) if chosen else -1
            self.between = not byte
            if self.left == 0:
                self.damaged += 1
                kind = self.random.randrange(3)
                if kind != 1:
                    result.append(byte ^ 1 << self.random.randrange(8))
                if kind == 2:
                    result.append(byte)
            else:
                result.append(byte)
            self.left -= self.left >= 0
        return bytes(result)


def test_a_thousand_commands_on_a_bad_line_are_carried_out_once_each(program: sg.Program) -> None:
    """A run is what must not happen twice: it changes the weights, and what rounds them."""
    there, back = Noise(1, 0.0), Noise(2, 0.0)
    reference = ReferenceDevice(program.geometry)
    reference.load(program, seed=5)
    with SimulatedBoard(program.geometry, to_board=there, to_host=back) as board:
        device = device_class(f"serial:{board.port}")(program.geometry)
        assert isinstance(device, SerialDevice)
        with device:
            # How long an answer takes hangs on the machine, and on what else it does.
            begin, before = time.monotonic(), device.link.requests
            device.load(program, seed=5)
            taken = (time.monotonic() - begin) / (device.link.requests - before)
            device.link._patience = max(0.01, 2 * taken)
            there.share = back.share = 0.15
            device.load(program, seed=5)
            rng = np.random.default_rng(1)
            while device.counters["requests"] < 1000:
                x, y = small_batch(rng)
                assert device.run(x, y) == reference.run(x, y)
            for memory in Memory:
                depth = program.geometry.depth(memory)
                np.testing.assert_array_equal(
                    device.read_words(memory, 0, depth), reference.read_words(memory, 0, depth)
                )
            assert device.read_lfsr() == reference.read_lfsr()
            assert device.counters["resent"] > 200
            for noise in (there, back):
                assert noise.damaged > 0.12 * noise.frames > 120
