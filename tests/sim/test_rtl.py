"""Waveforms of every device that simulates the hardware, read back by another library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from vcd.reader import TokenKind, tokenize

from siligrad.device import DeviceError
from siligrad.isa import ONE_STEP, Geometry, Memory, encode_program
from siligrad_sim.benches.programs import draw_words, training_step
from siligrad_sim.benches.specification import busy_cycles
from siligrad_sim.cxxrtl import CxxrtlDevice
from siligrad_sim.icarus import IcarusDevice
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.reference import ReferenceDevice
from siligrad_sim.rtl import RtlDevice, trace
from siligrad_sim.verilator import VerilatorDevice
from tests.sim.test_compiled import SMALL

LIMIT = 10_000
STEP = replace(training_step(2, batch=2, inputs=2, hidden=2, outputs=2), geometry=SMALL)
CYCLES = busy_cycles(STEP.instructions, 2)

Changes = dict[str, list[tuple[int, int]]]
"""Signals by the last part of their names: times, and values from then on."""


def read(path: Path) -> Changes:
    """Read the changes of every signal of a VCD."""
    names: dict[str, set[str]] = defaultdict(set)
    result: Changes = defaultdict(list)
    time = 0
    with path.open("rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.VAR:
                names[token.var.id_code].add(token.var.reference)
            elif token.kind is TokenKind.CHANGE_TIME:
                time = token.time_change
            elif token.kind in {TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR}:
                change = (
                    token.scalar_change
                    if token.kind is TokenKind.CHANGE_SCALAR
                    else token.vector_change
                )
                if isinstance(change.value, str) and set(change.value) & set("xXzZ"):
                    continue  # Icarus knows of undefined values
                for name in names[change.id_code]:
                    result[name].append((time, int(change.value)))
    return result


def rises(changes: list[tuple[int, int]]) -> list[int]:
    """The times at which a signal of one bit becomes one."""
    return [time for (_, before), (time, value) in pairwise(changes) if (before, value) == (0, 1)]


KINDS = {kind.name: kind for kind in (IcarusDevice, PysimDevice, CxxrtlDevice, VerilatorDevice)}


@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.extended if kind == "cxxrtl" else ()) for kind in KINDS
    ]
)
def device(request: pytest.FixtureRequest) -> Iterator[RtlDevice]:
    with KINDS[request.param](STEP.geometry) as device:
        device.write_lines(encode_program(STEP.instructions))
        yield device


def test_a_waveform_has_the_run_from_end_to_end(device: RtlDevice, tmp_path: Path) -> None:
    path = tmp_path / "run.vcd"
    device.trace(path)
    assert not path.exists()
    assert device.execute(ONE_STEP, LIMIT) == CYCLES
    device.end_trace()
    changes = read(path)
    period = np.diff(rises(changes["clk"]))
    assert len(set(period.tolist())) == 1
    (rise,) = rises(changes["busy"])
    fall = next(time for time, value in changes["busy"] if time > rise and value == 0)
    assert fall - rise == CYCLES * period[0]
    # The registers that start a run, and that tell of it, in order.
    addresses = [value for value, _ in groupby(v for _, v in changes["host__address"] if v)]
    assert addresses[-12:] == [10, 11, 32, 33, 34, 35, 36, 37, 9, 10, 12, 13]


def test_a_recording_ends_by_itself_and_the_run_goes_on(device: RtlDevice, tmp_path: Path) -> None:
    path = tmp_path / "start.vcd"
    device.trace(path, 45)  # the writes of a start, four cycles each, and some of the run
    assert device.execute(ONE_STEP, LIMIT) == CYCLES > 45
    changes = read(path)  # the file is there, although nobody has ended it
    edges = len(changes["clk"])
    assert 2 * 45 - 1 <= edges <= 2 * 45 + 1
    assert [value for _, value in changes["busy"]][-1] == 1
    assert device.execute(ONE_STEP, LIMIT) == CYCLES


def test_a_recorded_device_holds_what_it_held(device: RtlDevice, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = draw_words(rng, device.geometry, "random")
    for memory in Memory:
        device.write_words(memory, 0, words[memory])
    device.write_lfsr([5, 6])
    device.trace(tmp_path / "a.vcd", 5)
    for memory, got in device.dump().items():
        np.testing.assert_array_equal(got, words[memory])
    assert device.read_lfsr() == (5, 6)
    assert device.read_lines(len(encode_program(STEP.instructions))) == encode_program(
        STEP.instructions
    )
    with KINDS[device.name](STEP.geometry) as other:
        other.write_lines(encode_program(STEP.instructions))
        for memory in Memory:
            other.write_words(memory, 0, words[memory])
        other.write_lfsr([5, 6])
        assert device.execute(ONE_STEP, LIMIT) == other.execute(ONE_STEP, LIMIT)
        for memory, got in device.dump().items():
            np.testing.assert_array_equal(got, other.dump()[memory])


def test_one_recording_ends_where_the_next_begins(device: RtlDevice, tmp_path: Path) -> None:
    first, second = tmp_path / "1.vcd", tmp_path / "2.vcd"
    device.trace(first)
    device.execute(ONE_STEP, LIMIT)
    device.trace(second)
    assert len(rises(read(first)["busy"])) == 1
    device.execute(ONE_STEP, LIMIT)
    device.execute(ONE_STEP, LIMIT)
    device.close()
    assert len(rises(read(second)["busy"])) == 2
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_folder_that_is_not_there_is_an_error_and_the_device_goes_on(
    device: RtlDevice, tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "run.vcd"
    with pytest.raises(DeviceError, match=r"the waveform .*run\.vcd cannot be written: No such"):
        device.trace(path)
    with pytest.raises(ValueError, match="cycles of a waveform must be at least 1, not 0"):
        device.trace(tmp_path / "run.vcd", 0)
    assert device.execute(ONE_STEP, LIMIT) == CYCLES


def test_a_file_that_cannot_be_moved_to_its_place_leaves_nothing(
    device: RtlDevice, tmp_path: Path
) -> None:
    path = tmp_path / "run.vcd"
    path.mkdir()
    device.trace(path)
    device.execute(ONE_STEP, LIMIT)
    with pytest.raises(DeviceError, match=r"run\.vcd cannot be written: Is a directory"):
        device.end_trace()
    assert list(tmp_path.iterdir()) == [path]
    assert device.execute(ONE_STEP, LIMIT) == CYCLES


def test_a_full_disk_is_an_error(device: RtlDevice, tmp_path: Path) -> None:
    (tmp_path / "run.vcd.part").symlink_to("/dev/full")
    device.trace(tmp_path / "run.vcd")
    assert device.execute(ONE_STEP, LIMIT) == CYCLES
    with pytest.raises(DeviceError, match=r"the waveform .*run\.vcd cannot be written"):
        device.end_trace()
    assert not list(tmp_path.iterdir())
    assert device.execute(ONE_STEP, LIMIT) == CYCLES


def test_a_closed_device_records_nothing(device: RtlDevice, tmp_path: Path) -> None:
    device.close()
    with pytest.raises(DeviceError, match="the device is closed"):
        device.trace(tmp_path / "run.vcd")


def test_the_reference_has_no_waveform_and_says_who_has(tmp_path: Path) -> None:
    geometry = Geometry(array=2, x_depth=4, w_depth=4, e_depth=4, program_depth=4)
    with pytest.raises(
        DeviceError,
        match="device reference has no signals to record: use cxxrtl, pysim or verilator for",
    ):
        trace(ReferenceDevice(geometry), tmp_path / "run.vcd")
