"""``siligrad export``: the accelerator as one file of Verilog, for other people's tools."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from siligrad.errors import SiligradError
from siligrad.files import replacing
from siligrad.isa import Geometry
from siligrad.program import Program
from siligrad_cli.baking import add_lock, bake, check_lock
from siligrad_cli.hardware import needing_hardware
from siligrad_cli.options import positive

__all__ = ["ExportError", "add_parser"]

_PORTS = {
    "host": ("accelerator", "Accelerator"),
    "axi-lite": ("axi_lite", "AxiLiteAccelerator"),
    "wishbone": ("wishbone", "WishboneAccelerator"),
}
"""The ports, and who has them: a module of :mod:`siligrad_hdl`, and its component."""

_WIDTHS = {"array": "N", "word_bits": "B", "operand_bits": "B", "sum_bits": "B"}
_DEPTHS = {"x_depth": "D", "w_depth": "D", "e_depth": "D", "program_depth": "L"}


class ExportError(SiligradError):
    """The Verilog cannot be written."""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``siligrad``."""
    parser = commands.add_parser(
        "export",
        help="write the accelerator as Verilog, with a bus of your choice",
        description="Write the accelerator as one file of plain Verilog, without anything of a "
        "vendor, for Vivado, Quartus, LiteX and others. docs/spec/host.md says what answers where.",
    )
    parser.add_argument("--port", choices=_PORTS, default="axi-lite", help="(default: axi-lite)")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.v", help="file to write"
    )
    parser.add_argument(
        "--name", default="siligrad", metavar="MODULE", help="of the top module (default siligrad)"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--program", type=Path, metavar="IMAGE", help="build what this image was compiled for"
    )
    images.add_argument(
        "--bake",
        type=Path,
        metavar="IMAGE",
        help="the same, with its program and weights as the memories' initial contents",
    )
    add_lock(parser)
    default = Geometry()
    for name, unit in (_WIDTHS | _DEPTHS).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=positive,
            metavar=unit,
            help=f"(default {getattr(default, name)}, or the image's)",
        )
    parser.set_defaults(run=_command)


def _command(options: argparse.Namespace) -> int:
    check_lock(options)
    if not (options.name.isascii() and options.name.isidentifier()):
        raise ExportError(
            f"--name must be letters, digits and underscores, a letter first, not {options.name!r}"
        )
    image = options.program or options.bake
    program = None if image is None else Program.load(image)
    usual = Geometry() if program is None else program.geometry
    names = (*_WIDTHS, *_DEPTHS)
    geometry = Geometry(**{name: getattr(options, name) or getattr(usual, name) for name in names})
    baked = bake(program, geometry) if program is not None and options.bake else None
    with needing_hardware():
        from siligrad_hdl.accelerator import to_verilog  # noqa: PLC0415  optional

        module, name = _PORTS[options.port]
        component = getattr(import_module(f"siligrad_hdl.{module}"), name)
        text = to_verilog(
            geometry, options.name, component=component, baked=baked, locked=options.lock
        )
    try:
        with replacing(options.output) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{options.output} cannot be written: {error.strerror}") from None
    print(f"{options.output}: module {options.name}, {text.count(chr(10))} lines")
    return 0
