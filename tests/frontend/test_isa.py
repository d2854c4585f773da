from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siligrad.isa import (
    HEADER_LINE_0,
    HEADER_LINE_1,
    LINE_BITS,
    SEGMENT_LINE,
    AuxMode,
    EncodingError,
    Field,
    Gate,
    Geometry,
    Instruction,
    Memory,
    Product,
    Rounding,
    Segment,
    Timing,
    decode_program,
    encode_program,
)

SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "isa.md"

word = st.integers(0, 2**16 - 1)
bit = st.integers(0, 1)
segments = st.builds(
    Segment,
    k=word,
    a_base=word,
    a_m=word,
    a_k=word,
    b_base=word,
    b_p=word,
    b_k=word,
    pad=st.integers(0, 31),
    ones_shift=st.integers(0, 15),
    ones=bit,
    a_column=bit,
    b_column=bit,
)
instructions = st.builds(
    Instruction,
    m_tiles=st.integers(0, 2**12 - 1),
    p_tiles=st.integers(0, 2**12 - 1),
    product=st.sampled_from(Product),
    destination=st.sampled_from(Memory),
    rows_last=st.integers(0, 31),
    d_base=word,
    d_m=word,
    d_p=word,
    segments=st.lists(segments, min_size=1, max_size=4).map(tuple),
    aux_base=word,
    aux_m=word,
    aux_p=word,
    shift=st.integers(0, 63),
    rounding=st.sampled_from(Rounding),
    aux_mode=st.sampled_from(AuxMode),
    gate=st.sampled_from(Gate),
    negate=bit,
    d_column=bit,
    aux_column=bit,
    delay=word,
)
SMALLEST = Instruction(
    m_tiles=1,
    p_tiles=1,
    product=Product.XW,
    destination=Memory.X,
    rows_last=1,
    d_base=0,
    d_m=0,
    d_p=0,
    segments=(Segment(k=2),),
)


@given(program=st.lists(instructions, min_size=1, max_size=4))
def test_decoding_is_the_inverse_of_encoding(program: list[Instruction]) -> None:
    assert decode_program(encode_program(program)) == program


def test_the_specification_lists_the_same_fields() -> None:
    def table_row(layout: tuple[Field, ...]) -> str:
        return ", ".join(f"`{item.name}` {item.width}" for item in layout)

    text = re.sub(r"\s+", " ", SPECIFICATION.read_text())
    for name, layout in (
        ("header 0", HEADER_LINE_0),
        ("header 1", HEADER_LINE_1),
        ("segment", SEGMENT_LINE),
    ):
        assert f"| {name} | {table_row(layout)} |" in text
        offset = 0
        for item in layout:
            assert item.offset == offset
            offset += item.width
        assert offset <= LINE_BITS


@pytest.mark.parametrize("array", range(2, 17))
def test_timing_is_what_the_specification_says(array: int) -> None:
    timing = Timing(array)
    rotate = -(-(array - 1).bit_length() // 2)
    read = 4 + rotate
    drain = read + (array - 1) + 5
    assert timing.rotate == rotate
    assert timing.read == read
    assert timing.drain == drain
    assert timing.aux == drain - read
    assert timing.write == drain + 6 + (array - 1) + rotate
    assert timing.tail == timing.write + (array - 1) + 2


def test_a_field_that_overflows_is_named() -> None:
    with pytest.raises(EncodingError, match="instruction 0: shift must be from 0 to 63, not 64"):
        encode_program([replace(SMALLEST, shift=64)])
    with pytest.raises(EncodingError, match="instruction 0, segment 0: k must be from 0 to 65535"):
        encode_program([replace(SMALLEST, segments=(Segment(k=65536),))])
    with pytest.raises(EncodingError, match="at least one instruction"):
        encode_program([])
    with pytest.raises(EncodingError, match="segments must be from 1 to 64, not 65"):
        encode_program([replace(SMALLEST, segments=(Segment(k=2),) * 65)])


def test_bits_that_are_no_program_are_refused() -> None:
    lines = encode_program([SMALLEST])
    offset = {item.name: item.offset for item in HEADER_LINE_0}
    with pytest.raises(EncodingError, match="ends without a final instruction"):
        decode_program([lines[0] & ~(1 << offset["final"]), *lines[1:]])
    with pytest.raises(EncodingError, match="reserved bits are set"):
        decode_program([lines[0] | 1 << 127, *lines[1:]])
    with pytest.raises(EncodingError, match="with 0 lines left"):
        decode_program(lines[:2])
    with pytest.raises(EncodingError, match="product 3 does not exist"):
        decode_program([lines[0] | 3 << offset["product"], *lines[1:]])


def test_a_geometry_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(EncodingError, match="array must be from 2 to 16, not 1"):
        Geometry(array=1)
    with pytest.raises(EncodingError, match="sum_bits must be at least 32"):
        Geometry(sum_bits=31)
    with pytest.raises(EncodingError, match="x_depth must be from 8"):
        Geometry(array=8, x_depth=7)
    with pytest.raises(EncodingError, match="program_depth must be from 4"):
        Geometry(program_depth=3)
    with pytest.raises(EncodingError, match=r"from 4 to word_bits \(16\), not 17"):
        Geometry(operand_bits=17)
