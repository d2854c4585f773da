"""Run cocotb benches on a component, in Icarus or Verilator: the one runner of all benches.

A bench is a module of ``siligrad_sim.benches`` whose coroutines are decorated with ``cocotb.test``.
:func:`run_bench` converts the component to Verilog, builds it unless the same was built before,
runs the bench inside the simulator and raises :class:`BenchFailed` unless at least one test ran
and all of them passed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from siligrad.errors import SiligradError
from siligrad_sim.build_cache import cached_build
from siligrad_sim.toolchain import (
    find_compiler,
    find_icarus,
    find_libpython,
    find_make,
    find_verilator,
    verilator_shim,
)

__all__ = [
    "PARAMETERS_VARIABLE",
    "SEED",
    "BenchFailed",
    "Simulator",
    "bench_parameters",
    "convert_to_verilog",
    "run_bench",
    "without_initial_values",
]

Simulator = Literal["icarus", "verilator"]
"""A simulator that benches run in."""

SEED = 2026
"""The seed when none is given, so that every run of a bench draws the same numbers."""

PARAMETERS_VARIABLE = "SILIGRAD_BENCH_PARAMETERS"
"""Environment variable that carries the parameters into the simulator, as JSON."""

_TIMESCALE = ("1ns", "1ps")
_LOG_LINES = 40


class BenchFailed(SiligradError):
    """A bench did not pass, did not run, or its simulator did not build."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    name: str
    failure: str | None
    skipped: bool


def run_bench(
    component: object,
    bench: str,
    *,
    simulator: Simulator,
    top: str = "top",
    parameters: Mapping[str, Any] | None = None,
    tests: Sequence[str] | None = None,
    seed: int = SEED,
    internals: bool = False,
    unknowns: bool = False,
) -> list[str]:
    """Run the tests of the module ``bench`` on ``component`` and return their names.

    Parameters
    ----------
    component
        An Amaranth component, or a string of Verilog that has the module ``top``.
    bench
        The module, as in ``"siligrad_sim.benches.processing_element"``. It must be importable here.
    simulator
        ``"icarus"`` or ``"verilator"``.
    top
        Name of the top module.
    parameters
        What the bench reads with :func:`bench_parameters`; anything that JSON can write.
    tests
        Names of the tests to run; all of the module's without it. Each must exist.
    seed
        From it and from the name of the test comes ``cocotb.RANDOM_SEED`` inside the bench, the
        same in both simulators.
    internals
        Let a bench in Verilator see the signals inside ``top`` too, not only its ports. Costs two
        to three times the speed. In Icarus they can always be seen.
    unknowns
        Let every register and memory begin with X, as in :func:`without_initial_values`. In Icarus
        alone: Verilator knows no X.

    Raises
    ------
    ValueError
        If `unknowns` are asked of Verilator.
    BenchFailed
        If a test fails, none runs, or the simulator does not build or does not end well. The
        message has every failure and the end of the simulator's log.
    ToolMissing
        If the simulator is not installed.
    """
    from cocotb_tools.runner import get_runner  # noqa: PLC0415  (the bench itself imports us)

    if unknowns and simulator != "icarus":
        raise ValueError(f"unknowns must be simulated in icarus; {simulator} knows no X")
    libpython = find_libpython()
    verilog = component if isinstance(component, str) else convert_to_verilog(component, top)
    if unknowns:
        verilog = without_initial_values(verilog)
    model = _build(verilog, top, simulator, internals=internals)
    environment = {
        PARAMETERS_VARIABLE: json.dumps(dict(parameters or {})),
        "LIBPYTHON_LOC": str(libpython),
    }
    with tempfile.TemporaryDirectory(prefix="siligrad-bench-") as folder:
        log, results = Path(folder, "log"), Path(folder, "results.xml")
        with _environment({}):
            runner = get_runner(simulator)
            runner.log.disabled = True
            try:
                runner.test(
                    test_module=bench,
                    hdl_toplevel=top,
                    hdl_toplevel_lang="verilog",
                    test_filter=_filter(tests),
                    seed=seed,
                    extra_env=environment,
                    build_dir=model,
                    test_dir=folder,
                    results_xml=str(results),
                    log_file=log,
                )
            except (RuntimeError, SystemExit) as error:
                status: object = error
            else:
                status = None
        return _judge(f"{bench} in {simulator}", tests, results, log, status)


def bench_parameters() -> dict[str, Any]:
    """Return the parameters that :func:`run_bench` was given; for use inside a bench."""
    parameters: dict[str, Any] = json.loads(os.environ.get(PARAMETERS_VARIABLE, "{}"))
    return parameters


def convert_to_verilog(component: object, top: str = "top") -> str:
    """Convert an Amaranth component to Verilog whose top module is ``top``.

    The text depends on the component alone: it names no source file.
    """
    from amaranth.back import verilog  # noqa: PLC0415  (not needed inside the simulator)

    text: str = verilog.convert(component, name=top, emit_src=False, strip_internal_attrs=True)
    return text


def without_initial_values(verilog: str) -> str:
    """Return `verilog`, as Amaranth wrote it, with no register and no memory initialised.

    A reset then does all that is done. In silicon, and in an FPGA after a reset, no more is.

    Raises
    ------
    ValueError
        If nothing in it is initialised: then it is not what it is taken for.
    """
    # Yosys' own registers, which make processes run once at the beginning, hold no state.
    registers = re.compile(
        r"^(\s*(?:output\s+)?reg\s(?!.*\$auto\$)[^=;]*?)\s*=\s[^;]*;", re.MULTILINE
    )
    memories = re.compile(r"^(\s*)initial begin\n.*?^\1end\n", re.DOTALL | re.MULTILINE)
    text, count = registers.subn(r"\1 ;", verilog)
    text, more = memories.subn("", text)
    if not count + more:
        raise ValueError("the Verilog initialises nothing, so nothing can be taken out of it")
    return text


