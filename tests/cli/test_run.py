from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray

import siligrad as sg
import siligrad.numpy as np
from siligrad import device as devices
from siligrad.isa import Loop, Memory
from siligrad_cli.main import main
from siligrad_sim.reference import ReferenceDevice

BATCH, INPUTS, HIDDEN, CLASSES = 4, 5, 6, 3
ROWS = 7


def predict(params: Any, x: Any) -> Any:
    W, V = params
    return np.maximum(x @ W, 0) @ V


def loss(params: Any, x: Any, y: Any) -> Any:
    return np.mean(np.sum(np.maximum(1 - y * predict(params, x), 0) ** 2, axis=1))


def step(params: Any, x: Any, y: Any) -> Any:
    slopes = sg.grad(loss)(params, x, y)
    return [w - 2**-4 * slope for w, slope in zip(params, slopes, strict=True)]


def step_and_scores(params: Any, x: Any, y: Any) -> Any:
    return step(params, x, y), predict(params, x)


def start() -> list[Any]:
    rng = numpy.random.default_rng(0)
    return [rng.standard_normal((INPUTS, HIDDEN)) / 2, rng.standard_normal((HIDDEN, CLASSES)) / 2]


def data(rows: int = ROWS) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = numpy.random.default_rng(1)
    return rng.random((rows, BATCH, INPUTS)), rng.choice([-1.0, 1.0], (rows, BATCH, CLASSES))


