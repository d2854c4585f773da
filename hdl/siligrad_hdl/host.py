"""What answers the host."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import lt, or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.baked import Baked
from siligrad.isa import ADDRESS_BITS, ONE_STEP, STEPS_MAX, Geometry, Memory
from siligrad.registers import (
    IDENTIFICATION,
    REGION_BITS,
    VERSION,
    WORDS_PER_LINE,
    Build,
    Held,
    Region,
    Register,
    Status,
    bank_bits,
)
from siligrad_hdl.ports import HostPort
from siligrad_hdl.scratchpad import TileRequest
from siligrad_hdl.sequencer import instructions_max
from siligrad_hdl.vendor import is_lean

__all__ = ["HostInterface"]

_STRIDES = {
    Memory.X: Register.X_STRIDE,
    Memory.W: Register.W_STRIDE,
    Memory.E: Register.E_STRIDE,
}
_REGIONS = {Memory.X: Region.X, Memory.W: Region.W, Memory.E: Region.E}


class HostInterface(wiring.Component):
    """Registers, and the host's way to the memories, as in ``docs/spec/host.md``.

    A write is acknowledged in the cycle of its effect, three cycles after it was requested, a read
    when the slowest of what can be read has answered. What comes from and goes to far parts of the
    accelerator has a register at this end, since all of this may take its time.

    Parameters
    ----------
    geometry : :class:`siligrad.isa.Geometry`
        What the registers tell of.
    address_bits : :class:`int`
        Width of an address inside a bank.
    read_latency : :class:`int`
        Cycles from a request of this component to the last of the answers of the memories.
    locked : :class:`bool`
        The host is kept from the program and from W for good, as ``docs/security.md`` explains.
    baked : :class:`siligrad.baked.Baked`
        What the memories are configured with, if with anything.

    Members
    -------
    host : :py:`Out(HostPort)`
        The port.
    busy : :py:`In(1)`
        A program runs.
    start, entry : :py:`Out(1)`, :py:`Out(range(program_depth))`
        Run the program at this line. Only while none runs.
    steps, strides : :py:`Out(16)`, :py:`Out(ADDRESS_BITS).array(3)`
        How often a run executes it, and how far operands move in X, W and E.
    limit : :py:`Out(64)`
        Cycles that a run may take.
    cycles, overrun : :py:`In(64)`, :py:`In(1)`
        Cycles of the last run, and whether it was ended for taking more.
    lfsr_load, lfsr_load_state, lfsr_states : :py:`Out(array)`, :py:`Out(32)`,
    :py:`In(32).array(array)`
        The shift registers of the epilogue's lanes.
    line, line_words, line_write_data : :py:`Out(range(program_depth))`, :py:`Out(4)`, :py:`Out(32)`
        A line of the program memory to read, and the words of it to write.
    line_data : :py:`In(32).array(4)`
        What was read.
    instruction, instruction_data, instructions
        The number of an instruction, :py:`In(32)`, its saturations, and :py:`In`, the number of
        instructions that have any.
    request, request_write : :py:`Out(TileRequest)`, :py:`Out(3)`
        A word of X, W and E to read, or to write in one of them.
    request_write_data : :py:`Out(signed(word_bits))`
        What to write.
    request_data : :py:`In(signed(word_bits)).array(3)`
        What was read from X, W and E.
    written : :py:`In(3)`
        Which of X, W and E are written; only there if something was baked.
    """

    def __init__(
        self,
        *,
        geometry: Geometry,
        address_bits: int,
        read_latency: int,
        locked: bool = False,
        baked: Baked | None = None,
    ) -> None:
        self.geometry = geometry
        self.address_bits = address_bits
        self.read_latency = read_latency
        self.locked = locked
        self.baked = baked
        n = geometry.array
        code = signed(geometry.word_bits)
        super().__init__({
            "host": Out(HostPort()),
            "busy": In(1),
            "start": Out(1),
            "entry": Out(range(geometry.program_depth)),
            "steps": Out(STEPS_MAX.bit_length()),
            "strides": Out(ADDRESS_BITS).array(len(Memory)),
            "limit": Out(64),
            "cycles": In(64),
            "overrun": In(1),
            "lfsr_load": Out(n),
            "lfsr_load_state": Out(32),
            "lfsr_states": In(32).array(n),
            "line": Out(range(geometry.program_depth)),
            "line_words": Out(WORDS_PER_LINE),
            "line_write_data": Out(32),
            "line_data": In(32).array(WORDS_PER_LINE),
            "instruction": Out(range(instructions_max(geometry.program_depth))),
            "instruction_data": In(32),
            "instructions": In(range(instructions_max(geometry.program_depth) + 1)),
            "request": Out(TileRequest(array=n, address_bits=address_bits)),
            "request_write": Out(len(Memory)),
            "request_write_data": Out(code),
            "request_data": In(code).array(len(Memory)),
            **({} if baked is None else {"written": In(len(Memory))}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lean = is_lean(platform)
        told_in, below = (_gate, _below) if lean else (_register, lt)
        geometry = self.geometry
        n = geometry.array

        # A request is copied in the cycle in which it comes. In the next one, when `comes` is high,
        # it is looked at where it goes and whether a program runs; in the second, when `act` is
        # high, it is decided what becomes of it, and in the third a write has its effect and is
        # acknowledged. A read waits for the answer.
        comes = Signal()
        act = Signal()
        write = Signal()
        idle = Signal(init=1)
        # They stay as they are until the request is acknowledged.
        address, write_data = self.host.address, self.host.write_data
        if not lean:
            address = Signal(len(self.host.address), reset_less=True)
            with m.If(idle):
                m.d.sync += address.eq(self.host.address)
            write_data = Signal(32, reset_less=True)
        register_bits = int(max(Register)).bit_length()
        acknowledge = Signal()
        # From `comes` to the acknowledgement of a read: the slowest answers, then two registers.
        waiting = Signal(self.read_latency + 1)
        m.d.comb += self.host.acknowledge.eq(acknowledge)
        m.d.sync += [
            comes.eq(0),
            act.eq(comes),
            waiting.eq(Cat(comes & ~write, waiting)),
            acknowledge.eq((act & write) | waiting[-1]),
        ]
        with m.If(self.host.strobe & idle):
            m.d.sync += [comes.eq(1), idle.eq(0)]
        with m.Elif(acknowledge):
            m.d.sync += idle.eq(1)
        with m.If(idle):
            m.d.sync += write.eq(self.host.write)
            if not lean:
                m.d.sync += write_data.eq(self.host.write_data)

        # Where the request goes, and whether there is such a word.
        word = address[:REGION_BITS]
        region = address[REGION_BITS:]
        in_region = {item: Signal(name=f"in_{item.name.lower()}") for item in Region}
        for item, chosen in in_region.items():
            m.d.sync += chosen.eq(region == item)
        register = word[:register_bits]
        bank = word[: bank_bits(n)]
        bank_address = word[bank_bits(n) :]
        line = word[2:]
        is_register = Signal()
        allowed = Signal()
        with m.If(comes):
            m.d.sync += allowed.eq(~self.busy)
        m.d.sync += is_register.eq(
            address[register_bits:] == Region.REGISTERS.base >> register_bits
        )
        asked: dict[int, Signal] = {}

        def asks(which: int) -> Signal:
            """Return whether it is the register `which`, in the cycle of `act` and later."""
            if which not in asked:
                asked[which] = Signal(name=f"is_register_{int(which)}")
                m.d.sync += asked[which].eq(register == which)
            return asked[which]

        writes = Signal()  # and may do so
        writes_status = Signal()
        m.d.comb += [
            writes.eq(act & write & allowed),
            writes_status.eq(act & write & is_register & asks(Register.STATUS)),
        ]

        def decided(condition: Value, name: str) -> Signal:
            """Return whether a write has an effect, in the cycle of that effect."""
            effect = Signal(len(condition), name=name)
            m.d.sync += effect.eq(Mux(writes, condition, 0))
            return effect

        # What a running program does not allow is refused.
        refused = Signal()
        exclusive = Signal()
        m.d.comb += exclusive.eq(
            in_region[Region.PROGRAM]
            | in_region[Region.SATURATIONS]
            | in_region[Region.X]
            | in_region[Region.W]
            | in_region[Region.E]
        )
        refuses = act & ~allowed & (write | exclusive)
        forbidden = Signal()  # by the lock, for good
        if self.locked:
            refuses |= act & forbidden
        with m.If(writes_status):
            m.d.sync += refused.eq(0)
        with m.Elif(refuses):
            m.d.sync += refused.eq(1)

        # Registers.
        entry = Signal(range(geometry.program_depth))
        loop = ONE_STEP if self.baked is None else self.baked.loop
        steps = Signal(STEPS_MAX.bit_length(), init=loop.steps)
        strides = {
            memory: Signal(
                ADDRESS_BITS, name=f"{memory.name.lower()}_stride", init=loop.stride(memory)
            )
            for memory in Memory
        }
        limit = Signal(64, init=0 if self.baked is None else self.baked.limit)
        started = Signal()
        m.d.comb += [
            self.entry.eq(entry),
            self.limit.eq(limit),
            self.steps.eq(steps),
            self.start.eq(
                decided(is_register & asks(Register.CONTROL) & write_data[0], name="starts")
            ),
            self.lfsr_load_state.eq(write_data),
        ]
        with m.If(self.start):
            m.d.sync += started.eq(1)
        written: dict[Register, Value] = {
            Register.ENTRY: entry,
            Register.STEPS: steps,
            Register.LIMIT: limit[:32],
            Register.LIMIT_HIGH: limit[32:],
        }
        for memory, stride in strides.items():
            m.d.comb += self.strides[memory].eq(stride)
            written[_STRIDES[memory]] = stride
        # What a lock keeps the host from: the program, how it is run, and W. A host writes the
        # latter before every start; so to write what there is anyway is no offence.
        kept: dict[Register, Value] = {}
        if self.locked:
            run_so = (Register.ENTRY, Register.STEPS, *_STRIDES.values())
            kept = {which: written[which] for which in run_so}
            changes = [(register == which) & (write_data != value) for which, value in kept.items()]
            m.d.comb += forbidden.eq(
                in_region[Region.PROGRAM]
                | in_region[Region.W]
                | (write & is_register & Cat(changes).any())
            )
        for which, target in written.items():
            if which not in kept:
                chosen = is_register & asks(which)
                with m.If(decided(chosen, name=f"{which.name.lower()}_written")):
                    m.d.sync += target.eq(write_data)
        loads = [is_register & asks(Register.LFSR + lane) for lane in range(n)]
        m.d.comb += self.lfsr_load.eq(decided(Cat(loads), name="loads"))
        assert list(Status) == [1, 2, 4, 8]
        status = Signal(32)
        m.d.comb += status.eq(
            Cat(self.busy, started & ~self.busy & ~self.overrun, refused, self.overrun)
        )
        values: dict[Register, Value] = {
            Register.IDENTIFICATION: Const(IDENTIFICATION, 32),
            Register.VERSION: Const(VERSION, 32),
            Register.ARRAY: Const(geometry.array, 32),
            Register.OPERAND_BITS: Const(geometry.operand_bits, 32),
            Register.SUM_BITS: Const(geometry.sum_bits, 32),
            Register.X_DEPTH: Const(geometry.x_depth, 32),
            Register.W_DEPTH: Const(geometry.w_depth, 32),
            Register.E_DEPTH: Const(geometry.e_depth, 32),
            Register.PROGRAM_DEPTH: Const(geometry.program_depth, 32),
            Register.STATUS: status,
            Register.CYCLES: self.cycles[:32],
            Register.CYCLES_HIGH: self.cycles[32:],
            Register.WORD_BITS: Const(geometry.word_bits, 32),
            **written,
        }
        if self.locked:
            values[Register.BUILD] = Const(Build.LOCKED, 32)
        if self.baked is not None:
            # A reset gives nothing back that was written over. Before the first start only the host
            # writes, and simulators may not know yet what nothing has changed.
            lost = Signal(len(Held), reset_less=True)
            by_run = self.written & started.replicate(len(Memory))
            m.d.sync += lost.eq(lost | Cat(by_run | self.request_write, self.line_words.any()))
            values[Register.BAKED] = Const(self.baked.image, 32)
            values[Register.HELD] = Cat(*(~bit for bit in lost))
        # What is read is decided in one cycle and gathered in the next ones: a read waits long
        # enough.
        constant: Value = Const(0, 32)
        told = []
        for which, value in values.items():
            if isinstance(value, Const):
                constant |= Mux(asks(which), value, 0)
            else:
                told.append(told_in(m, register == which, value, f"{which.name.lower()}_told"))
        for lane, state in enumerate(self.lfsr_states):
            told.append(told_in(m, register == Register.LFSR + lane, state, f"state_{lane}_told"))
        constants = Signal(32, reset_less=True)
        m.d.sync += constants.eq(constant)
        register_data = _either(m, [constants, *told], "register_data")

        # Program and saturations.
        line_exists = Signal()
        m.d.sync += line_exists.eq(below(line, geometry.program_depth))
        m.d.comb += [
            self.line.eq(line),
            self.line_write_data.eq(write_data),
            self.instruction.eq(word),
        ]
        if not self.locked:
            for number in range(WORDS_PER_LINE):
                m.d.comb += self.line_words[number].eq(
                    decided(
                        in_region[Region.PROGRAM] & line_exists & (word[:2] == number),
                        name=f"line_words_{number}",
                    )
                )

        # X, W and E.
        m.d.comb += [
            self.request.address.eq(bank_address),
            self.request.index.eq(bank),
            self.request.column.eq(1),
            self.request.word.eq(1),
            self.request_write_data.eq(write_data),
        ]
        exists = {memory: Signal(name=f"{memory.name.lower()}_exists") for memory in Memory}
        for memory, item in _REGIONS.items():
            m.d.sync += exists[memory].eq((bank < n) & below(bank_address, geometry.depth(memory)))
            if not (self.locked and memory == Memory.W):
                m.d.comb += self.request_write[memory].eq(
                    decided(in_region[item] & exists[memory], name=f"{item.name.lower()}_written")
                )

        # The answer. It is taken over in every cycle and right in the one of the acknowledgement,
        # long after what is chosen here.
        allowed_region = {item: chosen & allowed for item, chosen in in_region.items()}
        answers: list[tuple[Region, str, Value, Value]] = [
            (Region.REGISTERS, "registers", is_register, register_data),
            *(
                (
                    Region.PROGRAM,
                    f"program_{number}",
                    allowed_region[Region.PROGRAM] & line_exists & (word[:2] == number),
                    line_data,
                )
                for number, line_data in enumerate(self.line_data)
            ),
            (
                Region.SATURATIONS,
                "saturations",
                allowed_region[Region.SATURATIONS] & below(word, self.instructions),
                self.instruction_data,
            ),
            *(
                (item, memory.name.lower(), allowed_region[item] & exists[memory], data)
                for (memory, item), data in zip(_REGIONS.items(), self.request_data, strict=True)
            ),
        ]
        gathered = []
        for item, name, condition, data in answers:
            if self.locked and item in {Region.PROGRAM, Region.W}:
                continue  # there is no way from them to the port
            gathered.append(told_in(m, condition, data, f"{name}_told"))
        m.d.comb += self.host.read_data.eq(_either(m, gathered, "read_data"))
        return m


def _register(m: Module, condition: Value, data: Value, name: str) -> Value:
    """Return `data` two cycles after `condition` holds, and zero else, from a register.

    That it does not hold empties the register, by its own reset, which takes no lookup table.
    """
    unchosen = Signal(name=f"not_{name}")
    register = Signal(32, name=f"{name}_data", reset_less=True)
    m.d.sync += [unchosen.eq(~condition), register.eq(data)]
    with m.If(unchosen):
        m.d.sync += register.eq(0)
    return register


def _gate(m: Module, condition: Value, data: Value, name: str) -> Value:
    """Return `data` while the condition holds, and zero else, as it was a cycle before.

    Conditions and what is read stay as they are until a read is acknowledged, so it is the same.
    Two of these are a lookup table, which has room for a register behind it.
    """
    chosen = Signal(name=name)
    m.d.sync += chosen.eq(condition)
    return Mux(chosen, data, 0)


def _below(value: Value, bound: Value | int) -> Value:
    """Return ``value < bound`` by a chain of carries that is no longer than the bound."""
    bound = Value.cast(bound)
    return ~value[len(bound) :].any() & (value[: len(bound)] < bound)


def _either(m: Module, values: Sequence[Value], name: str) -> Signal:
    """Return a register with the bits of all `values`, of which one at most is not zero."""
    register = Signal(32, name=name)
    m.d.sync += register.eq(reduce(or_, values))
    return register
