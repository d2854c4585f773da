# amaranth: UnusedElaboratable=no
# A generator that refuses its setting is never used.

from __future__ import annotations

from dataclasses import replace

import pytest

from siligrad.isa import Geometry
from siligrad_hdl.boards import BOARDS, Board, BoardError, find_board
from siligrad_hdl.boards.clock import ClockGenerator, ClockSetting, ClockSource, clock_setting
from siligrad_hdl.boards.top import baud_of
from siligrad_hdl.link.uart import bit_cycles

NAMES = {
    *("icebreaker", "upduino", "hx8k", "orangecrab", "colorlight-5a-75b", "versa-ecp5"),
    *("ulx3s-12f", "ulx3s-25f", "ulx3s-45f", "ulx3s-85f"),
    *("crosslink-nx-vip", "tang-nano-9k", "tang-primer-20k"),
}


def test_the_boards_are_there_by_name() -> None:
    assert set(BOARDS) == NAMES
    assert find_board("ulx3s-85f").device == "LFE5U-85F-6BG381"
    with pytest.raises(BoardError, match="there is no board 'ulx3s'; there are icebreaker, "):
        find_board("ulx3s")


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_what_a_board_usually_gets_fits_and_its_clock_divides_to_the_rate_of_the_link(
    board: Board,
) -> None:
    board.check(board.geometry)
    clock = board.clock(None)
    assert clock.mhz == board.clock_mhz  # exactly: nobody asked for something else
    assert baud_of(clock.mhz) == 1_000_000
    assert bit_cycles(clock.mhz * 1e6, 1_000_000) == clock.mhz


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_the_platform_of_a_board_has_its_pins(board: Board) -> None:
    platform = board.platform()
    platform.request("uart", 0, dir="-")
    if board.led:
        platform.request(board.led[0], 0, dir="-")
    if board.clock_source is not ClockSource.ICE40_OSCILLATOR:
        assert platform.default_clk_frequency == board.source_mhz * 1e6


def test_blocks_are_counted_from_the_geometry() -> None:
    # By hand, from the shapes of the blocks: 256 x 16 and 512 x 8 on iCE40, 1024 x 18 on ECP5.
    small = Geometry(array=2, x_depth=256, w_depth=512, e_depth=256, program_depth=256)
    ice40, ecp5 = find_board("hx8k"), find_board("ulx3s-25f")
    # 2 banks of 1, 2 and 1 blocks, 4 words of a line of 2, counters of 32 bits; two addresses of 9
    # bits, words of 32 bits and bytes of the link, and three queues of tiles.
    # And on iCE40 rows of auxiliary operands, two words of 16 bits.
    assert ice40.blocks_of(small) == 2 * (1 + 2 + 1) + 4 * 2 + 2 + 2 + 2 + 1 + 3 + 2
    assert ecp5.blocks_of(small) == 2 * 3 + 4 * 2 + 2 + 1 + 2 + 1
    assert ice40.multipliers_of(small) == 0
    assert ecp5.multipliers_of(replace(small, array=5)) == 25


def test_the_largest_array_is_what_the_multipliers_do_for() -> None:
    assert find_board("ulx3s-85f").largest_array() == 12  # 144 of 156
    assert find_board("ulx3s-12f").largest_array() == 5  # 25 of 28
    assert find_board("icebreaker").largest_array() == 2  # 4 of 8
    assert find_board("upduino").largest_array() == 2
    assert find_board("hx8k").largest_array() == 4  # it has none: the largest in its file


def test_memories_that_are_too_large_are_refused() -> None:
    board = find_board("ulx3s-12f")
    with pytest.raises(BoardError, match=r"ULX3S 12F is too small: .* 4096 words .* has 32$"):
        board.check(Geometry(array=4, x_depth=4096, w_depth=4096, e_depth=4096))


def test_memories_that_are_deeper_than_a_block_are_refused() -> None:
    geometry = replace(find_board("hx8k").geometry, w_depth=4096)
    with pytest.raises(
        BoardError, match="too small: depth must be at most 2048 on iCE40, not 4096"
    ):
        find_board("hx8k").check(geometry)


