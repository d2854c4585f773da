"""Every error of the C driver is reached, has its code, and its text says what to do."""

from __future__ import annotations

import ctypes
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from siligrad import image
from siligrad.isa import Geometry
from siligrad.registers import Region, Register, Status
from tests.firmware.c_driver import Driver, DriverError, python_bus
from tests.firmware.driver_bed import CODES, Bed, resealed
from tests.firmware.driver_programs import expected, pieces, small_program
from tests.firmware.reference_port import ReferencePort

pytestmark = pytest.mark.xdist_group("driver")

LINK = {"SILIGRAD_ENOANSWER", "SILIGRAD_ESESSION", "SILIGRAD_ENUMBER", "SILIGRAD_EPROTOCOL"}
"""These are of the link: test_c_link.py reaches them."""


CASES: dict[str, list[tuple[Callable[[Bed], Any], str]]] = {}


def case(name: str, text: str) -> Callable[[Callable[[Bed], Any]], Callable[[Bed], Any]]:
    """Say that a function reaches the error `name`, whose text contains `text`."""

    def register(function: Callable[[Bed], Any]) -> Callable[[Bed], Any]:
        CASES.setdefault(name, []).append((function, text))
        return function

    return register


@case("SILIGRAD_EIO", "check the bus or the line")
def a_bus_that_fails(bed: Bed) -> None:
    bed.fails_after = 0
    bed.open()


@case("SILIGRAD_EIO", "check the bus or the line")
def a_bus_that_fails_in_the_middle_of_a_tensor(bed: Bed) -> None:
    driver = bed.load()
    bed.fails_after = bed.accesses + 7
    driver.read("x")


@case("SILIGRAD_EIO", "check the bus or the line")
def a_bus_that_fails_in_a_load(bed: Bed) -> None:
    bed.open()
    bed.fails_after = bed.accesses + 50
    bed.driver.load([bed.program.to_bytes()])


@case("SILIGRAD_EARGUMENT", "pass no NULL pointer")
def a_tensor_to_nowhere(bed: Bed) -> None:
    bed.load().call("siligrad_read_tensor", 0, 0, None, 1, 1)


@case("SILIGRAD_EARGUMENT", "open the device first")
def a_device_that_is_not_open(bed: Bed) -> None:
    driver = bed.open()
    driver.device.array = 0
    driver.call("siligrad_start")


@case("SILIGRAD_EARGUMENT", "begin a load before")
def an_end_of_nothing(bed: Bed) -> None:
    driver = bed.load()
    driver._checked(driver.library.siligrad_load_end(driver.loader))


@case("SILIGRAD_EIDENTITY", "check the base address")
def another_peripheral(bed: Bed) -> None:
    bed.lies[Register.IDENTIFICATION] = 0xFFFFFFFF
    bed.open()


@case("SILIGRAD_EVERSION", "from the same release")
def an_older_accelerator(bed: Bed) -> None:
    bed.lies[Register.VERSION] = bed.port.fixed[Register.VERSION] - 1
    bed.open()


@case("SILIGRAD_EVERSION", "from the same release")
def a_newer_accelerator(bed: Bed) -> None:
    bed.lies[Register.VERSION] = 3 << 16
    bed.open()


@case("SILIGRAD_EGEOMETRY", "check that every read")
def an_array_that_does_not_exist(bed: Bed) -> None:
    bed.lies[Register.ARRAY] = 17
    bed.open()


@case("SILIGRAD_EGEOMETRY", "check that every read")
def a_memory_that_does_not_exist(bed: Bed) -> None:
    bed.lies[Register.W_DEPTH] = (1 << 16) + 1
    bed.open()


@case("SILIGRAD_EGEOMETRY", "check that every read")
def words_that_do_not_exist(bed: Bed) -> None:
    bed.lies[Register.WORD_BITS] = 3
    bed.open()


@case("SILIGRAD_EMAGIC", "load a file that")
def another_file(bed: Bed) -> None:
    bed.load(b"\x7fELF" * 100)


