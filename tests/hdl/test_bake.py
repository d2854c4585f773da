# amaranth: UnusedElaboratable=no
# What is refused is never used.

"""An accelerator that is configured with a program needs no load, and tells a host so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

import siligrad as sg
import siligrad.numpy as np_
from siligrad import nn
from siligrad.errors import DataError
from siligrad.isa import Memory, encode_program
from siligrad.registers import Held, Register, Status, element_address, program_address
from siligrad_hdl.accelerator import Accelerator, to_verilog
from siligrad_sim.reference import ReferenceDevice
from tests.firmware.driver_programs import hinge_step
from tests.hdl.netlists import SEED, TARGET, NetlistDevice, batch, small_program

ALL = Held.X | Held.W | Held.E | Held.PROGRAM


@pytest.fixture(scope="module")
def program() -> sg.Program:
    return small_program()


@pytest.fixture(scope="module")
def verilog(program: sg.Program) -> str:
    return to_verilog(program.geometry, baked=program.baked(SEED))


@pytest.fixture
def device(program: sg.Program, verilog: str) -> Iterator[NetlistDevice]:
    with NetlistDevice(program.geometry, verilog=verilog) as opened:
        yield opened


def classifier(scale: float = 1.0) -> sg.Program:
    """Return a program with weights in W that reads X and writes nothing but E."""
    rng = np.random.default_rng(1)
    w = scale * rng.standard_normal((3, 2))
    return sg.compile(lambda x: np_.maximum(x @ w, 0), rng.random((2, 3)), target=TARGET)


def held(device: NetlistDevice) -> int:
    return device.read_register(Register.HELD)


@pytest.mark.parametrize("seed", [0, SEED])
def test_what_is_baked_is_what_a_load_writes(program: sg.Program, seed: int) -> None:
    reference = ReferenceDevice(program.geometry)
    reference.load(program, seed=seed)
    baked = program.baked(seed)
    for memory in Memory:
        words = reference.read_words(memory, 0, program.geometry.depth(memory))
        assert np.array(baked.banks[memory]).T.tolist() == words.tolist()
    assert any(any(bank) for bank in baked.banks[Memory.W])
    assert baked.states == reference.read_lfsr()
    assert list(baked.lines) == encode_program(program.instructions)
    assert baked.image == int.from_bytes(program.to_bytes()[16:20], "little") != 0
    assert (baked.loop, baked.limit) == (program.loop, program.cycles)


def test_a_start_is_all_that_a_baked_accelerator_needs(
    program: sg.Program, device: NetlistDevice
) -> None:
    reference = ReferenceDevice(program.geometry)
    reference.load(program, seed=SEED)
    reference.run(*batch(0))
    for index, value in enumerate(batch(0), start=1):
        for memory, address, words in program.place(program.encode(index, value)):
            device.write_words(memory, address, words)
    device.write_register(Register.CONTROL, 1)
    device.wait(2 * program.cycles)
    assert device.read_register(Register.STATUS) == Status.DONE
    assert device.read_cycles() == program.cycles
    for memory, words in reference.dump().items():
        depth = program.geometry.depth(memory)
        assert device.read_words(memory, 0, depth).tolist() == words.tolist(), memory.name
    assert device.read_lfsr() == reference.read_lfsr()


def test_registers_begin_with_what_a_loop_needs() -> None:
    params, (x, y) = nn.perceptron(np.random.default_rng(0), [3, 2]), batch(1)
    looped = sg.compile(hinge_step, params, x, y, donate=0, target=TARGET, steps=3)
    verilog = to_verilog(looped.geometry, baked=looped.baked())
    with NetlistDevice(looped.geometry, verilog=verilog) as device:
        names = ("ENTRY", "STEPS", "X_STRIDE", "W_STRIDE", "E_STRIDE", "LIMIT", "LIMIT_HIGH")
        read = [device.read_register(Register[name]) for name in names]
    loop = looped.loop
    assert loop.x_stride > 0
    assert read == [0, 3, loop.x_stride, loop.w_stride, loop.e_stride, looped.cycles, 0]


def test_a_host_learns_what_is_baked_and_what_was_written_over(
    program: sg.Program, device: NetlistDevice
) -> None:
    assert device.read_register(Register.BAKED) == program.checksum
    assert held(device) == ALL
    n = program.geometry.array
    # Registers are no memory, and words that do not exist are not written.
    device.write_register(Register.STEPS, 1)
    device.write_word(element_address(Memory.X, n, 0, program.geometry.x_depth), 1)
    device.write_word(program_address(program.geometry.program_depth), 1)
    assert held(device) == ALL
    left = ALL
    for memory in Memory:
        device.write_word(element_address(memory, n, 1, 7), 0)
        left &= ~Held.of(memory)
        assert held(device) == left, memory.name
    device.write_word(program_address(2, 3), 0)
    assert held(device) == 0
    assert device.read_register(Register.BAKED) == program.checksum


def test_a_run_takes_the_memories_that_it_writes() -> None:
    program = classifier()
    verilog = to_verilog(program.geometry, baked=program.baked())
    with NetlistDevice(program.geometry, verilog=verilog) as device:
        for run in range(2):
            # Inputs go to X, results to E; lines and weights are never written.
            device.load(program)
            assert device.written == (run + 1) * TARGET.array, "shift registers alone"
            device.run(np.zeros((2, 3)))
            device.written = (run + 1) * TARGET.array
            assert held(device) == Held.W | Held.PROGRAM


def test_what_was_written_over_is_loaded_and_nothing_else(
    program: sg.Program, device: NetlistDevice
) -> None:
    expected = ReferenceDevice(program.geometry)
    expected.load(program)
    device.write_word(element_address(Memory.W, program.geometry.array, 0, 0), 77)
    device.load(program)
    words = sum(t.words(TARGET.array) * TARGET.array for t in program.tensors if t.name != "x")
    assert 0 < device.written - TARGET.array <= words
    depth = program.geometry.w_depth
    got = device.read_words(Memory.W, 0, depth)
    assert got.tolist() == expected.read_words(Memory.W, 0, depth).tolist()


def test_another_image_is_loaded_whole(device: NetlistDevice) -> None:
    first, second = classifier(), classifier(0.5)
    for program in (first, second):
        reference = ReferenceDevice(program.geometry)
        x = np.random.default_rng(2).random((2, 3))
        for each in (reference, device):
            each.load(program)
            each.run(x)
        assert device.read()[0].tolist() == reference.read()[0].tolist()


def test_an_accelerator_with_nothing_baked_has_no_such_registers(program: sg.Program) -> None:
    with NetlistDevice(program.geometry, verilog=to_verilog(program.geometry)) as device:
        assert device.read_register(Register.BAKED) == 0
        assert held(device) == 0
        device.load(program)
        assert device.written > 4 * len(program.instructions)


def test_a_reset_gives_nothing_back(program: sg.Program) -> None:
    reset = Signal()
    accelerator = Accelerator(program.geometry, baked=program.baked())
    host = accelerator.host

    async def bench(ctx: Any) -> None:
        async def access(address: int, word: int | None = None) -> int:
            ctx.set(host.address, address)
            ctx.set(host.write, word is not None)
            ctx.set(host.write_data, word or 0)
            ctx.set(host.strobe, 1)
            while True:
                *_, acknowledge, data = await ctx.tick().sample(host.acknowledge, host.read_data)
                if acknowledge:
                    break
            ctx.set(host.strobe, 0)
            await ctx.tick()
            return int(data)

        await access(element_address(Memory.E, program.geometry.array, 0, 3), 5)
        await access(Register.STEPS, 9)
        await ctx.tick().repeat(8)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert await access(Register.STEPS) == 1
        assert await access(Register.HELD) == ALL & ~Held.E
        assert await access(Register.BAKED) == program.checksum

    simulator = Simulator(ResetInserter(reset)(accelerator))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_program_for_another_geometry_is_refused(program: sg.Program) -> None:
    with pytest.raises(ValueError, match=r"what is baked must be for .*array=3, .*, not for "):
        Accelerator(replace(program.geometry, array=3), baked=program.baked())


def test_an_image_whose_checksum_is_zero_is_refused(program: sg.Program) -> None:
    unlucky = replace(program)
    unlucky.__dict__["checksum"] = 0
    with pytest.raises(DataError, match="has an image whose CRC-32 is 0, which stands for none"):
        unlucky.baked()
