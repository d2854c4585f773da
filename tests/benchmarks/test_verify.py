"""The long campaign, made short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    known = os.environ.get("PYTHONPATH")
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.verify", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [known, str(ROOT)]))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_short_campaign_tells_what_it_compared_and_goes_on(tmp_path: Path) -> None:
    few = ("--programs", 9, "--chunk", 3, "--arrays", "2,3,4", "--operand-bits", 16)
    arguments = (*few, "--devices", "reference", "--workers", 1, "--output", tmp_path)
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "programs     9 of 9" in done.stdout
    assert "arrays       2: 3, 3: 3, 4: 3" in done.stdout
    assert "differences  0" in done.stdout
    assert re.search(r"^words +[1-9]\d+ compared$", done.stdout, re.MULTILINE)
    chunks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("chunk-*.json")}
    assert len(chunks) == 3
    again = run(*arguments)
    assert again.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1]  # but for the clock
    assert {path: path.stat().st_mtime_ns for path in chunks} == chunks
    other = run(*arguments, "--seed", 1)
    assert other.returncode == 1
    (line,) = other.stderr.splitlines()
    assert line.startswith("benchmarks.verify: ")
    assert "holds another campaign: its seed 0 instead of 1" in line
