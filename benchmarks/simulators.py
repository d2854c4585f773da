"""``python -m benchmarks.simulators``: cycles per second of every simulator of the hardware.

Each runs the same program over and over: a step of gradient descent of a 64-32-10 perceptron, batch
16, compiled for the array. The yardstick is what one has without any of our devices: Icarus Verilog
under cocotb, with a clock that runs in the simulator and a bench that sleeps until the run is over.

Rates are cycles of runs by the processor time that they take, and not the clock's, so that other
programs on the machine hardly matter. Builds are made anew, in a folder of their own, unless the
cache may be used. What is not installed is listed as missing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import siligrad as sg
from siligrad import losses, nn
from siligrad.device import DeviceUnavailable
from siligrad.errors import SiligradError
from siligrad.host import HostDevice
from siligrad.isa import Loop
from siligrad.program import Program
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.bench_runner import Simulator, run_bench
from siligrad_sim.cxxrtl import CxxrtlDevice
from siligrad_sim.pysim import PysimDevice
from siligrad_sim.toolchain import (
    ToolMissing,
    find_compiler,
    find_icarus,
    find_yosys,
    first_line,
)
from siligrad_sim.verilator import VerilatorDevice

__all__ = ["CONTENDERS", "SIZES", "Result", "Table", "YARDSTICK", "main", "measure"]

SIZES = (4, 8, 16)
"""Arrays, N x N."""

LAYERS = (64, 32, 10)
BATCH = 16
RATE = 2.0**-7

YARDSTICK = "cocotb + Icarus"

_BENCH = "benchmarks.simulator_bench"

Measure = Callable[[Program, tuple[Any, ...], float], tuple[float, float]]
"""A program, its inputs and seconds to seconds of building and cycles per second."""


# --- the contenders


def _device(kind: type[HostDevice]) -> Measure:
    """Measure a device in this process."""

    def run(program: Program, inputs: tuple[Any, ...], seconds: float) -> tuple[float, float]:
        if (reason := kind.available()) is not None:
            raise DeviceUnavailable(reason)
        start = _processor_time()
        device = kind(program.geometry)
        built = _processor_time() - start
        with device:
            device.load(program)
            device.run(*inputs)  # raises if it takes other cycles than the program promises
            cycles, start = 0, time.process_time()
            while (spent := time.process_time() - start) < seconds:
                cycles += device.execute(program.loop, 2 * program.cycles)
        return built, cycles / spent

    return run


def _bench(simulator: Simulator) -> Measure:
    """Measure a simulator under cocotb, in a process of its own."""

    def run(program: Program, inputs: tuple[Any, ...], seconds: float) -> tuple[float, float]:
        writes = _Writes(program)
        writes.run(*inputs)
        with tempfile.TemporaryDirectory(prefix="siligrad-benchmark-") as folder:
            result, words = Path(folder, "result.json"), Path(folder, "words.npy")
            np.save(words, np.array(writes.words, np.int64))

            def bench(seconds: float) -> None:
                run_bench(
                    Accelerator(program.geometry),
                    _BENCH,
                    simulator=simulator,
                    parameters={
                        "writes": str(words),
                        "cycles": program.cycles,
                        "seconds": seconds,
                        "result": str(result),
                    },
                )

            start = _processor_time()
            bench(0)
            built = _processor_time() - start
            bench(seconds)
            found = json.loads(result.read_text(encoding="ascii"))
        return built, found["cycles"] / found["seconds"]

    return run


class _Writes(HostDevice):
    """Notes what a host writes to load a program and its inputs; nothing is simulated."""

    name = "writes"

    def __init__(self, program: Program) -> None:
        super().__init__(program.geometry)
        self.words: list[tuple[int, int]] = []
        self.load(program)

    def read_word(self, address: int) -> int:
        return 0

    def write_word(self, address: int, value: int) -> None:
        self.words.append((address, value))

    def execute(self, loop: Loop, limit: int) -> int:
        return self.program.cycles


CONTENDERS: dict[str, Measure] = {
    "verilator": _device(VerilatorDevice),
    "cxxrtl": _device(CxxrtlDevice),
    "cocotb + Verilator": _bench("verilator"),
    YARDSTICK: _bench("icarus"),
    "pysim": _device(PysimDevice),
}


# --- measuring


@dataclass(frozen=True, slots=True)
class Result:
    """One simulator of one array.

    Parameters
    ----------
    rate : :class:`float`
        Cycles of runs per second of processor time.
    build : :class:`float` or None
        Processor seconds from the hardware's description to a device that can be used, all
        processes together; None where the cache was used.
    ratio : :class:`float` or None
        The rate, divided by the yardstick's; None where that is missing.
    """

    rate: float
    build: float | None
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Table:
    """What a run of the benchmark found: results by array and simulator, and what was missing."""

    machine: dict[str, str]
    versions: dict[str, str]
    cycles: dict[int, int] = field(default_factory=dict)
    results: dict[int, dict[str, Result]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def measure(
    *,
    sizes: Sequence[int] = SIZES,
    contenders: Sequence[str] = tuple(CONTENDERS),
    seconds: float = 3.0,
    cached: bool = False,
    progress: Callable[[str], object] = lambda _what: None,
) -> Table:
    """Measure every simulator that is installed on every array.

    Parameters
    ----------
    sizes : sequence of :class:`int`
        Arrays.
    contenders : sequence of :class:`str`
        Keys of :data:`CONTENDERS`.
    seconds : :class:`float`
        Processor time that each runs for, at least.
    cached : :class:`bool`
        Use what the cache has, and leave out what building takes.
    progress
        Called with a word on what is measured next, before it is, and with "" at the end.

    Raises
    ------
    siligrad.errors.SiligradError
        If a simulator does not build, or takes other cycles than the program promises.
    """
    table = Table(_machine(), _versions())
    with contextlib.nullcontext() if cached else _empty_cache():
        for size in sizes:
            program, inputs = _program(size)
            table.cycles[size] = program.cycles
            found: dict[str, tuple[float, float]] = {}
            for contender in contenders:
                progress(f"{contender}, N = {size}")
                try:
                    found[contender] = CONTENDERS[contender](program, inputs, seconds)
                except (DeviceUnavailable, ToolMissing) as error:
                    table.missing[contender] = str(error)
            yardstick = found[YARDSTICK][1] if YARDSTICK in found else None
            table.results[size] = {
                contender: Result(
                    rate,
                    None if cached else build,
                    None if yardstick is None else rate / yardstick,
                )
                for contender, (build, rate) in found.items()
            }
    progress("")
    return table


def _program(size: int) -> tuple[Program, tuple[Any, ...]]:
    """Return the step for an array, and a batch."""
    rng = np.random.default_rng(0)
    params = [
        (rng.standard_normal((n, m)) * (2 / n) ** 0.5, 0.1 * rng.standard_normal(m))
        for n, m in itertools.pairwise(LAYERS)
    ]
    x = rng.random((BATCH, LAYERS[0]))
    y = np.where(rng.integers(LAYERS[-1], size=(BATCH, 1)) == np.arange(LAYERS[-1]), 1.0, -1.0)
    program = sg.compile(_step, params, x, y, donate=0, target=sg.Target(array=size))
    return program, (x, y)


def _step(params: Any, x: Any, y: Any) -> Any:
    grads = sg.grad(_loss)(params, x, y)
    return [(W - RATE * dW, b - RATE * db) for (W, b), (dW, db) in zip(params, grads, strict=True)]


def _loss(params: Any, x: Any, y: Any) -> Any:
    return losses.squared_hinge(nn.predict(params, x), y)


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    """Build in a folder of its own, as on a machine that has built nothing yet."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="siligrad-benchmark-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before


