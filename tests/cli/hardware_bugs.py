"""Bugs of the kind that hardware has, put into a copy of its description by exact text.

Each is a file of ``siligrad_hdl``, what stands there, and what is made of it. A text that is not
there any more, or not once, is an error: then the bug has to be written anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import siligrad_hdl

__all__ = ["BUGS", "Bug", "with_bug"]


@dataclass(frozen=True)
class Bug:
    """A change of the hardware description.

    Parameters
    ----------
    file
        Of the package.
    right, wrong
        What stands there, and what takes its place.
    """

    file: str
    right: str
    wrong: str


BUGS = {
    "rounding half-up for half-even": Bug(
        "epilogue.py",
        "m.d.sync += s4_carry.eq(below | odd)",
        "m.d.sync += s4_carry.eq(1)",
    ),
    "wrap for saturate": Bug(
        "epilogue.py",
        "kept = Mux(outside, (~s5_negative).replicate(bits - 1), s5_value[: bits - 1])",
        "kept = s5_value[: bits - 1]",
    ),
    "stale mask": Bug(
        "epilogue.py",
        's5_positive = delayed(m, s1_positive, 4, name="s5_positive")',
        's5_positive = delayed(m, s1_positive, 5, name="s5_positive")',
    ),
    "transposed tile at a ragged edge": Bug(
        "stream.py",
        "term.b_tile.eq(term.b_tile + b_k),",
        "term.b_tile.eq(term.b_tile + b_k),\n"
        "                    term.b_column.eq(term.b_column & (terms[-1] | (terms >= n - 1))),",
    ),
    "LFSR lane swapped": Bug(
        "epilogue.py",
        "lane.load.eq(self.load[j]),",
        "lane.load.eq(self.load[j ^ 1]),",
    ),
    "bias read one tile late": Bug(
        "fetch.py",
        "Mux(l_first_column, line.b_base, b_before)",
        "Mux(l_first_column, line.b_base - Mux(line.ones, line.b_p, 0), b_before)",
    ),
    "cycle counter one short": Bug(
        "accelerator.py",
        "host.cycles.eq(watchdog.cycles),",
        "host.cycles.eq(watchdog.cycles - 1),",
    ),
    "first tile's accumulator not cleared": Bug(
        "sequencer.py",
        "self.last.eq(ended[timing.read] | starts)",
        "self.last.eq(ended[timing.read])",
    ),
}


def with_bug(bug: Bug, folder: Path) -> Path:
    """Copy the package to `folder`, put the bug in, and return what belongs in PYTHONPATH."""
    assert siligrad_hdl.__file__ is not None
    copy = folder / "siligrad_hdl"
    shutil.copytree(Path(siligrad_hdl.__file__).parent, copy)
    path = copy / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.right) != 1:
        raise AssertionError(
            f"{bug.file} has {bug.right!r} {text.count(bug.right)} times, not once"
        )
    path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    return folder