@case("SILIGRAD_EMAGIC", "load a file that")
def an_empty_file(bed: Bed) -> None:
    bed.load(b"")


@case("SILIGRAD_EFORMAT", "compile it again")
def an_image_of_tomorrow(bed: Bed) -> None:
    bed.load(resealed(bed.program.to_bytes(), 8, "<H", image.IMAGE_VERSION + 1))


@case("SILIGRAD_ETARGET", "compile it for this one")
def an_image_for_another_array(bed: Bed) -> None:
    bed.load(small_program(array=2)[0].to_bytes())


@case("SILIGRAD_ETARGET", "compile it for this one")
def an_image_for_other_memories(bed: Bed) -> None:
    bed.load(resealed(bed.program.to_bytes(), 32, "<I", 65))


@case("SILIGRAD_ESIZE", "copy it again, whole")
def an_image_cut_short(bed: Bed) -> None:
    bed.load(bed.program.to_bytes()[:-1])


@case("SILIGRAD_ESIZE", "copy it again, whole")
def an_image_and_more(bed: Bed) -> None:
    bed.load(bed.program.to_bytes() + b"!")


@case("SILIGRAD_ESIZE", "copy it again, whole")
def an_image_that_is_too_large(bed: Bed) -> None:
    bed.load(resealed(bed.program.to_bytes(), 12, "<I", (1 << 26) + 1))


@case("SILIGRAD_ECRC", "copy it again")
def an_image_with_a_wrong_bit(bed: Bed) -> None:
    blob = bytearray(bed.program.to_bytes())
    blob[-1] ^= 1
    bed.load(bytes(blob))


@case("SILIGRAD_EIMAGE", "compile it again")
def an_image_that_contradicts_itself(bed: Bed) -> None:
    bed.load(resealed(bed.program.to_bytes(), 40, "<Q", 0))


@case("SILIGRAD_EROOM", "pass larger arrays")
def no_room_for_tensors(bed: Bed) -> None:
    bed.load(room=(len(bed.program.tensors) - 1, 8192))


@case("SILIGRAD_EROOM", "pass larger arrays")
def no_room_for_names(bed: Bed) -> None:
    bed.load(room=(64, sum(len(item.name.encode()) + 1 for item in bed.program.tensors)))


@case("SILIGRAD_EPROGRAM", "load an image")
def a_run_without_a_program(bed: Bed) -> None:
    bed.open().run()


@case("SILIGRAD_EPROGRAM", "load an image")
def a_tensor_without_a_program(bed: Bed) -> None:
    driver = bed.open()
    codes = (ctypes.c_int16 * 1)()
    driver.call("siligrad_read_tensor", 0, 0, codes, 1, 1)


@case("SILIGRAD_EPROGRAM", "load an image")
def a_program_that_was_only_half_loaded(bed: Bed) -> None:
    driver = bed.load()
    with pytest.raises(DriverError):
        driver.load([bed.program.to_bytes()[:-1]])
    driver.run()


@case("SILIGRAD_ENAME", "look at the names")
def a_name_that_does_not_exist(bed: Bed) -> None:
    bed.load().find("params[9][0]")


@case("SILIGRAD_ENAME", "load with room for names")
def a_name_where_none_was_kept(bed: Bed) -> None:
    bed.load(room=(64, 0)).find("x")


@case("SILIGRAD_EINDEX", "stay below tensor_count")
def a_tensor_that_does_not_exist(bed: Bed) -> None:
    driver = bed.load()
    codes = (ctypes.c_int16 * 1)()
    driver.call("siligrad_read_tensor", driver.device.tensor_count, 0, codes, 1, 1)


@case("SILIGRAD_EINDEX", "steps and instructions")
def a_step_that_does_not_exist(bed: Bed) -> None:
    bed.load().read("x", step=1)


@case("SILIGRAD_EINDEX", "steps and instructions")
def a_counter_that_does_not_exist(bed: Bed) -> None:
    driver = bed.load()
    driver.saturations(driver.device.instructions + 1)


