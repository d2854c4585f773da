"""Proof that no data reaches control, from the netlist of the accelerator.

"Nothing depends on data" is what every schedule counts on. Here data is what the banks of X, W and
E return, and every register that :mod:`siligrad_sim.formal.control` calls data: operands, products,
sums, results, draws. Control is every other register, the contents of the program memory and of the
sequencer's queues, and what chooses a word of any memory: addresses and enables. The words that a
host writes are data too; they enter control through doors, which are listed, and the program
memory, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from siligrad.isa import Geometry
from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.formal.accelerators import LEAKS, accelerator_netlist
from siligrad_sim.formal.control import ClassifiedNetlist, Kind, classify
from siligrad_sim.formal.proof import Check, Proof, Verdict
from siligrad_sim.formal.tools import ProverError

__all__ = ["NON_INTERFERENCE"]

_OUTPUTS = ("busy", "host__acknowledge")
"""Ports that say when something happens."""


def _check_accelerator(array: int, build: Callable[[Geometry], Accelerator]) -> Verdict:
    classified = classify(accelerator_netlist(array, build))
    netlist = classified.netlist
    registers, memories = classified.registers, classified.memories
    banks = [item for item in memories[Kind.DATA] if item.name.startswith("memory_")]

    # What is read and computed.
    data = {net for bank in banks for net in bank.read}
    data |= {net for register in registers[Kind.DATA] for net in register.outputs}
    reached = netlist.reach(data)
    for name, nets in _control(classified, doors=True):
        hit = reached.first(nets)
        if hit is not None:
            return Verdict(False, f"data reaches {name}: {netlist.describe(reached.way(hit))}")

    # What the host writes, up to the doors.
    program = [item for item in memories[Kind.CONTROL] if item.name.startswith("program.")]
    doors = {net for register in registers[Kind.DOOR] for net in register.outputs}
    doors |= {net for memory in program for net in memory.read}
    written = netlist.reach(netlist.ports["host__write_data"], stop=doors)
    for name, nets in _control(classified, doors=False):
        hit = written.first(nets)
        if hit is not None:
            way = netlist.describe(written.way(hit))
            return Verdict(False, f"a host's word reaches {name}: {way}")

    # The selections are not empty: data gets to where it must get to.
    for register in registers[Kind.DATA]:
        if reached.first(register.inputs) is None:
            raise ProverError(f"nothing of X, W and E reaches {register.names[0]}: wrong netlist?")
    for bank in banks:
        if reached.first(bank.written) is None or written.first(bank.written) is None:
            raise ProverError(f"results or host's words do not reach {bank.name}: wrong netlist?")
    for name, nets in [
        *((register.names[0], register.inputs) for register in registers[Kind.DOOR]),
        *((memory.name, memory.written) for memory in program),
    ]:
        if written.first(nets) is None:
            raise ProverError(f"no host's word reaches {name}: it is no door")
    count = {kind: len(registers[kind]) for kind in Kind}
    return Verdict(
        True,
        f"{len(reached)} nets depend on the {len(banks)} banks and {count[Kind.DATA]} data "
        f"registers; none of {count[Kind.CONTROL]} control registers and {count[Kind.DOOR]} doors",
    )


def _control(classified: ClassifiedNetlist, *, doors: bool) -> Iterator[tuple[str, frozenset[int]]]:
    """Yield name and inputs of everything that no data may reach, with or without the doors."""
    kinds = [Kind.CONTROL, Kind.WORD, Kind.DOOR] if doors else [Kind.CONTROL]
    for kind in kinds:
        for register in classified.registers[kind]:
            yield f"register {register.names[0]}", register.inputs
    for kind, memories in classified.memories.items():
        for memory in memories:
            yield f"an address or enable of {memory.name}", memory.choice
            # The program memory is a door: the host's words are its contents.
            if kind is Kind.CONTROL and (doors or not memory.name.startswith("program.")):
                yield f"the contents of {memory.name}", memory.written
    for port in _OUTPUTS:
        yield f"port {port}", classified.netlist.ports[port]


def _check_of(build: Callable[[Geometry], Accelerator]) -> Check:
    return lambda array: _check_accelerator(array, build)


NON_INTERFERENCE = Proof(
    name="non-interference",
    scope=(
        "in the netlist, no word of X, W or E, operand, product, sum, result or draw reaches a "
        "control register, an address or enable of any memory, or the program, in any number of "
        "cycles; a word that the host writes does so through the start bit, ENTRY, STEPS, the "
        "strides, LIMIT and the program memory only; all values, one size N at a time"
    ),
    check=_check_of(Accelerator),
    controls={fault: _check_of(build) for fault, build in LEAKS.items()},
    per_array=True,
)
"""No data reaches control."""
