"""The page docs/compile.md: its commands are run, and print what stands below them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compile.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def texts(path: Path) -> list[str]:
    """Return what is written in an SVG file; where it stands depends on matplotlib's version."""
    elements = ElementTree.fromstring(path.read_text(encoding="utf-8")).iter()
    return [element.text for element in elements if element.tag.endswith("}text") and element.text]


def test_commands_print_what_stands_below_them(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    page = PAGE.read_text(encoding="utf-8")
    ran = []

    def repeated(block: re.Match[str]) -> str:
        lines = []
        for line in block[1].splitlines():
            if line.startswith("$ "):
                ran.append(line)
                lines += [line, *run(line.removeprefix("$ "), tmp_path).splitlines()]
        return "```console\n" + "\n".join(lines) + "\n```"

    now = BLOCK.sub(repeated, page)
    assert len(ran) > 6
    assert {line.split()[2] for line in ran if line.startswith("$ siligrad ")} == {
        "compile",
        "disasm",
        "run",
    }
    pictures = ROOT / "docs" / "pictures"
    if request.config.getoption("--update-golden"):
        PAGE.write_text(now, encoding="utf-8")
        for name in ("timeline.svg", "memory-map.svg"):
            shutil.copy(tmp_path / name, pictures / name)
    assert now == PAGE.read_text(encoding="utf-8")
    for name in ("timeline.svg", "memory-map.svg"):
        assert texts(tmp_path / name) == texts(pictures / name), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target
