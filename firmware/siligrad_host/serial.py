"""The device ``serial:PORT``: a board on a serial line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siligrad.device import DeviceError, DeviceUnavailable
from siligrad.host import HostDevice
from siligrad.isa import Geometry
from siligrad.registers import Region, Register, Status
from siligrad_host.link import Link

__all__ = ["BAUD", "SerialDevice"]

BAUD = 1_000_000
"""Of boards that say nothing else."""

_READ_SECONDS = 0.02

_IDLE_SECONDS = 10.0
"""To wait, when a board is opened, for the end of a run that another host has left behind."""

_WRITE_SECONDS = 5.0


def _errors_of_a_port() -> tuple[type[Exception], ...]:
    try:
        from termios import error  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return (OSError,)
    return OSError, error


_GONE = _errors_of_a_port()
"""What pyserial raises of a port that is not there any more; SerialException is an OSError."""

_UNOPENED: tuple[type[Exception], ...] = (*_GONE, ValueError)
"""And of one that is none."""


class SerialDevice(HostDevice):
    """The accelerator on a board, through its link.

    The port is a device file or an URL of pyserial's; a rate other than 1 Mbaud stands behind an
    at sign, as in ``serial:/dev/ttyUSB0@115200``.

    Parameters
    ----------
    geometry
        That the board must have.

    Raises
    ------
    DeviceUnavailable
        If the port cannot be opened.
    DeviceError
        If nothing answers there, or something else.
    """

    name = "serial"
    argument_name: ClassVar[str | None] = "PORT"

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._connect()
        try:
            self.identify()
            self._wait_until_idle()
        except BaseException:
            self._port.close()
            raise

    @classmethod
    def available(cls) -> str | None:
        """Return None if a port can be opened here, else what is missing and what to type."""
        if find_spec("serial") is None:
            return "pyserial is missing: type `pip install 'siligrad[link]'`"
        return None

    @classmethod
    def geometry_of(cls) -> Geometry:
        """Return the geometry of the board that answers at :attr:`argument`."""
        device = cls.__new__(cls)
        super().__init__(device, Geometry())
        device._connect()
        try:
            return device.read_geometry()
        finally:
            device._port.close()

    @property
    def link(self) -> Link:
        """The link, which counts what was sent again."""
        return self._link

    @property
    def counters(self) -> Mapping[str, int]:
        link = self._link
        return {"requests": link.requests, "resent": link.resent, "dropped": link.dropped}

    def _connect(self) -> None:
        if (reason := self.available()) is not None:
            raise DeviceUnavailable(f"device {self.name}: {reason}")
        import serial  # noqa: PLC0415  (may not be installed)

        port, _, baud = self.argument.partition("@")
        if baud and not baud.isdecimal():
            raise DeviceUnavailable(
                f"device {self.name}: {baud!r} is no rate in baud; name it as {port}@115200"
            )
        try:
            self._port = serial.serial_for_url(
                port,
                baudrate=int(baud or BAUD),
                timeout=_READ_SECONDS,
                write_timeout=_WRITE_SECONDS,
                exclusive=True,
            )
            self._port.reset_input_buffer()
        except _UNOPENED as error:
            raise DeviceUnavailable(f"device {self.name} cannot be opened: {error}") from error
        try:
            self._link = Link(_Reporting(self._port, self.name))
        except BaseException:
            self._port.close()
            raise

    def _wait_until_idle(self) -> None:
        """Let a run end whose host was killed: until then the board takes nothing."""
        deadline = time.monotonic() + _IDLE_SECONDS
        while self.read_word(Region.REGISTERS.base + Register.STATUS) & Status.BUSY:
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"{self.name}: the board is busy with a run that another host has started, for "
                    f"{self.read_cycles()} cycles by now; wait for its end, or reset the board"
                )

    def read_word(self, address: int) -> int:
        return int(self.read_block(address, 1)[0])

    def write_word(self, address: int, value: int) -> None:
        self.write_block(address, np.array([value], dtype=np.uint32))

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        return self._link.read(address, count)

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        self._link.write(address, words)

    def close(self) -> None:
        super().close()
        self._port.close()


class _Reporting:
    """A port whose errors are those of a device: it was unplugged, or closed."""

    def __init__(self, port: Any, name: str) -> None:
        self._port = port
        self._name = name

    def write(self, data: bytes, /) -> None:
        try:
            self._port.write(data)
        except _GONE as error:
            raise self._gone(error) from error

    def read(self, size: int, /) -> bytes:
        try:
            # What is there, or the first byte that comes: not as many as there is room for.
            first = self._port.read(1)
            rest = self._port.read(min(size, self._port.in_waiting)) if first else b""
            return bytes(first + rest)
        except _GONE as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> DeviceError:
        return DeviceError(f"device {self._name} is gone: {error}; plug it in and open it anew")
