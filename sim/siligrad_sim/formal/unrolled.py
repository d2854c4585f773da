"""A component unrolled over a few cycles, as formulas of bit vectors for Z3.

The registers begin with any values, and every input has any value in each cycle. Formulas come from
Yosys' ``write_smt2``, so from the netlist, and are only cut into registers here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import z3

from siligrad_sim.formal.tools import ProverError, run_yosys

__all__ = ["Unrolled", "counterexample"]

_SCRIPT = (
    "read_rtlil design.il; prep -top {top}; flatten; opt_clean; dffunmap; "
    "write_smt2 -stbv -wires design.smt2"
)
_TACTICS = (
    *("simplify", "propagate-values", "solve-eqs", "simplify", "propagate-values", "solve-eqs"),
    *("elim-uncnstr", "simplify", "max-bv-sharing", "bit-blast", "aig", "sat"),
)
_SECONDS = 600


class Unrolled:
    """The formulas of a component in cycles 0 to `cycles`, without a reset in any of them.

    Parameters
    ----------
    rtlil
        The module and those below it.
    top
        Its name.
    cycles
        Number of clock edges.
    """

    def __init__(self, rtlil: str, *, top: str, cycles: int) -> None:
        text = run_yosys(_SCRIPT.format(top=top), {"design.il": rtlil}, "design.smt2")
        found = re.search(rf"define-sort \|{top}_s\| \(\) \(_ BitVec (\d+)\)", text)
        if found is None:
            raise ProverError(f"Yosys wrote no state of {top}")
        self._top = top
        self._text = text
        self._widths = dict(re.findall(r"^; yosys-smt2-wire (\S+) (\d+)$", text, re.MULTILINE))
        self._pieces = _pieces(text, int(found[1]))
        self._cycles = cycles
        lines = [text]
        lines += [f"(declare-const s{cycle} |{top}_s|)" for cycle in range(cycles + 1)]
        for cycle in range(cycles):
            lines.append(f"(assert (|{top}_t| s{cycle} s{cycle + 1}))")
            lines.append(f"(assert (not (|{top}_n rst| s{cycle})))")
        self.formulas = self._parse(lines)
        """What holds between the nets of all cycles."""

    def net(self, name: str, cycle: int) -> z3.ExprRef:
        """Return a named net in a cycle; one bit is a Boolean."""
        if name not in self._widths:
            raise ProverError(f"there is no net {name} in {self._top}")
        width = int(self._widths[name])
        value: z3.ExprRef
        if width == 1:
            value, sort = z3.Bool("value"), "Bool"
        else:
            value, sort = z3.BitVec("value", width), f"(_ BitVec {width})"
        lines = [self._text, f"(declare-const s{cycle} |{self._top}_s|)"]
        lines += [f"(declare-const value {sort})"]
        lines += [f"(assert (= value (|{self._top}_n {name}| s{cycle})))"]
        (equation,) = self._parse(lines)
        for side in equation.children():
            if not side.eq(value):
                return side
        raise AssertionError(f"{equation} says nothing of {name}")

    def _parse(self, lines: list[str]) -> list[z3.BoolRef]:
        states = [
            (
                z3.BitVec(f"s{cycle}", sum(self._pieces)),
                _concatenation(f"s{cycle}", self._pieces),
            )
            for cycle in range(self._cycles + 1)
        ]
        parsed = z3.parse_smt2_string("\n".join(lines))
        return [z3.substitute(formula, *states) for formula in parsed]


def counterexample(
    formulas: list[z3.BoolRef], claim: z3.BoolRef, show: Mapping[str, z3.ExprRef]
) -> str | None:
    """Return the values of `show` for which `formulas` hold and `claim` does not, None if never.

    Raises
    ------
    ProverError
        If Z3 does not find out in time.
    """
    solver = z3.Then(*_TACTICS).solver()
    solver.set("timeout", _SECONDS * 1000)
    solver.add(*formulas, z3.Not(claim))
    answer = solver.check()
    if answer == z3.unsat:
        return None
    if answer != z3.sat:
        raise ProverError(f"Z3 did not find out in {_SECONDS} s: {solver.reason_unknown()}")
    model = solver.model()
    values = {name: model.eval(term, model_completion=True) for name, term in show.items()}
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _pieces(text: str, width: int) -> list[int]:
    """Return the widths of the registers and inputs that a state is put together from."""
    bounds = {0, width}
    for high, low in re.findall(
        r"^\(define-fun \|[^|]+\| \(\(state [^)]*\)\) .*\(\(_ extract (\d+) (\d+)\) state\)",
        text,
        re.MULTILINE,
    ):
        bounds |= {int(low), int(high) + 1}
    return [end - begin for begin, end in pairwise(sorted(bounds))]


def _concatenation(name: str, widths: list[int]) -> z3.BitVecRef:
    parts = [z3.BitVec(f"{name}_{number}", width) for number, width in enumerate(widths)]
    return z3.Concat(*reversed(parts))
