"""Training on a board whose host is killed, whose cable is pulled, and which is reset.

What the user types is `siligrad run IMAGE --device serial:PORT --state FILE`, and then the same
with `--resume FILE`. The board is the RTL behind a pseudo-terminal.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import siligrad as sg
from siligrad.device import DeviceError, device_class
from siligrad.registers import Register
from siligrad_cli.main import main
from siligrad_host import SerialDevice
from siligrad_host import serial as serial_device
from siligrad_sim.board import SimulatedBoard
from tests.firmware.driver_programs import small_program

pytestmark = pytest.mark.xdist_group("board")

STEPS = 24
FEW = 8
KILLS = 10


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of test_board.py, so that the board is built once."""
    path = tmp_path_factory.mktemp("image") / "net.sgp"
    small_program(array=2)[0].save(path)
    return path


@pytest.fixture(scope="module")
def uninterrupted(image: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """What stays in the device after some steps on the reference, which nothing disturbs."""
    output = tmp_path_factory.mktemp("reference") / "out.npz"
    results = {}
    for steps in (STEPS, FEW, STEPS - 1, FEW - 1):
        assert main(["run", str(image), "--steps", str(steps), "--output", str(output)]) == 0
        results[steps] = output.read_bytes()
    assert len(set(results.values())) == 4  # so a step too few would be noticed
    return results


@pytest.fixture(scope="module")
def board(image: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(sg.Program.load(image).geometry) as board:
        yield board


class Host:
    """Runs of `siligrad run` on a board, each in a process of its own."""

    def __init__(self, image: Path, board: SimulatedBoard, folder: Path, steps: int) -> None:
        self.steps = steps
        self.state, self.output = folder / "state.npz", folder / "out.npz"
        self.command = [sys.executable, "-m", "siligrad_cli.main", "run", str(image)]
        self.command += ["--device", f"serial:{board.port}", "--no-compare", "--save-every", "1"]
        self.command += ["--output", str(self.output)]

    def start(self) -> subprocess.Popen[str]:
        if self.state.exists():
            options = ["--resume", str(self.state)]
        else:
            options = ["--steps", str(self.steps), "--state", str(self.state)]
        return subprocess.Popen(
            [*self.command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for_states(self, process: subprocess.Popen[str], count: int) -> None:
        """Return when so many states have been saved since this was called."""
        deadline = time.monotonic() + 300
        seen = self._written()
        while count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
            if (now := self._written()) != seen:
                seen, count = now, count - 1

    def _written(self) -> int:
        return self.state.stat().st_mtime_ns if self.state.exists() else 0

    def finish(self) -> str:
        """Let it run to its end, and return what it said."""
        out, err = (process := self.start()).communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
        return out


def test_a_host_that_is_killed_ten_times_ends_with_the_same_bits(
    image: Path, board: SimulatedBoard, uninterrupted: dict[int, bytes], tmp_path: Path
) -> None:
    host = Host(image, board, tmp_path, STEPS)
    moment = random.Random(1)
    for _ in range(KILLS):
        process = host.start()
        host.wait_for_states(process, 1)
        time.sleep(moment.uniform(0, 0.05))  # anywhere in a step, or in what is saved after it
        process.kill()
        process.communicate()
        assert not host.output.exists()
    assert "resumed   after" in host.finish()
    assert host.output.read_bytes() == uninterrupted[STEPS]


@pytest.mark.parametrize(
    ("accident", "mend", "said"),
    [
        (SimulatedBoard.unplug, SimulatedBoard.plug, "is gone"),
        (SimulatedBoard.reset, None, "the board has been reset, or another host has taken it"),
    ],
)
def test_an_accident_is_one_line_and_loses_nothing_that_was_saved(
    accident: Callable[[SimulatedBoard], None],
    mend: Callable[[SimulatedBoard], None] | None,
    said: str,
    image: Path,
    board: SimulatedBoard,
    uninterrupted: dict[int, bytes],
    tmp_path: Path,
) -> None:
    host = Host(image, board, tmp_path, FEW)
    process = host.start()
    host.wait_for_states(process, 2)
    accident(board)
    _, message = process.communicate(timeout=300)
    assert process.returncode == 1
    assert message.count("\n") == 1
    assert message.startswith("siligrad: ")
    assert said in message
    assert f"of {FEW} steps are saved, and this goes on with them" in message
    assert message.endswith(f"--resume {host.state}\n")
    if mend is not None:
        process = host.start()
        _, message = process.communicate(timeout=300)
        assert process.returncode == 1
        assert message.startswith(f"siligrad: device serial:{board.port} cannot be opened: ")
        assert message.count("\n") == 1
        mend(board)
    out = host.finish()
    assert host.output.read_bytes() == uninterrupted[FEW]
    assert "link      " in out


def opened(board: SimulatedBoard, image: Path) -> SerialDevice:
    device = device_class(f"serial:{board.port}")(sg.Program.load(image).geometry)
    assert isinstance(device, SerialDevice)
    return device


def leave_running(board: SimulatedBoard, image: Path, steps: int) -> None:
    """Start a run and vanish, like a host that is killed."""
    program = sg.Program.load(image)
    with opened(board, image) as device:
        device.load(program)
        device.write_register(Register.STEPS, steps)
        device.write_register(Register.LIMIT, 0)
        device.write_register(Register.CONTROL, 1)


def test_a_board_that_is_still_running_is_waited_for(board: SimulatedBoard, image: Path) -> None:
    leave_running(board, image, 2000)
    with opened(board, image) as device:
        # The run had ended when the device was open, so nothing of this was refused.
        device.write_lfsr([7, 9])
        assert device.read_lfsr() == (7, 9)
        assert device.read_cycles() > 2000 * 100


def test_a_board_that_never_ends_is_given_up(
    board: SimulatedBoard, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_running(board, image, 65535)
    with monkeypatch.context() as patched:
        patched.setattr(serial_device, "_IDLE_SECONDS", 0.05)
        with pytest.raises(
            DeviceError, match=r"is busy with a run that another host has started, for \d+ cycles"
        ):
            opened(board, image)
    board.reset()
    opened(board, image).close()