def _processor_time() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    whos = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whos))


def _machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"system": platform.system(), "processor": processor, "processors": f"{os.cpu_count()}"}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for distribution in ("amaranth", "cocotb", "verilator"):
        with contextlib.suppress(PackageNotFoundError):
            found[distribution] = version(distribution)
    with contextlib.suppress(ToolMissing):
        found["yosys"] = find_yosys().version
    with contextlib.suppress(ToolMissing):
        found["compiler"] = find_compiler().version
    with contextlib.suppress(ToolMissing):
        found["icarus"] = first_line([str(find_icarus()), "-V"])
    return found


# --- printing


def _format(table: Table) -> str:
    lines = [
        f"a step of {'-'.join(map(str, LAYERS))}, batch {BATCH}, over and over",
        f"{table.machine['processor']} ({table.machine['processors']} processors)",
        ", ".join(f"{name} {number}" for name, number in table.versions.items()),
    ]
    for size, results in table.results.items():
        title = f"N = {size}, {table.cycles[size]} cycles"
        lines += ["", f"{title:<24} {'cycles/s':>10} {'Icarus = 1':>10} {'build, s':>9}"]
        for contender, r in results.items():
            ratio = "" if r.ratio is None else f"{r.ratio:.2f}"
            build = "" if r.build is None else f"{r.build:.1f}"
            lines.append(f"{contender:<24} {r.rate:>10,.0f} {ratio:>10} {build:>9}")
        lines += [
            f"{contender:<24} missing: {reason}"
            for contender, reason in table.missing.items()
            if contender not in results
        ]
    return "\n".join([
        *lines,
        "",
        "cycles/s: cycles of runs per second of processor time",
        "build: processor seconds, all processes together, from the hardware's description to a",
        "device that can be used; the Verilog that two simulators share is the first one's",
    ])


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[str], object]]:
    """Show a progress bar on a terminal, if tqdm is installed; yield what moves it on."""
    try:
        from tqdm import tqdm  # noqa: PLC0415  (an optional dependency)
    except ImportError:
        yield lambda _what: None
        return
    with tqdm(total=total, disable=None, leave=False) as bar:
        started = 0

        def move(what: str) -> None:
            nonlocal started
            bar.update(min(started, 1))
            bar.set_description_str(what)
            started += 1

        yield move


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulators", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="arrays (4 8 16)")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, default=tuple(CONTENDERS), help="simulators (all)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="to run each for (default 3)")
    parser.add_argument("--cached", action="store_true", help="use what was built before")
    options = parser.parse_args(argv)
    if not options.seconds > 0:
        parser.error(f"--seconds must be above zero, not {options.seconds}")
    try:
        with _bar(len(options.sizes) * len(options.only)) as progress:
            table = measure(
                sizes=options.sizes,
                contenders=options.only,
                seconds=options.seconds,
                cached=options.cached,
                progress=progress,
            )
    except SiligradError as error:
        print(f"benchmarks.simulators: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(table), indent=1) if options.json else _format(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
