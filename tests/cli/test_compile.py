from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy
import pytest

import siligrad as sg
from siligrad_cli.main import main

DIGITS = Path(__file__).parents[2] / "examples" / "digits.py"

SMALL = """\
import numpy
import siligrad as sg
import siligrad.numpy as np


def loss(W, x, y):
    return np.mean(np.sum((np.maximum(x @ W[0], 0) @ W[1] - y) ** 2, axis=1))


def step(W, x, y):
    slopes = sg.grad(loss)(W, x, y)
    return [w - 2**-4 * slope for w, slope in zip(W, slopes)]


def predict(W, x):
    return np.maximum(x @ W[0], 0) @ W[1]


donate = {"step": "W"}
resident = {"predict": ("W",)}


def arguments(batch=8):
    rng = numpy.random.default_rng(0)
    W = [rng.standard_normal((6, 5)) / 2, rng.standard_normal((5, 3)) / 2]
    return {"W": W, "x": rng.random((batch, 6)), "y": rng.random((batch, 3))}
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(SMALL)
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line with which the command fails."""
    capsys.readouterr()
    assert main(["compile", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("siligrad: ")
    assert error.count("\n") == 1
    return error.removeprefix("siligrad: ").rstrip("\n")


# --- what is compiled


def test_the_image_is_the_program_that_the_library_compiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "step.sgp"
    assert main(["compile", str(DIGITS), "-o", str(image)]) == 0
    printed = capsys.readouterr().out
    program = sg.Program.load(image)
    assert program.cycles == 1550  # tests/frontend/golden/step_64_32_10.txt
    assert "7 instructions in 23 of 64 lines" in printed
    assert "1550 cycles exactly, 81.5% of the multipliers' time" in printed
    assert "X 192 of 256, W 368 of 512, E 128 of 256" in printed
    assert f"{image}, {image.stat().st_size} bytes" in printed


def test_another_function_takes_the_arguments_that_it_names(tmp_path: Path, network: Path) -> None:
    image = tmp_path / "predict.sgp"
    assert main(["compile", str(network), "--function", "predict", "-o", str(image)]) == 0
    program = sg.Program.load(image)
    assert [(a.name, a.resident) for a in program.arguments] == [("W", True), ("x", False)]
    assert len(program.instructions) == 2


def test_options_reach_the_compiler(tmp_path: Path, network: Path) -> None:
    image = tmp_path / "step.sgp"
    options = ["--array", "4", "--sum-bits", "42", "--batch", "4", "-o", str(image)]
    assert main(["compile", str(network), *options]) == 0
    program = sg.Program.load(image)
    assert (program.geometry.array, program.geometry.sum_bits) == (4, 42)
    assert {t.name: t.rows for t in program.tensors}["x"] == 4


def test_the_same_file_gives_the_same_bytes(tmp_path: Path, network: Path) -> None:
    images = [tmp_path / "a.sgp", tmp_path / "b.sgp"]
    for image in images:
        assert main(["compile", str(network), "-o", str(image)]) == 0
    assert images[0].read_bytes() == images[1].read_bytes()


def test_tuples_serve_as_examples_and_calibration_widens_formats(
    tmp_path: Path, network: Path
) -> None:
    network.write_text(
        SMALL
        + """
positional = arguments

def arguments():
    return tuple(positional().values())

def calibration():
    yield {"x": positional()["x"] * 100}
    yield (*arguments()[:2], positional()["y"])
"""
    )
    image = tmp_path / "wide.sgp"
    assert main(["compile", str(network), "-o", str(image)]) == 0
    (x,) = [t for t in sg.Program.load(image).tensors if t.name == "x"]
    assert x.format.decode(x.limit) > 50


def test_without_an_output_nothing_is_written(
    tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", str(network)]) == 0
    assert "image     none" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_imports_beside_the_file_and_dataclasses_work(tmp_path: Path, network: Path) -> None:
    (tmp_path / "beside_the_network.py").write_text("RATE = 2.0**-3\n")
    text = "from beside_the_network import RATE\nfrom dataclasses import dataclass\n" + SMALL
    text = text.replace("2**-4", "RATE")
    text += "\n\n@dataclass\nclass Settings:\n    rate: 'float' = RATE\n"
    network.write_text(text)
    assert main(["compile", str(network)]) == 0
    assert str(tmp_path) not in sys.path


# --- what is printed


def test_explain_tells_line_shapes_cycles_and_causes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(DIGITS), "--explain"]) == 0
    printed = capsys.readouterr().out
    assert "x (16 x 64) @ params[0][0] (64 x 32) + ones @ params[0][1] (1 x 32)" in printed
    assert "waits 15 until instruction 1 has read its auxiliary operand from E" in printed
    assert "all" in printed
    assert "W: 368 of 512 words in each of 8 banks" in printed


def test_json_is_all_that_is_printed(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network.write_text("print('hello from the network')\n" + SMALL)
    assert main(["compile", str(network), "--json"]) == 0
    captured = capsys.readouterr()
    content: dict[str, Any] = json.loads(captured.out)
    assert sum(content["multiplier_cycles"].values()) == 64 * content["cycles"]
    assert captured.err == "hello from the network\n"


def test_what_the_compiler_rounded_is_noted(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.write_text(SMALL.replace("2**-4", "0.06"))
    assert "power of two" in refused(capsys, network)
    assert main(["compile", str(network), "--round-factors"]) == 0
    assert "note      " in capsys.readouterr().out


# --- pictures


def words(path: Path) -> list[str]:
    """Return the texts of an SVG file in order."""
    elements = ElementTree.fromstring(path.read_text(encoding="utf-8")).iter()
    return [element.text for element in elements if element.tag.endswith("}text") and element.text]


def test_the_timeline_names_instructions_ports_and_stalls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "timeline.svg"
    assert main(["compile", str(DIGITS), "--timeline", str(path)]) == 0
    assert f"timeline  {path}" in capsys.readouterr().out
    found = words(path)
    assert {"array", "drain", "X read", "W read", "E read", "write", "cycle"} <= set(found)
    assert {"0 XW relu 0", "4 XE params[0][0]", "aux 4", "4 to W", "0 to X"} <= set(found)
    assert {"forward, XW", "backward, EW", "update, XE", "waiting for a hazard"} <= set(found)
    assert "15" in found  # the cycles of the stall


def test_the_memory_map_names_every_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.svg"
    assert main(["compile", str(DIGITS), "--memory-map", str(path)]) == 0
    assert "E: 128 of 256 words in each of 8 banks" in capsys.readouterr().out
    found = words(path)
    assert {"x  16 x 64", "params[1][1]  1 x 10", "masked 2  16 x 32"} <= set(found)
    assert "W: 368 of 512 words (72%)" in found


def test_pictures_are_the_same_bytes_every_time(tmp_path: Path, network: Path) -> None:
    pictures = []
    for name in ("a", "b"):
        files = [tmp_path / f"{name}-timeline.svg", tmp_path / f"{name}-map.svg"]
        options = ["--timeline", str(files[0]), "--memory-map", str(files[1])]
        assert main(["compile", str(network), *options]) == 0
        pictures.append([file.read_bytes() for file in files])
    assert pictures[0] == pictures[1]


def test_a_png_is_written_where_one_is_asked_for(tmp_path: Path, network: Path) -> None:
    path = tmp_path / "map.png"
    assert main(["compile", str(network), "--memory-map", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_picture_is_one_line(
    tmp_path: Path,
    network: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for option in ("--timeline", "--memory-map"):
        error = refused(capsys, network, option, tmp_path / "picture.svg")
        assert error.endswith("needs matplotlib: pip install 'siligrad[plot]'")


# --- what goes wrong


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(SMALL.splitlines(), start=1) if text in line)


def test_a_missing_file_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(capsys, tmp_path / "none.py")
    assert "cannot be read" in refused(capsys, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def step(", "def step step(", "def step step(W, x, y):: "),
        ("import numpy\n", "import numpy\nraise ValueError('of mine')\n", "ValueError: of mine"),
        ("import numpy\n", "import nothing_of_that_name\n", "nothing_of_that_name"),
        ("import numpy\n", "import sys; sys.exit(3)\n", "SystemExit: 3"),
        ("def step(", "def steps(", "defines no function 'step'; it has loss, steps, predict"),
        ("def arguments(", "def argument(", "defines no function 'arguments'"),
        ('"x": rng', '"z": rng', "returns no 'x', which step takes; it returns 'W', 'z', 'y'"),
        ("    return {", "    return 3, {", "2 example arguments, but step takes 3 (W, x, y)"),
        ("    return {", "    return [], {", "2 example arguments, but step takes 3"),
        ('{"step": "W"}', '{"step": "V"}', "donate names 'V', but step takes W, x, y"),
        ('{"step": "W"}', "7", "donate must name parameters of step, not be 7"),
        ("def step(W, x, y)", "def step(W, x, *y)", "step has the parameter *y"),
        ("donate =", "calibration = 3\ndonate =", "calibration must be a function"),
    ],
)
def test_mistakes_in_the_file_are_one_line(
    network: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    assert old in SMALL
    network.write_text(SMALL.replace(old, new))
    error = refused(capsys, network)
    assert error.startswith(str(network))
    assert message in error


def test_an_error_in_the_network_names_its_line(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.write_text(SMALL.replace("- y)", "- z)"))
    where = f"{network}:{line_of('- y)')}: "
    assert refused(capsys, network).startswith(where + "return np.mean(")


def test_what_the_hardware_cannot_do_names_its_line(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.write_text(
        SMALL.replace("np.maximum(x @ W[0], 0) @ W[1] - y", "np.exp(x @ W[0] @ W[1])")
    )
    error = refused(capsys, network)
    assert f"{network}:{line_of('- y)')}" in error
    assert "exp" in error


def test_shapes_that_do_not_fit_name_their_line(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.write_text(SMALL.replace("(6, 5)", "(7, 5)"))
    error = refused(capsys, network)
    assert error.startswith(f"{network}:{line_of('- y)')}: return np.mean(")
    assert "(7, 5)" in error


@pytest.mark.parametrize("examples", ['{"x": numpy.ones((3, 6))}', '{"W": numpy.ones((6, 5))}'])
def test_calibration_of_another_shape_is_refused(
    network: Path, capsys: pytest.CaptureFixture[str], examples: str
) -> None:
    network.write_text(f"{SMALL}\n\ndef calibration():\n    return [{examples}]\n")
    assert refused(capsys, network).startswith(str(network))


def test_what_does_not_fit_is_one_line(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, network, "--w-depth", "8")
    assert "memory W" in error
    assert "w_depth=16" in error


def test_numbers_that_no_target_has(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, network, "--operand-bits", "3")
    assert error.startswith("operand_bits must be from 4")
    for option, value in [("--array", "1"), ("--batch", "0"), ("--timeline", "picture.gif")]:
        with pytest.raises(SystemExit, match="2"):
            main(["compile", str(network), option, value])


def test_a_batch_that_the_file_does_not_take(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.write_text(SMALL.replace("batch=8", "").replace("batch", "8"))
    assert "--batch 4 needs a parameter" in refused(capsys, network, "--batch", "4")


def test_an_image_that_cannot_be_written(
    tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none" / "step.sgp"
    assert (
        refused(capsys, network, "-o", path)
        == f"{path} cannot be written: No such file or directory"
    )


def test_the_example_writes_batches_that_fit_its_step(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(DIGITS)], cwd=tmp_path, check=True)
    with numpy.load(tmp_path / "digits.npz", allow_pickle=False) as archive:
        assert archive["x"].shape == (200, 16, 64)
        assert archive["y"].shape == (200, 16, 10)
