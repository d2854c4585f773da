"""What a host can do with a device, compared with the specification, and devices that lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from siligrad.device import DeviceError
from siligrad.registers import Region, Register, Status
from siligrad_hdl.scratchpad import NEAR_BANKS
from siligrad_sim.benches.device import CHECKS
from siligrad_sim.coverage.programs import BENCH_GEOMETRIES
from siligrad_sim.verilator import VerilatorDevice


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(each, marks=pytest.mark.extended if each.array > NEAR_BANKS else ())
        for each in BENCH_GEOMETRIES
    ],
    ids=lambda each: f"N{each.array}",
)
def device(request: pytest.FixtureRequest) -> Iterator[VerilatorDevice]:
    with VerilatorDevice(request.param) as opened:
        yield opened


@pytest.mark.parametrize("name", CHECKS)
def test_a_device_is_what_the_specification_says(device: VerilatorDevice, name: str) -> None:
    CHECKS[name](device)


Change = Callable[[int, int], int | None]
"""A word address and a word to the word that is there instead; none if it is lost."""


class Liar(VerilatorDevice):
    """A device of which some words are others, when they are written or when they are read."""

    def __init__(self, written: Change, read: Change) -> None:
        self.change_written: Change = truth
        self.change_read: Change = truth
        super().__init__(BENCH_GEOMETRIES[0])
        self.change_written, self.change_read = written, read

    def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
        for at, word in enumerate(words.tolist(), address):
            changed = self.change_written(at, word)
            if changed is not None:
                super().write_block(at, np.array([changed], np.uint32))

    def read_block(self, address: int, count: int) -> NDArray[np.uint32]:
        words = super().read_block(address, count).tolist()
        return np.array(
            [self.change_read(at, word) for at, word in enumerate(words, address)], np.uint32
        )


def instead(address: int, change: Callable[[int], int | None]) -> Change:
    return lambda at, word: change(word) if at == address else word


def truth(address: int, word: int) -> int:
    return word


@pytest.mark.parametrize(
    ("name", "written", "read", "message"),
    [
        ("limits", instead(Register.LIMIT, lambda word: word & ~64), truth, "limit of 64"),
        ("limits", instead(Register.LIMIT_HIGH, lambda word: 0), truth, "limit 4294967297"),
        ("limits", truth, instead(Register.CYCLES, lambda word: word + 1), "ended after"),
        ("words", truth, instead(Region.W.base + 5, lambda word: word ^ 4), "words of W"),
        ("words", instead(Region.PROGRAM.base + 9, lambda word: None), truth, "lines"),
        ("words", instead(Register.E_STRIDE, lambda word: word & 0x7FFF), truth, "registers"),
        ("absent words", truth, instead(Region.E.base + (1 << 19), lambda word: 1), "not exist"),
        ("absent words", truth, instead(Region.SATURATIONS.base + 2, lambda word: 1), "not exist"),
        (
            "refusals",
            truth,
            instead(Register.STATUS, lambda word: word & ~Status.REFUSED),
            "after writing 0xb",
        ),
        ("refusals", truth, instead(Region.SATURATIONS.base, lambda word: word | 1), "busy accel"),
        ("entry", instead(Register.ENTRY, lambda word: 0), truth, "from instruction 1 on"),
        ("training step", truth, instead(Register.LFSR + 2, lambda word: word ^ 1), "training on"),
        ("random programs", instead(Register.X_STRIDE, lambda word: 0), truth, "random program"),
        ("large numbers", instead(Register.STEPS, lambda word: word & 0xFFF), truth, "steps"),
    ],
)
def test_a_device_that_lies_is_found_out(
    name: str, written: Change, read: Change, message: str
) -> None:
    error = pytest.raises((AssertionError, DeviceError), match=message)
    with Liar(written, read) as device, error:
        CHECKS[name](device)


def test_a_write_that_lands_on_another_word_is_found_out() -> None:
    class Lands(Liar):
        """Its first word of X is written by what goes to a word that does not exist."""

        def write_block(self, address: int, words: NDArray[np.uint32]) -> None:
            far = Region.X.base + (1 << 19)
            super().write_block(Region.X.base if address == far else address, words)

    error = pytest.raises(AssertionError, match=r"word 0x400000 after 0x480000, which does not")
    with Lands(truth, truth) as device, error:
        CHECKS["absent words"](device)
