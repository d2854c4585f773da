from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
PEERS = {"HIPS autograd": "autograd", "JAX jit": "jax", "PyTorch eager": "torch"}


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the benchmark, or a script that imports it, in a process of its own."""
    command = ["-c", code] if code else ["-m", "benchmarks.frontend", *arguments]
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    done = run("--rounds", "2", "--milliseconds", "1", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_table_has_every_contender_on_both_sizes_or_says_that_it_is_missing(
    table: dict[str, Any],
) -> None:
    assert list(table["results"]) == ["784-128-10", "64-32-10"]
    everyone = {"numpy, by hand", "siligrad static", "siligrad eager", *PEERS}
    for results in table["results"].values():
        assert set(results) | set(table["missing"]) == everyone
        assert not set(results) & set(table["missing"])
        assert results["numpy, by hand"]["ratio"] == 1
        for result in results.values():
            assert result["low"] <= result["microseconds"] <= result["high"]
            assert result["difference"] < 1e-3
    for contender, module in PEERS.items():
        assert (contender in table["missing"]) == (find_spec(module) is None)


def test_memory_does_not_grow_over_steps(table: dict[str, Any]) -> None:
    for results in table["results"].values():
        for contender in ("numpy, by hand", "siligrad static", "siligrad eager"):
            assert results[contender]["growth"] < 100_000, contender


def test_the_table_is_printed_for_people_and_lists_what_is_missing() -> None:
    script = (
        "import sys\n"
        "sys.modules['jax'] = sys.modules['torch'] = None\n"
        "from benchmarks import frontend\n"
        "frontend.MEMORY_STEPS = 5, 5\n"  # quick: another test looks at the memory
        "frontend.main(['--rounds', '1', '--milliseconds', '1'])\n"
    )
    done = run(code=script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("one step of gradient descent, squared hinge, batch 32, float32")
    for size in ("784-128-10", "64-32-10"):
        at = next(k for k, line in enumerate(lines) if line.startswith(size))
        assert [line[:15].strip() for line in lines[at + 1 : at + 7]] == [
            "numpy, by hand",
            "siligrad static",
            "siligrad eager",
            "HIPS autograd",
            "JAX jit",
            "PyTorch eager",
        ]
        assert "missing: " in lines[at + 5]
        assert "missing: " in lines[at + 6]


def test_a_contender_that_computes_something_else_is_not_timed() -> None:
    script = (
        "import sys\n"
        "from benchmarks import frontend\n"
        "right = frontend.CONTENDERS['siligrad eager'][0]\n"
        "def wrong(params, batches):\n"
        "    return right(params, [(x, -y) for x, y in batches])\n"
        "frontend.CONTENDERS['siligrad eager'] = wrong, 'siligrad'\n"
        "sys.exit(frontend.main(['--rounds', '1']))\n"
    )
    done = run(code=script)
    assert done.returncode == 1
    assert "siligrad eager, 784-128-10: after 20 steps a parameter differs" in done.stderr
    assert not done.stdout


def test_one_thread_is_asked_for_before_numpy_is_loaded() -> None:
    script = "import benchmarks.frontend, os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    assert run(code=script).stdout == "1\n"
