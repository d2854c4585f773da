"""The clock of the accelerator on a board: the board's own, or one that is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer

__all__ = ["ClockGenerator", "ClockSetting", "ClockSource", "clock_setting"]

_START_SECONDS = 100e-6
"""From a stable clock to the end of the reset. Block RAMs of an iCE40 read as zero for the first
microseconds after configuration, and its oscillator is stable after that long."""

_TOLERANCE = 0.03
"""How far, relatively, a clock may be from the one that was asked for."""


class ClockSource(Enum):
    """What makes a clock."""

    PIN = "the board's own clock alone"
    ICE40_PAD = "SB_PLL40_PAD, whose reference is the pin itself"
    ICE40_CORE = "SB_PLL40_CORE, whose reference comes from inside"
    ICE40_OSCILLATOR = "SB_HFOSC, the oscillator inside the UltraPlus"
    ECP5 = "EHXPLLL"
    NEXUS = "PLL"
    GOWIN = "rPLL"


@dataclass(frozen=True, slots=True)
class ClockSetting:
    """A clock, and how it is made.

    Parameters
    ----------
    mhz
        Its frequency.
    source
        What makes it; None if it is the board's own.
    parameters
        What that is told.
    """

    mhz: float
    source: ClockSource | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)


def clock_setting(source: ClockSource, source_mhz: float, mhz: float) -> ClockSetting:
    """Return how to make, of a clock of `source_mhz`, the one that is next to `mhz`.

    Raises
    ------
    ValueError
        If none is within 3 %.
    """
    own = ClockSetting(source_mhz)
    choices = [own, *_CHOICES[source](source_mhz)] if source in _CHOICES else [own]
    best = min(choices, key=lambda setting: abs(setting.mhz - mhz))
    if abs(best.mhz / mhz - 1) > _TOLERANCE:
        raise ValueError(
            f"no clock within {_TOLERANCE:.0%} of {mhz:g} MHz can be made of {source_mhz:g} MHz by "
            f"{source.value}; the nearest is {best.mhz:g} MHz"
        )
    return best


def _ice40_pll(source: ClockSource, reference: float) -> Iterator[ClockSetting]:
    # FPGA-TN-02052, iCE40 sysCLOCK PLL Design and Usage Guide, "simple" feedback.
    for divr in range(16):
        compared = reference / (divr + 1)
        if not 10 <= compared <= 133:
            continue
        filter_range = 1 + sum(compared >= limit for limit in (17, 26, 44, 66, 101))
        for divf in range(128):
            oscillator = compared * (divf + 1)
            if not 533 <= oscillator <= 1066:
                continue
            for divq in range(1, 7):
                if 16 <= oscillator / 2**divq <= 275:
                    parameters = {
                        "DIVR": divr,
                        "DIVF": divf,
                        "DIVQ": divq,
                        "FILTER_RANGE": filter_range,
                    }
                    yield ClockSetting(oscillator / 2**divq, source, parameters)


def _ecp5_pll(reference: float) -> Iterator[ClockSetting]:
    # FPGA-TN-02200, ECP5 and ECP5-5G sysCLOCK PLL/DLL Design and Usage Guide; feedback from CLKOP.
    for clki in range(1, 17):
        if not 3.125 <= reference / clki <= 400:
            continue
        for clkfb in range(1, 81):
            mhz = reference * clkfb / clki
            divider = next((d for d in range(1, 129) if 400 <= mhz * d <= 800), None)
            if divider is not None and mhz <= 400:
                parameters = {"CLKI_DIV": clki, "CLKFB_DIV": clkfb, "CLKOP_DIV": divider}
                yield ClockSetting(mhz, ClockSource.ECP5, parameters)


_NEXUS_FEEDBACK = 40
"""What a Nexus' oscillator is divided by: the loop is always the same, and one divider differs."""

# The filter of the loop has the greatest bandwidth up to a tenth of the reference of 27 MHz, with a
# margin of phase above 45 degrees and a peak between 0.8 and 1.35 dB: 2.4 MHz, 55 degrees, 0.86 dB
# by the equations of Lattice's calculator, as LiteX's clock cores have them. The others are what
# Lattice's tools always write for a core of 1 V.
_NEXUS_LOOP = {
    "CSET": "8P",
    "CRIPPLE": "7P",
    "V2I_PP_RES": "10P3K",
    "IPP_CTRL": "0b0101",
    "BW_CTL_BIAS": "0b1111",
    "IPP_SEL": "0b0111",
    "IPI_CMP": "0b0110",
    "FBK_INTEGER_MODE": "ENABLED",
    "FBK_MASK": "0b00000000",
    "FBK_MMD_DIG": "1",
    "REF_INTEGER_MODE": "ENABLED",
    "REF_MMD_DIG": "1",
    "REF_MMD_PULS_CTL": "0b0000",
    "V2I_PP_ICTRL": "0b11111",
    "V2I_1V_EN": "ENABLED",
    "V2I_KVCO_SEL": "60",
    "KP_VCO": "0b00011",
    "IPI_CMPN": "0b0011",
    "PLLPD_N": "USED",
    "PLLRESET_ENA": "ENABLED",
}


