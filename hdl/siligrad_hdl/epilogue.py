"""What turns sums into codes: the epilogue of ``docs/spec/numerics.md``."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from siligrad.isa import DRAW_BITS, HEADER_LINE_0, AuxMode, Gate, Rounding
from siligrad_hdl.block_memory import BlockMemory
from siligrad_hdl.delay import delayed
from siligrad_hdl.lfsr import Lfsr
from siligrad_hdl.multiplexer import multiplexer
from siligrad_hdl.vendor import is_lean

__all__ = ["AUX_ROWS_KEPT", "EPILOGUE_FIELDS", "Epilogue", "EpilogueControl", "EpilogueLane"]

EPILOGUE_FIELDS = ("shift", "rounding", "aux_mode", "gate", "negate")
"""The fields of an instruction that the epilogue knows."""

AUX_ROWS_KEPT = 4
"""Rows of auxiliary operands that a memory of the lean form holds."""

_FRACTION = DRAW_BITS
"""Fraction bits that are kept after the shift, so that a draw is added at a fixed position."""


class EpilogueControl(data.StructLayout):
    """What an epilogue lane does with an element.

    Members
    -------
    valid : :class:`1`
        There is an element: its saturation counts, and if its rounding is stochastic, it takes a
        draw.
    shift, rounding, aux_mode, gate, negate
        Fields of the instruction.
    """

    def __init__(self) -> None:
        widths = {field.name: field.width for field in HEADER_LINE_0}
        super().__init__({"valid": 1} | {name: widths[name] for name in EPILOGUE_FIELDS})


class _Shift:
    """A right shift that keeps few bits and remembers what was in the others.

    Parameters
    ----------
    value
        What to shift; bits above it equal its sign.
    sign
        Sign of what `value` was made of.
    amount
        Number of units.
    unit
        Bits that a shift by one drops.
    steps
        ``amount`` is below this.
    keep
        Bits to keep, counted after the shift.
    """

    def __init__(
        self, value: Value, sign: Value, amount: Value, *, unit: int, steps: int, keep: int
    ) -> None:
        width = keep + unit * (steps - 1)
        bits = list(value[:width]) + [sign] * (width - len(value[:width]))
        self.kept = multiplexer(
            amount, [Cat(bits[step * unit : step * unit + keep]) for step in range(steps)]
        )
        """The bits that are kept."""
        below: Value = Const(0, 1)
        above: Value = Const(0, 1)
        for step in range(steps - 1):
            lowest = Cat(bits[step * unit : (step + 1) * unit])
            highest = Cat(bits[keep + step * unit : keep + (step + 1) * unit])
            below |= (amount > step) & lowest.any()
            above |= (amount <= step) & Mux(sign, ~highest.all(), highest.any())
        self.lost_below = below
        """Whether a bit that was dropped from the low end is set."""
        self.lost_above = above
        """Whether a bit that was dropped from the high end differs from the sign."""


class EpilogueLane(wiring.Component):
    """The epilogue of one column: an element a cycle, six registers.

    1. shift by 0, 16 or 32;  the auxiliary operand with its sign
    2. shift by 0, 4, 8 or 12
    3. shift by 0 to 3
    4. complement if negated; the addend that rounds
    5. add, the auxiliary operand to the integer part, the addend to the fraction
    6. saturate and gate

    In the lean form (:func:`~siligrad_hdl.vendor.is_lean`) the third register shifts by 0 or 2 and
    the fourth by 0 or 1, in the lookup tables that complement. There the auxiliary operand gets its
    sign too, and so it comes ``aux_later`` cycles after the sum.

    What is shifted is cut to the bits that matter: 16 of fraction, and one more of integer than a
    code has. Below, all that matters is whether something was dropped ("sticky"); above, whether
    the rest equals the sign: if not, no auxiliary operand brings the result back from saturation.
    ``-v`` is ``~v + 1``, where the one goes in as a carry if nothing was dropped.

    Parameters
    ----------
    word_bits : :class:`int`
        Width of a code.
    sum_bits : :class:`int`
        Width of a sum.
    init : :class:`int`
        State of the shift register after a reset.

    Members
    -------
    control_west, control_east : :py:`In(EpilogueControl)`, :py:`Out(EpilogueControl)`
        What to do with the element of this cycle, and the same one cycle later, for the lane to
        the east.
    sum : :py:`In(signed(sum_bits))`
        The sum.
    aux : :py:`In(signed(word_bits))`
        The auxiliary operand.
    result : :py:`Out(signed(word_bits))`
        The result, ``latency`` cycles later.
    saturated : :py:`Out(1)`
        That result counts as saturated.
    load, load_state, state : :py:`In(1)`, :py:`In(32)`, :py:`Out(32)`
        To set the state of the lane's shift register, and the state.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``sum`` to ``result``.
    aux_later : :class:`int`
        Cycles from ``sum`` to ``aux``, in the lean form.
    """

    latency = 6
    aux_later = 3

    def __init__(self, *, word_bits: int = 16, sum_bits: int = 40, init: int = 1) -> None:
        self.word_bits = word_bits
        self.sum_bits = sum_bits
        self.init = init
        super().__init__({
            "control_west": In(EpilogueControl()),
            "control_east": Out(EpilogueControl()),
            "sum": In(signed(sum_bits)),
            "aux": In(signed(word_bits)),
            "result": Out(signed(word_bits)),
            "saturated": Out(1),
            "load": In(1),
            "load_state": In(32),
            "state": Out(32),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lean = is_lean(platform)
        m.submodules.lfsr = lfsr = Lfsr(init=self.init)
        m.d.comb += [
            lfsr.load.eq(self.load),
            lfsr.load_state.eq(self.load_state),
            self.state.eq(lfsr.state),
        ]

        # Names begin with the number of the register that an item comes from.
        layout = EpilogueControl()
        controls: list[data.View] = [self.control_west]
        for number in range(1, self.latency):
            # Control that later registers need.
            control = Signal(layout, name=f"control_{number}")
            m.d.sync += control.eq(controls[-1])
            controls.append(control)
        c0, c1, c2, c3, _, c5 = controls
        m.d.comb += self.control_east.eq(c1)

        bits = self.word_bits
        code = bits + 1  # integer bits that are kept
        keep = code + _FRACTION

        # 1
        wide = Cat(Const(0, _FRACTION), self.sum)
        sign = self.sum[-1]
        shift = _Shift(wide, sign, c0.shift[4:6], unit=16, steps=3, keep=keep + 15)
        s1_value = Signal(keep + 15, reset_less=True)
        s1_sign = Signal(reset_less=True)
        s1_below = Signal(reset_less=True)
        s1_above = Signal(reset_less=True)
        s1_aux = Signal(signed(code), reset_less=True)
        s1_positive = Signal(reset_less=True)
        unsigned, mode = self.aux, (c3 if lean else c0).aux_mode
        used = mode != AuxMode.NONE
        subtract = mode == AuxMode.SUBTRACT
        aux = Mux(used, unsigned, 0) ^ subtract.replicate(bits).as_signed()
        with_sign = aux + subtract
        m.d.sync += [
            s1_sign.eq(sign),
            s1_value.eq(shift.kept),
            s1_below.eq(shift.lost_below),
            s1_above.eq(shift.lost_above),
        ]
        if not lean:
            m.d.sync += [s1_aux.eq(with_sign), s1_positive.eq(unsigned > 0)]

        # 2
        shift = _Shift(s1_value, s1_sign, c1.shift[2:4], unit=4, steps=4, keep=keep + 3)
        s2_value = Signal(keep + 3, reset_less=True)
        s2_below = Signal(reset_less=True)
        s2_above = Signal(reset_less=True)
        m.d.sync += [
            s2_value.eq(shift.kept),
            s2_below.eq(s1_below | shift.lost_below),
            s2_above.eq(s1_above | shift.lost_above),
        ]
        s2_sign = delayed(m, s1_sign, 1, name="s2_sign")

        # 3
        late = 1 if lean else 0  # bits of the shift that are left for the next stage
        shift = _Shift(
            s2_value, s2_sign, c2.shift[late:2], unit=1 << late, steps=4 >> late, keep=keep + late
        )
        s3_value = Signal(keep + late, reset_less=True)
        s3_below = Signal(reset_less=True)
        s3_above = Signal(reset_less=True)
        m.d.sync += [
            s3_value.eq(shift.kept),
            s3_below.eq(s2_below | shift.lost_below),
            s3_above.eq(s2_above | shift.lost_above),
        ]
        s3_sign = delayed(m, s2_sign, 1, name="s3_sign")
        s3_aux = delayed(m, s1_aux, 2, name="s3_aux").as_signed()
        m.d.comb += lfsr.draw.eq(c2.valid & (c2.rounding == Rounding.STOCHASTIC))

        # 4
        value, below, above = s3_value, s3_below, s3_above
        if lean:
            shift = _Shift(s3_value, s3_sign, c3.shift[:1], unit=1, steps=2, keep=keep)
            value = shift.kept
            below = s3_below | shift.lost_below
            above = s3_above | shift.lost_above
        s4_value = Signal(signed(keep), reset_less=True)
        s4_above = Signal(reset_less=True)
        s4_negative = Signal(reset_less=True)
        s4_addend = Signal(_FRACTION, reset_less=True)
        s4_carry = Signal(reset_less=True)
        one = c3.negate & ~below  # what negation adds to the complement
        # Only looked at in a tie, where the complement's integer part is already the right one.
        odd = value[_FRACTION] ^ c3.negate ^ (used & unsigned[0] if lean else s3_aux[0])
        half = 1 << _FRACTION - 1
        m.d.sync += [
            s4_value.eq(value ^ c3.negate.replicate(keep)),
            s4_above.eq(above | (value[-1] ^ s3_sign)),
            s4_negative.eq(s3_sign ^ c3.negate),
        ]
        m.d.sync += s4_carry.eq(one)
        with m.Switch(c3.rounding):
            with m.Case(Rounding.HALF_EVEN):
                # half - 1 + (1 if odd or something was dropped), and the one of the negation: in
                # one carry, since the latter is there only if nothing was dropped.
                m.d.sync += s4_addend.eq(Mux(one, half, half - 1))
                m.d.sync += s4_carry.eq(below | odd)
            with m.Case(Rounding.STOCHASTIC):
                m.d.sync += s4_addend.eq(lfsr.state)
            with m.Case(Rounding.FLOOR):
                m.d.sync += s4_addend.eq(0)
            with m.Case(Rounding.HALF_UP):
                m.d.sync += s4_addend.eq(half)

        if lean:
            s4_aux = Signal(signed(code), reset_less=True)
            s4_positive = Signal(reset_less=True)
            m.d.sync += [s4_aux.eq(with_sign), s4_positive.eq(unsigned > 0)]
        else:
            s4_aux = delayed(m, s3_aux, 1, name="s4_aux").as_signed()

        # 5
        # One bit more at the low end makes the carry a part of the one addition.
        total = (
            Cat(Const(1, 1), s4_value).as_signed() + Cat(s4_carry, s4_addend, s4_aux).as_signed()
        )
        s5_value = Signal(code + 1, reset_less=True)
        m.d.sync += s5_value.eq(total[1 + _FRACTION :])
        s5_above = delayed(m, s4_above, 1, name="s5_above")
        s5_negative = Signal(reset_less=True)
        m.d.sync += s5_negative.eq(Mux(s4_above, s4_negative, total[-1]))
        if lean:
            s5_positive: Value = delayed(m, s4_positive, 1, name="s5_positive")
        else:
            s5_positive = delayed(m, s1_positive, 4, name="s5_positive")

        # 6
        top = s5_value[bits - 1 :]
        outside = s5_above | (top.any() & ~top.all())
        lowest = top.all() & ~s5_value[: bits - 1].any()
        clipped = outside | lowest
        kept = Mux(outside, (~s5_negative).replicate(bits - 1), s5_value[: bits - 1])
        zero = Signal()
        with m.Switch(c5.gate):
            with m.Case(Gate.NONE):
                m.d.comb += zero.eq(0)
            with m.Case(Gate.RELU):
                m.d.comb += zero.eq(s5_negative)
            with m.Case(Gate.MASK):
                m.d.comb += zero.eq(~s5_positive)
            with m.Case(Gate.HINGE):
                m.d.comb += zero.eq(s5_positive ^ s5_negative)
        result = Signal(signed(bits), reset_less=True)
        saturated = Signal()
        m.d.sync += [
            result.eq(Mux(zero, 0, Cat(kept[0] | clipped, kept[1:], s5_negative))),
            saturated.eq(c5.valid & clipped & ~zero),
        ]
        m.d.comb += [self.result.eq(result), self.saturated.eq(saturated)]
        return m


class Epilogue(wiring.Component):
    """N epilogue lanes, which take the rows that the array drains, column `j` in lane `j`.

    Lane `j` works `j` cycles behind lane 0, as the array does; control, and the number of
    saturated elements of a row, travel from lane to lane. At the end the columns of a row are
    brought together again.

    Parameters
    ----------
    array : :class:`int`
        N, the number of lanes.
    word_bits : :class:`int`
        Width of a code.
    sum_bits : :class:`int`
        Width of a sum.
    init : sequence of :class:`int`
        States of the lanes' shift registers after a reset; 1 if there are none.

    Members
    -------
    control : :py:`In(EpilogueControl)`
        What to do with the row whose column 0 is at ``sums[0]`` in this cycle.
    sums : :py:`In(signed(sum_bits)).array(array)`
        Sums; column `j` of a row `j` cycles later than column 0.
    aux : :py:`In(signed(word_bits)).array(array)`
        Auxiliary operands; a whole row in the cycle of column 0.
    results : :py:`Out(signed(word_bits)).array(array)`
        Results; a whole row, ``latency`` cycles after column 0.
    saturations : :py:`Out(range(array + 1))`
        Number of saturated elements of a row, one cycle after its results.
    idle, word : :py:`In(1)`, :py:`In(signed(word_bits))`
        While it is idle, ``results[0]`` is ``word``, a cycle later: what a host writes.
    load : :py:`In(array)`
        Lanes whose shift register is set to ``load_state`` (:py:`In(32)`) in this cycle.
    states : :py:`Out(32).array(array)`
        States of the shift registers.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from column 0 of a row of sums to that row of results.
    """

    def __init__(
        self, *, array: int, word_bits: int = 16, sum_bits: int = 40, init: Sequence[int] = ()
    ) -> None:
        self.array = array
        self.word_bits = word_bits
        self.sum_bits = sum_bits
        self.init = tuple(init) or (1,) * array
        self.latency = EpilogueLane.latency + array - 1
        super().__init__({
            "control": In(EpilogueControl()),
            "sums": In(signed(sum_bits)).array(array),
            "aux": In(signed(word_bits)).array(array),
            "results": Out(signed(word_bits)).array(array),
            "saturations": Out(range(array + 1)),
            "idle": In(1),
            "word": In(signed(word_bits)),
            "load": In(array),
            "load_state": In(32),
            "states": Out(32).array(array),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        auxes = list(self.aux)
        if is_lean(platform):
            auxes = self._in_memory(m)
        control: data.View = self.control
        count: Value = Const(0, 1)
        for j in range(self.array):
            lane = EpilogueLane(word_bits=self.word_bits, sum_bits=self.sum_bits, init=self.init[j])
            m.submodules[f"lane_{j}"] = lane
            m.d.comb += [
                lane.control_west.eq(control),
                lane.sum.eq(self.sums[j]),
                lane.aux.eq(delayed(m, auxes[j], j, name=f"aux_{j}")),
                lane.load.eq(self.load[j]),
                lane.load_state.eq(self.load_state),
                self.states[j].eq(lane.state),
            ]
            if j == 0:
                last = self.array - 1
                before = delayed(m, lane.result, last - 1, name="result_0")
                result = Signal(signed(self.word_bits), name=f"result_0_{last}", reset_less=True)
                m.d.sync += result.eq(Mux(self.idle, self.word, before))
            else:
                result = delayed(m, lane.result, self.array - 1 - j, name=f"result_{j}")
            m.d.comb += self.results[j].eq(result)
            control = lane.control_east
            saturations = Signal(range(j + 2), name=f"saturations_{j}")
            m.d.sync += saturations.eq(count + lane.saturated)
            count = saturations
        m.d.comb += self.saturations.eq(count)
        return m

    def _in_memory(self, m: Module) -> list[Value]:
        """Return the auxiliary operands of ``aux_later`` cycles ago, which a memory has kept."""
        m.submodules.aux = kept = BlockMemory(shape=len(Cat(*self.aux)), depth=AUX_ROWS_KEPT)
        place = Signal(range(AUX_ROWS_KEPT))
        m.d.sync += place.eq(place + 1)
        m.d.comb += [
            kept.write_enable.eq(1),
            kept.write_address.eq(place),
            kept.write_data.eq(Cat(*self.aux)),
            kept.read_address.eq(
                delayed(m, place, EpilogueLane.aux_later - BlockMemory.latency, name="place")
            ),
        ]
        return [
            kept.read_data.word_select(lane, self.word_bits).as_signed()
            for lane in range(self.array)
        ]
