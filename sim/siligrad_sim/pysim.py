"""The device "pysim": the hardware in Amaranth's own simulator, which needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import ExitStack, aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.isa import Geometry, Memory
from siligrad_sim.rtl import RtlDevice

__all__ = ["PysimDevice"]

_Result = TypeVar("_Result")

_PATIENCE = 64
"""Cycles that the port may take to acknowledge a request."""

_WORD_MASK = 0xFFFFFFFF


class PysimDevice(RtlDevice):
    """The accelerator in Amaranth's simulator.

    Programs, registers, the start, the status, the cycles, the saturations and the shift registers
    go through the host port. Words of X, W and E do not: the port takes some cycles for a word, and
    a cycle takes up to a millisecond here, so a bulk access would take minutes. They are read from
    and written to the rows of the simulated memories, between runs, when nothing else looks at
    them. (The compiled devices use the port for everything.)

    The simulation lives as long as the device and advances only while it is being used.

    Parameters
    ----------
    geometry
        What to simulate.
    accelerator
        An elaboratable to simulate instead of the accelerator of `geometry`, with the same ports
        and memories. Tests hand in broken ones.

    Raises
    ------
    DeviceUnavailable
        If Amaranth is missing.
    DeviceError
        If the accelerator does not identify itself as one of this geometry.
    """

    name = "pysim"

    def __init__(self, geometry: Geometry, *, accelerator: Any = None) -> None:
        super().__init__(geometry)
        if (reason := self.available()) is not None:
            raise DeviceUnavailable(f"device {self.name}: {reason}")
        from amaranth.sim import Simulator  # noqa: PLC0415  (may not be installed)

        self._accelerator: Any = _make_accelerator(geometry) if accelerator is None else accelerator
        self._operation: Callable[[Any], Coroutine[Any, Any, Any]] | None = None
        self._result: Any = None
        self._simulator = Simulator(self._accelerator)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._serve)
        self._recording = ExitStack()
        self._unrecorded = 0  # half cycles that are still to be recorded
        self.identify()

    @classmethod
    def available(cls) -> str | None:
        """Return None if the device can be opened here, else what is missing and what to type."""
        if find_spec("amaranth") is None:
            return "Amaranth is missing: type `pip install 'siligrad[hdl]'`"
        return None

    def read_word(self, address: int) -> int:
        return int(self.read_block(address, 1)[0])

    def write_word(self, address: int, value: int) -> None:
        self.write_block(address, np.array([value], dtype=np.uint32))

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        async def read(context: Any) -> list[int]:
            return [await self._request(context, address + index, None) for index in range(count)]

        return np.array(self._simulate(read), dtype=np.uint32)

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        async def write(context: Any) -> None:
            for index, word in enumerate(words.tolist()):
                await self._request(context, address + index, word)

        self._simulate(write)

    def write_words(self, memory: Memory, address: int, words: NDArray[np.int32]) -> None:
        self._check_usable()
        words = self._check_words(memory, address, words)
        banks = self._accelerator.memories[memory].banks

        async def write(context: Any) -> None:
            for bank, column in zip(banks, words.T.tolist(), strict=True):
                for index, word in enumerate(column):
                    context.set(bank.data[address + index], word)

        self._simulate(write)

    def read_words(self, memory: Memory, address: int, count: int) -> NDArray[np.int32]:
        self._check_usable()
        self._check_range(memory, address, count)
        banks = self._accelerator.memories[memory].banks

        async def read(context: Any) -> list[list[int]]:
            return [
                [context.get(bank.data[address + index]) for index in range(count)]
                for bank in banks
            ]

        columns = np.array(self._simulate(read), dtype=np.int32)
        return np.ascontiguousarray(columns.reshape(self.geometry.array, count).T)

    def wait(self, limit: int) -> None:
        async def wait(context: Any) -> None:
            if limit <= 0:
                return
            cycles = 0
            ticks = aiter(context.tick().sample(self._accelerator.busy))
            async with aclosing(ticks):
                async for _, _, busy in ticks:
                    cycles += 1
                    if not busy or cycles > limit:
                        return

        self._simulate(wait)

    def _begin_recording(self, path: Path, cycles: int) -> None:
        file = self._recording.enter_context(_WaveformFile(path))
        # Simulator.write_vcd refuses to begin once time has passed; the engine that it hands on to
        # begins with the values that signals have.
        engine = self._simulator._engine
        waveform = engine.write_vcd(vcd_file=file, gtkw_file=None, traces=(), fs_per_delta=0)
        self._recording.enter_context(waveform)
        self._unrecorded = 2 * cycles

    def _end_recording(self) -> None:
        self._unrecorded = 0
        self._recording.close()

    async def _request(self, context: Any, address: int, value: int | None) -> int:
        """Carry one request of the host port: a write of `value`, or a read."""
        host = self._accelerator.host
        context.set(host.strobe, 1)
        context.set(host.write, int(value is not None))
        context.set(host.address, address)
        context.set(host.write_data, value or 0)
        for _ in range(_PATIENCE):
            _, _, acknowledge, answer = await context.tick().sample(
                host.acknowledge, host.read_data
            )
            if acknowledge:
                context.set(host.strobe, 0)
                return int(answer) & _WORD_MASK
        context.set(host.strobe, 0)
        raise DeviceError(
            f"{self.name}: the host port did not acknowledge an access to word {address:#x}"
        )

    def _simulate(self, operation: Callable[[Any], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run `operation` inside the simulation, which advances until it returns."""
        self._operation = operation
        try:
            while self._operation is not None:
                self._simulator.advance()
                if self._unrecorded:
                    self._unrecorded -= 1  # an advance goes from one edge of the clock to the next
                    if not self._unrecorded:
                        self.end_trace()
        except BaseException:
            # The simulator was left in the middle of a step.
            self._unusable = f"{self.name}: the simulation was interrupted"
            raise
        result, self._result = self._result, None
        if isinstance(result, Exception):
            raise result
        return cast(_Result, result)

    async def _serve(self, context: Any) -> None:
        """Do in the simulation what is asked for outside of it."""
        while True:
            if self._operation is not None:
                try:
                    self._result = await self._operation(context)
                except DeviceError as error:
                    self._result = error
                self._operation = None
            await context.tick()


class _WaveformFile:
    """A file to write to that tells of an error only when it is closed.

    An error in the middle of a cycle would leave the simulator there.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="ascii")
        self._error: OSError | None = None

    def write(self, text: str) -> None:
        if self._error is None:
            try:
                self._file.write(text)
            except OSError as error:
                self._error = error

    def flush(self) -> None:
        """Do nothing: the file is closed soon."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        if self._error is not None:
            raise self._error


def _make_accelerator(geometry: Geometry) -> Any:
    from siligrad_hdl.accelerator import Accelerator  # noqa: PLC0415  (needs Amaranth)

    return Accelerator(geometry)
