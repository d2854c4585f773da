"""The epilogue's proof, and that what it proves against is the specification."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import z3

from siligrad.isa import AuxMode, Gate, Rounding
from siligrad_sim.benches.specification import Operation, epilogue
from siligrad_sim.formal.epilogue import EPILOGUE, check_lane, specification
from siligrad_sim.formal.tools import ProverError


@pytest.mark.parametrize(("word_bits", "sum_bits"), [(4, 8), (16, 40)])
def test_a_lane_is_its_specification_for_all_inputs(word_bits: int, sum_bits: int) -> None:
    verdict = check_lane(word_bits, sum_bits)
    assert verdict.holds, verdict.reason
    assert "48 shifts" in verdict.reason


@pytest.mark.parametrize("fault", EPILOGUE.controls)
def test_a_faulty_lane_is_not(fault: str) -> None:
    verdict = EPILOGUE.controls[fault](4)
    assert not verdict.holds
    assert "result" in verdict.reason


def test_a_fault_that_finds_nothing_to_change_is_an_error() -> None:
    def nowhere(text: str) -> str:
        return text.replace("cell $mux", "cell $nothing")

    with pytest.raises(ProverError, match="Yosys failed"):
        check_lane(4, 8, shifts=(0,), fault=nowhere)


def points(bits: int, sum_bits: int) -> Iterator[tuple[int, int, Operation, int]]:
    rng = random.Random(6)
    limit = (1 << (bits - 1)) - 1
    for _ in range(400):
        shift = rng.randrange(48)
        operation = Operation(
            shift,
            rng.choice(list(Rounding)),
            rng.choice(list(AuxMode)),
            rng.choice(list(Gate)),
            rng.randrange(2),
        )
        aux = rng.choice([0, 1, -1, limit, -limit, rng.randint(-limit, limit)])
        # Near to half-way between two results, and to the ends of the codes.
        near = rng.choice([0, 1, limit, limit + 1, rng.randint(-limit, limit)]) << shift
        total = near + (1 << shift >> 1) * rng.randrange(2) + rng.randint(-1, 1)
        total = (total + (1 << sum_bits >> 1)) % (1 << sum_bits) - (1 << sum_bits >> 1)
        yield total, aux, operation, rng.randrange(1 << 16)


def test_what_is_proved_against_agrees_with_the_specification_of_the_benches() -> None:
    bits, sum_bits = 16, 40
    seen = set()
    for total, aux, operation, draw in points(bits, sum_bits):
        result, saturated = specification(
            total=z3.BitVecVal(total, sum_bits),
            aux=z3.BitVecVal(aux, bits),
            shift=z3.BitVecVal(operation.shift, 6),
            rounding=z3.BitVecVal(int(operation.rounding), 2),
            aux_mode=z3.BitVecVal(int(operation.aux_mode), 2),
            gate=z3.BitVecVal(int(operation.gate), 2),
            negate=z3.BoolVal(bool(operation.negate)),
            draw=z3.BitVecVal(draw, 16),
        )
        got = z3.simplify(result).as_signed_long(), z3.is_true(z3.simplify(saturated))
        want = epilogue(operation, bits, total, aux, draw)
        assert got == want, (total, aux, operation, draw)
        seen.add((operation.rounding, operation.gate, want[1], want[0] == 0))
    assert len(seen) > 30
