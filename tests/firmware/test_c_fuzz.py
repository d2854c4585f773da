"""Seconds of fuzzing of the C parsers, and drivers with a bound less, which it must find."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.fuzz_c import FIRMWARE, TARGETS, FuzzError, build, fuzz, main

# What a driver must not lack: the target, the file, the bound, and what is there without it.
BOUNDS = {
    "room for tensors": (
        "image",
        "siligrad_load.c",
        "loader->tensors++ == loader->tensor_room",
        "loader->tensors++ == 0xffffffff",
    ),
    "the end of a memory": ("image", "siligrad_load.c", "tensor->base > room", "0"),
    "the end of a program": (
        "image",
        "siligrad_load.c",
        "offset >= loader->device->built[SILIGRAD_LINES] * SILIGRAD_LINE_WORDS * SILIGRAD_WORD",
        "offset == 0xffffffff",
    ),
    "room for a reply": ("link", "siligrad_link.c", "count < REPLY_MAX", "1"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_two_seconds_find_nothing(target: str, tmp_path: Path) -> None:
    program = build(target, tmp_path)
    assert fuzz(program, target, tmp_path, 2) > 1000


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param("room for tensors", marks=pytest.mark.extended),
        "the end of a memory",
        pytest.param("the end of a program", marks=pytest.mark.extended),
        "room for a reply",
    ],
)
def test_a_driver_without_a_bound_is_found(bound: str, tmp_path: Path) -> None:
    target, name, text, instead = BOUNDS[bound]
    source = (FIRMWARE / "src" / name).read_text(encoding="utf-8")
    assert source.count(text) == 1
    program = build(target, tmp_path, {name: source.replace(text, instead)})
    with pytest.raises(FuzzError, match=r"(ERROR|runtime error).*shown again by") as caught:
        fuzz(program, target, tmp_path, 10)
    command = str(caught.value).partition("shown again by ")[2].split()
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_command_reports_what_it_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--seconds", "1", "--only", "link", "--output", str(tmp_path)]) == 0
    assert "inputs in 1 s, no finding" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--seconds", "1", "--output", str(tmp_path)]) == 1
    assert "clang is missing: type `apt install" in capsys.readouterr().err
