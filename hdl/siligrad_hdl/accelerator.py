"""The accelerator: array, memories, epilogue, sequencer and host port, joined."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.back import verilog
from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from siligrad.baked import Baked
from siligrad.isa import Geometry, Memory, Timing
from siligrad_hdl.array import SystolicArray
from siligrad_hdl.cell import ProcessingElement
from siligrad_hdl.epilogue import Epilogue, EpilogueLane
from siligrad_hdl.host import HostInterface
from siligrad_hdl.operands import OperandSelect
from siligrad_hdl.ports import HostPort
from siligrad_hdl.program_memory import ProgramMemory
from siligrad_hdl.saturations import SaturationCounters
from siligrad_hdl.scratchpad import SkewedMemory, SkewedWriter
from siligrad_hdl.sequencer import Sequencer, instructions_max
from siligrad_hdl.watchdog import Watchdog

__all__ = ["Accelerator", "to_verilog"]


class Accelerator(wiring.Component):
    """Runs programs of :mod:`siligrad.isa` on the three memories X, W and E.

    Parameters
    ----------
    geometry : :class:`siligrad.isa.Geometry`
        What to build.
    locked : :class:`bool`
        Keep the host from the program and from W, which are what they are configured with.
    baked : :class:`siligrad.baked.Baked`
        What memories and registers are configured with; None for memories of zeros.

    Members
    -------
    host : :py:`Out(HostPort)`
        The port of ``docs/spec/host.md``.
    busy : :py:`Out(1)`
        A program runs.

    Attributes
    ----------
    memories : :class:`list` of :class:`~siligrad_hdl.scratchpad.SkewedMemory`
        X, W and E, by their number. A simulator may access ``memories[m].banks[b].data`` while no
        program runs.

    Raises
    ------
    ValueError
        If what is baked is for another geometry.
    RuntimeError
        When it is elaborated, if the latencies of its parts are not those of
        :class:`siligrad.isa.Timing`, which every schedule counts on.
    """

    def __init__(
        self, geometry: Geometry, *, locked: bool = False, baked: Baked | None = None
    ) -> None:
        if baked is not None and baked.geometry != geometry:
            raise ValueError(f"what is baked must be for {geometry}, not for {baked.geometry}")
        self.geometry = geometry
        self._baked = baked
        n, bits = geometry.array, geometry.word_bits
        address_bits = max((geometry.depth(memory) - 1).bit_length() for memory in Memory)
        self.memories = [
            SkewedMemory(
                array=n,
                word_bits=bits,
                depth=geometry.depth(memory),
                address_bits=address_bits,
                init=() if baked is None else baked.banks[memory],
            )
            for memory in Memory
        ]
        self._writer = SkewedWriter(
            array=n, word_bits=bits, address_bits=address_bits, memories=len(Memory)
        )
        self._operands = OperandSelect(array=n, word_bits=bits, operand_bits=geometry.operand_bits)
        self._array = SystolicArray(
            array=n, operand_bits=geometry.operand_bits, sum_bits=geometry.sum_bits
        )
        self._epilogue = Epilogue(
            array=n,
            word_bits=bits,
            sum_bits=geometry.sum_bits + geometry.dropped_bits,
            init=() if baked is None else baked.states,
        )
        self._sequencer = Sequencer(
            array=n,
            operand_bits=geometry.operand_bits,
            address_bits=address_bits,
            program_depth=geometry.program_depth,
        )
        self._watchdog = Watchdog()
        self._program = ProgramMemory(
            depth=geometry.program_depth, init=() if baked is None else baked.lines
        )
        self._saturations = SaturationCounters(
            array=n, instructions=instructions_max(geometry.program_depth)
        )
        self._host = HostInterface(
            geometry=geometry,
            address_bits=address_bits,
            read_latency=max(
                1 + self.memories[Memory.X].latency,  # with the sequencer's register
                ProgramMemory.latency,
                SaturationCounters.latency,
            ),
            locked=locked,
            baked=baked,
        )
        super().__init__({"host": Out(HostPort()), "busy": Out(1)})

    def _check_latencies(self) -> None:
        timing = Timing(self.geometry.array)
        read = self.memories[Memory.X].latency + OperandSelect.latency
        drain = read + self._array.latency
        latencies = {
            "rotate": self._writer.latency,
            "read": read,
            "cell": ProcessingElement.latency - 1,  # without the register of the sum
            "epilogue": EpilogueLane.latency,
            "drain": drain,
            "write": drain + self._epilogue.latency + self._writer.latency,
        }
        wrong = [
            f"{name} takes {cycles} cycles, schedules count on {getattr(timing, name)}"
            for name, cycles in latencies.items()
            if cycles != getattr(timing, name)
        ]
        if wrong:
            raise RuntimeError(
                f"the hardware is not what siligrad.isa.Timing says it is: {'; '.join(wrong)}"
            )

    def elaborate(self, platform: object) -> Module:
        self._check_latencies()
        m = Module()
        n, dropped = self.geometry.array, self.geometry.dropped_bits
        m.submodules.host = host = self._host
        m.submodules.watchdog = watchdog = self._watchdog
        # What ends a run resets the sequencer. What that has sent on its way goes on and finds
        # nobody who wants it, but for a row that is on its way to a memory.
        m.submodules.sequencer = ResetInserter(watchdog.end)(self._sequencer)
        sequencer = self._sequencer
        m.submodules.program = program = self._program
        m.submodules.operands = operands = self._operands
        m.submodules.array = array = self._array
        m.submodules.epilogue = epilogue = self._epilogue
        m.submodules.saturations = saturations = self._saturations
        m.submodules.writer = writer = self._writer
        for memory in Memory:
            m.submodules[f"memory_{memory.name.lower()}"] = self.memories[memory]

        # The host. It learns that a program runs a cycle late: before that it makes no other
        # request, and after the end no start would do in a cycle in which the sequencer is reset.
        wiring.connect(m, wiring.flipped(self.host), host.host)
        m.d.comb += self.busy.eq(sequencer.busy | watchdog.end)
        occupied = Signal()
        m.d.sync += occupied.eq(self.busy)
        m.d.comb += [
            host.busy.eq(occupied),
            epilogue.load.eq(host.lfsr_load),
            sequencer.start.eq(host.start),
            watchdog.start.eq(host.start),
            watchdog.busy.eq(sequencer.busy),
            watchdog.limit.eq(host.limit),
            host.cycles.eq(watchdog.cycles),
            host.overrun.eq(watchdog.overrun),
            sequencer.entry.eq(host.entry),
            sequencer.steps.eq(host.steps),
            sequencer.host_request.eq(host.request),
            sequencer.host_write.eq(host.request_write),
            epilogue.load_state.eq(host.lfsr_load_state),
        ]
        for memory in Memory:
            m.d.comb += sequencer.strides[memory].eq(host.strides[memory])
        for lane in range(n):
            m.d.comb += host.lfsr_states[lane].eq(epilogue.states[lane])

        # The program memory, which the sequencer reads while busy, and the host else.
        m.d.comb += [
            sequencer.host_line.eq(host.line),
            program.read_address.eq(sequencer.line_address),
            program.read_enable.eq(sequencer.line_enable),
            program.output_enable.eq(sequencer.line_enable),
            program.write_words.eq(host.line_words),
            program.write_address.eq(host.line),
            program.write_data.eq(host.line_write_data),
            sequencer.line.eq(program.line),
        ]
        for number, data in enumerate(host.line_data):
            m.d.comb += data.eq(program.line.word_select(number, len(data)))

        # From the memories to the array.
        m.d.comb += [
            operands.control.eq(sequencer.operands),
            array.last.eq(sequencer.last),
        ]
        delivered = {Memory.X: operands.x, Memory.W: operands.w, Memory.E: operands.e}
        for memory in Memory:
            lanes = self.memories[memory].lanes
            m.d.comb += self.memories[memory].request.eq(sequencer.requests[memory])
            m.d.comb += host.request_data[memory].eq(lanes[0])
            for lane in range(n):
                m.d.comb += delivered[memory][lane].eq(lanes[lane])
        for lane in range(n):
            m.d.comb += [array.a[lane].eq(operands.a[lane]), array.b[lane].eq(operands.b[lane])]

        # From the array through the epilogue to the writer, which the host uses while no program
        # runs.
        m.d.comb += [
            epilogue.control.eq(sequencer.epilogue),
            epilogue.idle.eq(~sequencer.busy),
            epilogue.word.eq(host.request_write_data),
            writer.request.eq(sequencer.write_request),
            writer.turn.eq(sequencer.write_turn),
            writer.enable.eq(sequencer.write_enable),
        ]
        for lane in range(n):
            m.d.comb += [
                # A sum of narrow operands gets as many zeros as an operand has lost bits.
                epilogue.sums[lane].eq(Cat(Const(0, dropped), array.sums[lane])),
                epilogue.aux[lane].eq(operands.aux[lane]),
                writer.lanes[lane].eq(epilogue.results[lane]),
            ]
        for memory in Memory:
            skewed = self.memories[memory]
            m.d.comb += skewed.write_enable.eq(writer.write_enables[memory])
            if self._baked is not None:
                m.d.comb += host.written[memory].eq(skewed.write_enable.any())
            for bank in range(n):
                m.d.comb += [
                    skewed.write_addresses[bank].eq(writer.write_addresses[bank]),
                    skewed.write_data[bank].eq(writer.write_data[bank]),
                ]

        # What saturated: the counters are a run's while busy, and the host's else.
        m.d.comb += [
            saturations.saturations.eq(epilogue.saturations),
            saturations.count.eq(sequencer.count),
            saturations.count_first.eq(sequencer.count_first),
            saturations.add.eq(sequencer.count_add),
            saturations.write.eq(sequencer.count_write),
            saturations.address.eq(Mux(sequencer.busy, sequencer.count_address, host.instruction)),
            host.instruction_data.eq(saturations.read_data),
            host.instructions.eq(sequencer.counted),
        ]
        return m


def to_verilog(
    geometry: Geometry,
    name: str = "siligrad",
    *,
    component: Callable[..., wiring.Component] = Accelerator,
    locked: bool = False,
    baked: Baked | None = None,
) -> str:
    """Return the accelerator of `geometry` as Verilog, its top module called `name`.

    Its ports are ``clk``, ``rst``, and the members of `component`, which may be one that is made
    like :class:`Accelerator` and has a bus. That itself has ``busy``, and ``host__strobe`` and the
    other members of :class:`~siligrad_hdl.ports.HostPort`.
    """
    made = component(geometry, locked=locked, baked=baked)
    return str(verilog.convert(made, name=name, strip_internal_attrs=True))
