# amaranth: UnusedElaboratable=no
"""What the chip is made of: its firmware, its software step, its addresses; and what is refused."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import siligrad as sg
from siligrad import lfsr, losses, nn
from siligrad.fixed import saturate, shift_round
from siligrad.isa import AuxMode, Gate, Geometry, Rounding
from siligrad_cli import demo
from siligrad_cli.main import main
from siligrad_hdl.soc import ProcessorMissing, SystemOnChip
from siligrad_hdl.soc.memory_map import c_header
from siligrad_hdl.soc.processor import processor_verilog
from siligrad_hdl.soc.ram import Ram
from siligrad_sim.soc.firmware import build_firmware
from siligrad_sim.soc.network import Lesson, LessonError, network_files
from siligrad_sim.soc.training import read_console
from siligrad_sim.toolchain import ToolMissing, find_compiler

SOURCES = Path(__file__).parents[2] / "firmware" / "soc"
LEVELS = np.arange(17) / 16
LIMIT = (1 << 15) - 1


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return make_lesson()


def make_lesson(**target: Any) -> Lesson:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (8, 6)).astype(np.uint8)
    labels = rng.integers(0, 3, 8).astype(np.uint8)
    x, y = LEVELS[images[:4]], losses.one_vs_rest(labels[:4], 3)
    program = sg.compile(
        demo.step,
        nn.perceptron(rng, [6, 4, 3]),
        x,
        y,
        target=sg.Target(array=2, **target),
        donate=0,
    )
    return Lesson(program, images, labels, LEVELS, steps=2)


# Generated files


def test_the_committed_addresses_are_those_of_the_chip() -> None:
    # Written by: python -m siligrad_hdl.soc
    assert (SOURCES / "memory_map.h").read_text(encoding="utf-8") == c_header()


def test_the_tables_hold_the_codes_of_the_data(lesson: Lesson) -> None:
    files = network_files(lesson)
    assert files["images.bin"] == bytes(lesson.images.ravel().tolist())
    assert files["labels.bin"] == bytes(lesson.labels.tolist())
    assert files["network.sgp"] == lesson.program.to_bytes()
    frac = lesson.inputs.format.frac
    codes = ", ".join(str(round(level * 2**frac)) for level in LEVELS)
    assert f"network_input_codes[] = {{{codes}}};" in files["network.c"].decode()
    one = 2**lesson.targets.format.frac
    assert f"network_target_codes[] = {{{-one}, {one}}};" in files["network.c"].decode()
    assert "#define NETWORK_STEPS 2u\n" in files["network_sizes.h"].decode()


def test_batches_are_handed_out_in_order_and_again(lesson: Lesson) -> None:
    x, y = lesson.batch(3)  # the second of two
    np.testing.assert_array_equal(x, lesson.images[4:] / 16)
    np.testing.assert_array_equal(y.argmax(axis=1), lesson.labels[4:])
    assert (np.abs(y) == 1).all()


def test_numbers_are_read_from_lines() -> None:
    text = ["siligrad system on chip", "step 10", "step 20", "weights crc 0000001f", "end ok"]
    assert read_console(text) == {"step": 20, "weights crc": 31}


# The software step, compiled for this machine, against the library's arithmetic


class View(ctypes.Structure):
    _fields_ = (("codes", ctypes.c_void_p), ("row", ctypes.c_int16), ("column", ctypes.c_int16))


class Segment(ctypes.Structure):
    _fields_ = (
        ("a", View),
        ("b", View),
        ("k", ctypes.c_uint16),
        ("ones", ctypes.c_uint8),
        ("ones_shift", ctypes.c_uint8),
    )


class Product(ctypes.Structure):
    _fields_ = (
        ("segments", ctypes.POINTER(Segment)),
        ("d", View),
        ("aux", View),
        ("rows", ctypes.c_uint16),
        ("columns", ctypes.c_uint16),
        ("segment_count", ctypes.c_uint8),
        ("shift", ctypes.c_uint8),
        ("rounding", ctypes.c_uint8),
        ("aux_mode", ctypes.c_uint8),
        ("gate", ctypes.c_uint8),
        ("negate", ctypes.c_uint8),
    )


@pytest.fixture(scope="module")
def multiply(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    library = tmp_path_factory.mktemp("software") / "software.so"
    flags = ["-x", "c", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-fPIC"]
    source = SOURCES / "software.c"
    command = [*find_compiler().command, *flags, str(source), "-shared", "-o", str(library)]
    subprocess.run(command, check=True)
    function: Callable[..., None] = ctypes.CDLL(str(library)).software_multiply
    return function


def view(matrix: np.ndarray[Any, np.dtype[np.int16]], *, transposed: bool) -> View:
    """Describe a matrix, or what is its transpose in memory."""
    columns = matrix.shape[1]
    return View(matrix.ctypes.data, *((1, columns) if transposed else (columns, 1)))


@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    ks=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    lanes=st.integers(2, 4),
    shift=st.integers(0, 24),
    rounding=st.sampled_from(Rounding),
    aux_mode=st.sampled_from(AuxMode),
    gate=st.sampled_from(Gate),
    negate=st.booleans(),
    transposed=st.tuples(*[st.booleans()] * 4),
    ones=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_software_step_is_the_specifications(
    multiply: Callable[..., None],
    rows: int,
    columns: int,
    ks: list[int],
    lanes: int,
    shift: int,
    rounding: Rounding,
    aux_mode: AuxMode,
    gate: Gate,
    negate: bool,
    transposed: tuple[bool, bool, bool, bool],
    ones: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)

    def matrix(m: int, n: int, turned: bool) -> Any:
        shape = (n, m) if turned else (m, n)
        scale = rng.choice([3, 200, LIMIT])  # small ones come half-way between two codes
        return rng.integers(-scale, scale + 1, shape).astype(np.int16)

    total = np.zeros((rows, columns), np.int64)
    segments, kept = [], []
    for number, k in enumerate(ks):
        a, b = matrix(rows, k, transposed[0]), matrix(k, columns, transposed[1])
        kept += [a, b]
        is_ones = ones and number == len(ks) - 1
        left = (a.T if transposed[0] else a).astype(np.int64)
        right = (b.T if transposed[1] else b).astype(np.int64)
        if is_ones:
            left = np.full((rows, k), 1 << 5)
        total += left @ right
        a_view = View(None, 0, 0) if is_ones else view(a, transposed=transposed[0])
        segments.append(Segment(a_view, view(b, transposed=transposed[1]), k, is_ones, 5))
    aux, d = matrix(rows, columns, transposed[2]), matrix(rows, columns, transposed[3])
    aux_codes = (aux.T if transposed[2] else aux).astype(np.int64)

    # Draws: tile by tile, rows from the bottom of a tile to its top, a lane a column.
    m_tiles, p_tiles = -(-rows // lanes), -(-columns // lanes)
    states = lfsr.seed_lanes(seed, lanes)
    after = states
    draws = np.zeros((m_tiles * lanes, p_tiles * lanes), np.uint16)
    if rounding == Rounding.STOCHASTIC:
        drawn, after = lfsr.draw(states, m_tiles * p_tiles * lanes)
        tiles = drawn.reshape(m_tiles, p_tiles, lanes, lanes)[:, :, ::-1, :]
        draws = tiles.transpose(0, 2, 1, 3).reshape(draws.shape)
    value = -total if negate else total
    value = value + {AuxMode.NONE: 0, AuxMode.ADD: 1, AuxMode.SUBTRACT: -1}[aux_mode] * (
        aux_codes << shift
    )
    code = saturate(shift_round(value, shift, rounding, draws[:rows, :columns]), 16)
    expected = {
        Gate.NONE: code,
        Gate.RELU: np.maximum(code, 0),
        Gate.MASK: np.where(aux_codes > 0, code, 0),
        Gate.HINGE: np.where(aux_codes > 0, np.minimum(code, 0), np.maximum(code, 0)),
    }[gate]

    table = (Segment * len(segments))(*segments)
    product = Product(
        table,
        view(d, transposed=transposed[3]),
        view(aux, transposed=transposed[2]),
        rows,
        columns,
        len(segments),
        shift,
        rounding,
        aux_mode,
        gate,
        negate,
    )
    words = (ctypes.c_uint32 * lanes)(*states)
    multiply(ctypes.byref(product), words, ctypes.c_uint(lanes), ctypes.c_int32(LIMIT))
    np.testing.assert_array_equal(d.T if transposed[3] else d, expected)
    assert tuple(words) == after
    assert kept


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1, "software_steps": 2}, "at least the 2 in software, not 1"),
        ({"images": np.zeros((7, 6), np.uint8)}, r"whole batches of 4 rows of 6 bytes"),
        ({"images": np.zeros((8, 5), np.uint8)}, r"not of shape \(8, 5\)"),
        ({"labels": np.zeros(7, np.uint8)}, "labels must be 8 bytes below 3"),
        ({"labels": np.full(8, 3, np.uint8)}, "labels must be 8 bytes below 3"),
        ({"images": np.full((8, 6), 17, np.uint8)}, "images hold the byte 17; 17 have a value"),
    ],
)
def test_a_lesson_that_does_not_fit_is_refused(
    lesson: Lesson, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LessonError, match=message):
        replace(lesson, **changes)


def compiled(function: Callable[..., Any], *arguments: Any, **options: Any) -> sg.Program:
    return sg.compile(function, *arguments, target=sg.Target(array=2), **options)


def test_a_program_that_is_no_step_is_refused(lesson: Lesson) -> None:
    rng = np.random.default_rng(0)
    params, x = nn.perceptron(rng, [6, 4, 3]), rng.random((4, 6))
    predict = compiled(demo.predict, params, x, resident=0)
    with pytest.raises(LessonError, match="must take two arrays a run, inputs and targets, not x"):
        replace(lesson, program=predict)
    y = np.ones((4, 3))
    many = compiled(demo.step, params, x, y, donate=0, steps=2)
    with pytest.raises(LessonError, match="takes 2 steps a run"):
        replace(lesson, program=many)


def test_targets_without_a_sign_are_refused(lesson: Lesson) -> None:
    def step(params: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            return sg.numpy.mean(sg.numpy.sum((demo.predict(params, x) - y) ** 2, axis=1))

        slopes = sg.grad(loss)(params)
        return [
            (W - 2**-4 * dW, b - 2**-4 * db)
            for (W, b), (dW, db) in zip(params, slopes, strict=True)
        ]

    rng = np.random.default_rng(0)
    params, x, y = nn.perceptron(rng, [6, 4, 3]), rng.random((4, 6)), rng.random((4, 3))
    with pytest.raises(LessonError, match=r"batch of 4 targets of \+1 and -1"):
        replace(lesson, program=compiled(step, params, x, y, donate=0))


def test_narrow_operands_train_on_the_accelerator_alone() -> None:
    lesson = make_lesson(operand_bits=8)
    assert "network_products" not in network_files(lesson)["network.c"].decode()
    with pytest.raises(LessonError, match=r"operands of 8 bits over words of 16 .* to 0"):
        network_files(replace(lesson, software_steps=1))


def test_a_firmware_that_is_too_large_is_refused(
    lesson: Lesson, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LessonError, match=r"needs \d+ bytes of RAM, \d+ .* and the RAM has 8192"):
        build_firmware(lesson, ram_bytes=8192)
    assert build_firmware(lesson, ram_bytes=1 << 15).symbols["stack_top"] == 1 << 15
    assert main(["soc", "--array", "2", "--batches", "200"]) == 1
    error = capsys.readouterr().err
    assert error.endswith("and the RAM has 65536: take fewer --batches, or a larger --ram\n")
    assert error.count("\n") == 1


def test_a_missing_compiler_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt install gcc-riscv64-unknown-elf"):
        build_firmware(make_lesson())
    assert main(["soc", "--array", "2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("siligrad: a C compiler for RISC-V is missing")
    assert error.count("\n") == 1


def test_too_many_batches_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soc", "--batches", "239"]) == 1
    assert capsys.readouterr().err == (
        "siligrad: 239 batches of 16 images are more than the 3823 of the data set\n"
    )


def test_a_missing_processor_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(package: str) -> Path:
        raise ModuleNotFoundError(name=package)

    monkeypatch.setattr(resources, "files", missing)
    with pytest.raises(ProcessorMissing, match=r"pip install 'siligrad\[soc\]'"):
        processor_verilog()
    (tmp_path / "verilog").mkdir()
    (tmp_path / "verilog" / "picorv32.v").write_text("// x\nmodule picorv32 (\nendmodule\n")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(ProcessorMissing, match="has no module picorv32_pcpi_mul"):
        processor_verilog()


def test_sizes_that_a_chip_cannot_have_are_refused() -> None:
    for size in (512, 3000, 8 << 20):
        with pytest.raises(ValueError, match="ram_bytes must be a power of two from 1024"):
            SystemOnChip(Geometry(), bit_cycles=4, ram_bytes=size)
    with pytest.raises(ValueError, match="words of a RAM must be a power of two, not 3"):
        Ram(words=3)
    with pytest.raises(ValueError, match="init has 3 words, the RAM has 2"):
        Ram(words=2, init=[1, 2, 3])