def _build(verilog: str, top: str, simulator: Simulator, *, internals: bool) -> Path:
    """Return the folder in which cocotb's runner finds the simulation model of ``verilog``."""
    from cocotb_tools import config  # noqa: PLC0415

    arguments: list[str] = []
    control = ""
    if simulator == "verilator":
        find_make()
        verilator, compiler = find_verilator(), find_compiler()
        arguments = ["-Wno-fatal", "-O3", "--x-assign", "fast", "--x-initial", "fast"]
        if not internals:
            arguments.append("--no-public-flat-rw")
            control = _ports_alone(verilog, top)
        tool = [verilator.version, *compiler.command, compiler.version, *compiler.flags]
    else:
        tool = [_version([str(find_icarus()), "-V"])]

    def build(folder: Path) -> None:
        from cocotb_tools.runner import get_runner  # noqa: PLC0415

        source, log = folder / f"{top}.v", folder / "build.log"
        source.write_text(verilog, encoding="utf-8")
        sources = [source]
        if control:
            sources.append(folder / "ports.vlt")
            sources[-1].write_text(control, encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="siligrad-shim-") as shims:
            changes: dict[str, str] = {}
            if simulator == "verilator":
                verilator_shim(Path(shims))
                # A model, and Verilator's own library, take longer to optimise than a bench runs.
                fast = shlex.join(["-O0", *compiler.flags])
                changes = verilator.environment(OPT_FAST=fast, OPT_GLOBAL="-O0", OPT_SLOW="-O0")
                changes["PATH"] = os.pathsep.join([shims, os.environ.get("PATH", os.defpath)])
            with _environment(changes):
                runner = get_runner(simulator)
                runner.log.disabled = True
                try:
                    runner.build(
                        sources=sources,
                        hdl_toplevel=top,
                        build_dir=folder,
                        build_args=arguments,
                        timescale=_TIMESCALE,
                        log_file=log,
                        always=True,
                    )
                except RuntimeError as error:
                    raise BenchFailed(
                        f"{simulator} does not build {top}: {error}\n{_tail(log)}"
                    ) from error
        for path in folder.iterdir():  # a model is 1 MB, what it is made of is fifty
            if path.name not in {top, "sim.vvp", source.name}:
                path.unlink()

    versions = [metadata.version("cocotb"), str(config.libs_dir)]
    parts = ["bench 2", simulator, top, *tool, *versions, *arguments, control, verilog]
    return cached_build(parts, build)


def _ports_alone(verilog: str, top: str) -> str:
    """Write a Verilator control file that makes the ports of ``top`` visible, and nothing else."""
    module = re.search(
        rf"^module {re.escape(top)}\b.*?^endmodule", verilog, re.DOTALL | re.MULTILINE
    )
    if module is None:
        raise BenchFailed(f"the Verilog has no module {top!r}")
    ports = re.findall(
        r"^\s*(?:input|output)\s+(?:wire |reg )?\s*(?:\[[^]]*\])?\s*(\w+|\\\S+)\s*;",
        module[0],
        re.MULTILINE,
    )
    lines = [
        f'public_flat_rw -module "{top}" -var "{port.removeprefix(chr(92))}"' for port in ports
    ]
    return "\n".join(["`verilator_config", *lines, ""])


def _version(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _filter(tests: Sequence[str] | None) -> str | None:
    if tests is None:
        return None
    names = "|".join(re.escape(name) for name in tests)
    # The rest is what cocotb.parametrize appends.
    return rf"\.({names})(/.*)?$"


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change the environment that cocotb's runner passes on.

    What pytest says about itself is taken out: with it, the runner judges the results on its own
    and calls ``sys.exit``.
    """
    before = dict(os.environ)
    os.environ.update(changes)
    for name in ("PYTEST_CURRENT_TEST", "WAVES", "GUI", "COCOTB_TEST_FILTER", "COCOTB_TESTCASE"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _judge(
    what: str, tests: Sequence[str] | None, results: Path, log: Path, status: object
) -> list[str]:
    if not results.is_file():
        raise BenchFailed(f"{what} ended without results ({status})\n{_tail(log)}")
    outcomes = [_outcome(case) for case in ElementTree.parse(results).iter("testcase")]
    failures = [f"{item.name}: {item.failure}" for item in outcomes if item.failure is not None]
    if failures:
        count = f"{len(failures)} of {len(outcomes)} tests failed"
        raise BenchFailed("\n".join([f"{what}: {count}", *failures, _tail(log)]))
    passed = [item.name for item in outcomes if not item.skipped]
    if not passed:
        raise BenchFailed(f"{what}: no test ran\n{_tail(log)}")
    for name in tests or ():
        if not any(re.match(rf"{re.escape(name)}(/|$)", item) for item in passed):
            raise BenchFailed(f"{what}: there is no test {name!r}; ran {', '.join(passed)}")
    if status is not None:
        raise BenchFailed(f"{what}: the tests passed, but then: {status}\n{_tail(log)}")
    return passed


def _outcome(case: ElementTree.Element) -> _Outcome:
    failure = None
    for tag in ("failure", "error"):
        found = case.find(tag)
        if found is not None:
            failure = found.get("message") or found.get("error_msg") or found.text or tag
    return _Outcome(case.get("name", "?"), failure, case.find("skipped") is not None)


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])


# cocotb's runner announces the commands that it runs; the log has what they print.
logging.getLogger("cocotb_tools").addHandler(logging.NullHandler())
