"""A component unrolled over some cycles, as formulas of bit vectors for Z3.

The registers begin with any values, and every input has any value in each cycle. Formulas come from
Yosys' ``write_smt2``, so from the netlist, and are only cut into registers here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import z3

from siligrad_sim.formal.tools import ProverError, run_yosys

__all__ = ["Unrolled", "counterexample"]

# What no output and no net in `keep` depends on is removed before formulas are written.
_SCRIPT = (
    "read_rtlil design.il; hierarchy -top {top}; proc; flatten; {expose}; opt -full; clean -purge; "
    "memory -nomap; opt_clean; memory_map; opt -full; clean; dffunmap; "
    "write_smt2 -stbv -wires design.smt2"
)
_TACTICS = (
    *("simplify", "propagate-values", "solve-eqs", "simplify", "propagate-values", "solve-eqs"),
    *("elim-uncnstr", "simplify", "max-bv-sharing", "bit-blast", "aig", "sat"),
)
_SECONDS = 600


class Unrolled:
    """The formulas of a component over some clock edges.

    Parameters
    ----------
    rtlil
        The module and those below it.
    top
        Its name.
    cycles
        Number of clock edges.
    reset
        Whether cycle 0 is one of reset. In all others there is none.
    keep
        Nets inside that :meth:`net` is to know too, by their names in the flat netlist.
    """

    def __init__(
        self, rtlil: str, *, top: str, cycles: int, reset: bool = False, keep: Sequence[str] = ()
    ) -> None:
        expose = "; ".join(f"expose {top}/w:{name}" for name in keep)
        script = _SCRIPT.format(top=top, expose=expose)
        text = run_yosys(script, {"design.il": rtlil}, "design.smt2")
        found = re.search(rf"define-sort \|{top}_s\| \(\) \(_ BitVec (\d+)\)", text)
        if found is None:
            raise ProverError(f"Yosys wrote no state of {top}")
        self._top = top
        self._text = text
        self._widths = dict(re.findall(r"^; yosys-smt2-wire (\S+) (\d+)$", text, re.MULTILINE))
        self._pieces = _pieces(text, int(found[1]))
        self._cycles = cycles
        self._nets: dict[str, z3.ExprRef] = {}
        lines = [text, *(f"(declare-const s{cycle} |{top}_s|)" for cycle in range(cycles + 1))]
        for cycle in range(cycles):
            lines.append(f"(assert (|{top}_t| s{cycle} s{cycle + 1}))")
            level = "true" if reset and cycle == 0 else "false"
            lines.append(f"(assert (= {level} (|{top}_n rst| s{cycle})))")
        states = [
            (z3.BitVec(f"s{cycle}", sum(self._pieces)), z3.Concat(*reversed(self._state(cycle))))
            for cycle in range(cycles + 1)
        ]
        self.formulas: list[z3.BoolRef] = [
            z3.substitute(formula, *states) for formula in z3.parse_smt2_string("\n".join(lines))
        ]
        """What holds between the nets of all cycles."""

    def net(self, name: str, cycle: int) -> z3.ExprRef:
        """Return a named net in a cycle; one bit is a Boolean."""
        if name not in self._nets:
            self._nets[name] = self._in_cycle_0(name)
        if cycle == 0:
            return self._nets[name]
        return z3.substitute(
            self._nets[name], *zip(self._state(0), self._state(cycle), strict=True)
        )

    def _in_cycle_0(self, name: str) -> z3.ExprRef:
        if name not in self._widths:
            raise ProverError(f"there is no net {name} in {self._top}")
        width = int(self._widths[name])
        value: z3.ExprRef
        if width == 1:
            value, sort = z3.Bool("value"), "Bool"
        else:
            value, sort = z3.BitVec("value", width), f"(_ BitVec {width})"
        lines = [self._text, f"(declare-const s0 |{self._top}_s|) (declare-const value {sort})"]
        lines += [f"(assert (= value (|{self._top}_n {name}| s0)))"]
        (equation,) = z3.parse_smt2_string("\n".join(lines))
        (net,) = [side for side in equation.children() if not side.eq(value)]
        whole = z3.BitVec("s0", sum(self._pieces))
        cut: z3.ExprRef = z3.substitute(net, (whole, z3.Concat(*reversed(self._state(0)))))
        return z3.simplify(cut)

    def _state(self, cycle: int) -> list[z3.BitVecRef]:
        return [z3.BitVec(f"s{cycle}_{number}", width) for number, width in enumerate(self._pieces)]


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
