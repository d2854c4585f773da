from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import siligrad_hdl
from siligrad_cli.main import main

SMALL = ["--array", "4", "--hidden", "4", "--steps", "1", "--images", "32", "--device", "pysim"]
KEYS = [
    "seed",
    "array",
    "device",
    "steps",
    "float_accuracy",
    "integer_accuracy",
    "rtl_accuracy",
    "words_compared",
    "words_different",
    "cycles_predicted",
    "cycles_measured",
    "utilisation",
]


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with packages from `path` before all others."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([
            str(path),
            *filter(None, [os.environ.get("PYTHONPATH")]),
        ])
    return subprocess.run(
        [sys.executable, "-m", "siligrad_cli.main", "demo", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_finds_hardware_and_reference_equal_and_json_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *SMALL, "--seed", "3", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "report.json").read_text()
    report = json.loads(text)
    assert set(KEYS) <= set(report)
    assert [report[key] for key in ("seed", "array", "device", "steps")] == [3, 4, "pysim", 1]
    assert report["words_different"] == 0
    assert report["rtl_images"] == 32
    assert report["words_compared"] > 3 * 4 * 256 * 3  # a training step, two batches of inference
    assert report["cycles_measured"] == report["cycles_predicted"] > 0
    assert report["inference_cycles_measured"] == report["inference_cycles_predicted"] > 0
    assert re.search(r"^words different +0$", printed, re.MULTILINE)
    assert "7 instructions" in printed
    assert (tmp_path / "loss.svg").read_text().startswith("<?xml")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["loss.svg", "report.json"]
    # Again, in a process of its own: all that it prints is what is in the file, then as now.
    again = run(*SMALL, "--json", "--seed", "3", "--output", str(tmp_path / "again"))
    assert again.returncode == 0, again.stderr
    assert again.stdout == text == (tmp_path / "again" / "report.json").read_text()


# A broken machine: the file, what it says, what it is made to say, and what the demo says of it.
BROKEN = {
    "a cycle too many": (
        "fetch.py",
        "self.delay.eq(delay - 1)",
        "self.delay.eq(delay)",
        "training step 0: the cycle counter is",
    ),
    "a stuck mask": (
        "epilogue.py",
        "zero.eq(~s5_positive)",
        "zero.eq(0)",
        "training step 0: masked 2 (x = np.maximum(x @ W + b, 0), backward)[",
    ),
    "a run that never ends": (
        "stream.py",
        "self.last.eq(active & free & last_of_tile)",
        "self.last.eq(0)",
        # The watchdog ends it; nothing was written.
        "training step 0: relu 0 (x = np.maximum(x @ W + b, 0))[0, 0]",
    ),
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("a cycle too many", marks=pytest.mark.extended),
        "a stuck mask",
        "a run that never ends",
    ],
)
def test_broken_hardware_is_found_and_named(fault: str, tmp_path: Path) -> None:
    file, right, wrong, found = BROKEN[fault]
    assert siligrad_hdl.__file__ is not None
    broken = tmp_path / "siligrad_hdl"
    shutil.copytree(Path(siligrad_hdl.__file__).parent, broken)
    text = (broken / file).read_text()
    assert text.count(right) == 1
    (broken / file).write_text(text.replace(right, wrong))
    done = run(*SMALL, "--hidden", "8", "--output", str(tmp_path / "out"), path=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"siligrad: {found}")
    if "cycle" not in fault:
        assert "] (memory " in line
        assert "must be" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "abacus"], "there is no device 'abacus'; installed devices: "),
        (["--device", "reference"], "the demo compares a device with the reference"),
    ],
)
def test_a_wrong_device_is_one_line(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"siligrad: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--array", "17"], "--array: invalid choice"),
        (["--steps", "0"], "--steps: must be at least 1, not 0"),
        (["--seed", "-1"], "--seed: must be at least 0, not -1"),
        (["--hidden", "many"], "--hidden: must be a whole number, not 'many'"),
    ],
)
def test_a_wrong_option_says_which(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_help_lists_the_options() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in (
        "--array",
        "--steps",
        "--device",
        "--seed",
        "--hidden",
        "--images",
        "--json",
        "--output",
    ):
        assert option in done.stdout
