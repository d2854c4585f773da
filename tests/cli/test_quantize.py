from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from siligrad import datasets, metrics, nn, tree
from siligrad.fixed import QFormat
from siligrad.quantize import classify, post_training
from siligrad_cli.main import main
from siligrad_cli.train import load_run
from siligrad_sim.reference import ReferenceDevice

PAGE = Path(__file__).parents[2] / "docs" / "quantization.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--data", "optdigits", "--layers", "64-16-10", "--epochs", "3"]
    assert main(["train", *arguments, "--output", str(folder)]) == 0
    return folder


def quantize(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, dict[str, Any]]:
    """Return what the command prints, and what its report says."""
    texts = [str(argument) for argument in arguments]
    assert main(["quantize", *texts]) == 0
    folder = Path(texts[texts.index("--output") + 1])
    return capsys.readouterr().out, json.loads((folder / "report.json").read_text())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main(["quantize", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("siligrad: ")
    assert error.count("\n") == 1
    return error


def test_without_arguments_it_trains_and_quantizes_the_bundled_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["quantize"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "build" / "quantize" / "report.json").read_text())
    assert found["network"] == [64, 32, 10]
    assert found["test_images"] == 1797
    exact = found["float_accuracy"]
    wide, narrow = found["quantized"]
    assert exact > 0.94
    assert abs(wide["accuracy"] - exact) < 0.002
    assert narrow["accuracy"] > exact - 0.01  # within a point
    assert (wide["operand_bits"], narrow["operand_bits"]) == (16, 8)
    assert f"accuracy  {exact:.2%} in floating point, of 1797 test images" in printed
    for each in (wide, narrow):
        assert f"{each['accuracy']:.2%} with operands of {each['operand_bits']} bits" in printed
    assert "from 1024 training images" in printed
    assert sorted(path.name for path in (tmp_path / "build" / "quantize").iterdir()) == [
        "ranges.svg",
        "report.json",
    ]


def test_a_run_of_train_is_quantized_as_the_library_does_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = quantize(capsys, run, "--output", tmp_path, "--method", "max", "--array", 5)
    loaded = load_run(run)
    images, labels = loaded.data.test_images, loaded.data.test_labels
    assert found["float_accuracy"] == metrics.accuracy(nn.predict(loaded.params, images), labels)
    params = tree.map(lambda array: np.asarray(array, np.float64), loaded.params)
    program = post_training(
        nn.predict, params, loaded.data.train_images[:1024], batch=64, method="max"
    )
    with ReferenceDevice(program.geometry) as device:
        device.load(program)
        accuracy = metrics.accuracy(classify(device, images), labels)
    wide = found["quantized"][0]
    assert wide["accuracy"] == accuracy  # the size of the array changes no word
    first = wide["tensors"][0]
    W = params[0][0]
    largest = float(np.abs(W).max())
    assert first["name"] == "params[0][0]"
    assert first["seen"] == largest
    assert first["frac"] == QFormat.covering(16, largest).frac
    rounded = np.ldexp(np.rint(np.ldexp(W, first["frac"])), -first["frac"])
    ratio = 10 * np.log10((W**2).sum() / ((rounded - W) ** 2).sum())
    assert first["sqnr_db"] == pytest.approx(ratio)


def test_a_table_line_says_what_the_report_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, found = quantize(capsys, run, "--output", tmp_path, "--operand-bits", 5)
    for each in found["quantized"]:
        bits = each["operand_bits"]
        table = printed.split(f"operands of {bits} bits, ratios in dB\n")[1].split("\n\n")[0]
        head, *lines = table.splitlines()
        assert len(lines) == len(each["tensors"]) == 7
        assert head.endswith("operand") == (bits == 5)
        for line, tensor in zip(lines, each["tensors"], strict=True):
            cells = line[len("params[0][0]") :].split()
            assert cells[0] == tensor["memory"]
            assert cells[1] == f"Q{15 - tensor['frac']}.{tensor['frac']}"
            assert cells[4:7] == [
                str(tensor[name]) for name in ("unused_bits", "clipped", "saturations")
            ]


def test_a_percentile_clips_and_the_picture_shows_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    red = "#d62728"
    printed, found = quantize(capsys, run, "--output", tmp_path / "max", "--method", "max")
    weights = found["quantized"][0]["tensors"][0]
    assert (weights["clipped"], found["percentile"]) == (0, None)
    one = (tmp_path / "max" / "ranges.svg").read_text()
    printed, found = quantize(
        capsys, run, "--output", tmp_path / "p", "--method", "percentile", "--percentile", 60
    )
    assert "method    percentile 60, from 1024 training images" in printed
    weights = found["quantized"][0]["tensors"][0]
    assert 0 < weights["clipped"] <= 0.4 * weights["values"]
    assert weights["unused_bits"] < 0
    other = (tmp_path / "p" / "ranges.svg").read_text()
    assert 0 < one.count(red) < other.count(red)  # in the legend alone; in bars too
    assert {"params[0][0]", "relu 0", "operands of 8 bits, words of 16"} <= set(texts(other))


def test_same_input_same_bytes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for folder in ("one", "two"):
        quantize(capsys, run, "--output", tmp_path / folder)
    for name in ("report.json", "ranges.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_json_is_the_report_and_nothing_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, found = quantize(capsys, run, "--output", tmp_path, "--json")
    assert json.loads(printed) == found
    assert "NaN" not in printed
    assert "Infinity" not in printed


def test_it_works_without_matplotlib(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    printed, _ = quantize(capsys, run, "--output", tmp_path)
    assert "picture   none: it needs matplotlib (pip install 'siligrad[plot]')" in printed
    assert not (tmp_path / "ranges.svg").exists()


def test_data_that_moved_are_found_and_others_trained_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = datasets.optdigits(np.float32)
    path = tmp_path / "small.npz"
    np.savez(
        path,
        train_images=data.train_images[:300, :16],
        train_labels=data.train_labels[:300],
        test_images=data.test_images[:100, :16],
        test_labels=data.test_labels[:100],
    )
    _, found = quantize(capsys, "--data", path, "--output", tmp_path)
    assert (found["network"], found["data"], found["test_images"]) == ([16, 128, 10], "small", 100)
    assert re.search("small has 16 inputs", refused(capsys, run, "--data", path))


def test_what_cannot_be_done_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds no run" in refused(capsys, tmp_path / "nowhere")
    assert "does not exist" in refused(capsys, "--data", tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, run, "--output", tmp_path / "file")
    data = datasets.optdigits(np.float32)
    path = tmp_path / "few.npz"
    np.savez(
        path,
        train_images=data.train_images[:300],
        train_labels=data.train_labels[:300],
        test_images=data.test_images[:20],
        test_labels=data.test_labels[:20],
    )
    assert "few has 20 test images, but tensors are measured in batches of 64" in refused(
        capsys, "--data", path, "--output", tmp_path
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--percentile", "0", "must be above 0 and at most 100, not 0"),
        ("--percentile", "101", "must be above 0 and at most 100, not 101"),
        ("--method", "best", "invalid choice: 'best'"),
        ("--operand-bits", "3", "invalid choice: 3"),
        ("--operand-bits", "16", "invalid choice: 16"),
        ("--array", "17", "invalid choice: 17"),
    ],
)
def test_options_are_checked(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["quantize", option, value])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


# The page


def outline(text: str) -> str:
    """What is printed, without what depends on the last bit of a sum in floating point."""
    return re.sub(r" +", " ", re.sub(r"-?\d+(\.\d+)?", "0", text))


def texts(svg: str) -> list[str]:
    elements = ElementTree.fromstring(svg).iter()
    return [element.text or "" for element in elements if element.tag.endswith("}text")]


def test_the_page_shows_what_the_command_prints_and_draws(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip("matplotlib")
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    command, shown = block.split("\n", 1)
    monkeypatch.chdir(tmp_path)
    assert main(command.removeprefix("$ siligrad ").split()) == 0
    printed = capsys.readouterr().out
    drawn = (tmp_path / "build" / "quantize" / "ranges.svg").read_text()
    picture = PAGE.parent / "pictures" / "ranges.svg"
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page.replace(shown, printed), encoding="utf-8")
        picture.write_text(drawn)
    assert outline(printed) == outline(shown)
    assert set(texts(drawn)) == set(texts(picture.read_text()))


def test_the_python_of_the_page_works(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 3
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "relu 0" in done.stdout


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target
