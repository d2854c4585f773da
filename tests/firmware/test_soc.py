"""The system on chip: it boots, it trains by itself, and what goes wrong is said."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siligrad as sg
from siligrad import losses, nn
from siligrad.device import DeviceError
from siligrad.host import HostDevice
from siligrad.isa import Geometry, Memory
from siligrad.registers import IDENTIFICATION, Register
from siligrad_cli import demo, soc
from siligrad_cli.main import main
from siligrad_sim.icarus import IcarusDevice
from siligrad_sim.soc import firmware, training
from siligrad_sim.soc.firmware import Firmware, build_firmware
from siligrad_sim.soc.network import Lesson, network_files
from siligrad_sim.soc.simulation import ChipOnBench, SimulatedChip, bench_verilog
from siligrad_sim.soc.training import Outcome, watch

# One process builds the chip for all.
FIRMWARE = Path(__file__).parents[2] / "firmware" / "soc"
LEVELS = np.arange(17) / 16


# A chip that can do both what the demo does and something small.


@pytest.fixture(scope="module")
def digits() -> Lesson:
    return soc.digits_lesson(array=2, steps=1, software_steps=0, batches=1, hidden=32, seed=0)


@pytest.fixture(scope="module")
def chip(digits: Lesson) -> Iterator[SimulatedChip]:
    with SimulatedChip(digits.program.geometry) as chip:
        yield chip


def small_lesson(geometry: Geometry, **changes: Any) -> Lesson:
    """Return a 7-5-3 perceptron on random images, in batches of four: sizes that no tile has."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 17, (12, 7)).astype(np.uint8)
    labels = rng.integers(0, 3, 12).astype(np.uint8)
    params, targets = nn.perceptron(rng, [7, 5, 3]), losses.one_vs_rest(labels, 3)
    examples = [(params, LEVELS[images[i : i + 4]], targets[i : i + 4]) for i in (0, 4, 8)]
    target = sg.Target(
        array=geometry.array,
        operand_bits=geometry.operand_bits,
        x_depth=geometry.x_depth,
        w_depth=geometry.w_depth,
        e_depth=geometry.e_depth,
        program_depth=geometry.program_depth,
    )
    program = sg.compile(demo.step, *examples[0], target=target, donate=0, calibration=examples[1:])
    lesson = Lesson(program, images, labels, LEVELS, steps=4, software_steps=0, seed=5)
    return replace(lesson, **changes)


def teach(chip: SimulatedChip, lesson: Lesson, words: Sequence[int] = ()) -> Outcome:
    """Let a chip train with the lesson's firmware, or with these words instead of it."""
    built = build_firmware(lesson)
    for memory in Memory:  # nothing of an earlier test may look like something of this one
        empty = np.zeros((chip.geometry.depth(memory), chip.geometry.array), np.int32)
        chip.write_words(memory, 0, empty)
    chip.load_ram(words or built.words)
    return watch(chip, lesson, built, lambda line: None)


def patched(built: Firmware, address: int, old: bytes, new: bytes) -> list[int]:
    """Return the words of a firmware in which `new` is in the place of `old`."""
    blob = bytearray(np.array(built.words, "<u4").tobytes())
    assert blob[address : address + len(old)] == old
    blob[address : address + len(new)] = new
    words: list[int] = np.frombuffer(bytes(blob), "<u4").tolist()
    return words


def test_the_demo_networks_step_on_the_chip_equals_the_reference(
    chip: SimulatedChip, digits: Lesson
) -> None:
    outcome = teach(chip, digits)
    assert outcome.differences == ()
    geometry = digits.program.geometry
    assert outcome.words_compared == 2 * (geometry.x_depth + geometry.w_depth + geometry.e_depth)
    assert outcome.said["of them busy"] == digits.program.cycles
    assert outcome.text[-1] == "end ok"


def test_steps_in_software_and_on_the_accelerator_are_the_same(chip: SimulatedChip) -> None:
    lesson = small_lesson(chip.geometry, steps=3, software_steps=3)
    before = chip.elapsed
    outcome = teach(chip, lesson)
    assert outcome.differences == ()
    assert outcome.said["different words"] == 0
    # What the chip says of time is what the simulation counts, but for loading, clearing and
    # comparing, which it cannot know of.
    assert 0 < outcome.said["cycles"] < chip.elapsed - before
    assert outcome.said["software cycles"] < outcome.said["cycles"]


