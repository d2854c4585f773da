from __future__ import annotations

import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siligrad_cli.main import main

QUICK = ["--layers", "64-16-10", "--epochs", "3"]


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "siligrad_cli.main", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*arguments: str) -> None:
    running = start(*arguments)
    _, error = running.communicate()
    assert running.returncode == 0, error


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def train(folder: Path, *arguments: str) -> dict[str, Any]:
    assert main(["train", "--data", "optdigits", "--output", str(folder), *arguments]) == 0
    return result(folder)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which the command fails."""
    capsys.readouterr()
    assert main(["train", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("siligrad: ")
    assert error.count("\n") == 1
    return error


# --- what a run is


def test_the_bundled_digits_are_learned_with_the_defaults(tmp_path: Path) -> None:
    found = train(tmp_path / "run")
    assert found["test_accuracy"] > 0.95
    assert len(found["history"]) == 15
    assert found["history"][-1]["loss"] < found["history"][0]["loss"] / 4


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = train(tmp_path / "a", *QUICK)
    assert train(tmp_path / "b", *QUICK) == first
    for name in ("run.json", "result.json", "params.npz", "checkpoint.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    other = train(tmp_path / "c", *QUICK, "--seed", "1")
    assert other["parameters_sha256"] != first["parameters_sha256"]


@pytest.mark.parametrize("loss", ["squared_hinge", "mse", "cross_entropy"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_every_loss_learns_with_every_optimizer(tmp_path: Path, loss: str, optimizer: str) -> None:
    found = train(tmp_path, "--epochs", "4", "--loss", loss, "--optimizer", optimizer)
    assert found["test_accuracy"] > 0.88


def test_json_is_the_result_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, *QUICK, "--json")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result(tmp_path)
    assert not captured.err


def test_patience_keeps_the_best_parameters(tmp_path: Path) -> None:
    found = train(tmp_path, "--epochs", "60", "--patience", "2", "--rate", "0.0625")
    scores = [epoch["score"] for epoch in found["history"]]
    assert len(scores) < 60
    assert max(scores) > max(scores[-2:]) or scores.index(max(scores)) == len(scores) - 3


# --- interrupted and resumed


def test_killed_at_random_moments_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    arguments = ["--data", "optdigits", "--epochs", "40", "--optimizer", "momentum"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    begun = time.monotonic()
    finish(*arguments, "--output", str(whole))
    duration = time.monotonic() - begun
    moments = random.Random(0)
    in_training = 0
    for number in range(8):
        before = version(broken / "checkpoint.npz")
        running = start(*arguments, "--output", str(broken), "--resume")
        if number % 2:  # any moment, that of starting too
            time.sleep(moments.uniform(0, 0.4 * duration))
        else:  # soon after an epoch: while the next is trained, or a file is written
            while version(broken / "checkpoint.npz") == before and running.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.05))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        in_training += running.returncode == -signal.SIGKILL and (broken / "run.json").exists()
    assert in_training >= 2
    finish(*arguments, "--output", str(broken), "--resume")
    expected, found = arrays(whole / "params.npz"), arrays(broken / "params.npz")
    assert list(expected) == list(found)
    for name, array in expected.items():
        assert array.tobytes() == found[name].tobytes(), name
    assert result(whole) == result(broken)


def version(path: Path) -> int:
    """Return a number that changes when the file is replaced."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_interrupted_it_says_how_to_go_on_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(tmp_path / "whole", "--epochs", "40")
    folder = tmp_path / "run"
    running = start("--data", "optdigits", "--epochs", "40", "--output", str(folder))
    while not (folder / "checkpoint.npz").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate()
    assert running.returncode == 130
    assert error.splitlines()[-1] == (
        f"siligrad: interrupted; this goes on with it: siligrad train --resume --output {folder}"
    )
    assert "Traceback" not in error
    assert not (folder / "params.npz").exists()
    assert main(["train", "--resume", "--output", str(folder)]) == 0
    assert result(folder) == whole


def test_a_finished_run_can_be_given_more_epochs(tmp_path: Path) -> None:
    train(tmp_path / "run", *QUICK)
    assert main(["train", "--resume", "--output", str(tmp_path / "run"), "--epochs", "5"]) == 0
    assert result(tmp_path / "run") == train(tmp_path / "whole", *QUICK[:2], "--epochs", "5")


def test_a_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, *QUICK)
    before = (tmp_path / "params.npz").read_bytes()
    error = refused(capsys, "--data", "optdigits", "--output", str(tmp_path))
    assert "holds a run already: --resume goes on with it" in error
    assert (tmp_path / "params.npz").read_bytes() == before


def test_a_run_is_not_resumed_with_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, *QUICK)
    for option, value, recorded in (
        ("--rate", "0.5", "0.03125"),
        ("--seed", "3", "0"),
        ("--layers", "64-8-10", "64-16-10"),
        ("--loss", "mse", "squared_hinge"),
    ):
        error = refused(capsys, "--resume", "--output", str(tmp_path), option, value)
        assert f"{option} {value} is not what the run in {tmp_path} was started with" in error
        assert recorded in error


