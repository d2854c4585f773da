"""Mutants of the hardware: what there is to choose from, and netlists that have one or all of them.

The netlist is the accelerator after Yosys' coarse synthesis: words, registers and memories, one
module for each component, each cell with the line of the hardware description that it comes from.
A mutant is one of ``mutate``: one bit of one port of one cell is inverted, stuck, or inverted when
another bit of the port is set. Clocks are left alone: a simulation would not tell what they do.

All mutants are in one netlist. A word that does not exist, :data:`CHOICE`, chooses which of them
there is, and resets the accelerator with it; 0 is none.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from amaranth.back import rtlil

import siligrad_hdl
from siligrad.isa import Geometry
from siligrad.registers import HOST_ADDRESS_BITS, REGION_BITS
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.formal.tools import run_yosys
from siligrad_sim.netlist import TOP

__all__ = ["CHOICE", "LEAST", "Design", "Mutant", "sample"]

CHOICE = 3 << REGION_BITS
"""Word address of the host port at which the number of the mutant is written."""

LEAST = 8
"""Mutants of each component that a sample has at least, if there are so many."""

INNER = "accelerator"
"""What the accelerator's module is called inside the one that chooses a mutant."""

_CHOICE_BITS = 16

_COARSE = (
    f"read_rtlil design.il; hierarchy -top {TOP}; proc -norom; opt; memory_collect; opt_clean; "
    "wreduce; peepopt; opt_clean; opt; pmuxtree; opt_clean; write_rtlil coarse.il"
)

_CLOCKS = re.compile(r"(RD_|WR_)?CLK|clk")

_COMPONENTS: Mapping[str, str] = {
    r"": "accelerator",
    r"watchdog\.counter": "cycle counter",
    r"sequencer\.(aux|epilogue|write)": "queue",
    r"program": "program memory",
    r"(program\.word|memory_[xwe]\.bank|saturations\.sums)": "block memory",
    r"sequencer\.fetch\.running": "block memory",
    r"memory_[xwe]": "memory",
    r"(writer|memory_[xwe])\.rotator": "rotator",
    r"array\.cell": "cell",
    r"array\.cell\.multiplier": "multiplier",
    r"epilogue\.lane": "epilogue lane",
    r"epilogue\.lane\.lfsr": "shift register",
    r"sequencer\.fetch": "fetch",
    r"sequencer\.stream": "stream",
}
"""Modules, without their numbers, to what they are called here; others keep their names."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of the netlist.

    Parameters
    ----------
    mode
        What happens to the bit: ``inv``, ``const0``, ``const1``, or ``cnot0`` and ``cnot1``, which
        invert it when another bit of the port is 0 or 1.
    module, cell, port, bit
        Where it is.
    control
        That other bit, if there is one.
    lines
        Of the hardware description, where the cell comes from: file and line.
    """

    mode: str
    module: str
    cell: str
    port: str
    bit: int
    control: int | None
    lines: tuple[str, ...]

    @property
    def component(self) -> str:
        """What the module is an instance of."""
        path = re.sub(r"\$\d+", "", self.module.removeprefix(TOP).removeprefix("."))
        path = re.sub(r"(cell|lane|bank|word)(_\d+)+", r"\1", path)
        return next(
            (name for pattern, name in _COMPONENTS.items() if re.fullmatch(pattern, path)), path
        )

    @property
    def options(self) -> str:
        """What Yosys' ``mutate`` is told."""
        control = "" if self.control is None else f" -ctrlbit {self.control}"
        return (
            f"-mode {self.mode} -module {self.module} -cell {self.cell} -port {self.port} "
            f"-portbit {self.bit}{control}"
        )

    def __str__(self) -> str:
        bit = f"{self.module}, cell {self.cell}, {self.port}[{self.bit}]"
        how = self.mode if self.control is None else f"{self.mode} by bit {self.control}"
        return f"{bit} {how} ({', '.join(self.lines) or 'no line'})"


