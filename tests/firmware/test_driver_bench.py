"""The C driver through cocotb: the third bed, on the hardware in Icarus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import siligrad as sg
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.bench_runner import BenchFailed, run_bench
from tests.firmware.driver_programs import demo_program, expected, small_program

pytestmark = pytest.mark.xdist_group("driver")


def run(library_path: Path, program: sg.Program, data: tuple[Any, ...], wrong: int = 0) -> None:
    runs = 1
    want = expected(program, data, runs)
    n = program.geometry.array
    tensors = {}
    for tensor in program.tensors:  # the parameters; data are in the words that are compared here
        if tensor.name.startswith("params"):
            words = want.words[tensor.memory][tensor.base : tensor.base + tensor.words(n)]
            tensors[tensor.name] = tensor.unpack(words, n)
    tensors["params[0][0]"] = tensors["params[0][0]"].copy()
    tensors["params[0][0]"][1, 0] += wrong
    parameters = {
        "library": str(library_path),
        "image": program.to_bytes().hex(),
        "runs": runs,
        "codes": {name: codes[0].tolist() for name, codes in want.codes.items()},
        "expected": {name: codes.tolist() for name, codes in tensors.items()},
        "lfsr": want.lfsr,
        "saturations": want.saturations,
    }
    passed = run_bench(
        Accelerator(program.geometry),
        "tests.firmware.driver_bench",
        simulator="icarus",
        parameters=parameters,
    )
    assert passed == ["the_driver_trains"]


def test_a_network_trains_through_cocotb(library_path: Path) -> None:
    run(library_path, *small_program())


@pytest.mark.extended
def test_the_demo_network_trains_through_cocotb(library_path: Path) -> None:
    run(library_path, *demo_program(array=4))


def test_a_wrong_weight_is_noticed(library_path: Path) -> None:
    with pytest.raises(BenchFailed, match=r"params\[0\]\[0\]"):
        run(library_path, *small_program(), wrong=1)