@case("SILIGRAD_ECODE", "scale the data")
def a_code_that_is_too_large(bed: Bed) -> None:
    driver = bed.load()
    codes = np.zeros((4, 5), np.int16)
    codes[3, 4] = -(1 << 15)
    before = bed.port.dump()
    try:
        driver.write("x", codes)
    finally:  # nothing of it was written
        for memory, words in before.items():
            np.testing.assert_array_equal(bed.port.words[memory], words)


@case("SILIGRAD_ECODE", "scale the data")
def a_target_that_is_neither_plus_nor_minus_one(bed: Bed) -> None:
    bed.load().write("y", np.zeros((4, 3), np.int16))


@case("SILIGRAD_EBUSY", "wait for its end with siligrad_wait")
def a_second_start(bed: Bed) -> None:
    driver = bed.load()
    driver.call("siligrad_start")
    driver.call("siligrad_start")


@case("SILIGRAD_EREFUSED", "let nobody use it")
def somebody_else_starts_a_run(bed: Bed) -> None:
    driver = bed.load()
    bed.others_start = True
    driver.read("x")


@case("SILIGRAD_EREFUSED", "a locked one keeps program and weights")
def something_is_accessed_during_a_run(bed: Bed) -> None:
    driver = bed.load()
    driver.call("siligrad_start")
    bed.port.read(Region.X.base)
    driver.call("siligrad_wait", 10)


@case("SILIGRAD_ETIMEOUT", "with more polls")
def a_wait_that_is_too_short(bed: Bed) -> None:
    bed.port.busy_reads = 5
    driver = bed.load()
    driver.run(polls=5)


@case("SILIGRAD_ETIMEOUT", "with more polls")
def a_wait_of_nothing(bed: Bed) -> None:
    bed.load().run(polls=0)


@case("SILIGRAD_EOVERRUN", "longer than promised")
def a_run_that_is_ended(bed: Bed) -> None:
    bed.load(resealed(bed.program.to_bytes(), 40, "<Q", bed.program.cycles - 1)).run()


@case("SILIGRAD_ECYCLES", "other cycles than promised")
def a_run_that_is_too_short(bed: Bed) -> None:
    bed.port.extra_cycles = -1
    bed.load().run()


@case("SILIGRAD_ERESET", "the accelerator was reset")
def a_reset_during_a_run(bed: Bed) -> None:
    driver = bed.load()
    driver.call("siligrad_start")
    bed.port._busy, bed.port.status = 0, Status(0)
    driver.call("siligrad_wait", 10)


@case("SILIGRAD_ESHIFT", "use fewer halvings")
def a_rate_that_is_too_small(bed: Bed) -> None:
    driver = bed.load()
    before = list(bed.port.program)
    try:
        driver.call("siligrad_slow", 47)
    finally:
        assert bed.port.program == before


@case("SILIGRAD_ESHIFT", "use fewer halvings")
def a_number_that_is_no_rate(bed: Bed) -> None:
    bed.load().call("siligrad_slow", -(1 << 31))


@case("SILIGRAD_ESTATE", "siligrad_read_lfsr gave")
def a_state_of_zero(bed: Bed) -> None:
    before = list(bed.port.lfsr)
    try:
        bed.load().write_lfsr([1, 0, 1])
    finally:
        assert bed.port.lfsr == before


@pytest.mark.parametrize(
    ("name", "index"), [(name, index) for name in CASES for index in range(len(CASES[name]))]
)
def test_each_error_is_reached(library: ctypes.CDLL, name: str, index: int) -> None:
    provoke, text = CASES[name][index]
    bed = Bed(library, small_program()[0])
    with pytest.raises(DriverError, match=re.escape(text)) as caught:
        provoke(bed)
    assert caught.value.code == CODES[name]


def test_no_error_is_left_out() -> None:
    assert len(CODES) == 28
    assert sorted(CODES.values()) == list(range(-28, 0))
    assert set(CASES) | LINK == set(CODES)


