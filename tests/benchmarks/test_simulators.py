from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark on a smaller network, with what earlier tests have built."""
    script = (
        "import sys\n"
        "from benchmarks import simulators\n"
        "simulators.LAYERS, simulators.BATCH = (4, 3, 2), 4\n"
        "sys.exit(simulators.main(['--cached', *sys.argv[1:]]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_simulator_runs_the_step_and_is_beside_the_yardstick() -> None:
    done = run("--sizes", "2", "--seconds", "0.2", "--json", "--only", "pysim", "cocotb + Icarus")
    assert done.returncode == 0, done.stderr
    table: dict[str, Any] = json.loads(done.stdout)
    results = table["results"]["2"]
    assert list(results) == ["pysim", "cocotb + Icarus"]
    yardstick = results["cocotb + Icarus"]
    assert yardstick["ratio"] == 1
    assert results["pysim"]["ratio"] == pytest.approx(results["pysim"]["rate"] / yardstick["rate"])
    assert yardstick["build"] is None
    # 4 x 4 x 3 products twice and 4 x 3 x 2 thrice, on four multipliers.
    assert table["cycles"]["2"] > (2 * 4 * 4 * 3 + 3 * 4 * 3 * 2) / 4


def test_the_table_is_printed_for_people_and_lists_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = run("--sizes", "2", "--seconds", "0.1", "--only", "cxxrtl", "pysim")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "a step of 4-3-2, batch 4, over and over"
    at = next(k for k, line in enumerate(lines) if line.startswith("N = 2, "))
    assert lines[at + 1].startswith("pysim ")
    assert lines[at + 2].startswith("cxxrtl ")
    assert "missing: CXX names the C++ compiler 'no-such-compiler'" in lines[at + 2]


def test_seconds_must_be_positive() -> None:
    done = run("--seconds", "0")
    assert done.returncode == 2
    assert "--seconds must be above zero, not 0.0" in done.stderr
