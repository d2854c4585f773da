"""The serial link in C: the library over bad lines, and the Linux example on a board."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import siligrad as sg
from siligrad.device import Device
from siligrad_sim.board import SimulatedBoard
from siligrad_sim.reference import ReferenceDevice
from tests.firmware.c_driver import (
    FIRMWARE,
    Bus,
    Driver,
    DriverError,
)
from tests.firmware.driver_programs import expected, pieces, small_program
from tests.firmware.linked_port import BadLine, BoardThread, LinkedPort, Memory
from tests.firmware.reference_port import ReferencePort

pytestmark = pytest.mark.xdist_group("board")

SEND = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint32
)
RECEIVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint8))


class LineCallbacks(ctypes.Structure):
    """``struct siligrad_line``."""

    _fields_ = (("context", ctypes.c_void_p), ("send", SEND), ("receive", RECEIVE))


class CLink:
    """A link in C to a board in this process."""

    def __init__(
        self, library: ctypes.CDLL, hear: Callable[[bytes], bytes], *, attempts: int = 20
    ) -> None:
        self.library = library
        self.said = bytearray()
        self.sent: list[bytes] = []
        self.gone = False

        def send(_: Any, data: Any, count: int) -> int:
            if self.gone:
                return -1
            self.sent.append(bytes(data[:count]))
            self.said.extend(hear(self.sent[-1]))
            return 0

        def receive(_: Any, byte: Any) -> int:
            if not self.said:
                return 0
            byte[0] = self.said.pop(0)
            return 1

        self.line = LineCallbacks(None, SEND(send), RECEIVE(receive))
        self.memory = ctypes.create_string_buffer(library.sizeof_siligrad_link())
        self.open(attempts=attempts)

    def open(self, session: int = 1, attempts: int = 20) -> None:
        self.checked(
            self.library.siligrad_link_open(self.memory, ctypes.byref(self.line), session, attempts)
        )

    def checked(self, code: int) -> None:
        if code < 0:
            raise DriverError(code, self.library.siligrad_strerror(code).decode())

    @property
    def resent(self) -> int:
        return int.from_bytes(self.memory.raw[:4], "little")

    @property
    def dropped(self) -> int:
        return int.from_bytes(self.memory.raw[4:8], "little")

    def read(self, address: int, count: int) -> list[int]:
        words = (ctypes.c_uint32 * 64)()
        self.checked(self.library.siligrad_link_read(self.memory, address, words, count))
        return list(words[:count])

    def write(self, address: int, words: list[int]) -> None:
        values = (ctypes.c_uint32 * 64)(*words[:64])
        self.checked(self.library.siligrad_link_write(self.memory, address, values, len(words)))

    def bus(self) -> Bus:
        bus = Bus()
        self.library.siligrad_link_bus(self.memory, ctypes.byref(bus))
        return bus


@pytest.fixture(scope="module")
def library(library: ctypes.CDLL) -> ctypes.CDLL:
    library.sizeof_siligrad_link.restype = ctypes.c_size_t
    word, pointer = ctypes.c_uint32, ctypes.c_void_p
    library.siligrad_link_open.argtypes = (pointer, pointer, word, word)
    for name in ("siligrad_link_read", "siligrad_link_write"):
        getattr(library, name).argtypes = (pointer, word, pointer, word)
    library.siligrad_link_bus.argtypes = (pointer, ctypes.POINTER(Bus))
    library.siligrad_link_bus.restype = None
    return library


def test_frames_are_those_of_another_library(library: ctypes.CDLL) -> None:
    from cobs import cobs

    rng = np.random.default_rng(0)
    memory = Memory()
    link = CLink(library, LinkedPort(memory).hear)
    for count in (1, 61, 62, 63, 64):  # around 254 bytes without a zero
        for largest in (2, 1 << 32):
            words = (rng.integers(0, largest, count) | (0x01010100 if largest > 2 else 0)).tolist()
            link.write(0x01010101, words)
            frame = link.sent[-1]
            assert frame[0] == frame[-1] == 0
            assert frame[1:-1] == cobs.encode(cobs.decode(frame[1:-1]))
            assert link.read(0x01010101, count) == words
    assert (link.resent, link.dropped) == (0, 0)


def test_a_thousand_writes_over_a_bad_line_happen_once_each(library: ctypes.CDLL) -> None:
    memory, line = Memory(), BadLine(3, 0.15)
    link = CLink(library, LinkedPort(memory, line).hear)
    rng = np.random.default_rng(3)
    sent = []
    for number in range(1000):
        address, value = int(rng.integers(0, 100)), number
        link.write(address, [value])
        sent.append((address, value))
        if number % 10 == 0:
            assert link.read(address, 1) == [value]
    assert memory.written == sent
    assert link.resent > 100
    assert line.damaged > 200


def test_what_comes_is_only_the_reply_if_it_is_whole(library: ctypes.CDLL) -> None:
    memory = Memory()
    board = LinkedPort(memory)
    noise = random_bytes(5, 300)
    link = CLink(library, lambda data: noise + b"\0" + data + board.hear(data) + noise)
    link.write(7, [1, 2, 3])
    assert link.read(7, 3) == [1, 2, 3]
    assert memory.written == [(7, 1), (8, 2), (9, 3)]
    assert link.dropped > 0


def random_bytes(seed: int, count: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).tobytes()


def test_the_driver_gathers_words_and_trains_over_a_bad_line(library: ctypes.CDLL) -> None:
    program, data = small_program()
    want = expected(program, data, runs=2)
    port = ReferencePort(program.geometry)
    board = LinkedPort(port, BadLine(1, 0.15))
    link = CLink(library, board.hear)
    driver = Driver(library, link.bus())
    driver.load(pieces(program.to_bytes(), 0))
    loaded = len(board.executed)
    driver.call("siligrad_seed", 0)
    for _ in range(2):
        for name, codes in want.codes.items():
            driver.write(name, codes[0])
        driver.run()
    for memory, words in want.words.items():
        np.testing.assert_array_equal(port.words[memory], words)
    index = program.tensors[0]
    before = len(port.accesses)
    driver.read(index.name)
    assert loaded < 40  # frames, of hundreds of words
    assert len(port.accesses) - before >= index.rows * index.columns
    assert link.resent > 0


ERRORS: dict[str, tuple[int, str]] = {
    "SILIGRAD_ENOANSWER": (-25, "check cable, port and rate"),
    "SILIGRAD_ESESSION": (-26, "connect again, load the image"),
    "SILIGRAD_ENUMBER": (-27, "connect again"),
    "SILIGRAD_EPROTOCOL": (-28, "from the same release"),
    "SILIGRAD_EIO": (-1, "check the bus or the line"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_of_the_link_is_reported(library: ctypes.CDLL, name: str) -> None:
    memory = Memory()
    board = LinkedPort(memory)
    link = CLink(library, board.hear, attempts=3)
    link.write(1, [1])
    count = len(link.sent)
    if name == "SILIGRAD_ENOANSWER":
        board.line = lambda _frame: []
    elif name == "SILIGRAD_ESESSION":
        board.session = 0  # a reset
    elif name == "SILIGRAD_ENUMBER":
        board.number += 5
    elif name == "SILIGRAD_EPROTOCOL":
        board.status = 131
    else:
        link.gone = True
    code, text = ERRORS[name]
    with pytest.raises(DriverError, match=text) as caught:
        link.write(2, [2])
    assert caught.value.code == code
    assert len(link.sent) - count == {"SILIGRAD_ENOANSWER": 3, "SILIGRAD_EIO": 0}.get(name, 1)


# The example


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the example as docs/firmware.md says, with more warnings."""
    folder = tmp_path_factory.mktemp("example")
    text = (FIRMWARE.parent / "docs" / "firmware.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\n(cc .*)\n```$", text, re.M)
    assert "-o board " in command
    (folder / "firmware").symlink_to(FIRMWARE)
    options = "-Wall -Wextra -Wpedantic -Werror"
    subprocess.run(["sh", "-c", f"{command} {options}"], cwd=folder, check=True)
    return folder / "board"