def test_an_array_of_another_size_keeps_the_memories() -> None:
    board = find_board("hx8k")
    assert board.sized(3, None) == replace(board.geometry, array=3)
    wide = board.sized(None, 16)
    assert (wide.operand_bits, wide.word_bits, wide.sum_bits) == (16, 16, 32)
    assert find_board("ulx3s-85f").sized(None, 8).sum_bits == 40  # and 8 bits below it


def test_an_array_with_memories_of_its_own_gets_them() -> None:
    board = find_board("hx8k")
    (other,) = board.others
    assert board.sized(4, None) == board.sized(4, 8) == other
    assert (other.array, other.operand_bits, other.word_bits, other.sum_bits) == (4, 8, 8, 20)
    assert board.sized(4, 6) == replace(board.geometry, array=4, operand_bits=6)
    board.check(other)


@pytest.mark.parametrize(
    ("source", "reference", "asked", "made"),
    [
        # What icepll and ecppll answer for the same.
        (ClockSource.ICE40_PAD, 12, 48, {"DIVR": 0, "DIVF": 63, "DIVQ": 4, "FILTER_RANGE": 1}),
        (ClockSource.ICE40_CORE, 12, 96, {"DIVR": 0, "DIVF": 63, "DIVQ": 3, "FILTER_RANGE": 1}),
        (ClockSource.ECP5, 25, 100, {"CLKI_DIV": 1, "CLKFB_DIV": 4}),
        (ClockSource.ICE40_OSCILLATOR, 48, 12, {"CLKHF_DIV": 2}),
        # What gowin_pll answers, for the oscillator of the GW2A: it has more room at the bottom.
        (ClockSource.GOWIN, 27, 108, {"IDIV_SEL": 0, "FBDIV_SEL": 3, "ODIV_SEL": 8}),
        (ClockSource.GOWIN, 27, 63, {"IDIV_SEL": 2, "FBDIV_SEL": 6, "ODIV_SEL": 8}),
        # An oscillator of 40 x 27 = 1080 MHz, divided by one more.
        (ClockSource.NEXUS, 27, 90, {"DIVA": 11}),
    ],
)
def test_a_clock_is_made_as_the_vendors_tools_would(
    source: ClockSource, reference: float, asked: float, made: dict[str, int]
) -> None:
    setting = clock_setting(source, reference, asked)
    assert setting.mhz == asked
    assert setting.source is source
    assert made.items() <= setting.parameters.items()


@pytest.mark.parametrize("asked", [40, 62.5, 83.3, 123, 150])
def test_a_pll_of_an_ecp5_stays_within_its_oscillators_range(asked: float) -> None:
    setting = clock_setting(ClockSource.ECP5, 25, asked)
    made = setting.parameters
    assert setting.mhz == pytest.approx(25 * made["CLKFB_DIV"] / made["CLKI_DIV"])
    assert setting.mhz == pytest.approx(asked, rel=0.01)
    assert 400 <= setting.mhz * made["CLKOP_DIV"] <= 800


def test_a_pll_of_a_nexus_needs_a_reference_within_its_range() -> None:
    with pytest.raises(
        ValueError, match="no clock within 3% of 48 MHz can be made of 12 MHz by PLL"
    ):
        clock_setting(ClockSource.NEXUS, 12, 48)


def test_the_boards_own_clock_needs_no_generator() -> None:
    setting = clock_setting(ClockSource.ECP5, 25, 25)
    assert setting == ClockSetting(25)
    with pytest.raises(ValueError, match="setting must have a source; 25 MHz is the board's own"):
        ClockGenerator(setting)


def test_a_rate_that_a_clock_does_not_divide_to_is_passed_over() -> None:
    assert baud_of(27) == 1_000_000
    assert baud_of(7.3728) == 921_600
    with pytest.raises(ValueError, match="no rate of the link, 115200 to 1000000 baud, divides"):
        baud_of(0.3)