def _nexus_pll(reference: float) -> Iterator[ClockSetting]:
    # FPGA-TN-02095, sysCLOCK PLL Design and Usage Guide for Nexus Platform.
    if 18 <= reference <= 500 and 800 <= reference * _NEXUS_FEEDBACK <= 1600:
        for divider in range(2, 129):
            mhz = reference * _NEXUS_FEEDBACK / divider
            yield ClockSetting(mhz, ClockSource.NEXUS, {"DIVA": divider - 1})


_GOWIN_DIVIDERS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
"""Of the oscillator of an rPLL."""


def _gowin_pll(reference: float) -> Iterator[ClockSetting]:
    # Gowin Clock User Guide (UG286); ranges that the data sheets of GW1NR-9C C6/I5 (DS117) and
    # GW2A-18 C8/I7 (DS102) both allow.
    for idiv in range(1, 65):
        if not 3 <= reference / idiv <= 400:
            continue
        for fbdiv in range(1, 65):
            mhz = reference * fbdiv / idiv
            odiv = next((d for d in _GOWIN_DIVIDERS if 500 <= mhz * d <= 1200), None)
            if odiv is not None and mhz <= 400:
                parameters = {"IDIV_SEL": idiv - 1, "FBDIV_SEL": fbdiv - 1, "ODIV_SEL": odiv}
                yield ClockSetting(mhz, ClockSource.GOWIN, parameters)


def _ice40_oscillator(reference: float) -> Iterator[ClockSetting]:
    for exponent in range(4):
        yield ClockSetting(
            reference / 2**exponent, ClockSource.ICE40_OSCILLATOR, {"CLKHF_DIV": exponent}
        )


_CHOICES = {
    ClockSource.ICE40_PAD: lambda reference: _ice40_pll(ClockSource.ICE40_PAD, reference),
    ClockSource.ICE40_CORE: lambda reference: _ice40_pll(ClockSource.ICE40_CORE, reference),
    ClockSource.ICE40_OSCILLATOR: _ice40_oscillator,
    ClockSource.ECP5: _ecp5_pll,
    ClockSource.NEXUS: _nexus_pll,
    ClockSource.GOWIN: _gowin_pll,
}