def test_every_text_is_one_sentence_that_says_what_to_do(library: ctypes.CDLL) -> None:
    texts = [library.siligrad_strerror(code).decode() for code in (*CODES.values(), 0, 1, -29)]
    assert texts[-3] == "no error"
    assert texts[-2] == texts[-1]
    assert "pass what a siligrad function returned" in texts[-1]
    told = texts[:-3]
    assert len(set(told)) == len(told)
    verbs = "check|pass|build|load|compile|copy|look|stay|scale|wait|let|use|write|connect"
    for text in told:
        assert re.search(rf"[:;] (?:\w+ )?({verbs})\b", text), text
        assert "\n" not in text


def test_every_access_may_fail_and_the_call_says_so(library: ctypes.CDLL) -> None:
    """Let each single access of a whole session fail; the call in which it does returns EIO."""
    program, data = small_program()
    want = expected(program, data, runs=1)

    def session(bed: Bed) -> None:
        driver = bed.load()
        driver.call("siligrad_seed", 0)
        for name, codes in want.codes.items():
            driver.write(name, codes[0])
        driver.call("siligrad_slow", 0)
        driver.run()
        driver.saturations()
        driver.read_lfsr()
        driver.read(program.tensors[0].name)

    whole = Bed(library, program)
    session(whole)
    every = range(0, whole.accesses, max(whole.accesses // 150, 1))
    for number in (*range(40), *every, whole.accesses - 1):
        bed = Bed(library, program)
        bed.fails_after = number
        with pytest.raises(DriverError) as caught:
            session(bed)
        assert caught.value.code == CODES["SILIGRAD_EIO"], f"access {number}"
        assert bed.accesses == number + 1, "nothing is accessed after a failure"


def test_other_errors_of_a_bus_are_passed_on_or_become_io(library: ctypes.CDLL) -> None:
    program, _ = small_program()
    for returned, code in ((-26, -26), (-1, -1), (-29, -1), (5, -1), (-(1 << 31), -1)):
        bed = Bed(library, program)

        bed.fails_after, bed.failure = 0, returned
        with pytest.raises(DriverError) as caught:
            bed.open()
        assert caught.value.code == code


def test_room_for_all_names_and_a_byte_is_enough(library: ctypes.CDLL) -> None:
    program, _ = small_program()
    room = sum(len(item.name.encode()) + 1 for item in program.tensors) + 1
    driver = Bed(library, program).load(room=(len(program.tensors), room))
    assert driver.find(program.tensors[-1].name) == len(program.tensors) - 1


def test_the_driver_goes_on_after_an_error(library: ctypes.CDLL) -> None:
    program, data = small_program()
    want = expected(program, data, runs=1)
    bed = Bed(library, program)
    driver = bed.load(b"".join(pieces(program.to_bytes(), 3)))
    driver.call("siligrad_seed", 0)
    bed.fails_after = bed.accesses + 2
    with pytest.raises(DriverError):
        driver.read("x")
    bed.fails_after = None
    for name, codes in want.codes.items():
        driver.write(name, codes[0])
    driver.run()
    for memory, words in want.words.items():
        np.testing.assert_array_equal(bed.port.words[memory], words)


def test_geometries_at_the_ends_are_opened(library: ctypes.CDLL) -> None:
    for geometry in (
        Geometry(array=2, x_depth=2, w_depth=2, e_depth=2, program_depth=4, sum_bits=32),
        dataclasses.replace(Geometry(array=16), x_depth=1 << 16, program_depth=1 << 14),
        Geometry(operand_bits=4, word_bits=4, sum_bits=20),
    ):
        port = ReferencePort(geometry)
        driver = Driver(library, python_bus(port.read, port.write))
        assert driver.device.array == geometry.array
        assert list(driver.device.built)[1:] == [
            geometry.x_depth,
            geometry.w_depth,
            geometry.e_depth,
            geometry.program_depth,
        ]