def compiled(path: Path, function: Any = step, steps: int = 1) -> Path:
    x, y = data(1)
    target = sg.Target(array=4)
    program = sg.compile(function, start(), x[0], y[0], donate=0, target=target, steps=steps)
    program.save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return compiled(tmp_path / "step.sgp")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    x, y = data()
    path = tmp_path / "inputs.npz"
    numpy.savez(path, x=x, y=y)
    return path


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with numpy.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def save(path: Path, content: dict[str, Any]) -> None:
    numpy.savez(path, allow_pickle=False, **content)


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line with which the command fails."""
    capsys.readouterr()
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("siligrad: ")
    assert error.count("\n") == 1
    return error.removeprefix("siligrad: ").rstrip("\n")


# --- what it does


def test_a_run_is_what_the_library_does(tmp_path: Path, image: Path, inputs: Path) -> None:
    results = tmp_path / "results.npz"
    assert run(image, "--input", inputs, "--seed", 5, "--output", results) == 0
    with sg.open_device("reference", sg.Program.load(image), seed=5) as device:
        for x, y in zip(*data(), strict=True):
            device.run(x, y)
        (expected,) = device.read()
    found = arrays(results)
    assert sorted(found) == ["params[0]", "params[1]"]
    for name, value in zip(sorted(found), expected, strict=True):
        numpy.testing.assert_array_equal(found[name], value)


def test_cycles_and_saturations_are_reported(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cycles = sg.Program.load(image).cycles
    assert run(image, "--steps", 3) == 0
    printed = capsys.readouterr().out
    assert "random numbers within each input's limit, seed 0" in printed
    assert f"3 steps on reference: {cycles} cycles each predicted, {cycles} measured" in printed


def test_saturations_are_told_by_line(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Weights at the edge of their format, and inputs of one sign: a hidden unit overflows.
    x, y = numpy.ones((1, BATCH, INPUTS)), numpy.ones((1, BATCH, CLASSES))
    path = tmp_path / "large.npz"
    weights = numpy.full((INPUTS, HIDDEN), 100.0)
    save(path, {"x": x * 0.99, "y": y, "params[0]": weights})
    assert run(image, "--input", path) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("saturated"))
    assert line == (
        f"saturated instruction 0 (return np.maximum(x @ W, 0) @ V): {BATCH * HIDDEN} elements"
    )


def test_results_of_every_step_are_kept(tmp_path: Path, inputs: Path) -> None:
    image = compiled(tmp_path / "scores.sgp", step_and_scores)
    results = tmp_path / "results.npz"
    assert run(image, "--input", inputs, "--output", results) == 0
    found = arrays(results)
    assert sorted(found) == ["params[0]", "params[1]", "result[1]"]
    assert found["result[1]"].shape == (ROWS, BATCH, CLASSES)
    first = predict(start(), data()[0][0])
    numpy.testing.assert_allclose(found["result[1]"][0], first, atol=0.01)


def test_several_steps_a_run_give_the_bits_of_one_step_a_run(tmp_path: Path, inputs: Path) -> None:
    found = []
    for name, steps in (("one", 1), ("three", 3)):
        image = compiled(tmp_path / f"{name}.sgp", step_and_scores, steps)
        results = tmp_path / f"{name}.npz"
        assert run(image, "--input", inputs, "--steps", 6, "--output", results) == 0
        found.append(arrays(results))
    for name, value in found[0].items():
        numpy.testing.assert_array_equal(found[1][name], value)


def test_data_that_are_used_up_begin_again(tmp_path: Path, image: Path, inputs: Path) -> None:
    x, y = data()
    twice = tmp_path / "twice.npz"
    numpy.savez(twice, x=numpy.concatenate([x, x]), y=numpy.concatenate([y, y]))
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    assert run(image, "--input", inputs, "--steps", 2 * ROWS, "--output", a) == 0
    assert run(image, "--input", twice, "--output", b) == 0
    assert a.read_bytes() == b.read_bytes()


def test_what_stays_in_the_device_can_be_given(tmp_path: Path, image: Path, inputs: Path) -> None:
    a, b, c = (tmp_path / f"{name}.npz" for name in "abc")
    assert run(image, "--input", inputs, "--steps", 1, "--output", a) == 0
    weights = tmp_path / "weights.npz"
    save(weights, {"params[0]": start()[0] / 2})
    assert run(image, "--input", inputs, "--input", weights, "--steps", 1, "--output", b) == 0
    assert a.read_bytes() != b.read_bytes()
    save(weights, {"params[0]": start()[0]})
    assert run(image, "--input", inputs, "--input", weights, "--steps", 1, "--output", c) == 0
    assert a.read_bytes() == c.read_bytes()


def test_json_is_all_that_is_printed(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, "--steps", 2, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["cycles_predicted"] == content["cycles_measured"]
    assert (content["steps"], content["runs"], content["words_compared"]) == (2, 2, 0)


# --- beside the reference


class Wrong(ReferenceDevice):
    """A device that computes one word wrongly in its third run."""

    name = "wrong"
    runs = 0

    def execute(self, loop: Loop, limit: int) -> int:
        cycles = super().execute(loop, limit)
        self.runs += 1
        if self.runs == 3:
            words = self.read_words(Memory.W, 0, 1)
            self.write_words(Memory.W, 0, words ^ 1)
        return cycles


class Slow(ReferenceDevice):
    """A device that takes a cycle too long."""

    name = "slow"

    def execute(self, loop: Loop, limit: int) -> int:
        return super().execute(loop, limit) + 1


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = devices.device_class

    def device_class(name: str) -> type[devices.Device]:
        return {"wrong": Wrong, "slow": Slow}.get(name) or found(name)

    monkeypatch.setattr("siligrad_cli.run.device_class", device_class)


@pytest.mark.usefixtures("broken")
def test_the_first_difference_is_one_line(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, image, "--device", "wrong", "--steps", 9)
    assert error.startswith("device wrong differs from the reference in the run after 2 steps: ")
    assert "params[0][0, 0] (memory W, word 0, bank 0) is" in error
    assert run(image, "--device", "wrong", "--steps", 9, "--no-compare") == 0


@pytest.mark.usefixtures("broken")
def test_cycles_that_were_not_promised_are_one_line(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cycles = sg.Program.load(image).cycles
    error = refused(capsys, image, "--device", "slow", "--steps", 9)
    assert f"the cycle counter is {cycles + 1}, but must be {cycles}" in error
    error = refused(capsys, image, "--device", "slow", "--no-compare")
    assert f"took {cycles + 1} cycles" in error


def test_the_hardware_is_compared_word_by_word(
    tmp_path: Path, image: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waveform = tmp_path / "run.vcd"
    options = ["--device", "pysim", "--input", inputs, "--steps", 1]
    assert run(image, *options, "--vcd", waveform, "--vcd-cycles", 50) == 0
    printed = capsys.readouterr().out
    geometry = sg.Program.load(image).geometry
    words = 4 * sum(geometry.depth(memory) for memory in Memory)
    assert f"{words} words with the reference, all equal" in printed
    assert "$timescale" in waveform.read_text()


def test_the_reference_is_not_compared_with_itself(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "choose another --device" in refused(capsys, image, "--compare")


def test_the_reference_has_no_waveform(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no signals to record" in refused(capsys, image, "--vcd", tmp_path / "run.vcd")


# --- stopping and going on


def test_a_run_in_two_halves_ends_with_the_bits_of_a_whole_one(
    tmp_path: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = compiled(tmp_path / "scores.sgp", step_and_scores)
    whole, half, state = tmp_path / "whole.npz", tmp_path / "half.npz", tmp_path / "state.npz"
    data = ["--input", inputs]
    assert run(image, *data, "--steps", 20, "--output", whole, "--state", tmp_path / "w.npz") == 0
    assert run(image, *data, "--steps", 8, "--output", half, "--state", state) == 0
    capsys.readouterr()
    options = ["--steps", 20, "--output", half, "--resume", state]
    assert run(image, *data, *options) == 0
    assert "resumed   after 8 steps" in capsys.readouterr().out
    assert half.read_bytes() == whole.read_bytes()
    assert state.read_bytes() == (tmp_path / "w.npz").read_bytes()


def test_a_run_goes_on_on_another_device(tmp_path: Path, image: Path, inputs: Path) -> None:
    states = [tmp_path / "a.npz", tmp_path / "b.npz"]
    assert run(image, "--input", inputs, "--steps", 3, "--state", states[0]) == 0
    assert run(image, "--input", inputs, "--steps", 2, "--state", states[1]) == 0
    options = ["--device", "pysim", "--steps", 3, "--resume", states[1]]
    assert run(image, "--input", inputs, *options) == 0
    assert states[0].read_bytes() == states[1].read_bytes()


def begin(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "siligrad_cli.main", "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("random", [False, True])
def test_ctrl_c_stops_and_resume_ends_with_the_same_bits(
    tmp_path: Path, image: Path, inputs: Path, random: bool
) -> None:
    state, results = tmp_path / "state.npz", tmp_path / "results.npz"
    given: Sequence[object] = [] if random else ["--input", inputs]
    options = [*given, "--seed", 3, "--save-every", 5]
    process = begin(image, *options, "--steps", 10**7, "--state", state)
    wait_for(state, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.count("\n") == 1
    done = int(error.split(" after ")[1].split()[0])
    assert done >= 5
    assert f"interrupted after {done} of 10000000 steps" in error
    assert f"--resume {state}" in error

    total = done + 17
    whole = tmp_path / "whole.npz"
    assert run(image, *options, "--steps", total, "--output", whole) == 0
    assert run(image, *given, "--resume", state, "--steps", total, "--output", results) == 0
    assert results.read_bytes() == whole.read_bytes()


def test_a_killed_run_goes_on_from_the_last_state(
    tmp_path: Path, image: Path, inputs: Path
) -> None:
    state, results, whole = (tmp_path / f"{name}.npz" for name in ("state", "results", "whole"))
    options = ["--input", inputs, "--save-every", 3, "--state", state]
    process = begin(image, *options, "--steps", 10**7)
    wait_for(state, process)
    process.kill()
    process.communicate()
    metadata = json.loads(arrays(state)["metadata.json"].tobytes())
    assert metadata["done"] % 3 == 0
    total = metadata["done"] + 4
    assert run(image, "--input", inputs, "--steps", total, "--output", whole) == 0
    options = ["--input", inputs, "--steps", total, "--output", results, "--resume", state]
    assert run(image, *options) == 0
    assert results.read_bytes() == whole.read_bytes()


def test_without_a_state_ctrl_c_says_that_nothing_was_saved(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(self: ReferenceDevice, loop: Loop, limit: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, loop, limit)

    original = ReferenceDevice.execute
    monkeypatch.setattr(ReferenceDevice, "execute", execute)
    assert run(image, "--steps", 5) == 130
    error = capsys.readouterr().err
    assert error == (
        "siligrad: interrupted after 1 of 5 steps; nothing was saved, --state FILE would have\n"
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_states_of_others_are_refused(
    tmp_path: Path, image: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.npz"
    assert run(image, "--input", inputs, "--steps", 2, "--state", state) == 0
    other = compiled(tmp_path / "other.sgp", step_and_scores)
    error = refused(capsys, other, "--input", inputs, "--resume", state)
    assert "is the state of another program than 'step_and_scores'" in error
    assert "other inputs" in refused(capsys, image, "--resume", state)
    options = ["--input", inputs, "--resume", state]
    assert "started with, 0" in refused(capsys, image, *options, "--seed", 4)
    assert "numbers contradict" not in refused(capsys, image, "--resume", inputs)
    assert "is no state of a run" in refused(capsys, image, "--resume", inputs)
    image_with_results = ["--output", tmp_path / "r.npz"]
    assert run(other, "--input", inputs, "--steps", 2, "--state", state) == 0
    error = refused(capsys, other, *options, *image_with_results)
    assert "started without --output" in error


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("X", lambda a: a[1:], "X is not int16"),
        ("W", lambda a: a.astype(numpy.float64), "W is not int16"),
        ("E", lambda a: numpy.full_like(a, -(2**15)), "a word is beyond 32767"),
        ("lfsr", numpy.zeros_like, "contradict"),
        ("saturations", lambda a: a[:1], "saturations is not int64"),
    ],
)
def test_damaged_states_are_refused(
    tmp_path: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: Any,
    message: str,
) -> None:
    state = tmp_path / "state.npz"
    assert run(image, "--state", state) == 0
    found = arrays(state)
    found[name] = change(found[name])
    save(state, found)
    assert message in refused(capsys, image, "--resume", state)


def test_a_truncated_state_is_refused(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.npz"
    assert run(image, "--state", state) == 0
    state.write_bytes(state.read_bytes()[:-30])
    assert "no readable .npz file" in refused(capsys, image, "--resume", state)


# --- what goes wrong


def test_images_that_are_none(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file" in refused(capsys, tmp_path / "none.sgp")
    blob = bytearray(image.read_bytes())
    blob[200] ^= 1
    image.write_bytes(blob)
    assert "damaged" in refused(capsys, image)
    image.write_bytes(b"PK" + bytes(blob))
    assert "not a siligrad image" in refused(capsys, image)


def test_an_unknown_device(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, image, "--device", "fpga9000")
    assert error.startswith("there is no device 'fpga9000'; installed devices: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"y": None},
            "has no array 'y', which the program is given in every step: shape (steps, 4, 3)",
        ),
        ({"z": numpy.ones(3)}, "the program has no array 'z'; it has x, y, params[0], params[1]"),
        ({"x": numpy.ones((ROWS, 5, 4))}, "x must have shape (steps, 4, 5), not (7, 5, 4)"),
        ({"x": numpy.float64(1)}, "x must have shape (steps, 4, 5), not ()"),
        ({"x": numpy.ones((0, 4, 5))}, "x must have shape (steps, 4, 5), not (0, 4, 5)"),
        ({"x": numpy.ones((3, 4, 5)) / 2}, "different numbers of steps: 3 of x, 7 of y"),
        ({"x": numpy.full((ROWS, 4, 5), "a")}, "x holds <U1, not numbers"),
        ({"x": numpy.full((ROWS, 4, 5), 99.0)}, "step 0: x reaches 99, but was calibrated"),
        ({"y": numpy.zeros((ROWS, 4, 3))}, "targets of +1 and -1"),
        ({"params[0]": numpy.ones((3, 5, 6))}, "params[0] must have shape (5, 6), not (3, 5, 6)"),
    ],
)
def test_inputs_that_do_not_fit(
    tmp_path: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    message: str,
) -> None:
    x, y = data()
    given = {"x": x, "y": y, **change}
    path = tmp_path / "inputs.npz"
    save(path, {name: value for name, value in given.items() if value is not None})
    error = refused(capsys, image, "--input", path)
    assert str(path) in error
    assert message in error


def test_a_number_that_is_none_is_named(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = data()
    x[3, 2, 1] = numpy.nan
    path = tmp_path / "inputs.npz"
    numpy.savez(path, x=x, y=y)
    assert f"{path}: step 3: x[2, 1] is nan" in refused(capsys, image, "--input", path)


def test_files_that_are_no_inputs(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "inputs.npz"
    assert "No such file" in refused(capsys, image, "--input", path)
    path.write_text("x = 1")
    assert "no readable .npz file" in refused(capsys, image, "--input", path)
    numpy.savez(path, allow_pickle=True, x=numpy.array([{}], dtype=object))
    assert "holds objects, which are never read" in refused(capsys, image, "--input", path)


def test_inputs_are_bounded(
    tmp_path: Path,
    image: Path,
    inputs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siligrad_cli.archive.BYTES_MAX", 1000)
    assert "at most 1000 are read" in refused(capsys, image, "--input", inputs)
    monkeypatch.setattr("siligrad_cli.run.BYTES_MAX", 1000)
    scores = compiled(tmp_path / "scores.sgp", step_and_scores)
    error = refused(capsys, scores, "--steps", 100, "--output", tmp_path / "r.npz")
    assert f"100 steps take {100 * BATCH * CLASSES * 8} bytes; at most 1000 are kept" in error


def test_steps_are_whole_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = compiled(tmp_path / "three.sgp", step, 3)
    assert "--steps must be a multiple of 3" in refused(capsys, image, "--steps", 7)
    assert run(image) == 0
    assert "3 steps in 1 runs on reference" in capsys.readouterr().out
    for option in ("--steps", "--save-every", "--vcd-cycles"):
        with pytest.raises(SystemExit, match="2"):
            run(image, option, 0)


def test_results_that_cannot_be_written(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--output", "--state"):
        path = tmp_path / "none" / "file.npz"
        error = refused(capsys, image, option, path)
        assert error == f"{path} cannot be written: No such file or directory"
