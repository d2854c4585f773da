"""The C driver in front of the reference: accesses fail, words lie, and images are changed."""

from __future__ import annotations

import ctypes
import errno
import re
import struct
import zlib
from typing import Any

import siligrad as sg
from siligrad import image
from siligrad.registers import REGION_BITS, Region, Status
from tests.firmware.c_driver import FIRMWARE, Driver, python_bus
from tests.firmware.reference_port import ReferencePort

__all__ = ["CODES", "Bed", "longer", "resealed", "section"]

_HEADER = (FIRMWARE / "include" / "siligrad.h").read_text(encoding="utf-8")
CODES = {
    name: int(value) for name, value in re.findall(r"^    (SILIGRAD_E\w+) = (-\d+),", _HEADER, re.M)
}
"""The errors of the header."""


class Bed:
    """A driver in front of the reference, whose every access may fail or lie."""

    def __init__(self, library: ctypes.CDLL, program: sg.Program, **port: Any) -> None:
        self.program = program
        self.port = ReferencePort(program.geometry, **port)
        self.fails_after: int | None = None
        self.failure = errno.EIO
        self.lies: dict[int, int] = {}
        self.others_start = False
        self.accesses = 0
        self.driver: Driver
        self.library = library

    def access(self) -> None:
        self.accesses += 1
        if self.fails_after is not None and self.accesses > self.fails_after:
            raise OSError(self.failure, "gone")

    def read(self, address: int) -> int:
        self.access()
        if self.others_start and address >> REGION_BITS == Region.X:
            self.port.status |= Status.REFUSED
        return self.lies.get(address, self.port.read(address))

    def write(self, address: int, value: int) -> None:
        self.access()
        self.port.write(address, value)

    def open(self) -> Driver:
        self.driver = Driver(self.library, python_bus(self.read, self.write))
        return self.driver

    def load(self, blob: bytes | None = None, **options: Any) -> Driver:
        driver = self.open()
        driver.load([self.program.to_bytes() if blob is None else blob], **options)
        return driver


def resealed(blob: bytes, at: int, layout: str, *values: int) -> bytes:
    """Return `blob` with other values at an offset, and the CRC that belongs to them."""
    changed = bytearray(blob)
    struct.pack_into(layout, changed, at, *values)
    struct.pack_into("<I", changed, 16, 0)
    struct.pack_into("<I", changed, 16, zlib.crc32(changed))
    return bytes(changed)


def section(blob: bytes, name: str) -> int:
    """Return where a section of an image begins."""
    offset: int = struct.unpack_from("<I", blob, 48 + 8 * image.SECTIONS.index(name))[0]
    return offset


def longer(blob: bytes, name: str, more: int) -> bytes:
    """Return `blob` with so many zeros behind a section, which has them too; a multiple of 8."""
    changed = bytearray(blob)
    grown = False
    for index, each in enumerate(image.SECTIONS):
        at = 48 + 8 * index
        offset, size = struct.unpack_from("<II", blob, at)
        if each == name:
            end = offset + -(-size // 8) * 8
            size = end - offset
        struct.pack_into("<II", changed, at, offset + more * grown, size + more * (each == name))
        grown = grown or each == name
    changed[end:end] = bytes(more)
    return resealed(bytes(changed), 12, "<I", len(changed))
