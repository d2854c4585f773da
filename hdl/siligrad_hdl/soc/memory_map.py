"""Where the processor of the system on chip finds everything; the one definition.

``python -m siligrad_hdl.soc`` prints it as the C header of the firmware,
``firmware/soc/memory_map.h``.
"""

from __future__ import annotations

from enum import IntEnum

from siligrad.registers import HOST_ADDRESS_BITS

__all__ = ["RAM_BYTES", "REGION_SHIFT", "Console", "SocRegion", "Timer", "c_header"]

REGION_SHIFT = 28
"""Byte address bits inside a region."""

RAM_BYTES = 1 << 16
"""Size of the RAM unless another is asked for."""


class SocRegion(IntEnum):
    """The top four bits of a byte address."""

    RAM = 0x0  # any bytes; begins where the processor does
    CONSOLE = 0x4  # whole words, write only
    TIMER = 0x5  # whole words, read only
    ACCELERATOR = 0x8  # whole words: the host port of docs/spec/host.md, word address times four

    @property
    def base(self) -> int:
        """First byte address of the region."""
        return self.value << REGION_SHIFT


class Console(IntEnum):
    """Byte offsets of the words of :attr:`SocRegion.CONSOLE`."""

    SEND = 0  # the low byte is sent; the store is answered when the line takes it


class Timer(IntEnum):
    """Byte offsets of the words of :attr:`SocRegion.TIMER`."""

    CYCLES = 0  # since the end of the reset, low word; reading it keeps the high word
    CYCLES_HIGH = 4  # high word, as it was when the low one was read


def c_header() -> str:
    """Return the header of the firmware that says the same."""
    registers = {
        f"SOC_{kind.__name__.upper()}_{register.name}": SocRegion[kind.__name__.upper()].base
        + register
        for kind in (Console, Timer)
        for register in kind
    }
    values = {
        "SOC_RAM": SocRegion.RAM.base,
        **registers,
        "SOC_ACCELERATOR": SocRegion.ACCELERATOR.base,
        "SOC_ACCELERATOR_BYTES": 4 << HOST_ADDRESS_BITS,
    }
    lines = [
        "/* The addresses of the system on chip, for its processor.",
        " *",
        " * Written by `python -m siligrad_hdl.soc`; do not edit. */",
        "",
        "#ifndef SILIGRAD_SOC_MEMORY_MAP_H",
        "#define SILIGRAD_SOC_MEMORY_MAP_H",
        "",
        *(f"#define {name} 0x{value:08x}u" for name, value in values.items()),
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"
