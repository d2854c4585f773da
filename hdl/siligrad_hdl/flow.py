"""From a board and a geometry to a bitstream: a build in numbered steps, each done once.

Amaranth writes the files and the commands of a build; here the commands are run, one by one. What a
step makes depends on the files, on the commands up to it, and on the versions of their programs; a
step that was done with the same ones is not done again. So a build that was interrupted goes on
where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from amaranth.build import ResourceError

from siligrad.baked import Baked
from siligrad.errors import SiligradError
from siligrad.files import replacing
from siligrad.isa import Geometry
from siligrad_hdl.boards import Board, BoardError
from siligrad_hdl.boards.clock import ClockSetting
from siligrad_hdl.boards.netlist import cut_unread
from siligrad_hdl.boards.routed import Routed, Use, read_report
from siligrad_hdl.boards.tools import Tool, find_tool
from siligrad_hdl.boards.top import BoardTop, baud_of

__all__ = ["COLLISIONS", "BuildError", "Built", "build", "plan"]

_NAME = "top"
_TITLES = {"yosys": "synthesise", "nextpnr": "place and route"}
_ROUTED = "routed.json"
_BITSTREAMS = (".bin", ".bit", ".fs")

COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"
"""No word that is read while it is written is ever used, so nothing need be known of it. Without
that, Yosys surrounds each memory with logic that keeps the old word."""


class BuildError(SiligradError):
    """A step of a build failed, or what was built is too slow."""


@dataclass(frozen=True, slots=True)
class Built:
    """A bitstream and what is known of it.

    Parameters
    ----------
    board, geometry, clock
        What was asked for.
    routed
        What place and route reports.
    bitstream
        The file to load.
    seconds
        Time of each step, by its title: of a step that was done before, the time that it took then.
    """

    board: Board
    geometry: Geometry
    clock: ClockSetting
    routed: Routed
    bitstream: Path
    seconds: Mapping[str, float]

    @property
    def gmacs(self) -> float:
        """Billions of multiplications and additions a second, if all cells are always busy."""
        return self.geometry.array**2 * self.clock.mhz / 1000

    @property
    def baud(self) -> int:
        """Rate of the link."""
        return baud_of(self.clock.mhz)

    def report(self) -> dict[str, Any]:
        """Return the contents of ``report.json``."""
        return {
            "board": self.board.name,
            "device": self.board.device,
            "array": self.geometry.array,
            "operand_bits": self.geometry.operand_bits,
            "lut": self.routed.lut.used,
            "ff": self.routed.ff.used,
            "dsp": self.routed.dsp.used,
            "bram": self.routed.bram.used,
            "clock_target_mhz": self.clock.mhz,
            "clock_mhz": round(self.routed.mhz, 2),
            "gmacs": round(self.gmacs, 4),
            "bitstream": self.bitstream.name,
            "seconds": {title: round(seconds, 2) for title, seconds in self.seconds.items()},
        }


def build(
    board: Board,
    geometry: Geometry,
    clock: ClockSetting,
    folder: Path,
    *,
    seed: int = 1,
    baked: Baked | None = None,
    locked: bool = False,
    top: BoardTop | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Built:
    """Build the bitstream of an accelerator for a board.

    Parameters
    ----------
    board, geometry, clock
        For what, what, and how fast.
    folder
        Gets the bitstream and ``report.json``, and what the steps make in a folder ``work``; made
        if it is not there. A build that was made there before is taken up where it agrees.
    seed
        Where place and route begins: another one gives another placement and clock.
    baked
        What memories and registers are configured with; None for memories of zeros.
    locked
        Keep the host from the program and from W.
    top
        What to build instead of an accelerator behind its link, of the same board, geometry and
        clock.
    say
        Is told, a line at a time, what is being done.

    Raises
    ------
    BoardError
        If the board is too small, as far as can be told beforehand, or the clock too slow for the
        link.
    ToolMissing
        If a program is not installed.
    BuildError
        If a step fails, or the clock is missed; then there is no bitstream.
    """
    board.check(geometry)
    try:
        baud_of(clock.mhz)
    except ValueError as error:
        raise BoardError(f"{board.title}: {error}") from None
    platform = _platform(board)
    tools = {name: find_tool(name) for name in board.technology.tools}
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    with _alone(work):
        for stale in (folder / "report.json", *map(folder.joinpath, _names(board))):
            stale.unlink(missing_ok=True)
        say(f"[1/{len(tools) + 1}] elaborate")
        begin = time.monotonic()
        if top is None:
            top = BoardTop(board, geometry, clock, baked=baked, locked=locked)
        files, commands = plan(board, top, seed, platform)
        seconds = {"elaborate": time.monotonic() - begin}
        _write(work, files)
        key = hashlib.sha256()
        for name, content in sorted(files.items()):
            key.update(repr((name, hashlib.sha256(content).hexdigest())).encode())
        routed: Routed | None = None
        for number, command in enumerate(commands, start=2):
            tool = tools[command[0]]
            key.update(repr((command, tool.version)).encode())
            unread = board.technology.unread if command[0] == "yosys" else ()
            key.update(repr(unread).encode() if unread else b"")
            step = _Step(number, len(commands) + 1, command, tool, key.hexdigest(), unread)
            seconds[step.title] = step.run(work, say)
            if (work / _ROUTED).is_file() and routed is None and step.routes:
                routed = _sold(read_report(work / _ROUTED, work / step.netlist), board)
                _check_clock(routed, clock)
        assert routed is not None, "no command of the platform places and routes"
        made = next(path for path in work.iterdir() if path.suffix in _BITSTREAMS)
        bitstream = folder / (board.name + made.suffix)
        with replacing(bitstream) as beside:
            shutil.copyfile(made, beside)
        built = Built(board, geometry, clock, routed, bitstream, seconds)
        with replacing(folder / "report.json") as beside:
            beside.write_text(json.dumps(built.report(), indent=1) + "\n", encoding="utf-8")
    return built


def _names(board: Board) -> list[str]:
    return [board.name + suffix for suffix in _BITSTREAMS]


def _platform(board: Board) -> Any:
    try:
        platform, tried = board.platform(), board.platform()
    except ModuleNotFoundError as error:
        raise BoardError(
            f"the package {error.name} is missing, which knows the pins of {board.title}: "
            "type `pip install 'siligrad[boards]'`"
        ) from None
    try:
        uart = tried.request("uart", 0, dir="-")
        _ = uart.rx, uart.tx
        if board.led:
            reduce(getattr, board.led[1:], tried.request(board.led[0], 0, dir="-"))
    except (ResourceError, NameError, AttributeError) as error:
        raise BoardError(
            f"the file of {board.title} has a bad pin: {error}; correct its platform or its led"
        ) from None
    return platform


def plan(
    board: Board, top: BoardTop, seed: int, platform: Any
) -> tuple[dict[str, bytes], list[list[str]]]:
    """Return the files that Amaranth writes, and the commands to run on them."""
    prepared = platform.prepare(
        top,
        _NAME,
        emit_src=False,  # or a line that moves would be another build
        debug_verilog=False,
        script_after_read=COLLISIONS,
        synth_opts=list(board.technology.synthesis),
        # We look at the clock ourselves, and say which path is too slow.
        nextpnr_opts=[
            *("--report", _ROUTED),
            *("--seed", str(seed)),
            *("--freq", f"{top.clock.mhz:g}"),
            "--timing-allow-fail",
            *board.technology.routing,
        ],
    )
    # Without what only prepares a bitstream for a programmer, such as dfu-suffix.
    written = json.loads(prepared.files[f"build_{_NAME}.json"])["commands"]
    commands = [
        command for command in map(_of_today, written) if command[0] in board.technology.tools
    ]
    scripts = {f"build_{_NAME}.{suffix}" for suffix in ("json", "sh", "bat")}
    files = {
        name: content.encode() if isinstance(content, str) else content
        for name, content in prepared.files.items()
        if name not in scripts
    }
    return files, commands


def _of_today(command: list[str]) -> list[str]:
    """Return a command of Amaranth's as the tools of today have it.

    Gowin's devices have moved from nextpnr-gowin to nextpnr-himbaechel, which takes the options of
    its families by another one.
    """
    name, *arguments = command
    if name != "nextpnr-gowin":
        return command
    moved = {"--family": "family", "--cst": "cst"}
    of_today = ["nextpnr-himbaechel"]
    for word in arguments:
        if of_today[-1] in moved:
            of_today[-1:] = ["--vopt", f"{moved[of_today[-1]]}={word}"]
        else:
            of_today.append(word)
    return of_today


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep other builds out of the folder."""
    descriptor = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError(
                f"another build is at work in {work}: wait for it, or name another --output"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _write(work: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with replacing(work / name) as beside:
            beside.write_bytes(content)


@dataclass(frozen=True, slots=True)
class _Step:
    """A command of a build.

    Parameters
    ----------
    number, count
        Which step it is, of how many.
    command
        Program, as Amaranth calls it, and arguments.
    tool
        The program.
    key
        A hash of all that the outcome depends on.
    unread
        Outputs of cells to cut off, where nobody reads them, in the netlist that it makes.
    """

    number: int
    count: int
    command: list[str]
    tool: Tool
    key: str
    unread: tuple[tuple[str, str], ...] = ()

    @property
    def routes(self) -> bool:
        """Whether it places and routes."""
        return self.command[0].startswith("nextpnr")

    @property
    def netlist(self) -> str:
        """The file that is placed and routed, if it does that."""
        return self.command[self.command.index("--json") + 1]

    @property
    def title(self) -> str:
        """What it does."""
        return _TITLES.get(self.command[0].split("-", maxsplit=1)[0], "pack")

    def run(self, work: Path, say: Callable[[str], None]) -> float:
        """Run the command unless that was done, and return how many seconds it took."""
        record = work / f"step-{self.number}.json"
        line = f"[{self.number}/{self.count}] {self.title}"
        if (before := _done(record, self.key)) is not None:
            say(f"{line}: done before, in {before:.1f} s")
            return before
        say(f"{line} with {self.tool.title}")
        record.unlink(missing_ok=True)
        log = work / f"step-{self.number}.log"
        begin = time.monotonic()
        with log.open("wb") as output:
            done = subprocess.run(
                [self.tool.path, *self.command[1:]],
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode == 0 and self.unread:
            cut_unread(work / f"{_NAME}.json", self.unread)
        seconds = time.monotonic() - begin
        if done.returncode:
            raise BuildError(
                f"{self.tool.name} fails in step {self.number} of {self.count}, {self.title}: "
                f"{_complaint(log)}; its output is in {log}"
            )
        with replacing(record) as beside:
            beside.write_text(json.dumps({"key": self.key, "seconds": seconds}), encoding="utf-8")
        return seconds


def _done(record: Path, key: str) -> float | None:
    """Return the seconds of a step that `record` says was done with `key`, else None."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return float(found["seconds"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _complaint(log: Path) -> str:
    """Return the first error in what a program printed, else its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    for line in lines:
        if (match := re.match(r"(?:ERROR|FATAL)\W+(.+)", line, re.IGNORECASE)) is not None:
            return match[1].rstrip(".")
    return next((line for line in reversed(lines) if line), "it prints nothing")


def _sold(routed: Routed, board: Board) -> Routed:
    """Return what was routed beside what the device has by its data sheet.

    Some are sold with less than is on them, and place and route knows what is on them.
    """
    has = {"lut": board.luts, "ff": board.luts, "dsp": board.multipliers, "bram": board.blocks}
    uses: dict[str, Use] = {}
    for name, most in has.items():
        use = getattr(routed, name)
        if use.used > most:
            raise BuildError(
                f"{board.title} is too small: {use.used} {name.upper()} are needed, and the "
                f"{board.device} has {most}; ask for a smaller --array"
            )
        uses[name] = Use(use.used, min(use.available, most))
    return Routed(**uses, mhz=routed.mhz, slowest=routed.slowest)


def _check_clock(routed: Routed, clock: ClockSetting) -> None:
    if routed.mhz >= clock.mhz:
        return
    path = routed.slowest
    where = (
        "" if path is None else f": from {path.start} to {path.end} takes {path.nanoseconds:.2f} ns"
    )
    raise BuildError(
        f"the clock of {clock.mhz:g} MHz is missed, {routed.mhz:.2f} MHz are reached{where}; ask "
        "for a lower --clock, or try another --seed"
    )
