"""The device "icarus": the hardware's Verilog in Icarus Verilog, the simulator that distrusts.

It is slow, and the only one here that knows of undefined values: a word that is read and was never
given a value is an error. A model is made in a second, for every geometry anew.
"""

from __future__ import annotations

import subprocess
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry, Memory
from siligrad_sim.build_cache import cached_build
from siligrad_sim.compiled import HARNESS, run_tool
from siligrad_sim.netlist import accelerator_verilog, missing_for_verilog
from siligrad_sim.rtl import RtlDevice
from siligrad_sim.toolchain import ToolMissing, find_icarus, first_line

__all__ = ["IcarusDevice"]

_WAIT_CYCLES = 1 << 12
"""Cycles simulated with one command, after which Python may notice that the simulator died."""

_PATIENCE = 5.0
"""Seconds that a simulator gets to end by itself before it is killed."""


class IcarusDevice(RtlDevice):
    """The accelerator in Icarus Verilog, in a process of its own, behind ``harness/icarus.v``.

    As in the device "pysim", words of X, W and E are read from and written to the simulated
    memories while no program runs; everything else goes through the host port.

    Opening it compiles the Verilog unless that was done before. The first :meth:`trace` and every
    later one begin a new process, since Icarus writes one file of waveforms in each, and move to it
    what the memories and registers hold.

    Parameters
    ----------
    geometry
        What to simulate.
    verilog
        Verilog to simulate instead of what the hardware description gives for `geometry`: a module
        ``siligrad`` with the same ports, and banks of the same names. Tests hand in broken ones.

    Raises
    ------
    DeviceUnavailable
        If a tool is missing.
    DeviceError
        If the Verilog cannot be compiled, or does not identify itself as of this geometry.
    """

    name = "icarus"

    def __init__(self, geometry: Geometry, *, verilog: str | None = None) -> None:
        super().__init__(geometry)
        if (reason := self.available()) is not None:
            raise DeviceUnavailable(f"device {self.name}: {reason}")
        self._verilog = accelerator_verilog(geometry) if verilog is None else verilog
        self._elapsed_before = 0  # in the processes that this one has replaced
        self._open(None)
        self.identify()

    @classmethod
    def available(cls) -> str | None:
        """Return None if the device can be opened here, else what is missing and what to type."""
        if (reason := missing_for_verilog()) is not None:
            return reason
        try:
            find_icarus()
        except ToolMissing as error:
            return str(error)
        return None

    def _open(self, waveform: Path | None) -> None:
        """Begin a simulation, which may record in the file `waveform`."""
        model = _build(self._verilog, self.geometry.array, self._banks())
        # Without -n an interrupt would make the simulator ask what to do.
        command = [str(find_icarus().with_name("vvp")), "-n", str(model)]
        if waveform is not None:
            command.append(f"+waveform={waveform}")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                # An interrupt is for the program that simulates.
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(f"{self.name}: vvp cannot be run: {error.strerror}") from error
        self._end = weakref.finalize(self, _end, self._process)
        self._elapsed = self._unrecorded = 0

    def _banks(self) -> str:
        """Return the cases of the harness' task ``access``: one for each bank of X, W and E."""
        cases = []
        for memory in Memory:
            for bank in range(self.geometry.array):
                words = f"device.memory_{memory.name.lower()}.bank_{bank}.memory[at]"
                cases.append(
                    f"{{2'd{int(memory)}, 8'd{bank}}}: if (writes) {words} = word; "
                    f"else word = $signed({words});"
                )
        return "\n".join([*cases, ""])

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end()

    def read_word(self, address: int) -> int:
        return int(self.read_block(address, 1)[0])

    def write_word(self, address: int, value: int) -> None:
        self._command("w", [address, 1, value])

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        words = self._defined(self._command("r", [address, count]), f"from {address:#x} on")
        return np.array(words, dtype=np.uint32)

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        self._command("w", [address, len(words), *words.tolist()])

    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        self._check_usable()
        words = self._check_words(memory, address, words)
        codes = words.T.ravel().view(np.uint32).tolist()
        self._command("p", [int(memory), address, len(words), *codes])

    def read_words(self, memory: Memory, address: int, count: int) -> NDArray[np.int32]:
        self._check_usable()
        self._check_range(memory, address, count)
        lines = self._command("g", [int(memory), address, count])
        words = np.array(self._defined(lines, f"of {memory.name}"), dtype=np.uint32).view(np.int32)
        return np.ascontiguousarray(words.reshape(self.geometry.array, count).T)

    def wait(self, limit: int) -> None:
        while limit > 0:
            chunk = min(limit, _WAIT_CYCLES)
            (busy,) = self._defined(self._command("b", [chunk]), "of busy")
            if not busy:
                return
            limit -= chunk

    @property
    def elapsed(self) -> int:
        """Clock cycles simulated since the device was opened, host accesses included."""
        return self._elapsed_before + self._elapsed

    def _begin_recording(self, path: Path, cycles: int) -> None:
        path.write_bytes(b"")  # says why it cannot be written; Icarus would go on without it
        self._recording = path

        def change() -> None:
            self._end()
            self._elapsed_before = self.elapsed
            self._open(path)

        self._carry_over(change)
        self._command("v", [cycles])

    def _end_recording(self) -> None:
        if self._process.poll() is None and self._unrecorded:
            self._command("s", [])
        if not self._recording.stat().st_size:
            raise OSError("nothing could be written; is there space left?")

    def _command(self, command: str, numbers: Iterable[int]) -> list[str]:
        """Send a command to the simulator and return the lines that it prints."""
        if not self._end.alive:
            raise DeviceError(f"{self.name}: the device is closed; open it anew")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        lines: list[str] = []
        recording = self._unrecorded > 0
        try:
            arguments = " ".join(f"{number & (1 << 64) - 1:x}" for number in numbers)
            self._process.stdin.write(f"{command} {arguments}\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("="):
                    self._elapsed, self._unrecorded = (int(part, 16) for part in line[1:].split())
                    break
                lines.append(line.strip())
            else:
                raise BrokenPipeError
        except BrokenPipeError:
            self._unusable = f"{self.name}: the simulator ended: {' '.join(lines[-1:])}"
            raise DeviceError(self._unusable) from None
        except BaseException:
            # Part of the answer is still to come, and would be taken for the next one.
            self._unusable = f"{self.name}: the simulation was interrupted"
            self._end()
            raise
        if recording and not self._unrecorded and command != "s":
            self.end_trace()
        if lines and lines[-1].startswith("!"):
            raise DeviceError(
                f"{self.name}: the host port did not acknowledge an access to word "
                f"{int(lines[-1][1:], 16):#x}"
            )
        return lines

    def _defined(self, lines: Iterable[str], where: str) -> list[int]:
        """Return the numbers in `lines`, all of whose bits must be defined."""
        numbers = []
        for index, line in enumerate(lines):
            try:
                numbers.append(int(line, 16))
            except ValueError:
                raise DeviceError(
                    f"{self.name}: word {index} {where} has undefined bits: {line}"
                ) from None
        return numbers


def _end(process: subprocess.Popen[str]) -> None:
    """End a simulator: it does so itself when nothing more can come."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _build(verilog: str, array: int, banks: str) -> Path:
    """Compile `verilog` with its harness and return the program for ``vvp``, cached."""
    icarus = find_icarus()
    harness = (HARNESS / "icarus.v").read_text(encoding="utf-8")

    def build(folder: Path) -> None:
        (folder / "accelerator.v").write_text(verilog, encoding="utf-8")
        (folder / "banks.vh").write_text(banks, encoding="utf-8")
        (folder / "harness.v").write_text(harness, encoding="utf-8")
        command = [str(icarus), "-g2012", "-s", "harness", f"-DBANKS={array}"]
        command += ["-o", "accelerator.vvp", "harness.v", "accelerator.v"]
        run_tool(command, "icarus", "Icarus Verilog", folder=folder)
        for path in folder.iterdir():
            if path.name != "accelerator.vvp":
                path.unlink()

    key = ["icarus", verilog, harness, banks, first_line([str(icarus), "-V"])]
    return cached_build(key, build) / "accelerator.vvp"
