from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import siligrad as sg
import siligrad.numpy as np_
from siligrad_cli.main import main


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an image with weights among its constants."""
    target = sg.Target(array=2, operand_bits=8, word_bits=8, x_depth=64, w_depth=64, e_depth=64)
    w = np.random.default_rng(0).standard_normal((4, 4))
    program = sg.compile(lambda x: np_.maximum(x @ w, 0), np.ones((4, 4)), target=target)
    path = tmp_path / "net.sgp"
    program.save(path)
    return path


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    (last,) = capsys.readouterr().err.splitlines()
    assert last.startswith("siligrad: ")
    return last.removeprefix("siligrad: ")


@pytest.mark.parametrize("port", ["host", "axi-lite", "wishbone"])
def test_verilog_into_which_a_program_is_baked_tells_its_checksum(
    port: str, image: Path, tmp_path: Path
) -> None:
    file = tmp_path / "siligrad.v"
    assert main(["export", "--port", port, "--bake", str(image), "-o", str(file)]) == 0
    checksum = int.from_bytes(image.read_bytes()[16:20], "little")
    assert f"32'd{checksum}" in file.read_text(encoding="utf-8")
    if port == "host":
        assert main(["export", "--port", port, "--program", str(image), "-o", str(file)]) == 0
        assert f"32'd{checksum}" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (
            "build",
            ["--board", "icebreaker"],
            (
                "was compiled for an array of 2 and operands of 8 bits and runs on nothing else: "
                "leave out --array and --operand-bits"
            ),
        ),
        (
            "export",
            ["-o", "siligrad.v"],
            (
                "cannot be baked into what is asked for: it was compiled for array of 2, not 3; "
                "leave the option out, or compile it for that"
            ),
        ),
    ],
)
def test_a_program_is_baked_into_what_it_was_compiled_for_alone(
    command: str,
    options: list[str],
    message: str,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command, *options, "--bake", str(image), "--array", "3"]) == 1
    assert error_of(capsys).endswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["net.sgp"]


def test_one_image_is_built_for(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--board", "icebreaker", "--bake", str(image), "--program", str(image)]
    with pytest.raises(SystemExit, match="2"):
        main(["build", *options])
    assert "not allowed with argument" in capsys.readouterr().err
