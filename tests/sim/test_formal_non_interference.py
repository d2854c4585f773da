"""Non-interference at N = 4, and that its list of control registers cannot be out of date."""

from __future__ import annotations

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal

from siligrad_hdl.accelerator import Accelerator
from siligrad_sim.formal.accelerators import LEAKS, accelerator_netlist
from siligrad_sim.formal.control import Kind, classify
from siligrad_sim.formal.netlist import Netlist
from siligrad_sim.formal.non_interference import NON_INTERFERENCE
from siligrad_sim.formal.tools import ProverError


def signals(names: str, width: int = 1) -> list[Signal]:
    return [Signal(width, name=name) for name in names.split()]


def netlist_of(m: Module, *ports: Signal) -> Netlist:
    return Netlist(rtlil.convert(m, name="top", ports=ports), top="top")


def test_no_data_reaches_control_and_every_leak_is_caught() -> None:
    outcome = NON_INTERFERENCE.run(4)
    assert outcome.proved, outcome.reason
    assert set(outcome.controls) == set(LEAKS)
    for fault, found in outcome.controls.items():
        assert found is not None, fault
        assert found.startswith("data reaches "), found
    assert outcome.passed


def test_every_register_is_of_a_class_and_the_expected_ones_are_control() -> None:
    classified = classify(accelerator_netlist(4, Accelerator))
    control = {name for item in classified.registers[Kind.CONTROL] for name in item.names}
    assert {
        "sequencer.busy",
        "sequencer.stream.delay_left",
        "array.cell_0_0.last_east",
        "memory_x.bank_address_0",
        "host.acknowledge",
    } <= control
    # The netlist has as many registers as Yosys counts, in two ways.
    total = sum(len(items) for items in classified.registers.values())
    assert total == len(classified.netlist.registers)


class WithStranger(Accelerator):
    """An accelerator with a register that no list knows."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        stranger = Signal()
        m.d.sync += stranger.eq(~stranger)
        m.d.comb += self.busy.eq(self._sequencer.busy ^ stranger)
        return m


def test_a_register_of_no_class_is_an_error() -> None:
    with pytest.raises(ProverError, match="the register stranger is of no class: put it in"):
        classify(accelerator_netlist(4, WithStranger))


def test_a_class_without_its_register_is_an_error() -> None:
    # At N = 2 there is an accelerator; of a single counter the list knows nothing.
    m = Module()
    number = Signal(4)
    m.d.sync += number.eq(number + 1)
    with pytest.raises(ProverError, match="the register number is of no class"):
        classify(netlist_of(m, number))
    with pytest.raises(ProverError, match=r"is called sequencer\.\*\*: if it was renamed"):
        classify(netlist_of(Module()))


@pytest.mark.parametrize("through", ["data", "select", "enable", "address"])
def test_dependence_goes_through_every_kind_of_input(through: str) -> None:
    source, other, out = signals("source other out", 2)
    m = Module()
    if through == "data":
        m.d.sync += out.eq(source + other)
    elif through == "select":
        with m.If(source[0]):
            m.d.sync += out.eq(other)
        with m.Else():
            m.d.sync += out.eq(~other)
    elif through == "enable":
        with m.If(source[1]):
            m.d.sync += out.eq(other)
    else:
        from amaranth.lib.memory import Memory

        m.submodules.words = words = Memory(shape=2, depth=4, init=[1, 2, 3, 0])
        port = words.read_port()
        write = words.write_port()
        m.d.comb += [port.addr.eq(source), out.eq(port.data), write.data.eq(other)]
    netlist = netlist_of(m, source, other, out)
    reach = netlist.reach(netlist.ports["source"])
    assert reach.first(netlist.ports["out"]) is not None
    assert not any(net in reach for net in netlist.ports["other"])


def test_bits_beside_each_other_in_a_register_do_not_mix() -> None:
    (source, other), (out,) = signals("source other"), signals("out", 2)
    m = Module()
    m.d.sync += [out[0].eq(source), out[1].eq(other)]
    netlist = netlist_of(m, source, other, out)
    reach = netlist.reach(netlist.ports["source"])
    assert sum(net in reach for net in netlist.ports["out"]) == 1


def test_a_stop_is_reached_but_not_passed() -> None:
    source, middle, out = signals("source middle out")
    m = Module()
    m.d.sync += [middle.eq(source), out.eq(middle)]
    netlist = netlist_of(m, source, out)
    (register,) = [item for item in netlist.registers if "middle" in item.names]
    free = netlist.reach(netlist.ports["source"])
    stopped = netlist.reach(netlist.ports["source"], stop=register.outputs)
    assert free.first(netlist.ports["out"]) is not None
    assert stopped.first(netlist.ports["out"]) is None
    assert stopped.first(register.outputs) is not None
