"""The lines of a program as Amaranth sees them: layouts of the fields of :mod:`siligrad.isa`."""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.lib import data

from siligrad.isa import HEADER_LINE_0, HEADER_LINE_1, LINE_BITS, SEGMENT_LINE, Field

__all__ = ["HEADER_0", "HEADER_1", "SEGMENT", "line_layout"]


def line_layout(fields: Iterable[Field]) -> data.FlexibleLayout:
    """Return a line whose members are `fields`."""
    return data.FlexibleLayout(
        LINE_BITS, {field.name: data.Field(field.width, field.offset) for field in fields}
    )


HEADER_0 = line_layout(HEADER_LINE_0)
"""The first header line of an instruction."""

HEADER_1 = line_layout(HEADER_LINE_1)
"""The second header line of an instruction."""

SEGMENT = line_layout(SEGMENT_LINE)
"""The line of a segment."""
