"""`siligrad selftest`: sound devices pass, and what is broken is named."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from numpy.typing import NDArray

import siligrad as sg
from siligrad import nn
from siligrad.isa import Geometry, Loop, Memory
from siligrad_cli import selftest as command
from siligrad_cli.main import main
from siligrad_cli.memory_test import BankStore, examine, words_moved
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.board import SimulatedBoard
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.reference import ReferenceDevice

pytestmark = pytest.mark.xdist_group("board")

# That of test_board.py, so that the sound board is built once.
GEOMETRY = Geometry(array=2, x_depth=64, w_depth=64, e_depth=64, program_depth=64)
CHECKS = ["geometry", "X", "W", "E", "program", "shift registers", "training"]

Words = NDArray[np.int64]


class Memories:
    """A memory in an array, with a fault."""

    forbidden: int | None = None

    def __init__(self, depth: int, columns: int, bits: int) -> None:
        self.depth, self.columns, self.bits = depth, columns, bits
        self.words = np.zeros((depth, columns), np.int64)
        self.moved = 0

    def write(self, at: int, words: Words) -> None:
        self.moved += words.size
        assert words.min() >= 0
        assert words.max() < 1 << self.bits
        assert self.forbidden is None or not (words == self.forbidden).any()
        for index, row in enumerate(words):
            for column, word in enumerate(row):
                self.put(at + index, column, int(word))

    def put(self, word: int, column: int, value: int) -> None:
        self.words[word, column] = value

    def get(self, word: int, column: int) -> int:
        return int(self.words[word, column])

    def read(self, at: int, count: int) -> Words:
        self.moved += count * self.columns
        rows = range(at, at + count)
        return np.array([[self.get(row, c) for c in range(self.columns)] for row in rows])

    def place(self, word: int, column: int) -> str:
        return f"word {word} of bank {column}"

    def column(self, column: int) -> str:
        return f"bank {column}"


@pytest.mark.parametrize(
    ("depth", "columns", "bits"),
    [(1, 1, 4), (33, 3, 4), (70, 2, 8), (64, 4, 16), (100, 16, 4), (40, 4, 32)],
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_sound_memory_passes(depth: int, columns: int, bits: int, signed: bool) -> None:
    store = Memories(depth, columns, bits)
    store.forbidden = 1 << bits - 1 if signed else None
    moved: list[int] = []
    assert examine(store, 3, moved.append) is None
    assert sum(moved) == words_moved(store) == store.moved


class StuckBit(Memories):
    def get(self, word: int, column: int) -> int:
        return super().get(word, column) | (8 if column == 1 else 0)


class StuckCell(Memories):
    def get(self, word: int, column: int) -> int:
        return super().get(word, column) & ~(4 if (word, column) == (13, 0) else 0)


class OneAddressForTwo(Memories):
    def put(self, word: int, column: int, value: int) -> None:
        super().put(word & ~16, column, value)

    def get(self, word: int, column: int) -> int:
        return super().get(word & ~16, column)


class DeafWord(Memories):
    def put(self, word: int, column: int, value: int) -> None:
        if (word, column) != (39, 1):
            super().put(word, column, value)


class TwoWritten(Memories):
    def put(self, word: int, column: int, value: int) -> None:
        super().put(word, column, value)
        if (word, column) == (20, 0):
            super().put(5, 0, value)


class Coupled(Memories):
    """A bit that falls when its neighbour in another word rises."""

    def put(self, word: int, column: int, value: int) -> None:
        rises = (word, column) == (8, 1) and value & ~self.get(8, 1) & 1
        super().put(word, column, value)
        if rises:
            super().put(7, 1, self.get(7, 1) & ~1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (StuckBit, r"word \d+ of bank 1 reads .*; bit 3 is always 1 in bank 1$"),
        (StuckCell, r"the first: word 13 of bank 0 reads 0x\w{4} where 0x\w{4} was written$"),
        (
            OneAddressForTwo,
            r"the first: word 0 of bank 0 reads .*, which is what was written to word 16 of bank 0",
        ),
        (DeafWord, "the first: word 39 of bank 1 reads"),
        (TwoWritten, "word 5 of bank 0 reads .*, which is what was written to word 20 of bank 0"),
        (Coupled, r"\d of \d+ words read are wrong, the first: word 7 of bank 1 reads"),
    ],
)
def test_a_broken_memory_is_named(fault: type[Memories], said: str) -> None:
    message = examine(fault(40, 2, 16), 0)
    assert message is not None
    assert re.search(said, message), message


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any], list[str]]:
    """Return the exit status, the record, and the lines of stderr."""
    status = main(["selftest", *options, "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out), captured.err.splitlines()


def results(record: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["result"] for check in record["checks"]}


def test_a_sound_board_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with SimulatedBoard(GEOMETRY) as board:
        status, record, errors = run(capsys, "--device", f"serial:{board.port}")
    assert (status, errors, record["passed"]) == (0, [], True)
    assert results(record) == dict.fromkeys(CHECKS, "passed")
    assert record["checks"][0]["detail"].startswith("2 x 2, words of 16 bits")
    assert record["link"]["requests"] > 100


class Broken(wiring.Component):  # type: ignore[misc]  # Amaranth has no types
    """A block memory with a bit that is always 1, or an address bit that is always 0."""

    def __init__(self, sound: Any, *, stuck: int = 0, ignored: int = 0) -> None:
        self.sound, self.stuck, self.ignored = sound, stuck, ignored
        self.data = sound.data
        super().__init__(dict(sound.signature.members.items()))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sound = sound = self.sound
        m.d.comb += [
            sound.read_address.eq(self.read_address & ~self.ignored),
            sound.write_address.eq(self.write_address & ~self.ignored),
            sound.read_enable.eq(self.read_enable),
            sound.output_enable.eq(self.output_enable),
            sound.write_enable.eq(self.write_enable),
            sound.write_data.eq(self.write_data),
            self.read_data.eq(sound.read_data | self.stuck),
        ]
        return m


def test_a_board_with_broken_memories_fails_with_a_line_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    accelerator = Accelerator(GEOMETRY)
    banks = accelerator.memories[Memory.X].banks
    banks[0] = Broken(banks[0], ignored=32)
    banks = accelerator.memories[Memory.W].banks
    banks[1] = Broken(banks[1], stuck=8)
    with SimulatedBoard(GEOMETRY, accelerator=accelerator) as board:
        port = f"serial:{board.port}"
        status, record, errors = run(capsys, "--device", port)
    assert (status, record["passed"]) == (1, False)
    assert results(record) == dict.fromkeys(CHECKS, "passed") | {
        "X": "FAILED",
        "W": "FAILED",
        "training": "FAILED",
    }
    assert len(errors) == 3
    assert errors[0].startswith(f"siligrad: {port}: X: ")
    assert "word 0 of bank 0" in errors[0]
    assert "which is what was written to word 32 of bank 0" in errors[0]
    assert errors[1].startswith(f"siligrad: {port}: W: ")
    assert errors[1].endswith("; bit 3 is always 1 in bank 1")
    assert errors[2].startswith(f"siligrad: {port}: training: step 1 of ")


class Late(ReferenceDevice):
    def execute(self, loop: Loop, limit: int) -> int:
        return super().execute(loop, limit) + 1


class Forgetful(ReferenceDevice):
    def read_lfsr(self) -> tuple[int, ...]:
        first, *others = super().read_lfsr()
        return (first ^ 256, *others)


@pytest.mark.parametrize(
    ("device", "failed", "said"),
    [
        (Late, ["training"], "the cycle counter is "),
        (Forgetful, ["shift registers", "training"], "lane 0 reads 0x"),
    ],
)
def test_counters_and_shift_registers_are_looked_at(
    device: type[ReferenceDevice],
    failed: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "device_class", lambda name: device)
    status, record, errors = run(capsys, "--device", "reference", "--array", "3")
    assert status == 1
    assert [name for name, result in results(record).items() if result == "FAILED"] == failed
    assert said in errors[0]
    assert len(errors) == len(failed)


@pytest.fixture
def locked() -> PysimDevice:
    rng = np.random.default_rng(0)
    params, x = nn.perceptron(rng, [3, 4, 2]), rng.random((2, 3))
    target = sg.Target(array=2, x_depth=32, w_depth=32, e_depth=16, program_depth=16)
    program = sg.compile(nn.predict, params, x, target=target, resident=0)
    accelerator = Accelerator(program.geometry, baked=program.baked(), locked=True)
    return PysimDevice(program.geometry, accelerator=accelerator)


def test_what_is_locked_is_left_out(locked: PysimDevice) -> None:
    checks = {check.name: check for check in command.selftest(locked, 0)}
    assert [name for name, check in checks.items() if check.skipped] == [
        "W",
        "program",
        "training",
    ]
    assert {check.result for check in checks.values()} == {"passed", "skipped"}
    assert checks["geometry"].detail.endswith(", locked")


def test_tables_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--device", "reference", "--array", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == CHECKS
    assert "skipped" in lines[4]
    assert lines[-1].split()[1] == "passed"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "serial:/dev/nothing"], "device serial:/dev/nothing cannot be opened"),
        (["--device", "reference", "--array", "99"], "--array must be from 2 to 16, not 99"),
        (["--device", "abacus"], "there is no device 'abacus'"),
    ],
)
def test_what_cannot_be_tested_is_said_in_a_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", *options]) == 1
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_memories_smaller_than_every_network_are_no_failure() -> None:
    device = ReferenceDevice(Geometry(array=4, x_depth=4, w_depth=4, e_depth=4, program_depth=4))
    (training,) = (c for c in command.selftest(device, 0) if c.name == "training")
    assert training.skipped == "none fits the memories"


def test_codes_are_written_as_words() -> None:
    device = ReferenceDevice(Geometry(array=2, x_depth=8, w_depth=8, e_depth=8, program_depth=8))
    store = BankStore(device, Memory.E)
    patterns = np.array([[0xFFFF, 0x8001], [0x7FFF, 0]], np.int64)
    store.write(3, patterns)
    expected = [[-1, -0x7FFF], [0x7FFF, 0]]
    np.testing.assert_array_equal(device.read_words(Memory.E, 3, 2), expected)
    np.testing.assert_array_equal(store.read(3, 2), patterns)
