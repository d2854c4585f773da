"""``siligrad verify``: what it compares, what it says of a difference, and eight bugs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from siligrad.device import device_class
from siligrad_cli.main import main
from tests.cli.hardware_bugs import BUGS, with_bug

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits.py"

SMALL = """
import numpy
import siligrad as sg
import siligrad.numpy as np

donate = {"step": "params"}
resident = {"predict": "params"}


def predict(params, x):
    W, b = params
    return x @ W + b


def loss(params, x, y):
    return np.mean(np.sum((predict(params, x) - y) ** 2, axis=1))


def step(params, x, y):
    dW, db = sg.grad(loss)(params, x, y)
    return params[0] - dW / 8, params[1] - db / 8


def arguments():
    rng = numpy.random.default_rng(0)
    params = rng.standard_normal((3, 3)), rng.standard_normal(3)
    return {"params": params, "x": rng.random((4, 3)), "y": rng.random((4, 3))}
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(SMALL)
    return path


def verify(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with packages from `path` before all others."""
    environment = dict(os.environ)
    if path is not None:
        known = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [known])])
    return subprocess.run(
        [sys.executable, "-m", "siligrad_cli.main", "verify", *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_network_and_random_programs_are_compared_and_reported(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [str(network), "--array", "2", "--devices", "reference,pysim", "--steps", "2"]
    assert main(["verify", *arguments, "--random", "4", "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "the reference with pysim" in printed
    report = json.loads((out / "report.json").read_text())
    assert report["passed"] is True
    assert report["failures"] == []
    assert report["programs"] == 2
    checks = [row["check"] for row in report["rows"]]
    assert checks == [
        "your data",
        "coarse numbers",
        "largest inputs",
        "everything saturates",
        "zeros",
        "after a run that was cut off",
        "variation 0",
        "variation 1",
        "random programs",
    ]
    words = 2 * 256 * 3  # of the three memories, after each run
    assert [row["words"] for row in report["rows"][:2]] == [2 * words, 2 * words]
    assert report["words_compared"] == sum(row["words"] for row in report["rows"])
    assert sum(row["saturations"] for row in report["rows"]) > 0
    page = (out / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "no difference" in page
    assert "http" not in page


def test_json_is_all_that_json_prints_and_the_function_is_chosen(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(network), "--function", "predict", "--array", "2", "--devices", "pysim"]
    arguments += ["--steps", "1", "--random", "0", "--json", "--output", str(tmp_path / "out")]
    assert main(["verify", *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "report.json").read_text()
    assert json.loads(printed)["network"].endswith("net.py: predict")


def test_without_a_file_random_programs_alone_are_run_and_a_stopped_campaign_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["verify", "--array", "2", "--devices", "pysim", "--random", "3"]
    for _ in range(2):  # what is complete is run again, not only told again
        assert main([*arguments, "--output", str(tmp_path)]) == 0
        assert "random    3 programs" in capsys.readouterr().out
    (folder,) = tmp_path.glob("random-*")
    assert len(list(folder.glob("chunk-*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "abacus"], "there is no device 'abacus'"),
        (["--devices", "reference"], "the reference alone has nothing to be compared with"),
        (["no-such-file.py"], "no-such-file.py cannot be read"),
        (["--replay", "no-such-folder", "--devices", "pysim"], "image.sgp: No such file"),
        (["--sum-bits", "20"], "sum_bits must be at least 32"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *arguments, "--output", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("siligrad: ")
    assert message in line


def test_a_device_that_lacks_its_tools_is_skipped_only_if_nobody_named_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from siligrad_cli import verify as command

    monkeypatch.setattr(command, "DEVICES", ("abacus", "pysim"))
    arguments = ["verify", "--array", "2", "--random", "1", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert "skipped   device 'abacus' cannot be used here" in capsys.readouterr().out
    assert main([*arguments, "--devices", "pysim,abacus"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no device 'abacus'" in line


def quickest_device() -> str:
    """The device in which a changed hardware runs soonest."""
    return next(name for name in ("icarus", "pysim") if device_class(name).available() is None)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_of_the_hardware_is_found_on_the_demo_network(name: str, tmp_path: Path) -> None:
    package = with_bug(BUGS[name], tmp_path / "broken")
    out = tmp_path / "out"
    device = quickest_device()
    done = verify(
        *(DIGITS, "--array", 4, "--devices", device, "--steps", 1, "--random", 0, "--output", out),
        path=package,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"siligrad: {device}, run 0: ")
    assert "word " in line or "the cycle counter is" in line
    report = json.loads((out / "report.json").read_text())
    (failure,) = report["failures"]
    assert f"siligrad verify --replay {failure['folder']}" in line
    if name == "stale mask":  # once is enough
        again = verify("--replay", failure["folder"], path=package)
        assert again.returncode == 1
        assert report["failures"][0]["message"] in again.stderr
        right = verify("--replay", failure["folder"])
        assert right.returncode == 0, right.stderr
        assert "equal in" in right.stdout


def test_a_bug_whose_place_has_gone_fails_loudly(tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(AssertionError, match="0 times, not once"):
        with_bug(replace(BUGS["stale mask"], right="no such text"), tmp_path)
