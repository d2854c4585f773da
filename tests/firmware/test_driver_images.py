"""The C driver refuses images that contradict themselves, or reach outside the accelerator."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

import pytest

from tests.firmware.c_driver import DriverError
from tests.firmware.driver_bed import CODES, Bed, longer, resealed, section
from tests.firmware.driver_programs import small_program

pytestmark = pytest.mark.xdist_group("driver")


CONTRADICTIONS: dict[str, Callable[[bytes], tuple[int, str, int]]] = {
    "no cycles": lambda _: (40, "<Q", 0),
    "a section that begins elsewhere": lambda _: (56, "<I", 96),
    "a section that is too long": lambda _: (84, "<I", 1 << 20),
    "a program of half a line": lambda blob: (52, "<I", struct.unpack_from("<I", blob, 52)[0] - 8),
    "a program that ends within an instruction": lambda blob: (
        section(blob, "program") + 3,
        "B",
        255,
    ),
    "a name that is elsewhere": lambda blob: (section(blob, "tensors"), "<I", 1 << 16),
    "a role that does not exist": lambda blob: (section(blob, "tensors") + 4, "B", 5),
    "a memory that does not exist": lambda blob: (section(blob, "tensors") + 5, "B", 3),
    "a flag that does not exist": lambda blob: (section(blob, "tensors") + 6, "B", 8),
    "a base outside": lambda blob: (section(blob, "tensors") + 8, "<I", 63),
    "a base that wraps": lambda blob: (section(blob, "tensors") + 8, "<I", 0xFFFFFFFD),
    "no rows": lambda blob: (section(blob, "tensors") + 12, "<I", 0),
    "rows that wrap": lambda blob: (section(blob, "tensors") + 12, "<I", 0xFFFFFFFF),
    "columns that wrap": lambda blob: (section(blob, "tensors") + 16, "<I", 0xFFFFFFFF),
    "a limit that no word holds": lambda blob: (section(blob, "tensors") + 24, "<I", 1 << 15),
    "a limit below what is loaded": lambda blob: (section(blob, "tensors") + 24, "<I", 0),
    "data that are elsewhere": lambda blob: (section(blob, "tensors") + 36, "<I", 2),
    "data that are missing": lambda blob: (section(blob, "tensors") + 36, "<I", 0xFFFFFFFF),
    "a code that does not exist": lambda blob: (section(blob, "data"), "<h", -(1 << 15)),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_an_image_that_contradicts_itself_is_refused(library: ctypes.CDLL, what: str) -> None:
    program, _ = small_program()
    blob = program.to_bytes()
    bed = Bed(library, program)
    with pytest.raises(DriverError, match="or compile it again") as caught:
        bed.load(resealed(blob, *CONTRADICTIONS[what](blob)))
    assert caught.value.code == CODES["SILIGRAD_EIMAGE"], what


@pytest.mark.parametrize("more", [8, 40])
def test_tensors_that_end_within_one_are_refused(library: ctypes.CDLL, more: int) -> None:
    """All else is right: each section begins where the one before it ends, and so does the CRC."""
    program, _ = small_program()
    bed = Bed(library, program)
    with pytest.raises(DriverError) as caught:
        bed.load(longer(program.to_bytes(), "tensors", more))
    assert caught.value.code == CODES["SILIGRAD_EIMAGE"]
    bed.load(longer(program.to_bytes(), "data", 8)).find("x")  # more of what is not asked for