def test_batches_come_again_and_the_seed_matters(chip: SimulatedChip) -> None:
    lesson = small_lesson(chip.geometry, steps=5)  # of three batches
    assert teach(chip, lesson).differences == ()
    other = watch(chip, replace(lesson, seed=6), build_firmware(lesson), lambda line: None)
    assert "words of W differ" in " ".join(other.differences)  # the chip drew from seed 5


def test_a_software_step_that_is_wrong_is_noticed_on_the_chip(
    chip: SimulatedChip, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = small_lesson(chip.geometry, steps=1, software_steps=1)
    shift = lesson.program.instructions[0].shift

    def with_a_wrong_shift(lesson: Lesson) -> dict[str, bytes]:
        files = network_files(lesson)
        tables = files["network.c"].decode()
        right = f", 2, {shift}, 0, 0, 1, 0}}"  # of the first product: half-even, no aux, relu
        assert tables.count(right) == 1
        wrong = tables.replace(right, f", 2, {shift + 1}, 0, 0, 1, 0}}")
        return files | {"network.c": wrong.encode()}

    monkeypatch.setattr(firmware, "network_files", with_a_wrong_shift)
    outcome = teach(chip, lesson)
    assert outcome.said["different words"] > 0
    assert outcome.text[-1] == "end failed"
    assert outcome.differences == ("the chip has not succeeded: its last line is 'end failed'",)


def test_a_damaged_image_is_refused_with_the_drivers_words(chip: SimulatedChip) -> None:
    lesson = small_lesson(chip.geometry)
    built = build_firmware(lesson)
    image = lesson.program.to_bytes()
    (data,) = struct.unpack_from("<I", image, 48 + 8 * 3)
    at = built.symbols["network_image"] + data
    old = image[data : data + 1]
    outcome = teach(chip, lesson, patched(built, at, old, bytes([old[0] ^ 1])))
    (line,) = (line for line in outcome.text if line.startswith("error "))
    assert line.startswith("error -10 ")  # SILIGRAD_ECRC
    assert line.removeprefix("error -10 ") in error_texts()
    assert outcome.differences[0] == line


def error_texts() -> str:
    path = FIRMWARE.parent / "src" / "siligrad_strerror.c"
    return path.read_text(encoding="utf-8").replace('"\n', "").replace('    "', "")


def test_a_wrong_weight_in_a_sound_image_is_noticed_and_named(chip: SimulatedChip) -> None:
    lesson = small_lesson(chip.geometry, steps=1)
    built = build_firmware(lesson)
    image = lesson.program.to_bytes()
    (data,) = struct.unpack_from("<I", image, 48 + 8 * 3)
    wrong = bytearray(image)
    wrong[data] ^= 1
    wrong[16:20] = bytes(4)
    wrong[16:20] = zlib.crc32(wrong).to_bytes(4, "little")
    words = patched(built, built.symbols["network_image"], image, bytes(wrong))
    outcome = teach(chip, lesson, words)
    assert outcome.text[-1] == "end ok"
    found = " ".join(outcome.differences)
    assert "words of W differ from the reference's" in found
    assert "params[0][0][0, 0]" in found
    assert "the chip says weights crc" in found


def test_a_chip_that_says_nothing_has_failed(chip: SimulatedChip, digits: Lesson) -> None:
    outcome = teach(chip, digits, [0])  # no instruction
    assert outcome.text == ()
    assert outcome.differences == (
        "the chip has not succeeded: the processor has stopped: a trap, or an access of nothing",
    )


def test_the_ram_is_out_of_reach_while_the_processor_runs(chip: SimulatedChip) -> None:
    chip.load_ram([0x0000006F])  # a loop
    chip.release()
    with pytest.raises(DeviceError, match="must be held to reach its RAM"):
        chip.load_ram([0])
    with pytest.raises(DeviceError, match="must be held to reach its RAM"):
        chip.read_ram(0, 1)
    chip.hold()
    assert chip.read_ram(0, 1).tolist() == [0x6F]
    with pytest.raises(DeviceError, match="262148 bytes do not fit the RAM of 65536"):
        chip.load_ram([0] * 65537)


# The command


def test_the_command_reports_what_the_chip_does(
    digits: Lesson, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--array", "2", "--steps", "1", "--software-steps", "0", "--batches", "1"]
    assert main(["soc", *options, "--processor", "rv32i", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    processor = report["processors"]["rv32i"]
    assert processor["busy_cycles"] == digits.program.cycles
    assert processor["accelerator_cycles"] > processor["busy_cycles"]
    assert processor["software_cycles"] is None
    assert processor["differences"] == []
    assert 0 < processor["code_bytes"] < processor["ram_bytes"] < 1 << 16
    assert report["words_compared"] > 0
    assert 0 <= report["test_accuracy"] <= 1


def test_the_command_fails_where_something_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = training.reference_of
    monkeypatch.setattr(
        training, "reference_of", lambda lesson: exact(replace(lesson, seed=lesson.seed + 1))
    )
    options = ["--array", "2", "--steps", "1", "--software-steps", "0", "--batches", "1"]
    assert main(["soc", *options, "--processor", "rv32i"]) == 1
    done = capsys.readouterr()
    assert "  | end ok" in done.out
    assert "differences" in done.out
    assert "siligrad: rv32i: " in done.err
    assert "words of W differ" in done.err


# Boots from what its RAM begins with, on a simulator that knows of undefined values


class IcarusChip(ChipOnBench, IcarusDevice):
    """The chip in Icarus, all of whose words go through its ports."""

    write_words = HostDevice.write_words
    read_words = HostDevice.read_words

    def __init__(self, *, firmware: Sequence[int]) -> None:
        tiny = Geometry(array=2, x_depth=16, w_depth=16, e_depth=16, program_depth=16)
        self.ram_bytes = 1024
        verilog = bench_verilog(tiny, ram_bytes=self.ram_bytes, firmware=firmware)
        super().__init__(tiny, verilog=verilog)

    def _banks(self) -> str:
        return "default: word = 0;\n"


# A few instructions of rv32i: registers t0 and t1 are x5 and x6.
LOOP = 0x0000006F


def load_upper(value: int) -> int:
    """lui t0, value"""
    return value << 12 | 5 << 7 | 0x37


def load_number(value: int) -> int:
    """li t1, value"""
    return value << 20 | 6 << 7 | 0x13


STORE_WORD = 0x0062A023  # sw t1, 0(t0)
STORE_BYTE = 0x00628023  # sb t1, 0(t0)
LOAD_WORD = 0x0002A303  # lw t1, 0(t0)
LOAD_HALF_OFF = 0x00129303  # lh t1, 1(t0)
CONSOLE, TIMER, ACCELERATOR = 0x40000, 0x50000, 0x80000


def saying(text: str) -> list[int]:
    words = [load_upper(CONSOLE)]
    for character in text:
        words += [load_number(ord(character)), STORE_WORD]
    return words


@pytest.fixture(scope="module")
def icarus_chip() -> Iterator[IcarusChip]:
    with IcarusChip(firmware=[*saying("up"), LOOP]) as chip:
        yield chip


@pytest.fixture
def bare_chip(icarus_chip: IcarusChip) -> IcarusChip:
    icarus_chip.hold()
    return icarus_chip


def test_the_chip_begins_with_what_its_ram_is_given(bare_chip: IcarusChip) -> None:
    bare_chip.release()
    assert bare_chip.listen(2000) + bare_chip.listen(2000) == b"up"
    assert bare_chip.listen(200) == b""
    assert not bare_chip.stopped
    bare_chip.hold()
    expected = [*saying("up"), LOOP]
    assert bare_chip.read_ram(0, len(expected)).tolist() == expected
    assert bare_chip.read_ram(4 * len(expected), 1).tolist() == [0]


@pytest.mark.parametrize(
    ("what", "instructions"),
    [
        ("an instruction that there is not", [0]),
        ("a break", [0x00100073]),
        ("a half that is misaligned", [LOAD_HALF_OFF]),
        ("a load behind the RAM", [load_upper(1), LOAD_WORD]),
        ("a store behind the RAM", [load_upper(1), STORE_WORD]),
        ("a load where nothing is", [load_upper(0x60000), LOAD_WORD]),
        ("a load of the console", [load_upper(CONSOLE), LOAD_WORD]),
        ("a byte to the console", [load_upper(CONSOLE), STORE_BYTE]),
        ("a store to the timer", [load_upper(TIMER), STORE_WORD]),
        ("behind the timer", [load_upper(TIMER), 0x0082A303]),  # lw t1, 8(t0)
        ("a byte to the accelerator", [load_upper(ACCELERATOR), STORE_BYTE]),
        ("behind the accelerator", [load_upper(0x82000), LOAD_WORD]),
    ],
)
def test_what_is_wrong_stops_the_processor(
    bare_chip: IcarusChip, what: str, instructions: list[int]
) -> None:
    bare_chip.load_ram([*saying("a"), *instructions, *saying("b"), LOOP])
    bare_chip.release()
    assert bare_chip.listen(2000) == b"a", what
    assert bare_chip.listen(500) == b"", what
    assert bare_chip.stopped, what
    bare_chip.hold()
    bare_chip.load_ram([LOOP])
    bare_chip.release()
    assert bare_chip.listen(500) == b""
    assert not bare_chip.stopped  # a reset is all that it needs


def test_what_is_right_does_not_stop_it(bare_chip: IcarusChip) -> None:
    good = [load_upper(TIMER), LOAD_WORD, load_upper(ACCELERATOR), LOAD_WORD, STORE_WORD]
    bare_chip.load_ram([*saying("a"), *good, *saying("b"), LOOP])
    bare_chip.release()
    assert bare_chip.listen(2000) + bare_chip.listen(2000) == b"ab"
    assert not bare_chip.stopped
    bare_chip.hold()


def test_the_timer_counts_cycles_and_keeps_its_upper_word(bare_chip: IcarusChip) -> None:
    # Twice the time, and the upper word, into the RAM at 0x200.
    words = [
        load_upper(TIMER),
        0x0002A303,  # lw t1, 0(t0)
        0x20602023,  # sw t1, 0x200(zero)
        0x0002A303,
        0x20602223,  # sw t1, 0x204(zero)
        0x0042A303,  # lw t1, 4(t0)
        0x20602423,  # sw t1, 0x208(zero)
        LOOP,
    ]
    bare_chip.load_ram(words)
    before = bare_chip.elapsed
    bare_chip.release()
    bare_chip.listen(300)
    bare_chip.hold()
    first, second, high = bare_chip.read_ram(0x200, 3).tolist()
    assert 0 < first < second < bare_chip.elapsed - before
    # lw takes five cycles of the processor and two more of the timer, sw five: 2 + 5 + 5, give or
    # take one for what is fetched ahead.
    assert 11 <= second - first <= 13
    assert high == 0


def test_words_of_the_ram_are_written_byte_by_byte(bare_chip: IcarusChip) -> None:
    words = [
        load_number(0x7F),
        0x206000A3 | 0,  # sb t1, 0x201(zero)
        0x20601323,  # sh t1, 0x206(zero)
        LOOP,
    ]
    bare_chip.load_ram([*words, *[0] * (0x200 // 4 - len(words)), 0x11223344, 0x55667788])
    bare_chip.release()
    bare_chip.listen(300)
    bare_chip.hold()
    assert [hex(word) for word in bare_chip.read_ram(0x200, 2)] == ["0x11227f44", "0x7f7788"]


def test_a_processor_that_is_held_amid_an_access_disturbs_nobody(bare_chip: IcarusChip) -> None:
    # It reads and writes words of X, in a loop.
    back = 0xFF9FF06F  # j, 8 bytes back
    bare_chip.load_ram([load_upper(0x81000), LOAD_WORD, STORE_WORD, back])
    for cycles in range(60, 100):
        bare_chip.release()
        bare_chip.listen(cycles)
        bare_chip.hold()
        assert bare_chip.read_register(Register.IDENTIFICATION) == IDENTIFICATION, cycles
        bare_chip.write_register(Register.STEPS, cycles)
        assert bare_chip.read_register(Register.STEPS) == cycles
