from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.compile_time", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    done = run("--repeats", "3", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_step_of_two_hidden_layers_compiles_in_less_than_two_seconds(
    table: dict[str, Any],
) -> None:
    # Forward, three; errors of the hidden layers, two; updates of three matrices and biases.
    assert table["step"]["instructions"] == 3 + 2 + 6
    assert 0 < table["step"]["processor"] < 2


def test_the_time_grows_about_as_the_program_does(table: dict[str, Any]) -> None:
    # Of each network: hidden layers h give h + 1 forward, h errors, 2 (h + 1) updates.
    counts = {
        "hidden layers": lambda size: 4 * size + 3,
        "perceptrons side by side": lambda size: 7 * size,
    }
    assert set(table["families"]) == set(table["exponents"]) == set(counts)
    for name, rows in table["families"].items():
        assert [row["size"] for row in rows] == [2, 4, 8, 16, 32, 64]
        for row in rows:
            assert row["instructions"] == counts[name](row["size"])
        # A pass that is quadratic in the operations and takes most of the time is seen here.
        last = rows[-1]["processor"] / rows[-3]["processor"]
        assert last < 4**1.6, (name, last)
        assert table["exponents"][name] < 1.4, name


def test_the_exponent_is_that_of_the_power_law() -> None:
    script = (
        "from benchmarks.compile_time import exponent\n"
        "print(exponent([2, 4, 8], [3 * 2**1.5, 3 * 4**1.5, 3 * 8**1.5]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(1.5)


def test_the_table_is_printed_for_people() -> None:
    done = run("--repeats", "1", "--largest", "4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "sg.compile of a training step, median of 1, one thread"
    assert re.fullmatch(r"784-256-128-10 +11 +\d+\.\d{3} +\d+\.\d{3}", lines[4])
    at = lines.index("hidden layers")
    assert re.fullmatch(r"2 +11 +\d+\.\d{3} +\d+\.\d{3}", lines[at + 1])
    assert re.fullmatch(r"4 +19 +\d+\.\d{3} +\d+\.\d{3}", lines[at + 2])
    assert re.fullmatch(r"exponent +-?\d+\.\d\d", lines[at + 3])
    assert lines[at + 5] == "perceptrons side by side"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--repeats", "0"), "--repeats must be at least 1, not 0"),
        (("--largest", "3"), "--largest must be at least 4, not 3"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: tuple[str, str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: {message}\n")
