"""The lean forms of components do what the others do, in the same cycles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from amaranth.lib import wiring

from siligrad.isa import AuxMode, Timing
from siligrad_hdl.boards import BOARDS, find_board
from siligrad_hdl.cell import ProcessingElement
from siligrad_hdl.epilogue import Epilogue, EpilogueControl, EpilogueLane
from siligrad_hdl.saturations import SaturationCounters
from siligrad_hdl.scratchpad import ReadRequest, SkewedMemory
from siligrad_hdl.vendor import is_lean
from tests.hdl.test_vendor import simulate, yosys_models

CYCLES = 1000


def both(
    make: Callable[[], wiring.Component], stimulus: list[dict[str, int]], folder: Path
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the outputs of a component in each cycle, and those of its lean form."""
    rows = []
    for name, platform in (("usual", None), ("lean", find_board("hx8k").platform())):
        (folder / name).mkdir()
        rows.append(
            simulate(make(), stimulus, yosys_models("ice40"), folder / name, platform=platform)
        )
    return rows[0], rows[1]


def random_words(rng: np.random.Generator, bits: int, count: int) -> list[int]:
    """Return words of all magnitudes, among them the largest, the smallest and zeros."""
    words = rng.integers(0, 1 << bits, count) >> rng.integers(0, bits + 1, count)
    signs = rng.integers(0, 2, count) * ((1 << bits) - 1)
    return [int(word) for word in words ^ signs]


@pytest.mark.parametrize(("array", "word_bits", "sum_bits"), [(4, 8, 20), (2, 16, 40)])
def test_the_epilogue(array: int, word_bits: int, sum_bits: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(word_bits)
    layout = EpilogueControl()
    lanes = range(array)
    sums = [random_words(rng, sum_bits, CYCLES) for _ in lanes]
    auxes = [random_words(rng, word_bits, CYCLES) for _ in lanes]
    stimulus = []
    for cycle in range(CYCLES):
        control = layout.const({
            "valid": int(rng.integers(0, 4) > 0),
            "shift": int(rng.integers(0, sum_bits + 8)),
            "rounding": int(rng.integers(0, 4)),
            "aux_mode": int(rng.choice([mode.value for mode in AuxMode])),
            "gate": int(rng.integers(0, 4)),
            "negate": int(rng.integers(0, 2)),
        })
        stimulus.append({
            "control": int(control.as_bits()),
            **{f"sums__{lane}": sums[lane][cycle] for lane in lanes},
            **{f"aux__{lane}": auxes[lane][cycle] for lane in lanes},
            "idle": int(rng.integers(0, 20) == 0),
            "word": int(rng.integers(0, 1 << word_bits)),
            "load": int(rng.integers(0, 1 << array)) if cycle % 50 == 0 else 0,
            "load_state": int(rng.integers(1, 1 << 32)),
        })

    def make() -> Epilogue:
        return Epilogue(array=array, word_bits=word_bits, sum_bits=sum_bits)

    usual, lean = both(make, stimulus, tmp_path)
    late = EpilogueLane.latency + array + 1
    assert lean[late:] == usual[late:]
    assert {int(row["saturations"], 2) for row in usual[late:]} >= {0, 1, 2}


def test_a_cell(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stimulus: list[dict[str, int]] = []
    rest = 0  # cycles of the tile that are left
    for _ in range(CYCLES):
        rest = int(rng.integers(1, 9)) if rest == 0 else rest - 1
        stimulus.append({
            "a_west": int(rng.integers(0, 256)),
            "b_north": int(rng.integers(0, 256)),
            "last_west": int(rest == 0),
            "accept_west": int(rng.integers(0, 2)),
            "drain_north": int(rng.integers(0, 1 << 20)),
        })
    usual, lean = both(lambda: ProcessingElement(operand_bits=8, sum_bits=20), stimulus, tmp_path)
    # From the second tile on: what there was before the first one is not known.
    ends = [cycle for cycle, values in enumerate(stimulus) if values["last_west"]]
    assert lean[ends[1] + 1 :] == usual[ends[1] + 1 :]
    assert len({row["drain_south"] for row in usual[ends[1] + 1 :]}) > len(ends)


@pytest.mark.parametrize("array", [2, 3, 4])
def test_a_memory(array: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(array)
    depth, address_bits = 8 * array, (8 * array - 1).bit_length()
    init = [[int(word) for word in rng.integers(-128, 128, depth)] for _ in range(array)]
    layout = ReadRequest(array=array, address_bits=address_bits)
    stimulus = []
    for cycle in range(CYCLES):
        # A half is read and the other one written; they change places after each sixteen cycles,
        # of which the first ones write nothing: what was asked for before is still being read.
        half = cycle // 16 % 2
        request = layout.const({
            "address": array * int(rng.integers(0, 4)) + half * 4 * array,
            "index": int(rng.integers(0, array)),
            "column": int(rng.integers(0, 2)),
            "word": 0,
        })
        places = rng.integers(0, 4 * array, array) + (1 - half) * 4 * array
        stimulus.append({
            "request": int(request.as_bits()),
            "write_enable": int(rng.integers(0, 1 << array)) if cycle % 16 > 2 else 0,
            **{f"write_addresses__{bank}": int(places[bank]) for bank in range(array)},
            **{f"write_data__{bank}": int(rng.integers(0, 256)) for bank in range(array)},
        })

    def make() -> wiring.Component:
        return SkewedMemory(
            array=array, word_bits=8, depth=depth, address_bits=address_bits, init=init
        )

    usual, lean = both(make, stimulus, tmp_path)
    late = Timing(array).read
    assert lean[late:] == usual[late:]
    assert not any("x" in word for row in lean[late:] for word in row.values())


def test_counters_of_what_saturated(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    instructions, steps, idle = 5, 4, {"count": 0, "count_first": 0, "write": 0, "add": 0}
    stimulus: list[dict[str, int]] = []
    asked: list[tuple[int, int]] = []  # cycles and instructions that are looked at
    counts: dict[int, int] = {}
    for step in range(steps):
        for instruction in range(instructions):
            rows = [int(count) for count in rng.integers(0, 5, int(rng.integers(2, 6)))]
            counts[instruction] = sum(rows) + (counts[instruction] if step else 0)
            for number, count in enumerate(rows):
                first = {"count": 1, "count_first": int(number == 0)}
                stimulus.append({**idle, **first, "saturations": count, "address": instruction})
            # As the sequencer has it: a cycle behind the last row.
            stimulus.append({
                **idle,
                "write": 1,
                "add": int(step > 0),
                "saturations": 0,
                "address": instruction,
            })
            stimulus += [{**idle, "saturations": 0, "address": instruction}] * 4
    for instruction in range(instructions):
        asked.append((len(stimulus) + SaturationCounters.latency, instruction))
        stimulus += [{**idle, "saturations": 0, "address": instruction}] * 3
    outcomes = both(
        lambda: SaturationCounters(array=4, instructions=instructions), stimulus, tmp_path
    )
    for rows_of in outcomes:
        found = [int(rows_of[cycle]["read_data"], 2) for cycle, _ in asked]
        assert found == [counts[instruction] for _, instruction in asked]


def test_only_ice40_is_lean() -> None:
    lean = {name for name, board in BOARDS.items() if is_lean(board.platform())}
    assert lean == {"icebreaker", "upduino", "hx8k"}
    assert not is_lean(None)