class ClockGenerator(Elaboratable):
    """Drives the domain ``sync``: the clock of `setting`, and a reset until that is stable.

    Where the clock is the board's own, the platform does that.

    Raises
    ------
    ValueError
        If the setting has no source.
    """

    def __init__(self, setting: ClockSetting) -> None:
        if setting.source is None:
            raise ValueError(f"setting must have a source; {setting.mhz:g} MHz is the board's own")
        self.setting = setting

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        clock, locked, reset = Signal(), Signal(), Signal()
        if self.setting.source is ClockSource.ICE40_OSCILLATOR:
            m.submodules.oscillator = Instance(
                "SB_HFOSC",
                p_CLKHF_DIV=f"0b{self.setting.parameters['CLKHF_DIV']:02b}",
                i_CLKHFEN=Const(1),
                i_CLKHFPU=Const(1),
                o_CLKHF=clock,
            )
            m.d.comb += locked.eq(1)
        else:
            port = platform.request(platform.default_clk, dir="-")
            if self.setting.source is ClockSource.ICE40_PAD:
                self._ice40(m, "SB_PLL40_PAD", clock, locked, i_PACKAGEPIN=port.io)
            else:
                m.submodules.buffer = buffer = io.Buffer("i", port)
                match self.setting.source:
                    case ClockSource.ICE40_CORE:
                        self._ice40(m, "SB_PLL40_CORE", clock, locked, i_REFERENCECLK=buffer.i)
                    case ClockSource.ECP5:
                        self._ecp5(m, buffer.i, clock, locked)
                    case ClockSource.NEXUS:
                        self._nexus(m, buffer.i, clock, locked)
                    case ClockSource.GOWIN:
                        self._gowin(m, buffer.i, clock, locked, platform)
        if platform.default_rst is not None:
            port = platform.request(platform.default_rst, dir="-")
            m.submodules.reset_buffer = reset_buffer = io.Buffer("i", port)
            m.d.comb += reset.eq(reset_buffer.i)

        # A domain that is never reset counts the cycles of the other's reset.
        m.domains += ClockDomain("start", reset_less=True, local=True)
        m.d.comb += [ClockSignal("start").eq(clock), ClockSignal("sync").eq(clock)]
        stable = Signal()
        m.submodules.stable = FFSynchronizer(locked & ~reset, stable, o_domain="start")
        cycles = int(_START_SECONDS * self.setting.mhz * 1e6)
        elapsed = Signal(range(cycles + 1))
        resets = Signal(init=1)  # a register, since much hangs on it
        m.d.start += resets.eq(elapsed != cycles)
        with m.If(~stable):
            m.d.start += elapsed.eq(0)
        with m.Elif(elapsed != cycles):
            m.d.start += elapsed.eq(elapsed + 1)
        if self.setting.source is ClockSource.ECP5:
            # By a global line, else it is the slowest path of a large array. Registers may learn
            # of its end a cycle apart: they stay as they are until a frame has come.
            m.submodules.spread = Instance(
                "DCCA", i_CLKI=resets, i_CE=Const(1), o_CLKO=ResetSignal("sync")
            )
        else:
            m.d.comb += ResetSignal("sync").eq(resets)
        return m

    def _ice40(
        self, m: Module, primitive: str, clock: Signal, locked: Signal, **reference: Any
    ) -> None:
        widths = {"DIVR": 4, "DIVF": 7, "DIVQ": 3, "FILTER_RANGE": 3}
        m.submodules.pll = Instance(
            primitive,
            p_FEEDBACK_PATH="SIMPLE",
            **{
                f"p_{name}": Const(value, widths[name])
                for name, value in self.setting.parameters.items()
            },
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
            **reference,
        )

    def _ecp5(self, m: Module, reference: Signal, clock: Signal, locked: Signal) -> None:
        m.submodules.pll = Instance(
            "EHXPLLL",
            **{f"p_{name}": value for name, value in self.setting.parameters.items()},
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_CPHASE=self.setting.parameters["CLKOP_DIV"] - 1,
            # What Lattice's own tool writes for the loop filter.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            i_CLKI=reference,
            i_CLKFB=clock,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_ENCLKOP=Const(1),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(0),
            i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0),
            i_PLLWAKESYNC=Const(0),
            o_CLKOP=clock,
            o_LOCK=locked,
        )

    def _nexus(self, m: Module, reference: Signal, clock: Signal, locked: Signal) -> None:
        feedback = Signal()
        divider = str(self.setting.parameters["DIVA"])
        m.submodules.pll = Instance(
            "PLL",
            **{f"p_{name}": value for name, value in _NEXUS_LOOP.items()},
            p_SEL_FBK="FBKCLK5",
            p_CLKMUX_FB="CMUX_CLKOS5",
            p_ENCLK_CLKOS5="ENABLED",
            p_DIVF=str(_NEXUS_FEEDBACK - 1),
            p_DELF=str(_NEXUS_FEEDBACK - 1),
            p_ENCLK_CLKOP="ENABLED",
            p_DIVA=divider,
            p_DELA=divider,
            p_PHIA="0",
            i_REFCK=reference,
            i_FBKCK=feedback,
            i_PLLRESET=Const(0),
            o_CLKOP=clock,
            o_CLKOS5=feedback,
            o_LOCK=locked,
        )

    def _gowin(
        self, m: Module, reference: Signal, clock: Signal, locked: Signal, platform: Any
    ) -> None:
        off = ("CLKOUT_BYPASS", "CLKOUTP_BYPASS", "CLKOUTD_BYPASS")
        fixed = ("DYN_IDIV_SEL", "DYN_FBDIV_SEL", "DYN_ODIV_SEL", "DYN_DA_EN")
        unused = {"FBDSEL": 6, "IDSEL": 6, "ODSEL": 6, "PSDA": 4, "DUTYDA": 4, "FDLY": 4}
        m.submodules.pll = Instance(
            "rPLL",
            **{f"p_{name}": value for name, value in self.setting.parameters.items()},
            **{f"p_{name}": "false" for name in (*off, *fixed)},
            p_FCLKIN=f"{platform.default_clk_frequency / 1e6:g}",
            p_CLKFB_SEL="internal",
            p_DEVICE=platform.family,
            **{f"i_{name}": Const(0, width) for name, width in unused.items()},
            i_CLKIN=reference,
            i_CLKFB=Const(0),
            i_RESET=Const(0),
            i_RESET_P=Const(0),
            o_CLKOUT=clock,
            o_LOCK=locked,
        )
