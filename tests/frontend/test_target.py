"""The accelerator that a program is compiled for, where the caller leaves its sizes open."""

from __future__ import annotations

import pytest

from siligrad.compiler import CapacityError, Target
from siligrad.compiler.place import Layout
from siligrad.isa import Geometry, Memory
from tests.frontend.kernels import matrix


def layout_of(**words: int) -> Layout:
    """Return a layout in which memories hold so many words, with N = 2."""
    held = {matrix(name, rows, 2): Memory[name] for name, rows in words.items()}
    return Layout(held, dict.fromkeys(held, 0))


@pytest.mark.parametrize(
    ("words", "depth"),
    [(2, 256), (256, 256), (258, 512), (512, 512), (40000, 65536), (65536, 65536)],
)
def test_a_depth_that_is_left_out_is_the_next_power_of_two(words: int, depth: int) -> None:
    target = Target(array=2, operand_bits=8, sum_bits=24, word_bits=12)
    assert target.geometry(layout_of(X=words, W=2), 9) == Geometry(
        array=2,
        operand_bits=8,
        sum_bits=24,
        word_bits=12,
        x_depth=depth,
        w_depth=256,
        e_depth=256,
        program_depth=64,
    )


@pytest.mark.parametrize(
    ("lines", "given", "depth"),
    [(3, None, 64), (64, None, 64), (65, None, 128), (200, None, 256), (3, 17, 17), (99, 17, 17)],
)
def test_so_is_that_of_the_program(lines: int, given: int | None, depth: int) -> None:
    target = Target(array=2, program_depth=given)
    assert target.geometry(layout_of(X=2), lines).program_depth == depth


def test_depths_that_are_given_stay() -> None:
    target = Target(array=2, x_depth=4, w_depth=300, e_depth=2)
    built = target.geometry(layout_of(X=4, W=300, E=2), 9)
    assert (built.x_depth, built.w_depth, built.e_depth) == (4, 300, 2)


@pytest.mark.parametrize(
    ("target", "words", "message"),
    [
        (
            Target(array=2, e_depth=10),
            {"E": 12},
            (
                r"memory E is 2 words a bank over: the program needs 12, the target has 10. Most "
                r"is taken by E \(12 x 2, 12 words\). What would fit: fewer channels, or a target "
                r"with e_depth=16$"
            ),
        ),
        (
            Target(array=2, x_depth=10),
            {"X": 65536},
            "needs 65536, the target has 10.*or a target with x_depth=65536$",
        ),
        (
            Target(array=2),
            {"W": 65538},
            (
                "memory W is 2 words a bank over: the program needs 65538, the target has 65536. .*"
                "What would fit: fewer channels$"
            ),
        ),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(
    target: Target, words: dict[str, int], message: str
) -> None:
    with pytest.raises(CapacityError, match=message):
        target.geometry(layout_of(**words), 9)


def test_operands_drop_the_low_bits_of_words() -> None:
    assert Target().dropped_bits == 0
    assert Target(operand_bits=8).dropped_bits == 8