def trained(program: sg.Program, data: tuple[Any, ...], runs: int, seed: int) -> Device:
    device = ReferenceDevice(program.geometry)
    device.load(program, seed=seed)
    for _ in range(runs):
        device.run(*data)
    return device


def run_example(
    example: Path, port: str, program: sg.Program, data: tuple[Any, ...], folder: Path, *more: str
) -> list[Any]:
    program.save(folder / "step.sgp")
    command = [str(example), port, str(folder / "step.sgp"), *more]
    for name, values in zip(("x", "y"), data, strict=True):
        np.savetxt(folder / name, np.asarray(values).reshape(-1, values.shape[-1]), "%.17g")
        command += ["--write", f"{name}={folder / name}"]
    for index in range(4):
        name = program.tensors[index].name
        command += ["--read", f"{name}={folder / str(index)}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{program.cycles} cycles each" in done.stdout
    return [np.loadtxt(folder / str(index), ndmin=2) for index in range(4)]


def compare(device: Device, got: list[Any]) -> None:
    (params,) = device.read()
    leaves = [np.atleast_2d(leaf) for layer in params for leaf in layer]
    for leaf, values in zip(leaves, got, strict=True):
        np.testing.assert_array_equal(values, leaf)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_example_trains_a_board_on_a_bad_line(
    example: Path, tmp_path: Path, steps: int
) -> None:
    program, data = small_program(steps=steps)
    board = LinkedPort(ReferencePort(program.geometry), BadLine(2, 0.02))
    with BoardThread(board) as thread:
        got = run_example(
            example, thread.port, program, data, tmp_path, "--runs", "3", "--seed", "5"
        )
    compare(trained(program, data, 3, 5), got)


def test_the_example_trains_the_hardware(example: Path, tmp_path: Path) -> None:
    program, data = small_program(array=2)
    with SimulatedBoard(program.geometry) as board:
        got = run_example(example, board.port, program, data, tmp_path, "--runs", "2")
    compare(trained(program, data, 2, 0), got)


def test_errors_of_the_example_are_one_line(example: Path, tmp_path: Path) -> None:
    program, _ = small_program()
    path = tmp_path / "step.sgp"
    program.save(path)
    damaged = tmp_path / "damaged.sgp"
    damaged.write_bytes(path.read_bytes()[:-1] + b"x")
    few = tmp_path / "few.txt"
    few.write_text("0.1, 0.2 0.3\n")
    large = tmp_path / "large.txt"
    large.write_text("1e9 " * 20)
    with BoardThread(LinkedPort(ReferencePort(program.geometry))) as thread:
        port = thread.port
        for arguments, message in (
            (["/dev/nothing", path], "/dev/nothing cannot be opened"),
            ([port, tmp_path / "none"], "none cannot be opened"),
            ([port, damaged], "damaged.sgp: the image is damaged"),
            ([port, path, "--write", "z=z.txt"], "z: no tensor has this name"),
            ([port, path, "--write", f"x={few}"], "few.txt: there is no number 4; x takes 20"),
            ([port, path, "--write", f"x={large}"], "number 1 is 1e.09, but the program was"),
            ([port, path, "--fast"], "--fast needs something behind it"),
            ([port, path, "--baud", "7"], "7 baud is no usual rate"),
        ):
            done = subprocess.run(
                [str(example), *map(str, arguments)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 1
            assert re.fullmatch(rf"board: .*{message}.*\n", done.stderr), done.stderr