class Design:
    """The netlist of an accelerator, and of its mutants.

    Parameters
    ----------
    geometry
        The accelerator.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    @cached_property
    def rtlil(self) -> str:
        """The netlist without any mutant."""
        text = rtlil.convert(Accelerator(self.geometry), name=TOP, emit_src=True)
        package = Path(siligrad_hdl.__file__).parent
        text = text.replace(f"{package.parent}/", "")  # lines are named from here on
        return run_yosys(_COARSE, {"design.il": text}, "coarse.il")

    def candidates(self, count: int, seed: int) -> list[Mutant]:
        """Draw up to `count` mutants, each once, as ``mutate`` spreads them over the netlist."""
        script = f"read_rtlil coarse.il; mutate -list {count} -seed {seed} -o list"
        text = run_yosys(script, {"coarse.il": self.rtlil}, "list")
        found = [_parsed(line) for line in text.splitlines()]
        return [each for each in dict.fromkeys(found) if not _CLOCKS.fullmatch(each.port)]

    def with_all(self, mutants: Sequence[Mutant]) -> str:
        """Return Verilog of an accelerator that has at most one of `mutants`: see :data:`CHOICE`.

        Mutant number 1 is the first.
        """
        changes = "; ".join(
            f"mutate -ctrl mutant {_CHOICE_BITS} {number} {mutant.options}"
            for number, mutant in enumerate(mutants, 1)
        )
        ending = f"rename {TOP} {INNER}; opt_clean; write_verilog -noattr mutants.v"
        verilog = run_yosys(
            f"read_rtlil coarse.il; {changes}; {ending}", {"coarse.il": self.rtlil}, "mutants.v"
        )
        # A bit that inverts another of its own word looks like a loop to a simulator.
        return f"/* verilator lint_off UNOPTFLAT */\n{verilog}{_chooser()}"

    def with_one(self, mutant: Mutant | None, *, top: str) -> str:
        """Return Verilog of an accelerator that has `mutant`, its top module called `top`."""
        change = "" if mutant is None else f"mutate {mutant.options};"
        ending = f"rename {TOP} {top}; opt_clean; write_verilog -noattr mutant.v"
        return run_yosys(
            f"read_rtlil coarse.il; {change} {ending}", {"coarse.il": self.rtlil}, "mutant.v"
        )


def sample(candidates: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Choose `count` mutants of all components: a minimum of each, the others in proportion."""
    groups = defaultdict(list)
    for mutant in candidates:
        groups[mutant.component].append(mutant)
    rng = random.Random(seed)
    for group in groups.values():
        rng.shuffle(group)
    taken: Counter[str] = Counter()
    while taken.total() < min(count, len(candidates)):
        # Whoever lags behind its share most is next; before that, whoever lacks its minimum.
        able = [name for name, group in groups.items() if taken[name] < len(group)]
        poor = [name for name in able if taken[name] < LEAST]
        chosen = min(poor or able, key=lambda name: (taken[name] + 1) / len(groups[name]))
        taken[chosen] += 1
    return [mutant for name, group in groups.items() for mutant in group[: taken[name]]]


def _parsed(line: str) -> Mutant:
    """Return the mutant that a line of ``mutate -list`` describes."""
    words = line.split()[1:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    values = dict(pairs)
    control = values.get("-ctrlbit")
    lines = [value for option, value in pairs if option == "-src"]
    return Mutant(
        values["-mode"],
        values["-module"],
        values["-cell"],
        values["-port"],
        int(values["-portbit"]),
        None if control is None else int(control),
        tuple(each for each in lines if each.startswith(siligrad_hdl.__name__)),
    )


def _chooser() -> str:
    """Return the top module: the ports of the accelerator, and the register that chooses."""
    return f"""
module {TOP}(
  input clk, input rst, input host__strobe, input host__write,
  input [{HOST_ADDRESS_BITS - 1}:0] host__address, input [31:0] host__write_data,
  output [31:0] host__read_data, output host__acknowledge, output busy);
  reg [{_CHOICE_BITS - 1}:0] mutant = 0;
  reg [3:0] reset = 0;
  always @(posedge clk)
    if (host__strobe & host__write & host__address == {CHOICE} & host__acknowledge) begin
      mutant <= host__write_data[{_CHOICE_BITS - 1}:0];
      reset <= 15;
    end else reset <= reset << 1;
  {INNER} {INNER}(
    .clk(clk), .rst(rst | reset[3]), .host__strobe(host__strobe), .host__write(host__write),
    .host__address(host__address), .host__write_data(host__write_data),
    .host__read_data(host__read_data), .host__acknowledge(host__acknowledge), .busy(busy),
    .mutant(mutant));
endmodule
"""
