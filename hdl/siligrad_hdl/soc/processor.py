"""The processor of the system on chip: PicoRV32, a Verilog file of a Python package."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from siligrad.errors import SiligradError
from siligrad_hdl.soc.memory_map import SocRegion

__all__ = ["Processor", "ProcessorMissing", "processor_verilog"]

_PACKAGE, _FILE = "pythondata_cpu_picorv32", "verilog/picorv32.v"

_MODULES = ("picorv32", "picorv32_pcpi_mul", "picorv32_pcpi_fast_mul", "picorv32_pcpi_div")
"""What is taken of the file; the rest are for other buses and registers."""


class ProcessorMissing(SiligradError):
    """The package with the processor is not installed, or not what it was."""


def processor_verilog() -> str:
    """Return the Verilog of PicoRV32, without its adapters to other buses.

    C. X. Wolf, PicoRV32, ISC licence; the text is that of the installed package.

    Raises
    ------
    ProcessorMissing
        If the package is not installed, or lacks a module.
    """
    try:
        text = (resources.files(_PACKAGE) / _FILE).read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        raise ProcessorMissing(
            "PicoRV32 is missing, the processor of the system on chip: type "
            "`pip install 'siligrad[soc]'`"
        ) from None
    modules = {
        match[1]: match[0]
        for match in re.finditer(r"^module (\w+)\b.*?^endmodule\n", text, re.MULTILINE | re.DOTALL)
    }
    if missing := [name for name in _MODULES if name not in modules]:
        raise ProcessorMissing(
            f"picorv32.v of the installed pythondata-cpu-picorv32 has no module {missing[0]}: type "
            "`pip install 'siligrad[soc]'` for a version that has"
        )
    begin = text[: text.index("\nmodule ")]  # its licence, and the macros that follow it
    return "\n".join([begin, *(modules[name] for name in _MODULES)])


class Processor(wiring.Component):
    """PicoRV32: rv32i, or rv32im, with no more than a program like ours needs.

    A request is made by ``valid`` and held until a cycle in which ``ready`` is high. What it will
    be is said a cycle before (``ahead_*``), so that a memory can answer at once. A trap, which an
    illegal instruction or a misaligned access causes, ends everything until a reset.

    Parameters
    ----------
    multiplier : :class:`bool`
        Whether it has the instructions that multiply, in a product of 32 by 32 bits at once.

    Members
    -------
    reset : :py:`In(1)`
        Begin from address zero, when it is over.
    trap : :py:`Out(1)`
        It has stopped.
    valid, ready : :py:`Out(1)`, :py:`In(1)`
        A request is made; it is answered.
    address : :py:`Out(32)`
        Byte address, a multiple of four.
    write_bytes, write_data : :py:`Out(4)`, :py:`Out(32)`
        Bytes of the word that are written, none if it is read.
    read_data : :py:`In(32)`
        What was read, in the cycle of ``ready``.
    ahead_read, ahead_write : :py:`Out(1)`
        In the next cycle a word is requested, to be read or written.
    ahead_address, ahead_write_bytes, ahead_write_data : :py:`Out(32)`, :py:`Out(4)`, :py:`Out(32)`
        Which.
    """

    def __init__(self, *, multiplier: bool = False) -> None:
        self.multiplier = multiplier
        super().__init__({
            "reset": In(1),
            "trap": Out(1),
            "valid": Out(1),
            "ready": In(1),
            "address": Out(32),
            "write_bytes": Out(4),
            "write_data": Out(32),
            "read_data": In(32),
            "ahead_read": Out(1),
            "ahead_write": Out(1),
            "ahead_address": Out(32),
            "ahead_write_bytes": Out(4),
            "ahead_write_data": Out(32),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # A simulator is given the text by whoever makes its Verilog.
        if platform is not None and hasattr(platform, "add_file"):
            platform.add_file("picorv32.v", processor_verilog())
        resetn = Signal()
        m.d.comb += resetn.eq(~self.reset)
        flags = {
            "ENABLE_COUNTERS": 0,
            "ENABLE_COUNTERS64": 0,
            "ENABLE_REGS_16_31": 1,
            "ENABLE_REGS_DUALPORT": 1,
            "LATCHED_MEM_RDATA": 0,
            "TWO_STAGE_SHIFT": 0,
            "BARREL_SHIFTER": 1,
            "TWO_CYCLE_COMPARE": 0,
            "TWO_CYCLE_ALU": 0,
            "COMPRESSED_ISA": 0,
            "CATCH_MISALIGN": 1,
            "CATCH_ILLINSN": 1,
            "ENABLE_PCPI": 0,
            "ENABLE_MUL": 0,
            "ENABLE_FAST_MUL": int(self.multiplier),
            "ENABLE_DIV": 0,
            "ENABLE_IRQ": 0,
            "ENABLE_IRQ_QREGS": 0,
            "ENABLE_IRQ_TIMER": 0,
            "ENABLE_TRACE": 0,
            "REGS_INIT_ZERO": 0,
        }
        words = {
            "MASKED_IRQ": 0,
            "LATCHED_IRQ": 0,
            "PROGADDR_RESET": SocRegion.RAM.base,
            "PROGADDR_IRQ": SocRegion.RAM.base,
            "STACKADDR": 0xFFFFFFFF,  # no: the firmware sets it
        }
        m.submodules.picorv32 = Instance(
            "picorv32",
            **{f"p_{name}": Const(value, 1) for name, value in flags.items()},
            **{f"p_{name}": Const(value, 32) for name, value in words.items()},
            i_clk=ClockSignal(),
            i_resetn=resetn,
            o_trap=self.trap,
            o_mem_valid=self.valid,
            i_mem_ready=self.ready,
            o_mem_addr=self.address,
            o_mem_wdata=self.write_data,
            o_mem_wstrb=self.write_bytes,
            i_mem_rdata=self.read_data,
            o_mem_la_read=self.ahead_read,
            o_mem_la_write=self.ahead_write,
            o_mem_la_addr=self.ahead_address,
            o_mem_la_wdata=self.ahead_write_data,
            o_mem_la_wstrb=self.ahead_write_bytes,
            i_pcpi_wr=Const(0, 1),
            i_pcpi_rd=Const(0, 32),
            i_pcpi_wait=Const(0, 1),
            i_pcpi_ready=Const(0, 1),
            i_irq=Const(0, 32),
        )
        return m