def test_a_damaged_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, *QUICK)
    checkpoint = tmp_path / "checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "no readable .npz archive" in refused(capsys, "--resume", "--output", str(tmp_path))
    (tmp_path / "run.json").write_text("{}]")
    assert "does not describe a run" in refused(capsys, "--resume", "--output", str(tmp_path))


# --- data


def small_images() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pictures of three classes: a bright row, its number the class, in noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300).astype(np.uint8)
    images = rng.integers(0, 60, (300, 4, 4)).astype(np.uint8)
    images[np.arange(300), labels] += 180
    return images, labels


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), mtime=0))


@pytest.fixture(params=["idx", "csv", "npz"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    images, labels = small_images()
    folder = tmp_path / "rows"
    folder.mkdir()
    if request.param == "idx":
        for split, part in (("train", slice(0, 200)), ("t10k", slice(200, 300))):
            write_idx(folder / f"{split}-images-idx3-ubyte.gz", images[part])
            write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels[part])
        return folder
    table = np.column_stack([images.reshape(300, 16), labels])
    if request.param == "csv":
        np.savetxt(folder / "train.csv", table[:200], fmt="%d", delimiter=",")
        np.savetxt(folder / "test.csv", table[200:], fmt="%d", delimiter=",")
        return folder
    path = folder / "rows.npz"
    np.savez(
        path,
        train_images=images[:200],
        train_labels=labels[:200],
        test_images=images[200:],
        test_labels=labels[200:],
    )
    return path


def test_every_kind_of_data_is_learned(data: Path, tmp_path: Path) -> None:
    arguments = ["--layers", "16-8-3", "--epochs", "12", "--batch", "8", "--output", str(tmp_path)]
    assert main(["train", "--data", str(data), *arguments]) == 0
    assert result(tmp_path)["test_accuracy"] > 0.95


def test_data_that_are_not_there_are_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "run")]
    missing = tmp_path / "nowhere"
    assert f"{missing} does not exist" in refused(capsys, "--data", str(missing), *output)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} holds no data: neither IDX files" in refused(
        capsys, "--data", str(empty), *output
    )
    text = tmp_path / "text"
    text.write_text("hello")
    assert "is no folder and no .npz file" in refused(capsys, "--data", str(text), *output)
    assert "nothing to train on: --data optdigits" in refused(capsys)
    assert "holds no run; to start one there, say --data" in refused(capsys, "--resume", *output)
    assert not (tmp_path / "run").exists()


def test_layers_that_do_not_fit_the_data_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", "optdigits", "--output", str(tmp_path), "--layers", "784-128-10"]
    error = refused(capsys, *arguments)
    assert "--layers 784-128-10 must begin with 64" in error
    assert "end with 10, its classes" in error


def test_a_run_that_diverges_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", "optdigits", "--output", str(tmp_path), "--rate", "1e30"]
    with np.errstate(all="ignore"):
        assert "use a smaller rate" in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--layers", "64", "two or more positive numbers joined by -"),
        ("--layers", "64-0-10", "two or more positive numbers joined by -"),
        ("--epochs", "0", "must be at least 1, not 0"),
        ("--rate", "-1", "must be positive and finite, not -1"),
        ("--rate", "nan", "must be positive and finite, not nan"),
        ("--validation", "1", "must be greater than 0 and less than 1, not 1"),
        ("--seed", "-1", "must be at least 0, not -1"),
    ],
)
def test_options_are_checked(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--data", "optdigits", option, value])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


# --- MNIST


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_mnist_is_learned_to_97_8_percent(tmp_path: Path, seed: int) -> None:
    folder = os.environ.get("SILIGRAD_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("no MNIST: set SILIGRAD_DATA to the folder that has its files in mnist/")
    finish(
        "--data",
        str(Path(folder) / "mnist"),
        "--layers",
        "784-128-10",
        "--seed",
        str(seed),
        "--output",
        str(tmp_path),
    )
    found = result(tmp_path)
    assert found["test_images"] == 10_000
    assert found["test_accuracy"] >= 0.978


# --- threads


@pytest.mark.parametrize(("asked", "expected"), [(None, "1"), ("2", "2")])
def test_one_thread_computes_unless_the_environment_asks_for_more(
    asked: str | None, expected: str
) -> None:
    name = "OPENBLAS_NUM_THREADS"
    environment = {key: value for key, value in os.environ.items() if key != name}
    script = (
        "import sys, siligrad_cli.one_thread\n"
        "assert 'numpy' not in sys.modules\n"
        f"import os, siligrad_cli.main; print(os.environ[{name!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | ({name: asked} if asked else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{expected}\n"


def test_the_command_line_loads_that_module_before_numpy() -> None:
    script = (
        "import sys\n"
        "order = []\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        order.append(name)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import siligrad_cli.main\n"
        "print(order.index('siligrad_cli.one_thread') < order.index('numpy'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
