from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from siligrad_hdl.boards import BOARDS

README = Path(__file__).parents[1] / "README.md"
BIN = Path(sys.executable).parent

# Commands of the README that are run elsewhere: by who runs this suite, or by hand beforehand.
ELSEWHERE = {
    "make demo",  # in a fresh clone, before a release
    "make soc",  # smaller, by tests/firmware; as it is: pytest -m slow tests/firmware
    "make test",  # this is it
    "make lint",  # by .ci/run
    "make synthesis",  # the same
    "make extended",  # the same
    ".venv/bin/siligrad build --board icebreaker",  # minutes: pytest -m slow tests/cli
}
# The same, for commands of which only the beginning is known here.
ELSEWHERE_BEGINNINGS = ("git clone ", "cd siligrad", "sudo apt install ", "apt install ")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and the number of the first."""

    language: str
    lines: tuple[str, ...]
    number: int


def blocks(text: str, *languages: str) -> list[Block]:
    found = []
    fence = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
    for match in fence.finditer(text):
        if match[1] in languages:
            number = text.count("\n", 0, match.start(2)) + 1
            found.append(Block(match[1], tuple(match[2].splitlines()), number))
    return found


def commands(block: Block) -> list[tuple[int, str]]:
    """Return the commands of a block with their lines.

    In a ``console`` block they follow ``$ `` and the rest is output; in ``sh`` every line is one. A
    comment is none, and a backslash at the end of a line continues it.
    """
    found: list[tuple[int, str]] = []
    continued = False
    for number, line in enumerate(block.lines, start=block.number):
        text = line
        if block.language == "console" and not continued:
            if not line.startswith("$ "):
                continue
            text = line.removeprefix("$ ")
        text = re.sub(r"(^|\s)#.*$", "", text).strip()
        if continued:
            start, before = found.pop()
            text = f"{before} {text}"
        else:
            start = number
        continued = text.endswith("\\")
        if text:
            found.append((start, text.removesuffix("\\").rstrip()))
    return found


def test_readme_commands_work(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(README.parent / "examples")
    text = README.read_text(encoding="utf-8")
    all_commands = [item for block in blocks(text, "console", "sh") for item in commands(block)]
    assert {"make demo", "make test"} <= {command for _, command in all_commands}
    environment = os.environ | {"PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}
    for number, command in all_commands:
        if command in ELSEWHERE or command.startswith(ELSEWHERE_BEGINNINGS):
            continue
        here = re.sub(r"(?<!\S)\.venv/bin/", f"{shlex.quote(str(BIN))}/", command)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"README.md:{number}: {command}\n{done.stdout}"


def test_readme_python_works(tmp_path: Path) -> None:
    """All blocks are one program, in their order, at their line numbers."""
    found = blocks(README.read_text(encoding="utf-8"), "python")
    assert found
    program: list[str] = []
    for block in found:
        program += [""] * (block.number - 1 - len(program)) + list(block.lines)
    script = tmp_path / "README.py"
    script.write_text("\n".join(program) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_fence_is_of_a_language_that_is_tested_or_needs_no_test() -> None:
    text = README.read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)", text, re.MULTILINE)[::2]
    assert set(fences) <= {"console", "sh", "python", "text"}


def test_links_to_files_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (README.parent / target).exists(), target


def test_the_table_of_boards_is_todays() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text.split("## Boards\n")[1], re.MULTILINE)
    expected = []
    for name, board in BOARDS.items():
        array, bits = board.geometry.array, board.geometry.operand_bits
        usual = f"{array} × {array}, {bits} bits | {board.clock_mhz:g} MHz"
        expected.append((name, f"{board.title}, {board.device} | {usual}"))
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```sh\nmake demo   # sets up\n\nmake test\n```\n", [(2, "make demo"), (4, "make test")]),
        ("```console\n$ siligrad info \\\n    x.sgp\nfine\n```\n", [(2, "siligrad info x.sgp")]),
        ("```text\n$ not me\n```\n", []),
    ],
)
def test_commands_are_read_from_blocks(text: str, expected: list[tuple[int, str]]) -> None:
    found = [item for block in blocks(text, "console", "sh") for item in commands(block)]
    assert found == expected
