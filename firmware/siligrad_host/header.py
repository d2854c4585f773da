"""The constants of the C driver, ``firmware/include/siligrad_constants.h``, from the library's own.

What the driver knows of registers, instructions, images and frames is written from the modules that
define them, never by hand::

    python -m siligrad_host.header firmware/include/siligrad_constants.h
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path

from siligrad import frames, image, isa, registers
from siligrad.files import replacing

__all__ = ["constants_header", "main"]

_WORD_BYTES = 4

_HEADER_FIELDS = (
    "magic",
    "version",
    "header_size",
    "size",
    "crc",
    "array",
    "operand_bits",
    "sum_bits",
    "word_bits",
    "x_depth",
    "w_depth",
    "e_depth",
    "program_depth",
    "cycles",
    *(f"{name}_{what}" for name in image.SECTIONS for what in ("offset", "length")),
    "steps",
    "x_stride",
    "w_stride",
    "e_stride",
)
"""The fields of :data:`siligrad.image.HEADER`, in order."""

_RECORD_FIELDS = (
    "name",
    "role",
    "memory",
    "flags",
    "base",
    "rows",
    "columns",
    "fraction",
    "limit",
    "scale",
    "data",
)
"""The fields of :data:`siligrad.image.RECORD`, in order."""


def constants_header() -> str:
    """Return the text of the C header."""
    lines = [
        "/* Constants of docs/spec that the driver needs; places of registers are in bytes.",
        " * Written by `python -m siligrad_host.header FILE` from the library: do not edit. */",
        "",
        "#ifndef SILIGRAD_CONSTANTS_H",
        "#define SILIGRAD_CONSTANTS_H",
    ]
    for title, constants in (
        ("Registers: siligrad.registers", _registers()),
        ("Sizes that exist: siligrad.isa", _geometry()),
        ("Lines of the program: siligrad.isa", _instruction()),
        ("Images: siligrad.image", _image()),
        ("Frames of the serial link: siligrad.frames", _frames()),
    ):
        lines += ["", f"/* {title} */"]
        lines += [f"#define SILIGRAD_{name.upper()} {value}" for name, value in constants]
    return "\n".join([*lines, "", "#endif", ""])


def _unsigned(value: int) -> str:
    return f"{value:#x}u" if value > 255 else f"{value}u"


def _members(prefix: str, kind: type[IntEnum], scale: int = 1) -> Iterator[tuple[str, str]]:
    for member in kind:
        yield f"{prefix}_{member.name}", _unsigned(member.value * scale)


def _registers() -> Iterator[tuple[str, str]]:
    yield "identification", _unsigned(registers.IDENTIFICATION)
    yield "version", _unsigned(registers.VERSION)
    yield from _members("region", registers.Region, _WORD_BYTES << registers.REGION_BITS)
    yield from _members("register", registers.Register, _WORD_BYTES)
    for status in registers.Status:
        yield f"status_{status.name}", _unsigned(status.value)


def _geometry() -> Iterator[tuple[str, str]]:
    yield "array_min", _unsigned(isa.ARRAY_SIZES.start)
    yield "word_bits_min", _unsigned(isa.WORD_BITS.start)
    yield "word_bits_max", _unsigned(isa.WORD_BITS.stop - 1)
    yield "depth_max", _unsigned(1 << isa.ADDRESS_BITS)
    yield "program_depth_max", _unsigned(isa.PROGRAM_LINES.stop - 1)
    yield "line_words", _unsigned(registers.WORDS_PER_LINE)


def _instruction() -> Iterator[tuple[str, str]]:
    yield "header_lines", _unsigned(isa.HEADER_LINES)
    yield "segments_max", _unsigned(isa.SEGMENTS_MAX)
    yield "shift_max", _unsigned(isa.SHIFT_MAX)
    for number, layout in enumerate((isa.HEADER_LINE_0, isa.HEADER_LINE_1)):
        for item in layout:
            if item.name in ("segments", "shift", "destination", "final", "d_base"):
                word, bit = divmod(item.offset, 32)
                # The driver takes a field out of one word.
                assert bit + item.width <= 32
                word += number * registers.WORDS_PER_LINE
                yield f"{item.name}_word", _unsigned(word)
                yield f"{item.name}_bit", _unsigned(bit)
                yield f"{item.name}_mask", _unsigned((1 << item.width) - 1)


def _image() -> Iterator[tuple[str, str]]:
    for number in range(2):
        part = image.MAGIC[4 * number : 4 * number + 4]
        yield f"image_magic_{number}", _unsigned(int.from_bytes(part, "little"))
    yield "image_version", _unsigned(image.IMAGE_VERSION)
    yield "image_size_max", _unsigned(image.SIZE_MAX)
    yield "image_sections", _unsigned(len(image.SECTIONS))
    yield "image_header_bytes", _unsigned(image.HEADER.size)
    yield "tensor_bytes", _unsigned(image.RECORD.size)
    yield "image_no_data", _unsigned(image.NO_DATA)
    yield from _offsets("image_at", image.HEADER, _HEADER_FIELDS)
    yield from _offsets("tensor_at", image.RECORD, _RECORD_FIELDS)


def _offsets(prefix: str, layout: struct.Struct, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield where each field of `layout` begins; repeated ones (``4B``) are fields of their own."""
    order, codes = layout.format[0], layout.format[1:]
    fields: list[str] = []
    count = ""
    for code in codes:
        if code.isdecimal():
            count += code
            continue
        fields += [count + code] if code in "sx" else [code] * int(count or 1)
        count = ""
    places = [item for item in fields if not item.endswith("x")]
    assert len(places) == len(names), f"{layout.format} has {len(places)} fields"
    for index, name in enumerate(names):
        at = struct.calcsize(order + "".join(fields[:index]))
        yield f"{prefix}_{name}", _unsigned(at)


def _frames() -> Iterator[tuple[str, str]]:
    yield "link_words_max", _unsigned(frames.WORDS_MAX)
    yield "link_crc_bytes", _unsigned(frames.CRC_BYTES)
    for prefix, fields in (
        ("link_request", frames.REQUEST_FIELDS),
        ("link_reply", frames.REPLY_FIELDS),
    ):
        at = 0
        for name, bits in fields.items():
            yield f"{prefix}_at_{name}", _unsigned(at)
            at += bits // 8
        yield f"{prefix}_bytes", _unsigned(at)
    yield from _members("link", frames.Operation)
    yield from _members("link", frames.Answer)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the header to the file that `argv` names, beside and renamed into place.

    Without a name, print it.
    """
    arguments = sys.argv[1:] if argv is None else argv
    text = constants_header()
    if arguments:
        with replacing(Path(arguments[0])) as beside:
            beside.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
