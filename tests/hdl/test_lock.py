"""What a lock keeps from the host, and what it leaves to it; docs/security.md says why."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

import siligrad as sg
from siligrad import nn
from siligrad.device import DeviceError
from siligrad.host import HostDevice
from siligrad.isa import Geometry, Memory
from siligrad.registers import (
    HOST_ADDRESS_BITS,
    Build,
    Region,
    Register,
    Status,
    element_address,
    program_address,
)
from siligrad_cli import run
from siligrad_cli.main import main
from siligrad_hdl import flow
from siligrad_hdl.accelerator import Accelerator, to_verilog
from siligrad_hdl.flow import BuildError
from siligrad_hdl.host import HostInterface
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.reference import ReferenceDevice

GEOMETRY = Geometry(
    array=3,
    word_bits=8,
    operand_bits=8,
    sum_bits=20,
    x_depth=7,
    w_depth=9,
    e_depth=12,
    program_depth=17,
)
SECRET = {Memory.X: 0x11, Memory.W: 0x22, Memory.E: 0x33}
LINE = [0x44444444, 0x55555555, 0x66666666, 0x77777777]
SATURATED = 0x88
HELD_BY_A_LOCK = (
    Register.ENTRY,
    Register.STEPS,
    Register.X_STRIDE,
    Register.W_STRIDE,
    Register.E_STRIDE,
)
REGIONS = {Memory.X: Region.X, Memory.W: Region.W, Memory.E: Region.E}


class Port:
    """The port of an interface alone, and all that it has done to what is behind it."""

    def __init__(self, dut: HostInterface, ctx: Any) -> None:
        self.dut = dut
        self.ctx = ctx
        self.effects: list[tuple[str, int, int]] = []

    def look(self) -> None:
        """Note what the interface does in this cycle."""
        dut, ctx = self.dut, self.ctx
        words = ctx.get(dut.line_words)
        if words:
            self.effects.append(("line", ctx.get(dut.line), words))
        writes = ctx.get(dut.request_write)
        if writes:
            place = ctx.get(dut.request.address) << 2 | ctx.get(dut.request.index)
            self.effects.append(("word", writes, place))
        if ctx.get(dut.start):
            self.effects.append(("start", ctx.get(dut.entry), ctx.get(dut.steps)))
        if ctx.get(dut.lfsr_load):
            self.effects.append(("lfsr", ctx.get(dut.lfsr_load), ctx.get(dut.lfsr_load_state)))

    async def request(self, address: int, data: int | None = None) -> int:
        dut, ctx = self.dut, self.ctx
        ctx.set(dut.host.strobe, 1)
        ctx.set(dut.host.write, int(data is not None))
        ctx.set(dut.host.address, address)
        ctx.set(dut.host.write_data, data or 0)
        for _ in range(20):
            self.look()
            acknowledged, answer = ctx.get(dut.host.acknowledge), ctx.get(dut.host.read_data)
            await ctx.tick()
            if acknowledged:
                ctx.set(dut.host.strobe, 0)
                self.look()
                return int(answer)
        raise AssertionError(f"no acknowledgement of an access to {address:#x}")

    async def refused(self) -> bool:
        """Whether something was refused since this was last asked."""
        status = await self.request(Region.REGISTERS.base + Register.STATUS)
        await self.request(Region.REGISTERS.base + Register.STATUS, 0)
        return bool(status & Status.REFUSED)


def simulate(locked: bool, bench: Any) -> None:
    dut = HostInterface(geometry=GEOMETRY, address_bits=4, read_latency=5, locked=locked)

    async def testbench(ctx: Any) -> None:
        for memory in Memory:
            ctx.set(dut.request_data[memory], SECRET[memory])
        for number, word in enumerate(LINE):
            ctx.set(dut.line_data[number], word)
        ctx.set(dut.instruction_data, SATURATED)
        ctx.set(dut.instructions, 2)
        await bench(Port(dut, ctx))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("locked", [False, True])
def test_a_lock_shows_itself_in_a_register(locked: bool) -> None:
    async def bench(port: Port) -> None:
        build = Region.REGISTERS.base + Register.BUILD
        await port.request(build, 0)
        assert await port.request(build) == (Build.LOCKED if locked else 0)
        assert not await port.refused()

    simulate(locked, bench)


@pytest.mark.parametrize("locked", [False, True])
def test_program_and_weights_cannot_be_read(locked: bool) -> None:
    async def bench(port: Port) -> None:
        for word in range(4):
            got = await port.request(program_address(16, word))
            assert (got, await port.refused()) == (0 if locked else LINE[word], locked)
        for memory in Memory:
            kept = locked and memory == Memory.W
            got = await port.request(element_address(memory, 3, 2, 6))
            assert (got, await port.refused()) == (0 if kept else SECRET[memory], kept)
        # What there is not is refused like what there is: nothing tells them apart.
        for address in (program_address(17), element_address(Memory.W, 3, 3, 0)):
            assert (await port.request(address), await port.refused()) == (0, locked)
        assert await port.request(Region.SATURATIONS.base) == SATURATED

    simulate(locked, bench)


@pytest.mark.parametrize("locked", [False, True])
def test_program_and_weights_cannot_be_written(locked: bool) -> None:
    async def bench(port: Port) -> None:
        await port.request(program_address(3, 2), 5)
        assert await port.refused() == locked
        await port.request(element_address(Memory.W, 3, 2, 6), 5)
        assert await port.refused() == locked
        assert port.effects == ([] if locked else [("line", 3, 4), ("word", 2, 6 << 2 | 2)])
        await port.request(element_address(Memory.X, 3, 2, 6), 5)
        await port.request(element_address(Memory.E, 3, 1, 5), 5)
        assert port.effects[-2:] == [("word", 1, 6 << 2 | 2), ("word", 4, 5 << 2 | 1)]
        assert not await port.refused()

    simulate(locked, bench)


@pytest.mark.parametrize("locked", [False, True])
def test_how_the_program_is_run_cannot_be_changed(locked: bool) -> None:
    async def bench(port: Port) -> None:
        for register in HELD_BY_A_LOCK:
            address = Region.REGISTERS.base + register
            before = await port.request(address)
            await port.request(address, before)  # as every host does before a start
            assert not await port.refused(), register
            await port.request(address, 3)
            assert await port.refused() == locked, register
            assert await port.request(address) == (before if locked else 3), register
        # The top of a word that is wider than its register is no way in.
        steps = Region.REGISTERS.base + Register.STEPS
        before = await port.request(steps)
        await port.request(steps, 1 << 16 | before)
        assert await port.refused() == locked
        for register in (Register.LIMIT, Register.LIMIT_HIGH):
            await port.request(Region.REGISTERS.base + register, 9)
            assert await port.request(Region.REGISTERS.base + register) == 9
        await port.request(Region.REGISTERS.base + Register.CONTROL, 1)
        assert not await port.refused()
        assert port.effects == [("start", 0, 1) if locked else ("start", 3, before)]

    simulate(locked, bench)


def expected_effect(locked: bool, address: int, data: int) -> tuple[str, int, int] | None:
    """Return what docs/spec/host.md has a write do behind the interface of this geometry."""
    region, word = address >> 20, address & 0xFFFFF
    if region == 1:
        return None if locked or word >> 2 >= 17 else ("line", word >> 2, 1 << (word & 3))
    if region in {4, 5, 6}:
        depth = {4: 7, 5: 9, 6: 12}[region]
        if word & 3 == 3 or word >> 2 >= depth or (locked and region == 5):
            return None
        return ("word", 1 << region - 4, word)
    if region == 0 and 16 <= word < 19:
        return ("lfsr", 1 << word - 16, data)
    return None


@pytest.mark.parametrize("locked", [False, True])
def test_a_write_outside_every_window_has_no_effect(locked: bool) -> None:
    """Random addresses, most of them just beyond something, with effects as specified."""
    rng = random.Random(7)
    edges = [
        0,
        1 << 20 | 17 << 2,
        2 << 20,
        3 << 20,
        *(region << 20 | depth << 2 for region, depth in ((4, 7), (5, 9), (6, 12))),
        7 << 20,
        1 << HOST_ADDRESS_BITS,
    ]

    async def bench(port: Port) -> None:
        expected = []
        for number in range(400):
            if number % 3:
                near = rng.choice(edges) + rng.randrange(-20, 20)
            else:
                near = rng.choice(edges) ^ 1 << rng.randrange(HOST_ADDRESS_BITS)
            address = near % (1 << HOST_ADDRESS_BITS)
            data = rng.getrandbits(32) | 1
            if address in {Register.CONTROL, *HELD_BY_A_LOCK}:
                continue
            await port.request(address, data)
            if (effect := expected_effect(locked, address, data)) is not None:
                expected.append(effect)
        assert port.effects == expected
        kinds = {kind for kind, _, _ in expected}
        assert kinds == ({"word", "lfsr"} if locked else {"word", "lfsr", "line"})

    simulate(locked, bench)


# The whole accelerator, configured with a network


@pytest.fixture(scope="module")
def network() -> sg.Program:
    rng = np.random.default_rng(0)
    params, x = nn.perceptron(rng, [3, 4, 2]), rng.random((2, 3))
    target = sg.Target(array=2, x_depth=32, w_depth=32, e_depth=16, program_depth=16)
    return sg.compile(nn.predict, params, x, target=target, resident=0)


class Board(PysimDevice):
    """A simulation that is reached through the host port alone, like a board."""

    held = HostDevice.held
    write_words = HostDevice.write_words
    read_words = HostDevice.read_words


def configured(program: sg.Program, *, locked: bool) -> Board:
    accelerator = Accelerator(program.geometry, baked=program.baked(), locked=locked)
    return Board(program.geometry, accelerator=accelerator)


def test_a_locked_network_classifies_like_an_open_one(network: sg.Program) -> None:
    reference = ReferenceDevice(network.geometry)
    device = configured(network, locked=True)
    assert device.locked
    assert not reference.locked
    reference.load(network)
    device.load(network)  # nothing but the states of stochastic rounding is written
    rng = np.random.default_rng(1)
    for _ in range(2):
        x = rng.random((2, 3))
        assert device.run(x) == reference.run(x)
        np.testing.assert_array_equal(device.read()[0], reference.read()[0])
    assert device.read()[0].any()


def test_a_locked_network_is_not_read_over_the_port(network: sg.Program) -> None:
    words = {}
    for locked in (False, True):
        device = configured(network, locked=locked)
        device.write_words(Memory.X, 0, np.ones((2, 2), np.int32))
        # Past the library, which asks for none of this itself.
        words[locked] = [
            device.read_block(region.base, count)
            for region, count in ((Region.PROGRAM, 64), (Region.W, 64), (Region.X, 64))
        ]
    for item in words[False]:
        assert item.any()
    program, weights, inputs = words[True]
    assert not program.any()
    assert not weights.any()
    np.testing.assert_array_equal(inputs, words[False][2])


def test_what_a_lock_forbids_is_said_in_a_sentence(network: sg.Program) -> None:
    device = configured(network, locked=True)
    rng = np.random.default_rng(2)
    params, x = nn.perceptron(rng, [3, 4, 2]), rng.random((2, 3))
    target = sg.Target(array=2, x_depth=32, w_depth=32, e_depth=16, program_depth=16)
    other = sg.compile(nn.predict, params, x, target=target, resident=0)
    said = "pysim: the accelerator is locked: its {} can be neither read nor written; it runs the"
    with pytest.raises(DeviceError, match=said.format("program")):
        device.load(other)
    with pytest.raises(DeviceError, match=said.format("program")):
        device.read_lines(1)
    with pytest.raises(DeviceError, match=said.format("W")):
        device.dump()
    with pytest.raises(DeviceError, match=said.format("W")):
        device.write_words(Memory.W, 0, np.zeros((1, 2), np.int32))


# The commands


def test_siligrad_run_classifies_on_a_locked_board(
    network: sg.Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Locked(Board):
        def __init__(self, geometry: Geometry) -> None:
            accelerator = Accelerator(geometry, baked=network.baked(), locked=True)
            super().__init__(geometry, accelerator=accelerator)

    image, inputs = tmp_path / "net.sgp", tmp_path / "x.npz"
    network.save(image)
    np.savez(inputs, x=np.random.default_rng(4).random((3, 2, 3)))
    command = ["run", str(image), "--input", str(inputs), "--output"]
    results = {}
    for device in ("reference", "locked"):
        output = tmp_path / f"{device}.npz"
        if device == "locked":
            monkeypatch.setattr(run, "device_class", lambda _: Locked)
        assert main([*command, str(output), "--device", device]) == 0
        with np.load(output) as arrays:
            results[device] = dict(arrays)
    assert "compared  nothing: the device is locked" in capsys.readouterr().out
    weights = {name for name in results["reference"] if name.startswith("params")}
    assert set(results["locked"]) == set(results["reference"]) - weights
    for name, values in results["locked"].items():
        np.testing.assert_array_equal(values, results["reference"][name])
        assert values.any()
    for options, said in ((["--compare"], "use --no-compare"), (["--state", "s.npz"], "its W can")):
        assert main([*command, str(tmp_path / "n"), "--device", "locked", *options]) == 1
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1


def test_a_locked_network_is_exported(network: sg.Program, tmp_path: Path) -> None:
    image = tmp_path / "net.sgp"
    network.save(image)
    written = {}
    for options in ([], ["--lock"]):
        file = tmp_path / f"{len(options)}.v"
        command = ["export", "--port", "host", "--bake", str(image), "-o", str(file), *options]
        assert main(command) == 0
        written[bool(options)] = file.read_text(encoding="utf-8")
    assert written[True] == to_verilog(network.geometry, baked=network.baked(), locked=True)
    assert written[False] == to_verilog(network.geometry, baked=network.baked())
    assert written[True] != written[False]


def test_siligrad_build_hands_the_lock_on(
    network: sg.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "net.sgp"
    network.save(image)
    asked = []

    def build(*_: object, **options: object) -> None:
        asked.append(options["locked"])
        raise BuildError("enough")

    monkeypatch.setattr(flow, "build", build)
    command = ["build", "--board", "icebreaker", "--bake", str(image), "-o", str(tmp_path)]
    assert main(command) == main([*command, "--lock"]) == 1
    assert asked == [False, True]


@pytest.mark.parametrize("command", [["build", "--board", "icebreaker"], ["export"]])
def test_nothing_is_locked_that_nobody_put_in(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--lock", "-o", str(tmp_path / "x")]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "without --bake IMAGE there are none" in message
    assert not list(tmp_path.iterdir())
