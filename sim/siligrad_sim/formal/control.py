"""Which registers and memories are control, and which hold data: the one list of them.

Every register of the accelerator is of exactly one class. A register that no pattern knows, or two
classes do, is an error, and so is a pattern that no register matches: a register that is renamed or
added must be put in its class here before anything is proved of it. Names are those of the
hardware's description, with the path of the component; ``#`` stands for a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from siligrad_sim.formal.netlist import MemoryCell, Netlist, Register
from siligrad_sim.formal.tools import ProverError

__all__ = ["ClassifiedNetlist", "Kind", "classify"]


class Kind(Enum):
    """What a register or memory holds."""

    CONTROL = "control"
    DATA = "data"
    WORD = "word of the host"
    DOOR = "door"


_REGISTERS: Mapping[Kind, Sequence[str]] = {
    # Decides when and where something happens.
    Kind.CONTROL: (
        "sequencer.**",
        "watchdog.**",
        "occupied",
        "array.last_#_#",
        "array.accept_#",
        "array.cell_#_#.last_east",
        "array.cell_#_#.accept_east",
        "memory_*.bank_address_#",
        "memory_*.amount_#",
        "memory_*.rotator.amount_#_#",
        "writer.request_#",
        "writer.enable_#",
        "writer.write_address_#",
        "writer.write_enables__#",
        "writer.rotator.amount_#_#",
        "epilogue.lane_#.control_#",
        "saturations.address_#",
        "saturations.write_#",
        "program.word_#.output",
        "host.acknowledge",
        "host.act",
        "host.address",
        "host.allowed",
        "host.comes",
        "host.constants",
        "host.idle",
        "host.in_*",
        "host.is_register",
        "host.is_register_#",
        "host.line_exists",
        "host.line_words_#",
        "host.loads",
        "host.*_exists",
        "host.*_told",
        "host.cycles_told_data",
        "host.cycles_high_told_data",
        "host.entry_told_data",
        "host.limit_told_data",
        "host.limit_high_told_data",
        "host.program_#_told_data",
        "host.status_told_data",
        "host.steps_told_data",
        "host.*_stride_told_data",
        "host.*_written",
        "host.refused",
        "host.started",
        "host.waiting",
        "host.write",
    ),
    # What the host writes, wherever it is to go.
    Kind.WORD: ("host.write_data",),
    # Control that takes over what the host writes: the only way from a host's word to control,
    # besides the program memory.
    Kind.DOOR: (
        "host.starts",
        "host.entry",
        "host.steps",
        "host.*_stride",
        "host.limit",
    ),
    # Codes, operands, products, sums, results, draws, what saturated, and what a host is told of
    # these.
    Kind.DATA: (
        "memory_*.bank_#.output",
        "memory_*.rotator.lanes_#_#",
        "operands.a_#",
        "operands.a_#_up",
        "operands.b_#",
        "operands.b_#_up",
        "operands.aux_#",
        "array.a_#_#",
        "array.b_#_#",
        "array.cell_#_#.multiplier.operand_a",
        "array.cell_#_#.multiplier.operand_b",
        "array.cell_#_#.multiplier.pipeline",
        "array.cell_#_#.multiplier.output",
        "array.cell_#_#.product",
        "array.cell_#_#.total",
        "array.cell_#_#.drain",
        "epilogue.aux_#_#",
        "epilogue.lane_#.s#_*",
        "epilogue.lane_#.result",
        "epilogue.lane_#.saturated",
        "epilogue.lane_#.lfsr.state",
        "epilogue.result_#_#",
        "epilogue.saturations_#",
        "writer.rotator.lanes_#_#",
        "saturations.total",
        "saturations.rows",
        "saturations.before",
        "saturations.added",
        "saturations.sums.output",
        "host.state_#_told_data",
        "host.register_data",
        "host.registers_told_data",
        "host.saturations_told_data",
        "host.x_told_data",
        "host.w_told_data",
        "host.e_told_data",
        "host.read_data",
    ),
}
_OPTIONAL = {
    # Chains that are longer than nothing only where N is large enough.
    "memory_*.rotator.amount_#_#",
    "writer.request_#",
    "writer.enable_#",
    "writer.rotator.amount_#_#",
    # Only where words are rounded to operands.
    "operands.a_#_up",
    "operands.b_#_up",
}
_MEMORIES: Mapping[Kind, Sequence[str]] = {
    Kind.CONTROL: (
        "program.word_#.memory",
        "sequencer.fetch.running.memory",
        "sequencer.aux.tiles",
        "sequencer.epilogue.tiles",
        "sequencer.write.tiles",
    ),
    Kind.DATA: ("memory_*.bank_#.memory", "saturations.sums.memory"),
}


@dataclass(frozen=True, slots=True)
class ClassifiedNetlist:
    """A netlist of the accelerator whose registers and memories are all known.

    Parameters
    ----------
    netlist
        The netlist.
    registers, memories
        Of each kind.
    """

    netlist: Netlist
    registers: Mapping[Kind, Sequence[Register]]
    memories: Mapping[Kind, Sequence[MemoryCell]]


def classify(netlist: Netlist) -> ClassifiedNetlist:
    """Find the class of each register and memory.

    Raises
    ------
    ProverError
        If one is of no class, or of two, or if a pattern matches none.
    """
    registers: dict[Kind, list[Register]] = {kind: [] for kind in Kind}
    memories: dict[Kind, list[MemoryCell]] = {kind: [] for kind in Kind}
    used: set[str] = set()
    for register in netlist.registers:
        registers[_kind(register.names, _REGISTERS, "register", used)].append(register)
    for memory in netlist.memories:
        memories[_kind((memory.name,), _MEMORIES, "memory", used)].append(memory)
    known = [item for table in (_REGISTERS, _MEMORIES) for row in table.values() for item in row]
    unused = [item for item in known if item not in used and item not in _OPTIONAL]
    if unused:
        raise ProverError(
            f"no register or memory of the netlist is called {unused[0]}: if it was renamed or "
            f"removed, say so in {__name__}"
        )
    return ClassifiedNetlist(netlist, registers, memories)


def _kind(
    names: Sequence[str], table: Mapping[Kind, Sequence[str]], what: str, used: set[str]
) -> Kind:
    kinds: set[Kind] = set()
    for kind, patterns in table.items():
        for pattern in patterns:
            if any(_expression(pattern).fullmatch(name) for name in names):
                kinds.add(kind)
                used.add(pattern)
    if len(kinds) != 1:
        said = " and ".join(sorted(kind.value for kind in kinds)) or "of no class"
        raise ProverError(
            f"the {what} {' or '.join(names) or 'without a name'} is {said}: put it in its one "
            f"class in {__name__}"
        )
    return kinds.pop()


def _expression(pattern: str) -> re.Pattern[str]:
    """Return `pattern` as an expression: ``#`` digits, ``*`` a word, ``**`` anything."""
    parts = re.split(r"(\*\*|\*|#)", pattern)
    translated = {"**": ".+", "*": r"\w+", "#": r"\d+"}
    return re.compile("".join(translated.get(part, re.escape(part)) for part in parts))
